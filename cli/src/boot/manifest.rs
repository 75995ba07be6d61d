//! Manifests as values: what the configuration changes in a template.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::cluster::DaemonOptions;

/// What a program of the host may be linked to; our own image has no libraries.
const LIBRARIES: &[&str] = &["/lib", "/lib64", "/usr/lib"];

/// Sets flags of the first container, replacing those of the same name, and its program.
pub(crate) fn with_options(manifest: &str, options: &DaemonOptions) -> Result<String> {
    let mut object = machinery::yaml::to_value(manifest).map_err(|e| anyhow::anyhow!("a manifest of ours: {e}"))?;
    let pod = if object["kind"] == "Pod" { &mut object["spec"] } else { &mut object["spec"]["template"]["spec"] };
    let container = pod["containers"].get_mut(0).context("a manifest of ours has no container")?;
    let command = container["command"].as_array_mut().context("a manifest of ours has no command")?;
    set_flags(command, options);
    if let Some(binary) = &options.binary {
        let path = binary.to_str().context("the path of a program is text")?;
        command[0] = path.into();
        let libraries = LIBRARIES.iter().enumerate().filter(|(_, directory)| Path::new(directory).is_dir());
        let mounts = list(container, "volumeMounts")?;
        mounts.push(json!({ "name": "program", "mountPath": path, "readOnly": true }));
        mounts.extend(
            libraries.clone().map(|(i, path)| json!({ "name": format!("lib-{i}"), "mountPath": path, "readOnly": true })),
        );
        let volumes = list(pod, "volumes")?;
        volumes.push(json!({ "name": "program", "hostPath": { "path": path, "type": "File" } }));
        volumes.extend(libraries.map(|(i, path)| json!({ "name": format!("lib-{i}"), "hostPath": { "path": path } })));
    }
    Ok(machinery::yaml::to_string(&object))
}

/// The list of this name, made when it is not there.
fn list<'a>(object: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>> {
    let object = object.as_object_mut().context("a manifest of ours is not an object")?;
    object.entry(name).or_insert_with(|| json!([])).as_array_mut().context("a manifest of ours has no list")
}

fn set_flags(command: &mut Vec<Value>, options: &DaemonOptions) {
    for (name, value) in &options.arguments {
        let flag = format!("--{name}=");
        command.retain(|argument| !argument.as_str().is_some_and(|a| a.starts_with(&flag)));
        command.push(format!("{flag}{value}").into());
    }
}

/// Flags as a unit's command line has them, each in quotes.
pub(crate) fn unit_arguments(options: &DaemonOptions) -> String {
    options
        .arguments
        .iter()
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
            format!(" \"--{name}={value}\"")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "kind: Pod\nspec:\n  containers:\n  - command: [kube-x, --a=1, --b=2]\n";

    #[test]
    fn a_flag_replaces_its_namesake() {
        let options = DaemonOptions { arguments: [("a".to_owned(), "9".to_owned())].into(), binary: None };
        let pod = machinery::yaml::to_value(&with_options(POD, &options).unwrap()).unwrap();
        assert_eq!(pod["spec"]["containers"][0]["command"], json!(["kube-x", "--b=2", "--a=9"]));
    }

    #[test]
    fn another_program_is_mounted() {
        let options = DaemonOptions { arguments: Default::default(), binary: Some("/opt/kube-x".into()) };
        let pod = machinery::yaml::to_value(&with_options(POD, &options).unwrap()).unwrap();
        assert_eq!(pod["spec"]["containers"][0]["command"][0], "/opt/kube-x");
        assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/opt/kube-x");
    }

    #[test]
    fn unit_arguments_are_quoted() {
        let options = DaemonOptions { arguments: [("x".to_owned(), "50% \"of\" $it".to_owned())].into(), binary: None };
        assert_eq!(unit_arguments(&options), " \"--x=50%% \\\"of\\\" $$it\"");
    }
}
