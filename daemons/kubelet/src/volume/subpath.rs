//! subPath: a part of a volume, opened beneath the volume's directory so that no link leads out of it (CVE-2017-1002101,
//! CVE-2021-25741), and handed to the runtime as a bind mount of the very file that was opened.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2, statat};
use rustix::io::Errno;

/// Binds `sub` beneath `volume` at `target`. What is missing is made, as directories.
pub fn bind(volume: &Path, sub: &str, target: &Path) -> io::Result<()> {
    let opened = open_beneath(volume, Path::new(sub))?;
    let stat = statat(&opened, "", AtFlags::EMPTY_PATH)?;
    let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    // An earlier run's mount is taken away: it may show something else.
    while is_mounted(target)? {
        rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH)?;
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    match (directory, fs::symlink_metadata(target)) {
        (true, Ok(m)) if m.is_dir() => {}
        (false, Ok(m)) if m.is_file() => {}
        (_, found) => {
            match found {
                Ok(m) if m.is_dir() => fs::remove_dir(target)?,
                Ok(_) => fs::remove_file(target)?,
                Err(_) => {}
            }
            if directory { fs::create_dir(target)? } else { fs::File::create_new(target).map(drop)? }
        }
    }
    // The link in /proc leads to what is open, whatever its name is by now.
    rustix::mount::mount_bind(format!("/proc/self/fd/{}", opened.as_raw_fd()), target)?;
    Ok(())
}

/// Opens a path so that each step stays beneath `root`; links are followed as long as they do.
pub fn open_beneath(root: &Path, sub: &Path) -> io::Result<OwnedFd> {
    if sub.is_absolute() || sub.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("subPath {} leads out of its volume", sub.display())));
    }
    let path_only = OFlags::PATH | OFlags::CLOEXEC;
    let base = rustix::fs::open(root, path_only | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mode = Mode::from_raw_mode(statat(&base, "", AtFlags::EMPTY_PATH)?.st_mode & 0o777);
    let mut at = std::path::PathBuf::new();
    for part in sub.components().filter(|c| matches!(c, Component::Normal(_))) {
        let parent = if at.as_os_str().is_empty() {
            rustix::io::dup(&base)?
        } else {
            openat2(&base, &at, path_only | OFlags::DIRECTORY, Mode::empty(), resolve)?
        };
        at.push(part);
        match openat2(&base, &at, path_only, Mode::empty(), resolve) {
            Err(Errno::NOENT) => match mkdirat(&parent, part.as_os_str(), mode) {
                // The umask took bits away: who may write to the volume may write here.
                Ok(()) => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let made = rustix::fs::openat(&parent, part.as_os_str(), flags, Mode::empty())?;
                    rustix::fs::fchmod(&made, mode)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
    if at.as_os_str().is_empty() {
        return Ok(base);
    }
    Ok(openat2(&base, &at, path_only, Mode::empty(), resolve)?)
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(super::mounts_beneath(path)?.iter().any(|m| m == path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_leads_out() {
        let root = std::env::temp_dir().join(format!("kubelet-subpath-{}", std::process::id()));
        let volume = root.join("volume");
        fs::create_dir_all(volume.join("in")).unwrap();
        fs::write(root.join("secret"), "x").unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("..", volume.join("up")).unwrap();
        symlink("in", volume.join("inside")).unwrap();
        for (sub, ok) in [
            ("in", true),
            ("inside", true),
            ("inside/new/deep", true),
            ("absolute", false),
            ("absolute/passwd", false),
            ("up/secret", false),
            ("../secret", false),
            ("/etc", false),
            ("in/../../secret", false),
        ] {
            assert_eq!(open_beneath(&volume, Path::new(sub)).is_ok(), ok, "{sub}");
        }
        assert!(volume.join("in/new/deep").is_dir());
        fs::remove_dir_all(root).unwrap();
    }
}
