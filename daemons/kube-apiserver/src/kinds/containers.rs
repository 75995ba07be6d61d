//! The containers of a pod: one way to visit them all, and their images.

use machinery::field::Path;
use serde_json::Value;

use super::value::{fill, text};

/// The three lists of containers in a pod's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Init,
    Main,
    Ephemeral,
}

impl Role {
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// One container, and where it is.
pub(super) struct Visit<'a> {
    pub(super) role: Role,
    pub(super) path: Path,
    pub(super) container: &'a Value,
}

/// Every container of a pod's spec: init, main, ephemeral.
pub(super) fn all<'a>(spec: &'a Value, path: &Path) -> Vec<Visit<'a>> {
    [Role::Init, Role::Main, Role::Ephemeral]
        .into_iter()
        .flat_map(|role| {
            let list = path.child(role.field());
            let containers = spec.get(role.field()).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            containers.iter().enumerate().map(move |(index, container)| Visit { role, path: list.index(index), container })
        })
        .collect()
}

/// An init container that keeps running beside the main ones.
pub(super) fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

/// Images without a tag, and with the tag `latest`, are pulled each time.
pub(super) fn default_pull_policy(container: &mut Value) {
    let policy = pull_policy(text(container, "/image"));
    fill(container, "imagePullPolicy", policy);
}

pub(super) fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        // A digest names one image for ever. A tag beside it counts all the same.
        let (name, _) = image.split_once('@').unwrap_or((image, ""));
        return tag(name) == Some("latest");
    }
    !image.is_empty() && tag(image).is_none_or(|tag| tag == "latest")
}

/// The tag: what follows a colon in the last part of the path. A colon before that belongs to a port.
fn tag(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("host:5000/nginx", "Always"),
            ("host:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
