//! Which cgroups this host has and where we are in them.

use std::io;
use std::path::{Path, PathBuf};

use crate::mounts::{self, Mount};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    /// v1 controllers, with v2 for systemd's own bookkeeping.
    Hybrid,
    V2,
}

pub fn version() -> io::Result<Version> {
    Ok(version_of(&mounts::all()?))
}

fn version_of(mounts: &[Mount]) -> Version {
    let v1 = mounts.iter().any(|m| m.fstype == "cgroup");
    let v2 = mounts.iter().any(|m| m.fstype == "cgroup2");
    match (v1, v2) {
        (true, true) => Version::Hybrid,
        (true, false) => Version::V1,
        _ => Version::V2,
    }
}

/// The cgroup that this process is in, in every mounted hierarchy, as directories.
pub fn own_directories() -> io::Result<Vec<PathBuf>> {
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    Ok(directories(&own, &mounts::all()?))
}

fn directories(own: &str, mounts: &[Mount]) -> Vec<PathBuf> {
    own.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let mount = mounts.iter().find(|m| match controllers {
                "" => m.fstype == "cgroup2",
                named => m.fstype == "cgroup" && m.has_super_option(named.split(',').next().unwrap_or(named)),
            })?;
            let inside = Path::new(path).strip_prefix(&mount.root).ok()?;
            Some(mount.mount_point.join(inside))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(point: &str, fstype: &str, options: &str) -> Mount {
        Mount {
            root: "/".into(),
            mount_point: point.into(),
            options: "rw".into(),
            fstype: fstype.into(),
            source: "cgroup".into(),
            super_options: options.into(),
        }
    }

    #[test]
    fn hybrid() {
        let mounts = [
            mount("/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
            mount("/sys/fs/cgroup/systemd", "cgroup", "rw,name=systemd"),
            mount("/sys/fs/cgroup/unified", "cgroup2", "rw"),
        ];
        assert_eq!(version_of(&mounts), Version::Hybrid);
        let own = "4:memory:/a/b\n9:name=systemd:/c\n7:freezer:/\n0::/d\n";
        let want = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/systemd/c", "/sys/fs/cgroup/unified/d"];
        assert_eq!(directories(own, &mounts), want.map(PathBuf::from));
    }

    #[test]
    fn unified() {
        let mounts = [mount("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")];
        assert_eq!(version_of(&mounts), Version::V2);
        assert_eq!(directories("0::/user.slice\n", &mounts), [PathBuf::from("/sys/fs/cgroup/user.slice")]);
    }
}
