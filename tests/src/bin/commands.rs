//! Runs the sessions of `tests/commands` with `kctl` and with the kubectls of this machine.
//!
//!     cargo run -p kctl-tests --bin commands [-- --client PROGRAM --all-clients --server PROGRAM --update FILE…]
//!
//! Without `--client` it is `kctl`, and the newest and the oldest kubectl; with `--all-clients` every one. `--server` names another API
//! server: with upstream's kube-apiserver the sessions show that what they expect is right. `--update` writes what the clients
//! print into the files: run it with upstream's kubectls on upstream's server, and look at the difference.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use kctl_tests::commands::run::{Client, outcomes, wrong};
use kctl_tests::commands::script::{Outcome, Step, parse, render};
use kctl_tests::kubectls;

#[derive(Default)]
struct Options {
    clients: Vec<Client>,
    all: bool,
    server: Option<PathBuf>,
    update: bool,
    files: Vec<PathBuf>,
}

fn options() -> Result<Options> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().map(PathBuf::from).with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--client" => options.clients.push(Client::new(value()?)),
            "--all-clients" => options.all = true,
            "--server" => options.server = Some(value()?),
            "--update" => options.update = true,
            word if word.starts_with('-') => bail!("unknown flag {word}"),
            word => options.files.push(word.into()),
        }
    }
    Ok(options)
}

struct Session {
    file: PathBuf,
    name: String,
    steps: Vec<Step>,
}

impl Session {
    fn read(file: PathBuf) -> Result<Self> {
        let steps = parse(&std::fs::read_to_string(&file)?).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, name, steps })
    }
}

fn main() -> Result<ExitCode> {
    daemon::install_crypto();
    let mut options = options()?;
    let kctl = std::env::current_exe()?.with_file_name("kctl");
    if options.all || options.clients.is_empty() {
        options.clients.extend(clients(&kctl, options.all));
    }
    options.clients.sort_by_key(|client| std::cmp::Reverse(client.minor.unwrap_or(u32::MAX)));
    if options.files.is_empty() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("commands");
        let entries = std::fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))?;
        options.files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        options.files.retain(|file| file.extension().is_some_and(|end| end == "txt"));
        options.files.sort();
    }
    let mut sessions: Vec<Session> = options.files.into_iter().map(Session::read).collect::<Result<_>>()?;
    let server = options.server.unwrap_or(kctl);
    let results = run_all(&sessions, &options.clients, &server)?;
    let mut failed = 0;
    for (at, (session, client)) in pairs(&sessions, &options.clients).enumerate() {
        let wrong = if options.update { Vec::new() } else { wrong(&session.steps, client, &results[at]) };
        println!("{client} {}: {}", session.name, if wrong.is_empty() { "ok".into() } else { format!("{} wrong", wrong.len()) });
        wrong.iter().for_each(|about| println!("{about}"));
        failed += wrong.len();
    }
    if options.update {
        for (session, results) in sessions.iter_mut().zip(results.chunks(options.clients.len())) {
            learn(session, &options.clients, results)?;
        }
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// `kctl`, and the kubectls of this machine: all of them, or the newest and the oldest.
fn clients(kctl: &Path, all: bool) -> Vec<Client> {
    let mut found = kubectls::on_this_machine();
    if found.is_empty() {
        println!("there is no kubectl on this machine: its part is left out");
    }
    if !all && found.len() > 2 {
        found.drain(1..found.len() - 1);
    }
    [Client { program: kctl.to_owned(), minor: None }].into_iter().chain(found.into_iter().map(Client::from)).collect()
}

fn pairs<'a>(sessions: &'a [Session], clients: &'a [Client]) -> impl Iterator<Item = (&'a Session, &'a Client)> {
    sessions.iter().flat_map(move |session| clients.iter().map(move |client| (session, client)))
}

/// What came of each step of a session; none of one that this client leaves out.
type Outcomes = Vec<Option<Outcome>>;

/// Every session with every client, as many at a time as the machine has processors: each has a server of its own.
fn run_all(sessions: &[Session], clients: &[Client], server: &Path) -> Result<Vec<Outcomes>> {
    let work: Vec<(&Session, &Client)> = pairs(sessions, clients).collect();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Outcomes>>>> = Mutex::new(work.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((session, client)) = work.get(at) else { break };
                    let result = run_one(session, client, server);
                    if let Ok(mut results) = results.lock() {
                        results[at] = Some(result);
                    }
                }
            });
        }
    });
    let results = results.into_inner().map_err(|_| anyhow!("a session panicked"))?;
    results.into_iter().map(|result| result.context("a session was not run")?).collect()
}

fn run_one(session: &Session, client: &Client, server: &Path) -> Result<Outcomes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcomes = runtime.block_on(outcomes(&session.name, &session.steps, client, server));
    outcomes.with_context(|| format!("{client} {}", session.name))
}

fn learn(session: &mut Session, clients: &[Client], results: &[Outcomes]) -> Result<()> {
    for (client, outcomes) in clients.iter().zip(results) {
        for (step, outcome) in session.steps.iter_mut().zip(outcomes) {
            if let Some(outcome) = outcome {
                step.learn(client.minor, outcome.clone());
            }
        }
    }
    Ok(std::fs::write(&session.file, render(&session.steps))?)
}
