//! The pods and containers that `debug` makes.

use machinery::meta;
use serde_json::{Map, Value, json};

use super::{
    DebugArgs,
    profile::{self, Style},
};
use crate::kube::{Error, Result};

/// Names of all containers of a pod.
pub fn names(pod: &Value) -> Vec<&str> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let all = lists.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.filter_map(|container| container["name"].as_str()).collect()
}

/// Sets in a container what the flags say.
fn fill(container: &mut Value, args: &DebugArgs) {
    if !args.command.is_empty() {
        let field = if args.arguments_only { "args" } else { "command" };
        container[field] = json!(args.command);
        if !args.arguments_only
            && let Some(container) = container.as_object_mut()
        {
            container.remove("args");
        }
    }
    if !args.env.is_empty() {
        let pairs = args.env.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        container["env"] = pairs.map(|(name, value)| json!({"name": name, "value": value})).collect();
    }
    for (field, value) in [("image", &args.image), ("imagePullPolicy", &args.image_pull_policy)] {
        if let Some(value) = value {
            container[field] = value.as_str().into();
        }
    }
    for (field, on) in [("stdin", args.stdin), ("tty", args.tty)] {
        if on {
            container[field] = true.into();
        }
    }
}

/// The container that joins a running pod, as the pod would have it then.
pub fn ephemeral(pod: &Value, args: &DebugArgs, name: &str) -> Result<Value> {
    let mut changed = pod.clone();
    let mut container = json!({"name": name, "terminationMessagePolicy": "File"});
    fill(&mut container, args);
    if let Some(target) = &args.target {
        container["targetContainerName"] = target.as_str().into();
    }
    match changed["spec"]["ephemeralContainers"].as_array_mut() {
        Some(containers) => containers.push(container),
        None => changed["spec"]["ephemeralContainers"] = json!([container]),
    }
    profile::apply(args.profile, Style::Ephemeral, &mut changed["spec"], name);
    customize(args, &mut changed["spec"], name)?;
    Ok(changed)
}

/// The pod that debugs a node.
pub fn on_node(node: &str, args: &DebugArgs, pod: &str, container: &str) -> Result<Value> {
    let mut own = json!({"name": container, "terminationMessagePolicy": "File"});
    fill(&mut own, args);
    let mut spec =
        json!({"containers": [own], "nodeName": node, "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}]});
    profile::apply(args.profile, Style::Node, &mut spec, container);
    customize(args, &mut spec, container)?;
    let labels = json!({"app.kubernetes.io/managed-by": "kctl-debug"});
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "labels": labels}, "spec": spec}))
}

/// What `--custom` says goes over everything else.
fn customize(args: &DebugArgs, spec: &mut Value, container: &str) -> Result<()> {
    match &args.custom_fields {
        Some(fields) => profile::customize(fields, spec, container).map_err(|error| Error::message(error.to_string())),
        None => Ok(()),
    }
}

/// A copy of a pod with a container more, or with one changed. `name` is that container's; without it only images change.
pub fn copy(pod: &Value, args: &DebugArgs, to: &str, name: Option<&str>) -> Result<Value> {
    let mut metadata = json!({"name": to, "namespace": meta::namespace(pod)});
    for (field, keep) in [("labels", args.keep_labels), ("annotations", args.keep_annotations)] {
        if keep || name.is_none() {
            metadata[field] = pod["metadata"][field].clone();
        }
    }
    let mut spec = pod["spec"].clone();
    let fields = meta::as_object_mut(&mut spec);
    fields.remove("ephemeralContainers");
    if !args.same_node {
        fields.remove("nodeName");
    }
    if name.is_some() && !args.keep_init_containers {
        fields.remove("initContainers");
    }
    if let Some(share) = args.share_processes {
        fields.insert("shareProcessNamespace".into(), share.into());
    }
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        let images: Map<String, Value> =
            args.set_image.iter().filter_map(|pair| pair.split_once('=')).map(|(c, image)| (c.into(), image.into())).collect();
        let own = container["name"].as_str().and_then(|own| images.get(own));
        if let Some(image) = own.or(images.get("*")) {
            container["image"] = image.clone();
        }
        let probes =
            [("livenessProbe", args.keep_liveness), ("readinessProbe", args.keep_readiness), ("startupProbe", args.keep_startup)];
        for (probe, keep) in probes {
            if name.is_some() && !keep {
                meta::as_object_mut(container).remove(probe);
            }
        }
    }
    if let Some(name) = name {
        let containers = spec["containers"].as_array_mut().ok_or_else(|| Error::message("the pod has no containers"))?;
        match containers.iter_mut().find(|container| container["name"] == name) {
            Some(own) => fill(own, args),
            None if args.image.is_none() => {
                return Err(Error::message("you must specify image when creating new container"));
            }
            None => {
                let mut own = json!({"name": name, "terminationMessagePolicy": "File"});
                fill(&mut own, args);
                containers.push(own);
            }
        }
        profile::apply(args.profile, Style::Copy, &mut spec, name);
        customize(args, &mut spec, name)?;
    }
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DebugArgs,
    }

    fn args(line: &str) -> DebugArgs {
        Line::try_parse_from(std::iter::once("debug").chain(line.split_whitespace())).unwrap().args
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x:1", "args": ["a"], "livenessProbe": {}}]},
        })
    }

    #[test]
    fn a_container_joins() {
        let changed = ephemeral(&pod(), &args("p --image=b -it --target=c -- sh"), "d").unwrap();
        let want = json!([{
            "name": "d", "image": "b", "command": ["sh"], "stdin": true, "tty": true, "targetContainerName": "c",
            "terminationMessagePolicy": "File", "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}},
        }]);
        assert_eq!(changed["spec"]["ephemeralContainers"], want);
    }

    #[test]
    fn copies() {
        let made = copy(&pod(), &args("p --copy-to=q --image=b"), "q", Some("d")).unwrap();
        assert_eq!(made["metadata"], json!({"name": "q", "namespace": "n"}));
        let spec = &made["spec"];
        assert!(spec.get("nodeName").is_none() && spec["containers"][0].get("livenessProbe").is_none());
        assert_eq!((names(&made), &spec["shareProcessNamespace"]), (vec!["c", "d"], &true.into()));
        let changed = copy(&pod(), &args("p --copy-to=q --container=c -- sleep"), "q", Some("c")).unwrap();
        assert_eq!(changed["spec"]["containers"][0]["command"], json!(["sleep"]));
        let images = copy(&pod(), &args("p --copy-to=q --set-image=*=y"), "q", None).unwrap();
        assert_eq!(images["spec"]["containers"][0]["image"], "y");
        assert!(copy(&pod(), &args("p --copy-to=q -- x"), "q", Some("d")).is_err());
    }
}
