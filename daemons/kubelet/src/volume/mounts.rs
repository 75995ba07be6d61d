//! The mounts of one container: its volumes, parts of volumes, /etc/hosts, and the file for its last words.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use api::Kind as _;
use api::core::{Container, Pod, VolumeMount};
use cri::v1;

use super::{Ready, pod_dir, subpath};
use crate::pod::env::expand;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot find volume \"{volume}\" to mount into container \"{container}\"")]
    NoVolume { volume: String, container: String },
    #[error("missing value for {missing} in subPathExpr of volume \"{volume}\"")]
    Expression { volume: String, missing: String },
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\"")]
    SubPath { volume: String, container: String, source: io::Error },
    #[error("volumeDevices are not supported")]
    Devices,
}

/// The files that the kubelet itself gives to a container.
#[derive(Clone, Debug, Default)]
pub struct OwnFiles {
    pub hosts: Option<PathBuf>,
    pub termination_log: Option<PathBuf>,
}

/// The mounts; parts of volumes are opened and bound on the way. Blocks.
pub fn mounts(
    root: &Path,
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, Ready>,
    env: &[(String, String)],
    own: &OwnFiles,
) -> Result<Vec<v1::Mount>, MountError> {
    if container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        return Err(MountError::Devices);
    }
    let mut mounts = Vec::new();
    let mut hosts_taken = false;
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let container_path = absolute(&mount.mount_path);
        hosts_taken |= container_path == "/etc/hosts";
        let volume = volumes
            .get(&mount.name)
            .ok_or_else(|| MountError::NoVolume { volume: mount.name.clone(), container: container.name.clone() })?;
        let sub = sub_path(mount, env)?;
        let host_path = if sub.is_empty() {
            volume.path.clone()
        } else {
            let target =
                pod_dir(root, pod.uid()).join("volume-subpaths").join(&mount.name).join(&container.name).join(index.to_string());
            subpath::bind(&volume.path, &sub, &target).map_err(|source| MountError::SubPath {
                volume: mount.name.clone(),
                container: container.name.clone(),
                source,
            })?;
            target
        };
        mounts.push(v1::Mount {
            container_path,
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: mount.read_only.unwrap_or(false) || volume.read_only,
            recursive_read_only: mount.recursive_read_only.as_deref() == Some("Enabled"),
            propagation: propagation(mount).into(),
            ..v1::Mount::default()
        });
    }
    let file = |path: &Path, at: String| v1::Mount {
        container_path: at,
        host_path: path.to_string_lossy().into_owned(),
        ..v1::Mount::default()
    };
    if let Some(hosts) = &own.hosts
        && !hosts_taken
    {
        mounts.push(file(hosts, "/etc/hosts".to_owned()));
    }
    if let Some(log) = &own.termination_log {
        let at = container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log");
        mounts.push(file(log, at.to_owned()));
    }
    Ok(mounts)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<String, MountError> {
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    let missing = std::cell::RefCell::new(None);
    let expanded = expand(expression, |name| {
        let value = env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if value.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        value
    });
    match missing.into_inner() {
        Some(missing) => Err(MountError::Expression { volume: mount.name.clone(), missing }),
        None => Ok(expanded),
    }
}

fn propagation(mount: &VolumeMount) -> v1::MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        _ => v1::MountPropagation::PropagationPrivate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(container: Value) -> Result<Vec<v1::Mount>, String> {
        let pod = Pod::decode_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [container]}})).unwrap();
        let volumes = BTreeMap::from([
            ("v".to_owned(), Ready { path: "/host/v".into(), read_only: false }),
            ("ro".to_owned(), Ready { path: "/host/ro".into(), read_only: true }),
        ]);
        let own = OwnFiles { hosts: Some("/h".into()), termination_log: None };
        mounts(Path::new("/none"), &pod, &pod.spec.as_ref().unwrap().containers[0], &volumes, &[], &own)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn ordinary_mounts() {
        let m =
            made(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "data"}, {"name": "ro", "mountPath": "/ro"}]}))
                .unwrap();
        let shown: Vec<String> = m.iter().map(|m| format!("{}:{}:{}", m.host_path, m.container_path, m.readonly)).collect();
        assert_eq!(shown, ["/host/v:/data:false", "/host/ro:/ro:true", "/h:/etc/hosts:false"]);
    }

    #[test]
    fn own_hosts_files_stay() {
        let m = made(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/etc/hosts"}]})).unwrap();
        assert_eq!(m.len(), 1);
    }

    #[test]
    fn what_is_missing() {
        assert_eq!(
            made(json!({"name": "c", "volumeMounts": [{"name": "x", "mountPath": "/x"}]})).unwrap_err(),
            "cannot find volume \"x\" to mount into container \"c\""
        );
        assert!(
            made(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/x", "subPathExpr": "$(NO)"}]}))
                .unwrap_err()
                .contains("NO")
        );
    }
}
