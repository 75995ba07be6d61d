//! One host: start, enter, reboot, switch off, remove.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};

use super::cgroup;
use super::state::remove_tree;

const BOOT_SECONDS_MAX: u64 = 60;
/// systemd itself gives a unit 90 s.
const SHUTDOWN_SECONDS_MAX: u64 = 120;

pub(super) struct Node {
    pub(super) lab: String,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) directory: PathBuf,
}

impl Node {
    /// Held by the supervisor as long as it lives; what tells a running host from a stale pid.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Where the supervisor writes the pid of nspawn.
    pub(super) fn pid_path(&self) -> PathBuf {
        self.directory.join("nspawn.pid")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// The `kctl` of the host.
    pub(super) fn program_path(&self) -> PathBuf {
        self.directory.join("kctl")
    }

    fn supervised(&self) -> bool {
        let Ok(lock) = fs::File::open(self.lock_path()) else { return false };
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
    }

    fn nspawn(&self) -> Option<Pid> {
        if !self.supervised() {
            return None;
        }
        Pid::from_raw(fs::read_to_string(self.pid_path()).ok()?.trim().parse().ok()?)
    }

    /// The host's own process 1, as this machine numbers it.
    pub(super) fn leader(&self) -> Option<Pid> {
        let nspawn = self.nspawn()?;
        host::process::children(nspawn)
            .ok()?
            .into_iter()
            .find(|pid| fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid())).is_ok_and(|comm| comm.trim() == "systemd"))
    }

    /// Starts the supervisor in a mount namespace of its own.
    pub(super) fn start(&self, base: &Path) -> Result<()> {
        fs::write(self.directory.join("base"), base.as_os_str().as_encoded_bytes())?;
        // A copy: the program may be built anew while the host runs, and a reboot mounts it again.
        let program = self.program_path();
        let _ = fs::remove_file(&program);
        fs::copy(std::env::current_exe()?, &program).context("copying kctl for the host")?;
        let log = fs::File::create(self.log_path())?;
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(&program)
            .args(["lab", "--name", &self.lab, "supervise", &self.name])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("running unshare (package util-linux)")?;
        Ok(())
    }

    pub(super) fn wait_booted(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(BOOT_SECONDS_MAX);
        while Instant::now() < deadline {
            // 0 is "running", 1 may be "degraded": up, with a failed unit.
            let state = self.command(&["systemctl", "is-system-running", "--wait"]).and_then(|mut c| Ok(c.output()?));
            if let Ok(output) = state
                && matches!(output.stdout.trim_ascii(), b"running" | b"degraded")
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(15).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{} did not boot within {BOOT_SECONDS_MAX} s; its console:\n{}", self.name, last.join("\n"))
    }

    /// A command in the host's namespaces, with a clean environment.
    pub(super) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Command> {
        let Some(leader) = self.leader() else { bail!("{} is not running: kctl lab up", self.name) };
        let mut command = Command::new("nsenter");
        command
            .args([
                "--target",
                &leader.as_raw_pid().to_string(),
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--pid",
                "--cgroup",
                "--root",
                "--wd",
            ])
            .args(["--", "/usr/bin/env", "-i", "HOME=/root", "LANG=C.UTF-8"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())))
            .args(arguments);
        Ok(command)
    }

    /// Becomes the command.
    pub(super) fn exec(&self, arguments: &[OsString]) -> Result<ExitCode> {
        let error = self.command(arguments)?.exec();
        Err(error).context("running nsenter (package util-linux)")
    }

    pub(super) fn reboot(&self) -> Result<()> {
        let Some(before) = self.leader() else { bail!("{} is not running", self.name) };
        self.command(&["systemctl", "reboot"])?.status()?;
        let deadline = Instant::now() + Duration::from_secs(SHUTDOWN_SECONDS_MAX);
        while self.leader().is_none_or(|now| now == before) {
            if Instant::now() > deadline || !self.supervised() {
                bail!("{} did not go down and come up within {SHUTDOWN_SECONDS_MAX} s", self.name);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.wait_booted()
    }

    /// At once: the kernel kills everything in the host's process namespace with its process 1.
    pub(super) fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.supervised() {
            if let Some(leader) = self.leader() {
                let _ = rustix::process::kill_process(leader, Signal::KILL);
            } else if let Some(nspawn) = self.nspawn() {
                let _ = rustix::process::kill_process(nspawn, Signal::TERM);
            }
            if Instant::now() > deadline {
                bail!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Switches the host off and removes its disk and cgroups.
    pub(super) fn remove(&self) -> Result<()> {
        self.kill()?;
        let cgroups = match fs::read(self.directory.join("cgroups.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Vec::new(),
        };
        cgroup::remove(&cgroups)?;
        remove_tree(&self.directory)
    }
}
