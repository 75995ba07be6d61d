//! Programs under test, as processes of this machine.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// A process that ends with this value.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts it with both outputs in the file `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        let what = format!("{command:?}");
        Ok(Self(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().with_context(|| what)?))
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.0.wait().context("waiting for a process")
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    pub fn resident_mib(&self) -> Result<f64> {
        self.status_mib("VmRSS")
    }

    /// The most that was resident since the last [`Self::reset_peak`].
    pub fn peak_mib(&self) -> Result<f64> {
        self.status_mib("VmHWM")
    }

    pub fn reset_peak(&self) -> Result<()> {
        // proc(5): 5 resets the peak resident set size.
        std::fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5").context("resetting the peak")
    }

    fn status_mib(&self, field: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let value = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        let kib: f64 = value.and_then(|v| v.split_whitespace().next()).with_context(|| field.to_owned())?.parse()?;
        Ok(kib / 1024.0)
    }
}

/// A daemon's program: `kctl`, which is every daemon, or a program that is just this one.
pub fn daemon(program: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    if program.file_name().is_some_and(|n| n == "kctl") {
        command.args(["daemon", name]);
    }
    command
}

/// A port of the loopback interface that nobody listens on now, and that nobody else is given: it lies below those that the
/// kernel takes for connections, and each is handed out once.
pub fn free_port() -> Result<u16> {
    const FIRST: u64 = 10_000;
    const COUNT: u64 = 20_000;
    // Test programs that run side by side begin at different places.
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) % COUNT);
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let next = || FIRST + (*START + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..COUNT).filter_map(|_| u16::try_from(next()).ok()).find(is_free).context("no free port")
}
