//! The containers of a pod: the one visitor of them all, and their images.

pub(super) use machinery::pod::containers::{Role, all, is_sidecar};
use serde_json::Value;

use super::value::{fill, text};

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
