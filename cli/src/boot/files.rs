//! Files that shall be on the host with a certain content.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::context::Context;
use super::ledger::Effect;
use super::paths::BACKUPS;

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

impl File {
    pub(crate) fn public(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), mode: 0o644 }
    }

    pub(crate) fn secret(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into(), mode: 0o600 }
    }

    /// Why the host's file is not this one.
    pub(crate) fn difference(&self) -> Option<String> {
        let Ok(metadata) = fs::symlink_metadata(&self.path) else { return Some(format!("{} is missing", self.path.display())) };
        let same = metadata.is_file() && fs::read(&self.path).is_ok_and(|content| content == self.content);
        if !same {
            return Some(format!("{} differs", self.path.display()));
        }
        (metadata.permissions().mode() & 0o777 != self.mode).then(|| format!("{} has another mode", self.path.display()))
    }
}

pub(crate) fn differences(files: &[File]) -> Vec<String> {
    files.iter().filter_map(File::difference).collect()
}

/// Writes those that differ.
pub(crate) fn write_all(context: &Context, files: &[File]) -> Result<()> {
    files.iter().filter(|file| file.difference().is_some()).try_for_each(|file| write(context, file))
}

pub(crate) fn write(context: &Context, file: &File) -> Result<()> {
    prepare(context, &file.path)?;
    replace(&file.path, &file.content, file.mode).with_context(|| format!("writing {}", file.path.display()))
}

/// Notes the file in the ledger, with a copy of what was there; makes its directory.
pub(crate) fn prepare(context: &Context, path: &Path) -> Result<()> {
    if let Some(directory) = path.parent() {
        make_directory(context, directory)?;
    }
    let mut ledger = context.ledger();
    if ledger.knows_file(path) {
        return Ok(());
    }
    let backup = if fs::symlink_metadata(path).is_ok() { Some(back_up(path)?) } else { None };
    ledger.note(Effect::File { path: path.to_owned(), backup })
}

fn back_up(path: &Path) -> Result<PathBuf> {
    let backup = Path::new(BACKUPS).join(path.strip_prefix("/").unwrap_or(path));
    if let Some(directory) = backup.parent() {
        fs::create_dir_all(directory)?;
    }
    copy(path, &backup).with_context(|| format!("keeping a copy of {}", path.display()))?;
    Ok(backup)
}

/// A copy with its mode; a link stays a link.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let _ = fs::remove_file(to);
    match fs::read_link(from) {
        Ok(target) => std::os::unix::fs::symlink(target, to),
        Err(_) => fs::copy(from, to).map(drop),
    }
}

/// Makes missing directories, and notes each.
pub(crate) fn make_directory(context: &Context, directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directory(context, parent)?;
    }
    context.ledger().note(Effect::Directory { path: directory.to_owned() })?;
    match fs::create_dir(directory) {
        // The ledger's own directory: its first note made it.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.with_context(|| format!("making {}", directory.display())),
    }
}

/// The old content or the new, never a part.
fn replace(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".kctl");
    let temporary = path.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
