//! Profiles of debugging containers (KEP-1441): how much a container may see and do.

use clap::ValueEnum;
use machinery::patch::{PatchError, strategic};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// See all processes, trace them; on a node, its files
    #[default]
    General,
    /// As little as the baseline of pod security
    Baseline,
    /// Without root and capabilities
    Restricted,
    /// Change networks
    Netadmin,
    /// Everything
    Sysadmin,
    /// As before profiles: without rights, on a node with its files
    Legacy,
}

/// What is debugged, and by it how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A container more in a running pod.
    Ephemeral,
    /// A copy of the pod.
    Copy,
    /// A pod on a node.
    Node,
}

/// Changes the pod's spec and the debugging container in it. The parts of a copy that are not kept are not done here.
pub fn apply(profile: Profile, style: Style, spec: &mut Value, container: &str) {
    let mut rights = Value::Null;
    match profile {
        Profile::General if style == Style::Node => {}
        Profile::General => add(&mut rights, &["SYS_PTRACE"]),
        Profile::Baseline | Profile::Legacy => {}
        Profile::Restricted => {
            rights = json!({
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            });
        }
        Profile::Netadmin => add(&mut rights, &["NET_ADMIN", "NET_RAW"]),
        Profile::Sysadmin => rights = json!({"privileged": true}),
    }
    if style == Style::Node && !matches!(profile, Profile::Baseline | Profile::Restricted) {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            spec[field] = true.into();
        }
    }
    let files = style == Style::Node && matches!(profile, Profile::General | Profile::Sysadmin | Profile::Legacy);
    if files {
        let volume = json!({"name": "host-root", "hostPath": {"path": "/"}});
        match spec["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(volume),
            None => spec["volumes"] = json!([volume]),
        }
    }
    if style == Style::Copy && spec.get("shareProcessNamespace").is_none() {
        spec["shareProcessNamespace"] = true.into();
    }
    let Some(own) = container_of(spec, container) else { return };
    // A container of the pod that is taken over keeps what it had, unless the profile is about less.
    let replaces = matches!(profile, Profile::Baseline | Profile::Restricted);
    match (rights, own.get_mut("securityContext")) {
        (Value::Null, _) if replaces => drop(own.as_object_mut().map(|own| own.remove("securityContext"))),
        (Value::Null, _) => {}
        (rights, Some(had)) if !replaces => machinery::patch::merge::apply(had, &rights),
        (rights, _) => own["securityContext"] = rights,
    }
    if files {
        own["volumeMounts"] = json!([{"name": "host-root", "mountPath": "/host"}]);
    }
}

fn container_of<'s>(spec: &'s mut Value, name: &str) -> Option<&'s mut Value> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let lists = spec.as_object_mut()?.iter_mut().filter(|(list, _)| lists.contains(&list.as_str()));
    lists.flat_map(|(_, list)| list.as_array_mut().into_iter().flatten()).find(|container| container["name"] == name)
}

/// What a custom profile may not say.
pub fn check_custom(fields: &Value) -> Result<(), &'static str> {
    let set = |name: &&str| fields.get(*name).is_some_and(|value| !value.is_null() && value != "");
    if ["name", "command", "image", "lifecycle", "volumeDevices"].iter().any(set) {
        return Err("name, command, image, lifecycle and volume devices are not modifiable via custom profile");
    }
    Ok(())
}

/// Merges fields into the container, strategically: lists by their keys.
pub fn customize(fields: &Value, spec: &mut Value, container: &str) -> Result<(), PatchError> {
    let Some(own) = container_of(spec, container) else { return Ok(()) };
    let in_pod = |container: Value| json!({"spec": {"containers": [container]}});
    let mut patch = fields.clone();
    patch["name"] = container.into();
    if let Some(pod) = schema::builtin().type_of("", "v1", "Pod") {
        let mut merged = strategic::apply(&in_pod(own.take()), &in_pod(patch), pod)?;
        *own = merged["spec"]["containers"][0].take();
    }
    Ok(())
}

fn add(rights: &mut Value, capabilities: &[&str]) {
    rights["capabilities"]["add"] = json!(capabilities);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights() {
        let check = |profile, style, want: Value| {
            let mut spec = json!({"containers": [{"name": "d"}]});
            apply(profile, style, &mut spec, "d");
            assert_eq!(spec, want, "{profile:?} {style:?}");
        };
        let trace = json!({"capabilities": {"add": ["SYS_PTRACE"]}});
        check(Profile::General, Style::Ephemeral, json!({"containers": [{"name": "d", "securityContext": trace}]}));
        check(
            Profile::General,
            Style::Copy,
            json!({"shareProcessNamespace": true, "containers": [{"name": "d", "securityContext": trace}]}),
        );
        check(
            Profile::General,
            Style::Node,
            json!({
                "hostNetwork": true, "hostPID": true, "hostIPC": true, "volumes": [{"name": "host-root", "hostPath": {"path": "/"}}],
                "containers": [{"name": "d", "volumeMounts": [{"name": "host-root", "mountPath": "/host"}]}],
            }),
        );
        check(Profile::Baseline, Style::Node, json!({"containers": [{"name": "d"}]}));
        check(Profile::Legacy, Style::Ephemeral, json!({"containers": [{"name": "d"}]}));
        check(
            Profile::Sysadmin,
            Style::Ephemeral,
            json!({"containers": [{"name": "d", "securityContext": {"privileged": true}}]}),
        );
    }

    #[test]
    fn custom_fields() {
        assert!(check_custom(&json!({"image": "x"})).is_err() && check_custom(&json!({"env": []})).is_ok());
        let mut spec = json!({"ephemeralContainers": [{"name": "d", "env": [{"name": "A", "value": "1"}]}]});
        customize(&json!({"env": [{"name": "A", "value": "2"}], "stdin": true}), &mut spec, "d").unwrap();
        let want = json!({"ephemeralContainers": [{"name": "d", "env": [{"name": "A", "value": "2"}], "stdin": true}]});
        assert_eq!(spec, want);
    }
}
