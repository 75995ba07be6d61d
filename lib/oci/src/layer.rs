//! A layer: a tar file on disk, with its digest known.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use crate::{Error, digest_text};

enum Content {
    Directory,
    Bytes(Vec<u8>),
    File(PathBuf),
    Link(PathBuf),
}

struct Entry {
    mode: u32,
    owner: (u64, u64),
    content: Content,
}

/// Collects entries, in any order.
#[derive(Default)]
pub struct LayerBuilder {
    entries: BTreeMap<PathBuf, Entry>,
}

/// A finished layer. The file is unlinked: it goes with this value.
pub struct Layer {
    pub(crate) file: File,
    pub(crate) size: u64,
    pub(crate) digest: String,
}

impl LayerBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, path: &str, mode: u32, content: Content) -> Result<&mut Self, Error> {
        let relative = path.trim_start_matches('/');
        if relative.is_empty() || relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::Path(path.to_owned()));
        }
        self.entries.insert(PathBuf::from(relative), Entry { mode, owner: (0, 0), content });
        Ok(self)
    }

    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Self, Error> {
        self.insert(path, mode, Content::Directory)
    }

    pub fn bytes(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Result<&mut Self, Error> {
        self.insert(path, mode, Content::Bytes(content.into()))
    }

    /// The file is read when the layer is built.
    pub fn file(&mut self, path: &str, mode: u32, source: impl Into<PathBuf>) -> Result<&mut Self, Error> {
        self.insert(path, mode, Content::File(source.into()))
    }

    pub fn link(&mut self, path: &str, target: impl Into<PathBuf>) -> Result<&mut Self, Error> {
        self.insert(path, 0o777, Content::Link(target.into()))
    }

    /// Everything below a directory, with modes and owners; devices and sockets are left out.
    pub fn tree(&mut self, root: &Path) -> Result<&mut Self, Error> {
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let dir = root.join(&relative);
            let read = |source| Error::Read { path: dir.clone(), source };
            for item in std::fs::read_dir(&dir).map_err(read)? {
                let item = item.map_err(read)?;
                let meta = item.metadata().map_err(read)?;
                let path = relative.join(item.file_name());
                let content = if meta.is_dir() {
                    pending.push(path.clone());
                    Content::Directory
                } else if meta.is_symlink() {
                    Content::Link(std::fs::read_link(item.path()).map_err(read)?)
                } else if meta.is_file() {
                    Content::File(item.path())
                } else {
                    continue;
                };
                let owner = (u64::from(meta.uid()), u64::from(meta.gid()));
                self.entries.insert(path, Entry { mode: meta.permissions().mode() & 0o7777, owner, content });
            }
        }
        Ok(self)
    }

    /// Leaves out what lies at or below `path`.
    pub fn without(&mut self, path: &str) -> &mut Self {
        let path = path.trim_start_matches('/');
        self.entries.retain(|p, _| !p.starts_with(path));
        self
    }

    /// Writes the tar to an unnamed file in `scratch`.
    pub fn build(&self, scratch: &Path) -> Result<Layer, Error> {
        let path = scratch.join(format!(".layer-{}-{:p}", std::process::id(), self));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let mut tar = tar::Builder::new(Hashing { file, context: ring::digest::Context::new(&ring::digest::SHA256), size: 0 });
        for (path, entry) in &self.entries {
            append(&mut tar, path, entry)?;
        }
        let mut out = tar.into_inner()?;
        out.file.seek(SeekFrom::Start(0))?;
        Ok(Layer { digest: digest_text(&out.context.finish()), size: out.size, file: out.file })
    }
}

fn append(tar: &mut tar::Builder<Hashing>, path: &Path, entry: &Entry) -> Result<(), Error> {
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.0);
    header.set_gid(entry.owner.1);
    header.set_mtime(0);
    header.set_size(0);
    match &entry.content {
        Content::Directory => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, path, io::empty())?;
        }
        Content::Bytes(bytes) => {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        Content::File(source) => {
            let file = File::open(source).map_err(|e| Error::Read { path: source.clone(), source: e })?;
            let size = file.metadata()?.len();
            header.set_size(size);
            // A file that grows meanwhile must not spill into the next entry.
            tar.append_data(&mut header, path, file.take(size))?;
        }
        Content::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

struct Hashing {
    file: File,
    context: ring::digest::Context,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.context.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
