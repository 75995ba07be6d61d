//! Cgroups as directories, of version 1 (a tree for each controller) and version 2 (one tree).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CgroupError, Limits};
use crate::pod::qos;

const ROOT: &str = "/sys/fs/cgroup";
/// Those that are made and written here; the runtime makes the others itself.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

fn at(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/'))
}

/// The trees in which cgroups lie: one, or one for each controller.
fn trees(v2: bool) -> Vec<PathBuf> {
    if v2 {
        return vec![ROOT.into()];
    }
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    // Links like cpuacct -> cpu,cpuacct lead to the same tree.
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

pub(super) fn exists(path: &str, v2: bool) -> bool {
    trees(v2).iter().any(|tree| at(tree, path).is_dir())
}

pub(super) fn ensure(path: &str, limits: Limits, v2: bool) -> Result<(), CgroupError> {
    let failed = |p: &Path| {
        let path = p.display().to_string();
        move |source: io::Error| CgroupError::File { path, source }
    };
    let write = |file: PathBuf, text: String| match fs::write(&file, text) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed(&file)),
    };
    let memory = limits.memory.map(|m| m.to_string());
    let pids = limits.pids.map_or_else(|| "max".to_owned(), |p| p.to_string());
    if v2 {
        let mut above = PathBuf::from(ROOT);
        for part in path.split('/').filter(|p| !p.is_empty()) {
            let control = above.join("cgroup.subtree_control");
            for controller in CONTROLLERS {
                // One that the host does not have is no reason to stop.
                let _ = fs::write(&control, format!("+{controller}"));
            }
            above.push(part);
            fs::create_dir_all(&above).map_err(failed(&above))?;
        }
        if let Some(shares) = limits.cpu_shares {
            write(above.join("cpu.weight"), qos::cpu_weight(shares).to_string())?;
        }
        let quota = limits.cpu_quota.map_or_else(|| "max".to_owned(), |q| q.to_string());
        write(above.join("cpu.max"), format!("{quota} {}", qos::CPU_PERIOD))?;
        write(above.join("memory.max"), memory.unwrap_or_else(|| "max".to_owned()))?;
        return write(above.join("pids.max"), pids);
    }
    for controller in CONTROLLERS {
        let tree = Path::new(ROOT).join(controller);
        if !tree.is_dir() {
            continue;
        }
        let directory = at(&tree, path);
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
    }
    let file = |controller: &str, name: &str| at(&Path::new(ROOT).join(controller), path).join(name);
    if let Some(shares) = limits.cpu_shares {
        write(file("cpu", "cpu.shares"), shares.to_string())?;
    }
    if let Some(quota) = limits.cpu_quota {
        write(file("cpu", "cpu.cfs_period_us"), qos::CPU_PERIOD.to_string())?;
        write(file("cpu", "cpu.cfs_quota_us"), quota.to_string())?;
    }
    if let Some(memory) = memory {
        write(file("memory", "memory.limit_in_bytes"), memory)?;
    }
    write(file("pids", "pids.max"), pids)
}

/// Removes the cgroup and those beneath it that hold no process.
pub(super) fn remove(path: &str, v2: bool) {
    for tree in trees(v2) {
        remove_tree(&at(&tree, path));
    }
}

fn remove_tree(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Refused while a process is in it: then it is not to be removed.
    let _ = fs::remove_dir(directory);
}
