//! What this machine is: CPUs, memory, names. Read once at the start.

use std::fs;
use std::net::{IpAddr, UdpSocket};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub hostname: String,
    pub cpus: i64,
    pub memory_bytes: i64,
    pub swap_bytes: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
    pub architecture: &'static str,
}

impl Machine {
    pub fn read() -> Self {
        let line = |path: &str| fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let uname = rustix::system::uname();
        let info = line("/proc/meminfo");
        let machine_id =
            Some(line("/etc/machine-id")).filter(|t| !t.is_empty()).unwrap_or_else(|| line("/var/lib/dbus/machine-id"));
        let system_uuid =
            Some(line("/sys/class/dmi/id/product_uuid")).filter(|t| !t.is_empty()).unwrap_or_else(|| machine_id.clone());
        Self {
            hostname: uname.nodename().to_string_lossy().into_owned(),
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory_bytes: meminfo(&info, "MemTotal"),
            swap_bytes: meminfo(&info, "SwapTotal"),
            machine_id,
            system_uuid,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: uname.release().to_string_lossy().into_owned(),
            os_image: pretty_name(&line("/etc/os-release")),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }
}

/// A line of /proc/meminfo in bytes.
pub fn meminfo(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok()).map_or(0, |kib| kib * 1024)
}

fn pretty_name(text: &str) -> String {
    let value = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    let value = value.trim_matches('"');
    if value.is_empty() { "Linux".to_owned() } else { value.to_owned() }
}

/// The address from which this host reaches others, of the other family when it has none of the preferred; nothing is sent.
pub fn default_address(prefers_v6: bool) -> Option<IpAddr> {
    let mut ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    if prefers_v6 {
        ways.reverse();
    }
    for (bind, far) in ways {
        let Ok(socket) = UdpSocket::bind(bind) else { continue };
        if socket.connect(far).is_ok()
            && let Ok(local) = socket.local_addr()
            && !local.ip().is_unspecified()
            && !local.ip().is_loopback()
        {
            return Some(local.ip());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        assert_eq!(meminfo("MemTotal:       16384 kB\nMemFree: 1 kB\n", "MemTotal"), 16 << 20);
        assert_eq!(pretty_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert!(Machine::read().memory_bytes > 0);
    }
}
