//! Processes, as /proc shows them.

use std::io;

use rustix::process::Pid;

/// The capability to raise resource limits and to lower `oom_score_adj`.
pub const CAP_SYS_RESOURCE: u32 = 24;

/// Children of a process, lowest pid first.
pub fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else { continue };
        // A process may end while we look.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())) else { continue };
        if parent_in(&stat) == Some(parent.as_raw_pid()) {
            children.push(pid);
        }
    }
    children.sort_unstable_by_key(|pid| pid.as_raw_pid());
    Ok(children)
}

/// The fourth field; the second is the name in parentheses and may contain anything.
fn parent_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether this process could get the capability at all (it is in the bounding set).
pub fn may_have_capability(capability: u32) -> io::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(bounding_set(&status).is_none_or(|set| set >> capability & 1 == 1))
}

fn bounding_set(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_behind_a_strange_name() {
        assert_eq!(parent_in("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("nonsense"), None);
    }

    #[test]
    fn capability_bit() {
        let set = bounding_set("Name:\tx\nCapBnd:\t000001fffeffffff\n").unwrap();
        assert_eq!(set >> CAP_SYS_RESOURCE & 1, 0);
        assert_eq!(set >> 21 & 1, 1);
    }
}
