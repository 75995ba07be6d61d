//! Runs the sessions of `tests/commands` with `kctl`, and with a `kubectl` of the same version when one is there.
//!
//!     cargo run -p kctl-tests --bin commands [-- --client PROGRAM --server PROGRAM --update FILE…]
//!
//! `--update` writes what the client prints into the files: run it with upstream's kubectl, and look at the difference.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use kctl_tests::commands::run::{Client, session};

/// The release whose kubectl prints what the sessions expect.
const KUBECTL: &str = "v1.36.";

#[derive(Default)]
struct Options {
    clients: Vec<PathBuf>,
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
            "--client" => options.clients.push(value()?),
            "--server" => options.server = Some(value()?),
            "--update" => options.update = true,
            word if word.starts_with('-') => bail!("unknown flag {word}"),
            word => options.files.push(word.into()),
        }
    }
    Ok(options)
}

fn main() -> Result<ExitCode> {
    daemon::install_crypto();
    let mut options = options()?;
    let kctl = std::env::current_exe()?.with_file_name("kctl");
    if options.clients.is_empty() {
        options.clients.push(kctl.clone());
        options.clients.extend(kubectl());
    }
    if options.files.is_empty() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("commands");
        let entries = std::fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))?;
        options.files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        options.files.retain(|file| file.extension().is_some_and(|end| end == "txt"));
        options.files.sort();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let server = options.server.unwrap_or(kctl);
    let mut failed = 0;
    for client in options.clients.into_iter().map(Client::new) {
        for file in &options.files {
            let wrong = runtime.block_on(session(file, &client, &server, options.update))?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            println!("{} {name}: {}", client.name, if wrong.is_empty() { "ok".into() } else { format!("{} wrong", wrong.len()) });
            wrong.iter().for_each(|about| println!("{about}"));
            failed += wrong.len();
        }
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The kubectl of this machine, if it prints what the sessions expect.
fn kubectl() -> Option<PathBuf> {
    let output = Command::new("kubectl").args(["version", "--client"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains(KUBECTL) {
        return Some("kubectl".into());
    }
    println!("kubectl is not {KUBECTL}x: {}", text.lines().next().unwrap_or_default());
    None
}
