//! The releases of kubectl on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Google's packages put theirs, one for each release, beside the path.
const DIRECTORY: &str = "/usr/lib/google-cloud-sdk/bin";

/// One release of kubectl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubectl {
    pub program: PathBuf,
    /// `31` of v1.31.4.
    pub minor: u32,
}

impl Kubectl {
    /// Asks a program for its release; none when it is no kubectl.
    pub fn at(program: &Path) -> Option<Self> {
        let output = Command::new(program).args(["version", "--client", "--output=json"]).output().ok()?;
        let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(Self { program: program.to_owned(), minor: minor(version["clientVersion"]["gitVersion"].as_str()?)? })
    }
}

/// Every `kubectl` and `kubectl.1.NN` on the path and in Google's directory, the newest first, one for each release.
pub fn on_this_machine() -> Vec<Kubectl> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain([PathBuf::from(DIRECTORY)]);
    let files = directories.filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
    let is_kubectl = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name == "kubectl" || name.to_string_lossy().starts_with("kubectl.1."))
    };
    let programs = files.filter_map(|entry| Some(entry.ok()?.path())).filter(is_kubectl);
    newest_first(programs.filter_map(|program| Kubectl::at(&program)).collect())
}

fn newest_first(mut found: Vec<Kubectl>) -> Vec<Kubectl> {
    // A plain `kubectl` may be Google's dispatcher, which has words of its own: the file that names its release goes first.
    let is_plain = |kubectl: &Kubectl| kubectl.program.file_name().is_some_and(|name| name == "kubectl");
    found.sort_by_key(|kubectl| (std::cmp::Reverse(kubectl.minor), is_plain(kubectl)));
    found.dedup_by_key(|kubectl| kubectl.minor);
    found
}

/// `31` of `v1.31.4-dispatcher`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v1.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (version, want) in [("v1.31.4-dispatcher", Some(31)), ("v1.36.2", Some(36)), ("v2.1.0", None), ("", None)] {
            assert_eq!(minor(version), want, "{version}");
        }
        let kubectl = |program: &str, minor| Kubectl { program: program.into(), minor };
        assert_eq!(
            newest_first(vec![kubectl("a", 27), kubectl("b", 31), kubectl("c", 31)]),
            [kubectl("b", 31), kubectl("a", 27)]
        );
        assert_eq!(
            newest_first(vec![kubectl("/a/kubectl", 31), kubectl("/b/kubectl.1.31", 31)]),
            [kubectl("/b/kubectl.1.31", 31)]
        );
    }
}
