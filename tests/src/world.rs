//! The host under test and how it is driven: the same commands that a user would type.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::images::TestImage;

/// A lab of one host, with the programs and images that the scenarios need.
pub struct World {
    /// The `kctl` executable on this machine.
    pub kctl: PathBuf,
    /// Where built programs lie.
    pub programs: PathBuf,
    /// Where images and other results of earlier runs are kept.
    pub cache: PathBuf,
    pub lab: String,
    pub node: String,
}

impl World {
    /// `programs` holds `kctl` and `kube-rs-client`.
    pub fn new(programs: &Path, cache: &Path, lab: &str) -> Self {
        Self {
            kctl: programs.join("kctl"),
            programs: programs.to_owned(),
            cache: cache.to_owned(),
            lab: lab.to_owned(),
            node: "n1".to_owned(),
        }
    }

    /// `kctl lab …` on this machine.
    pub fn lab(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.kctl);
        command.args(["lab", "--name", &self.lab]).args(arguments);
        run(command, None)
    }

    /// A command in the host, as it is.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kctl);
        command.args(["lab", "--name", &self.lab, "exec", &self.node, "--"]).args(arguments);
        command
    }

    /// The standard output of a command in the host; an error when it fails.
    pub fn host(&self, arguments: &[&str]) -> Result<String> {
        run(self.command(arguments), None)
    }

    /// What a command in the host did, whatever it was.
    pub fn host_output(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).stdin(Stdio::null()).output().context("running kctl lab exec")
    }

    /// A shell script in the host.
    pub fn script(&self, script: &str) -> Result<String> {
        self.host(&["sh", "-ec", script])
    }

    /// `kctl …` in the host.
    pub fn kctl(&self, arguments: &[&str]) -> Result<String> {
        self.host(&[&["kctl"], arguments].concat())
    }

    /// `kctl … ` in the host, with text on its standard input.
    pub fn kctl_stdin(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        run(self.command(&[&["kctl"], arguments].concat()), Some(stdin))
    }

    /// Boots the host; one that is left from an earlier run is removed first.
    pub fn up(&self) -> Result<()> {
        self.lab(&["down"])?;
        self.lab(&["up"])?;
        Ok(())
    }

    pub fn down(&self) -> Result<()> {
        self.lab(&["down"]).map(drop)
    }

    /// The host's address on the lab's bridge.
    pub fn address(&self) -> Result<String> {
        let listing = self.lab(&["ls"])?;
        let line = listing.lines().find(|l| l.split_whitespace().next() == Some(&self.node)).context("the host is not listed")?;
        Ok(line.split_whitespace().nth(1).context("the host has no address")?.to_owned())
    }

    /// The administrator's kubeconfig, copied out of the host.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        let path = self.cache.join(format!("{}-admin.conf", self.lab));
        std::fs::create_dir_all(&self.cache)?;
        std::fs::write(&path, self.host(&["cat", "/etc/kubernetes/admin.conf"])?)?;
        Ok(path)
    }

    pub fn load_images(&self) -> Result<()> {
        for image in TestImage::ALL {
            let archive = image.build(&self.cache.join("images"))?;
            self.lab(&["load", archive.to_str().context("a path in UTF-8")?])?;
        }
        Ok(())
    }
}

fn run(mut command: Command, stdin: Option<&str>) -> Result<String> {
    use std::io::Write;
    let what = format!("{command:?}").replace('"', "");
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {what}"))?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Tries until it succeeds; after `limit` the last failure is the answer.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not within {} s", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(250)),
        }
    }
}
