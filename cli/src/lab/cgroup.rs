//! A cgroup of its own for each host, in every hierarchy of this machine, below the one we run in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The host's cgroup in each hierarchy, as absolute directories.
pub(super) fn directories(lab: &str, node: &str) -> Result<Vec<PathBuf>> {
    let leaf = format!("kctl-{lab}-{node}");
    Ok(host::cgroup::own_directories()?.into_iter().map(|own| own.join(&leaf)).collect())
}

/// Makes the cgroups and moves this process into them.
pub(super) fn enter(directories: &[PathBuf]) -> Result<()> {
    for directory in directories {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        inherit_cpuset(directory);
        fs::write(directory.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("entering {}", directory.display()))?;
    }
    Ok(())
}

/// A v1 cpuset starts without CPUs and memory, and then takes no process.
fn inherit_cpuset(directory: &Path) {
    let Some(parent) = directory.parent() else { return };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read_to_string(parent.join(file)) {
            let _ = fs::write(directory.join(file), value.trim());
        }
    }
    let _ = fs::write(directory.join("cgroup.clone_children"), "1");
}

/// Removes the trees. A cgroup is busy for some moments after its last process died.
pub(super) fn remove(directories: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for directory in directories {
        loop {
            match remove_tree(directory) {
                Ok(()) => break,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(error).with_context(|| format!("removing {}", directory.display())),
            }
        }
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}
