//! Files that change all at once: each version in a directory of its own, `..data` a link to the newest, and one link for each
//! file through it. A reader sees the old files or the new ones, never a mix.
//!
//! ```text
//! ..2026_01_02_03_04_05.123456789/config   the data
//! ..data -> ..2026_01_02_03_04_05.123456789
//! config -> ..data/config
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::payload::Payload;

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes the directory show `payload`. Nothing is written when it does already. `group` owns the files and may read them.
pub fn write(target: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    let current = fs::read_link(target.join(DATA)).ok();
    if let Some(current) = &current
        && same(&target.join(current), payload, group)?
    {
        link_files(target, payload)?;
        return Ok(false);
    }
    let version = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N"));
    let directory = target.join(&version);
    let made = make(&directory, payload, group);
    if let Err(error) = made {
        let _ = fs::remove_dir_all(&directory);
        return Err(error);
    }
    let next = target.join(NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&version, &next)?;
    fs::rename(&next, target.join(DATA))?;
    link_files(target, payload)?;
    // What a killed run left behind goes too.
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("..") && *name != *DATA && *name != version && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(true)
}

fn file_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn make(directory: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    make_directory(directory, group)?;
    for (path, file) in payload {
        if let Some(parent) = Path::new(path).parent() {
            let mut at = directory.to_owned();
            for part in parent.components() {
                at.push(part);
                if !at.is_dir() {
                    make_directory(&at, group)?;
                }
            }
        }
        let path = directory.join(path);
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        out.write_all(&file.data)?;
        if group.is_some() {
            chown(&path, None, group)?;
        }
        // After the owner: a change of owner may clear bits.
        out.set_permissions(fs::Permissions::from_mode(file_mode(file.mode, group)))?;
    }
    Ok(())
}

fn make_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir(path)?;
    let mut mode = 0o755;
    if group.is_some() {
        chown(path, None, group)?;
        mode |= 0o2000;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Whether a version holds exactly these files.
fn same(directory: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    if !list(directory, "", &mut found)? || found.len() != payload.len() {
        return Ok(false);
    }
    for (path, file) in payload {
        if !found.contains(path) {
            return Ok(false);
        }
        let path = directory.join(path);
        if fs::metadata(&path)?.permissions().mode() & 0o777 != file_mode(file.mode, group) || fs::read(&path)? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), found)?;
        } else {
            found.insert(name);
        }
    }
    Ok(true)
}

/// One link for each first part of a path; links to what is gone are removed.
fn link_files(target: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &wanted {
        let link = target.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(p, d)| ((*p).to_owned(), File { data: d.as_bytes().to_vec(), mode: 0o644 })).collect()
    }

    #[test]
    fn versions_replace_each_other() {
        let target = std::env::temp_dir().join(format!("kubelet-writer-{}", std::process::id()));
        fs::create_dir_all(&target).unwrap();
        let read = |name: &str| fs::read_to_string(target.join(name)).ok();
        assert!(write(&target, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap());
        assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("2")));
        assert_eq!(fs::read_link(target.join("d")).unwrap(), Path::new("..data/d"));
        let version = fs::read_link(target.join("..data")).unwrap();
        assert!(!write(&target, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap(), "nothing changed");
        assert_eq!(fs::read_link(target.join("..data")).unwrap(), version);
        assert!(write(&target, &payload(&[("a", "3")]), None).unwrap());
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        // ..data, one version, and a.
        assert_eq!(fs::read_dir(&target).unwrap().count(), 3);
        assert!(write(&target, &Payload::new(), None).unwrap());
        assert_eq!(read("a"), None);
        fs::remove_dir_all(target).unwrap();
    }
}
