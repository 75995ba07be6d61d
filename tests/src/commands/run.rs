//! Sessions against a server.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use super::normal::{Run, normal};
use super::script::{Outcome, Step, parse, render, words};
use crate::apiserver::ApiServer;

/// A program to run the sessions with.
#[derive(Clone, Debug)]
pub struct Client {
    pub program: PathBuf,
    /// `kctl` or `kubectl`.
    pub name: String,
}

impl Client {
    pub fn new(program: PathBuf) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { program, name: if name.contains("kubectl") { "kubectl".into() } else { "kctl".into() } }
    }
}

/// Runs the session of a file; returns what was wrong, or with `update` writes what was printed into the file.
pub async fn session(file: &Path, client: &Client, server: &Path, update: bool) -> Result<Vec<String>> {
    let mut steps = parse(&std::fs::read_to_string(file)?).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let server = ApiServer::start(server, &format!("commands-{name}")).await?;
    let directory = server.dir.join("work");
    std::fs::create_dir_all(&directory)?;
    let run = Run { address: format!("127.0.0.1:{}", server.ports.server), directory: server.dir.display().to_string() };
    let mut wrong = Vec::new();
    for step in &mut steps {
        for (name, content) in &step.files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().context("a file stands in a directory")?)?;
            std::fs::write(path, content)?;
        }
        if step.only.as_ref().is_some_and(|only| *only != client.name) {
            continue;
        }
        let got = execute(step, client, &server.dir, &directory, &run)?;
        if update {
            step.expected = got;
        } else if got != step.expected {
            wrong.push(format!("$ {}\n{}", step.line, differences(&step.expected, &got)));
        }
    }
    if update {
        std::fs::write(file, render(&steps))?;
    }
    Ok(wrong)
}

fn execute(step: &Step, client: &Client, home: &Path, directory: &Path, run: &Run) -> Result<Outcome> {
    let mut command = Command::new(&client.program);
    command.args(words(&step.line)).current_dir(directory).env_clear();
    command.env("HOME", home).env("KUBECONFIG", home.join("admin.conf")).env("TZ", "UTC");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("KUBECTL_KUBERC", "false");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}", client.program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is none that fails.
        let _ = stdin.write_all(step.stdin.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| {
        let text = normal(&String::from_utf8_lossy(bytes), run);
        if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
    };
    Ok(Outcome { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) })
}

/// What was expected and what came, line by line where they part.
fn differences(want: &Outcome, got: &Outcome) -> String {
    let mut text = String::new();
    for (mark, want, got) in [(">", &want.stdout, &got.stdout), ("!", &want.stderr, &got.stderr)] {
        if want == got {
            continue;
        }
        let (want, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
        for at in 0..want.len().max(got.len()) {
            match (want.get(at), got.get(at)) {
                (want, got) if want == got => {}
                (want, got) => {
                    text += &want.map_or_else(String::new, |line| format!("  -{mark} {line}\n"));
                    text += &got.map_or_else(String::new, |line| format!("  +{mark} {line}\n"));
                }
            }
        }
    }
    if want.code != got.code {
        text += &format!("  -? {}\n  +? {}\n", want.code, got.code);
    }
    text
}
