//! The mount table of this process.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What of the file system is mounted.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// Per-mount options: `rw`, `relatime`, …
    pub options: String,
    pub fstype: String,
    pub source: String,
    /// Options of the file system itself.
    pub super_options: String,
}

impl Mount {
    pub fn has_super_option(&self, option: &str) -> bool {
        self.super_options.split(',').any(|o| o == option)
    }
}

pub fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// Mount points at `directory` or below it, deepest first: the order in which they can be unmounted.
pub fn beneath(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut points: Vec<PathBuf> = all()?.into_iter().map(|m| m.mount_point).filter(|p| p.starts_with(directory)).collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    Ok(points)
}

fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let mut filesystem = filesystem.split(' ');
    Some(Mount {
        root: unescape(mount.next()?),
        mount_point: unescape(mount.next()?),
        options: mount.next()?.to_owned(),
        fstype: filesystem.next()?.to_owned(),
        source: filesystem.next()?.to_owned(),
        super_options: filesystem.next().unwrap_or_default().to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\').then(|| bytes.get(at + 1..at + 4)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_and_without_optional_fields() {
        let table = "36 35 98:0 /a /mnt/with\\040space rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                     32 24 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
        let mounts = parse(table);
        assert_eq!(mounts[0].mount_point, Path::new("/mnt/with space"));
        assert_eq!((mounts[0].root.as_path(), mounts[0].fstype.as_str()), (Path::new("/a"), "ext3"));
        assert!(mounts[1].has_super_option("cpu") && !mounts[1].has_super_option("cpuset"));
    }

    #[test]
    fn strange_lines_are_left_out() {
        assert!(parse("\nnonsense\n1 2 3 - \n").is_empty());
        assert_eq!(unescape("a\\01"), Path::new("a\\01"));
    }
}
