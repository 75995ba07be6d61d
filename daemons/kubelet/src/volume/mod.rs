//! Volumes: made before a pod's containers, brought up to date while they run, taken away after them.
//!
//! **Invariants:** nothing is removed through a mount; a path from a specification is only used beneath an open directory.

pub mod atomic_writer;
pub mod host_path;
pub mod mounts;
pub mod payload;
pub mod subpath;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use api::Kind as _;
use api::core::{Pod, Volume};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::pod::spec;
use payload::{PayloadError, Sources};

/// A volume on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub path: PathBuf,
    pub read_only: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Payload { volume: String, source: PayloadError },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Io { volume: String, source: io::Error },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Refused { volume: String, message: String },
}

/// Where claims lead: the host's path of the persistent volume that is bound to each.
pub type Claims = BTreeMap<String, Result<Ready, String>>;

/// The directory of a pod.
pub fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

fn volume_dir(root: &Path, uid: &str, kind: &str, name: &str) -> PathBuf {
    pod_dir(root, uid).join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
}

/// The name of the claim behind a volume.
pub fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(claim.claim_name.clone());
    }
    volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name(), volume.name))
}

/// Makes all volumes of a pod, or brings them up to date. Blocks: it works on files.
pub fn set_up(root: &Path, pod: &Pod, sources: &Sources, claims: &Claims) -> Result<BTreeMap<String, Ready>, Vec<VolumeError>> {
    let mut ready = BTreeMap::new();
    let mut errors = Vec::new();
    for volume in spec::spec(pod).volumes.iter().flatten() {
        match set_up_one(root, pod, volume, sources, claims) {
            Ok(made) => {
                ready.insert(volume.name.clone(), made);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(ready) } else { Err(errors) }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    spec::spec(pod).security_context.as_ref()?.fs_group.and_then(|g| u32::try_from(g).ok())
}

fn set_up_one(root: &Path, pod: &Pod, volume: &Volume, sources: &Sources, claims: &Claims) -> Result<Ready, VolumeError> {
    let name = &volume.name;
    let io = |source: io::Error| VolumeError::Io { volume: name.clone(), source };
    let refused = |message: String| VolumeError::Refused { volume: name.clone(), message };
    if let Some(empty) = &volume.empty_dir {
        let path = volume_dir(root, pod.uid(), "empty-dir", name);
        let size = empty.size_limit.as_ref().map(crate::pod::qos::whole);
        match empty.medium.as_deref().unwrap_or_default() {
            "" => directory(&path).map_err(io)?,
            "Memory" => memory(&path, size).map_err(io)?,
            other => return Err(refused(format!("unknown storage medium \"{other}\""))),
        }
        own(&path, 0o777, fs_group(pod)).map_err(io)?;
        return Ok(Ready { path, read_only: false });
    }
    if let Some(host) = &volume.host_path {
        let path = PathBuf::from(&host.path);
        host_path::check(&path, host.type_.as_deref().unwrap_or_default()).map_err(refused)?;
        return Ok(Ready { path, read_only: false });
    }
    if let Some((kind, in_memory)) = made_of_objects(volume) {
        let path = volume_dir(root, pod.uid(), kind, name);
        let files = match payload::payload(pod, volume, sources) {
            Ok(files) => files.unwrap_or_default(),
            // An object that was deleted leaves the files of a pod that has them as they are.
            Err(source) if path.join("..data").exists() => {
                tracing::debug!(volume = name, %source, "the files stay as they are");
                return Ok(Ready { path, read_only: true });
            }
            Err(source) => return Err(VolumeError::Payload { volume: name.clone(), source }),
        };
        if in_memory {
            memory(&path, None).map_err(io)?
        } else {
            directory(&path).map_err(io)?
        }
        own(&path, 0o777, fs_group(pod)).map_err(io)?;
        atomic_writer::write(&path, &files, fs_group(pod)).map_err(io)?;
        return Ok(Ready { path, read_only: true });
    }
    if let Some(claim) = claim_name(pod, volume) {
        return match claims.get(&claim) {
            Some(Ok(ready)) => {
                let read_only = volume.persistent_volume_claim.as_ref().is_some_and(|c| c.read_only == Some(true));
                Ok(Ready { path: ready.path.clone(), read_only: ready.read_only || read_only })
            }
            Some(Err(message)) => Err(refused(message.clone())),
            None => Err(refused(format!("persistentvolumeclaim \"{claim}\" not found"))),
        };
    }
    Err(refused("no volume plugin matched: this kind of volume is not supported".to_owned()))
}

/// The kind of a volume that is made of objects, by the name of its directory, and whether it lies in memory.
fn made_of_objects(volume: &Volume) -> Option<(&'static str, bool)> {
    match volume {
        Volume { config_map: Some(_), .. } => Some(("configmap", false)),
        Volume { secret: Some(_), .. } => Some(("secret", true)),
        Volume { downward_api: Some(_), .. } => Some(("downward-api", true)),
        Volume { projected: Some(_), .. } => Some(("projected", true)),
        _ => None,
    }
}

fn directory(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        fs::create_dir_all(path)?;
    }
    Ok(())
}

/// A directory in memory. Secrets never reach a disk.
fn memory(path: &Path, size: Option<i64>) -> io::Result<()> {
    directory(path)?;
    if mounts_beneath(path)?.iter().any(|m| m == path) {
        return Ok(());
    }
    let options = match size.filter(|s| *s > 0) {
        Some(bytes) => format!("size={bytes}"),
        None => String::new(),
    };
    let options = CString::new(options).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?;
    Ok(())
}

/// The owner and mode of a volume's directory; with a group: its members may write, and what they make belongs to it.
fn own(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut mode = mode;
    if group.is_some() {
        chown(path, None, group)?;
        mode |= 0o2770;
    }
    if fs::metadata(path)?.permissions().mode() & 0o7777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The mount points at and beneath a path, outermost first.
pub fn mounts_beneath(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut found: Vec<PathBuf> = points.map(PathBuf::from).filter(|p| p.starts_with(&path)).collect();
    found.sort();
    Ok(found)
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let octal = (bytes[i] == b'\\').then(|| text.get(i + 1..i + 4).and_then(|o| u8::from_str_radix(o, 8).ok())).flatten();
        match octal {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Takes a pod's volumes and its directory away. Goes on after errors, so that a re-run finds less to do; mounts that stay
/// keep their directory.
pub fn tear_down(root: &Path, uid: &str) -> io::Result<()> {
    let directory = pod_dir(root, uid);
    if uid.is_empty() || uid.contains('/') || !directory.is_dir() {
        return Ok(());
    }
    for point in mounts_beneath(&directory)?.into_iter().rev() {
        rustix::mount::unmount(&point, UnmountFlags::NOFOLLOW)
            .or_else(|_| rustix::mount::unmount(&point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH))?;
    }
    let left = mounts_beneath(&directory)?;
    if let Some(first) = left.first() {
        return Err(io::Error::other(format!("{} is still mounted", first.display())));
    }
    fs::remove_dir_all(&directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
    }
}
