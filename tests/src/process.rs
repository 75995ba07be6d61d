//! Programs under test, as processes of this machine.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
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
