//! Files below a directory, reached without following symbolic links and without leaving it.
//!
//! Paths that come from an object's spec, or from what a container may have written, are opened here and nowhere else:
//! the kernel itself refuses `..` and links (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

/// A directory, held open: renaming it or mounting over its path changes nothing.
#[derive(Debug)]
pub struct Directory(OwnedFd);

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Directory {
    /// `path` is the program's own: it may lead through links.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        // openat2 takes "." for the directory itself.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, BENEATH)?)
    }

    pub fn read(&self, path: &Path) -> io::Result<File> {
        Ok(self.at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?.into())
    }

    pub fn directory(&self, path: &Path) -> io::Result<Self> {
        Ok(Self(self.at(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?))
    }

    /// Like `mkdir -p`; what exists must be directories.
    pub fn create_directories(&self, path: &Path, mode: u32) -> io::Result<Self> {
        let mut current = self.directory(Path::new("."))?;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::CurDir => continue,
                _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leaves its directory")),
            };
            match rustix::fs::mkdirat(&current.0, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            current = current.directory(Path::new(name))?;
        }
        Ok(current)
    }

    /// Writes a whole file in this directory at once: readers see the old content or the new.
    pub fn write(&self, name: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        if name.components().count() != 1 || !matches!(name.components().next(), Some(Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
        }
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(".new");
        let _ = rustix::fs::unlinkat(&self.0, &temporary, AtFlags::empty());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let mut file = File::from(self.at(Path::new(&temporary), flags, Mode::from_raw_mode(mode))?);
        // The mode at creation is subject to the umask.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        rustix::fs::renameat(&self.0, &temporary, &self.0, name)?;
        Ok(())
    }

    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        let parent = self.directory(path.parent().unwrap_or(Path::new(".")))?;
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(rustix::fs::unlinkat(&parent.0, name, AtFlags::empty())?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kctl-host-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn neither_links_nor_dots_lead_out() {
        let scratch = Scratch::new("links");
        std::fs::create_dir(scratch.0.join("inside")).unwrap();
        std::fs::write(scratch.0.join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", scratch.0.join("inside/link")).unwrap();
        std::os::unix::fs::symlink("/etc", scratch.0.join("inside/etc")).unwrap();
        let inside = Directory::open(&scratch.0.join("inside")).unwrap();
        for path in ["link", "../secret", "/etc/passwd", "etc/passwd"] {
            assert!(inside.read(Path::new(path)).is_err(), "{path}");
        }
        assert!(inside.create_directories(Path::new("../x"), 0o755).is_err());
        assert!(inside.create_directories(Path::new("etc/x"), 0o755).is_err());
        assert!(inside.write(Path::new("../x"), b"", 0o600).is_err());
    }

    #[test]
    fn makes_and_writes() {
        let scratch = Scratch::new("write");
        let root = Directory::open(&scratch.0).unwrap();
        let deep = root.create_directories(Path::new("a/b"), 0o755).unwrap();
        deep.write(Path::new("f"), b"one", 0o640).unwrap();
        deep.write(Path::new("f"), b"two", 0o640).unwrap();
        let mut text = String::new();
        root.read(Path::new("a/b/f")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
        root.remove_file(Path::new("a/b/f")).unwrap();
        assert!(root.read(Path::new("a/b/f")).is_err());
    }
}
