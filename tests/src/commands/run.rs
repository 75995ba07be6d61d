//! Sessions against a server.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::normal::{Run, normal};
use super::script::{Line, Outcome, Step};
use crate::apiserver::ApiServer;
use crate::kubectls::Kubectl;

/// How long a command that goes on for ever has to print what it must.
const PRINTED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A program to run the sessions with.
#[derive(Clone, Debug)]
pub struct Client {
    pub program: PathBuf,
    /// The release of a kubectl: `31` of v1.31.4; none for `kctl`.
    pub minor: Option<u32>,
}

impl Client {
    pub fn new(program: PathBuf) -> Self {
        let minor = Kubectl::at(&program).map(|kubectl| kubectl.minor);
        Self { program, minor }
    }

    /// As a session calls it.
    fn name(&self) -> &'static str {
        if self.minor.is_some() { "kubectl" } else { "kctl" }
    }
}

impl From<Kubectl> for Client {
    fn from(kubectl: Kubectl) -> Self {
        Self { program: kubectl.program, minor: Some(kubectl.minor) }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "kubectl 1.{minor}"),
            None => write!(f, "kctl"),
        }
    }
}

/// What a client did at each step of a session, on a server of its own; nothing at the steps that are not for it.
pub async fn outcomes(name: &str, steps: &[Step], client: &Client, server: &Path) -> Result<Vec<Option<Outcome>>> {
    let release = client.minor.map_or_else(String::new, |minor| minor.to_string());
    let server = ApiServer::start(server, &format!("commands-{name}-{}{release}", client.name())).await?;
    let directory = server.dir.join("work");
    std::fs::create_dir_all(&directory)?;
    let run = Run {
        address: format!("127.0.0.1:{}", server.ports.server),
        directory: server.dir.display().to_string(),
        program: client.program.file_name().context("a program has a name")?.to_string_lossy().into_owned(),
    };
    let mut outcomes = Vec::with_capacity(steps.len());
    for step in steps {
        for (name, content) in &step.files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().context("a file stands in a directory")?)?;
            std::fs::write(&path, content)?;
            // Scripts are run: by plugins and editors.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        let ours = step.only.as_ref().is_none_or(|only| *only == client.name());
        outcomes.push(if ours { Some(execute(step, client, &server.dir, &directory, &run)?) } else { None });
    }
    Ok(outcomes)
}

/// What was wrong in a session.
pub fn wrong(steps: &[Step], client: &Client, outcomes: &[Option<Outcome>]) -> Vec<String> {
    let done = steps.iter().zip(outcomes).filter_map(|(step, got)| Some((step, got.as_ref()?)));
    let wrong = done.filter(|(step, got)| step.expected(client.minor) != *got);
    wrong.map(|(step, got)| format!("$ {}\n{}", step.line, differences(step.expected(client.minor), got))).collect()
}

fn execute(step: &Step, client: &Client, home: &Path, directory: &Path, run: &Run) -> Result<Outcome> {
    let line = Line::parse(&step.line);
    let mut command = Command::new(&client.program);
    command.args(&line.words).current_dir(directory).env_clear();
    command.env("HOME", home).env("KUBECONFIG", home.join("admin.conf")).env("TZ", "UTC");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("KUBECTL_KUBERC", "false");
    command.envs(line.variables);
    let (printed, said) = (home.join("stdout"), home.join("stderr"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(File::create(&printed)?)
        .stderr(File::create(&said)?)
        .spawn()
        .with_context(|| format!("{}", client.program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is none that fails.
        let _ = stdin.write_all(step.stdin.as_bytes());
    }
    let text = |file: &Path| -> Result<String> {
        let text = normal(&String::from_utf8_lossy(&std::fs::read(file)?), run);
        Ok(if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" })
    };
    let code = if line.endless {
        let begin = Instant::now();
        let want = step.expected(client.minor);
        while child.try_wait()?.is_none()
            && begin.elapsed() < PRINTED_WITHIN
            && (want.stdout.is_empty() || text(&printed)? != want.stdout)
        {
            std::thread::sleep(LOOK_AGAIN);
        }
        child.kill()?;
        child.wait()?;
        0
    } else {
        child.wait()?.code().unwrap_or(-1)
    };
    Ok(Outcome { stdout: text(&printed)?, stderr: text(&said)?, code })
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
