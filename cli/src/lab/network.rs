//! A lab's network: a bridge, and addresses behind this machine's own.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

pub(super) struct Network {
    pub(super) bridge: String,
    subnet: u8,
    /// The values of this machine's settings before us.
    saved: PathBuf,
}

/// Settings of this machine that many hosts need, and the least value. They are put back by `down`.
const SETTINGS: &[(&str, u64)] = &[
    ("/proc/sys/net/ipv4/ip_forward", 1),
    ("/proc/sys/fs/inotify/max_user_instances", 8192),
    ("/proc/sys/fs/inotify/max_user_watches", 524_288),
];

impl Network {
    pub(super) fn new(lab: &str, subnet: u8, directory: &Path) -> Self {
        Self { bridge: format!("kl-{lab}"), subnet, saved: directory.join("settings.json") }
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 199, self.subnet, 1)
    }

    pub(super) fn node_address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 199, self.subnet, 10 + number)
    }

    fn table(&self) -> String {
        self.bridge.replace('-', "_")
    }

    pub(super) fn up(&self) -> Result<()> {
        if !self.exists() {
            ip(&["link", "add", "name", &self.bridge, "type", "bridge"])?;
            ip(&["addr", "add", &format!("{}/24", self.gateway()), "dev", &self.bridge])?;
        }
        ip(&["link", "set", &self.bridge, "up"])?;
        self.change_settings()?;
        // One transaction: the table is replaced when it is there.
        let (table, subnet, bridge) = (self.table(), format!("10.199.{}.0/24", self.subnet), &self.bridge);
        let rules = format!(
            "table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{\n  chain postrouting {{\n    \
             type nat hook postrouting priority srcnat; policy accept;\n    \
             ip saddr {subnet} oifname != \"{bridge}\" masquerade\n  }}\n}}\n"
        );
        if let Err(error) = nft(&rules) {
            eprintln!("warning: the hosts will not reach other networks: {error:#}");
        }
        Ok(())
    }

    pub(super) fn down(&self) -> Result<()> {
        if self.exists() {
            ip(&["link", "del", &self.bridge])?;
        }
        let table = self.table();
        let _ = nft(&format!("table ip {table} {{}}\ndelete table ip {table}\n"));
        let Ok(saved) = fs::read(&self.saved) else { return Ok(()) };
        let saved: Map<String, Value> = serde_json::from_slice(&saved)?;
        for (path, value) in saved {
            if let Some(value) = value.as_str() {
                fs::write(&path, value).with_context(|| format!("putting back {path}"))?;
            }
        }
        Ok(())
    }

    fn exists(&self) -> bool {
        Path::new("/sys/class/net").join(&self.bridge).exists()
    }

    fn change_settings(&self) -> Result<()> {
        if self.saved.exists() {
            return Ok(());
        }
        let mut saved = Map::new();
        for (path, least) in SETTINGS {
            let Ok(text) = fs::read_to_string(path) else { continue };
            if text.trim().parse::<u64>().is_ok_and(|value| value < *least) {
                saved.insert((*path).to_owned(), text.trim().into());
            }
        }
        fs::write(&self.saved, serde_json::to_vec(&saved)?)?;
        for (path, least) in SETTINGS.iter().filter(|(path, _)| saved.contains_key(*path)) {
            fs::write(path, least.to_string()).with_context(|| format!("setting {path}"))?;
        }
        Ok(())
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments), None)
}

fn nft(rules: &str) -> Result<()> {
    run(Command::new("nft").args(["-f", "-"]), Some(rules))
}

fn run(command: &mut Command, input: Option<&str>) -> Result<()> {
    use std::io::Write;
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {what}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
