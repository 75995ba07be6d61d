//! Pod templates and their containers.

use machinery::meta;
use serde_json::Value;

use crate::kube::{Error, Info, Result};

/// The path to the pod template's spec of each kind that has one.
fn template_path(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&["spec"]),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            Some(&["spec", "template", "spec"])
        }
        "CronJob" => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        _ => None,
    }
}

/// The spec of an object's pods.
pub fn pod_spec<'a>(info: &Info, object: &'a mut Value) -> Result<&'a mut Value> {
    let path = template_path(meta::kind(object)).ok_or_else(|| {
        let label = format!("{}/{}", info.resource.plural, info.name);
        Error::Plain(format!(
            "error: {label} the object is not a pod or does not have a pod template: *{}.{}",
            info.resource.version, info.resource.kind
        ))
    })?;
    Ok(path.iter().fold(object, |value, part| &mut value[*part]))
}

/// Containers, then init containers, whose name matches; `*` stands for any text.
pub fn selected<'a>(spec: &'a mut Value, pattern: &str) -> Vec<&'a mut Value> {
    let Some(spec) = spec.as_object_mut() else { return Vec::new() };
    let (mut init, mut containers) = (Vec::new(), Vec::new());
    for (field, value) in spec.iter_mut() {
        let into = match field.as_str() {
            "containers" => &mut containers,
            "initContainers" => &mut init,
            _ => continue,
        };
        let named = |container: &&mut Value| matches(pattern, container["name"].as_str().unwrap_or_default());
        into.extend(value.as_array_mut().into_iter().flatten().filter(named));
    }
    containers.append(&mut init);
    containers
}

/// A pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|tail| (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| matches(rest, &tail[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_by_pattern() {
        let mut spec = json!({"containers": [{"name": "app"}, {"name": "side"}], "initContainers": [{"name": "app-init"}]});
        let mut names = |pattern: &str| {
            selected(&mut spec, pattern).iter().map(|container| meta::text(container, &["name"]).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("*"), ["app", "side", "app-init"]);
        assert_eq!(names("app*"), ["app", "app-init"]);
        assert_eq!(names("*i*"), ["side", "app-init"]);
        assert_eq!(names("app"), ["app"]);
        assert!(names("x").is_empty());
    }
}
