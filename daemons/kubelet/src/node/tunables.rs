//! `protectKernelDefaults`: settings of the kernel that must be as upstream's kubelet would set them.

use std::fmt;

/// Memory is promised beyond what there is, a process ends when it runs out, and a kernel that is broken starts again.
const WANTED: [(&str, i64); 6] = [
    ("kernel/keys/root_maxbytes", 25_000_000),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
];

/// A setting with another value; `None` could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    name: &'static str,
    wanted: i64,
    found: Option<i64>,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid kernel flag: {}, expected value: {}, actual value: ", self.name, self.wanted)?;
        match self.found {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("unknown"),
        }
    }
}

/// `read` gives the content of a file beneath /proc/sys.
pub fn deviations(read: impl Fn(&str) -> Option<String>) -> Vec<Deviation> {
    let found = |name: &str| read(name)?.trim().parse::<i64>().ok();
    let all = WANTED.map(|(name, wanted)| Deviation { name, wanted, found: found(name) });
    all.into_iter().filter(|setting| setting.found != Some(setting.wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_different_is_told() {
        let as_wanted = |name: &str| WANTED.iter().find(|(wanted, _)| *wanted == name).map(|(_, value)| format!("{value}\n"));
        assert_eq!(deviations(as_wanted), []);
        let other = deviations(|name| match name {
            "kernel/panic" => Some("0\n".to_owned()),
            "vm/panic_on_oom" => None,
            name => as_wanted(name),
        });
        assert_eq!(
            other.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "invalid kernel flag: kernel/panic, expected value: 10, actual value: 0",
                "invalid kernel flag: vm/panic_on_oom, expected value: 0, actual value: unknown",
            ]
        );
    }
}
