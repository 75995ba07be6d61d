//! A steady, bounded stream of HTTP requests, and what became of them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// The stream ends by itself after this many.
const REQUESTS_MAX: usize = 60_000;

/// One GET over a connection of its own; the body of a 200.
pub fn get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("connecting")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").context("sending")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer was cut off")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// Requests under way in the background.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

/// How often each answer came, and each failure with the seconds since the start.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub answers: BTreeMap<String, usize>,
    pub failures: Vec<(f64, String)>,
}

impl Load {
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut report = Report::default();
            let begun = Instant::now();
            for _ in 0..REQUESTS_MAX {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                match get(address) {
                    // "nginx 1 from POD": the version is what is counted.
                    Ok(body) => {
                        let version = body.split(" from ").next().unwrap_or_default().to_owned();
                        *report.answers.entry(version).or_default() += 1;
                    }
                    Err(error) => report.failures.push((begun.elapsed().as_secs_f64(), format!("{error:#}"))),
                }
                std::thread::sleep(PAUSE);
            }
            report
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the load's thread panicked"))
    }
}

impl Report {
    /// An error unless requests were made and every one was answered.
    pub fn all_answered(&self) -> Result<()> {
        ensure!(self.failures.is_empty(), "requests failed: {:?}, answered: {:?}", self.failures, self.answers);
        ensure!(!self.answers.is_empty(), "no request was made");
        Ok(())
    }
}
