//! Names, namespaces, labels, annotations, images and replicas.

use std::collections::BTreeMap;

use machinery::{gvk::Gvk, meta};
use serde_json::{Map, Value};

use super::{
    Item,
    file::{Image, Kustomization},
};

pub fn apply(kustomization: &Kustomization, items: &mut [Item]) {
    // Before anything is renamed: replicas and images go by the names in the files.
    for item in items.iter_mut() {
        for wanted in &kustomization.replicas {
            let scales = ["Deployment", "ReplicaSet", "ReplicationController", "StatefulSet"].contains(&item.kind());
            if scales && item.former.contains(&wanted.name) {
                item.object["spec"]["replicas"] = wanted.count.into();
            }
        }
        for image in &kustomization.images {
            set_images(&mut item.object, image);
        }
        label(item, &kustomization.common_labels, Reach::Selectors);
        for labels in &kustomization.labels {
            let reach = match (labels.include_selectors, labels.include_templates) {
                (true, _) => Reach::Selectors,
                (false, true) => Reach::Templates,
                (false, false) => Reach::Metadata,
            };
            label(item, &labels.pairs, reach);
        }
        annotate(item, &kustomization.common_annotations);
        if !kustomization.namespace.is_empty() {
            set_namespace(item, &kustomization.namespace);
        }
        let (prefix, suffix) = (&kustomization.name_prefix, &kustomization.name_suffix);
        let changes = !prefix.is_empty() || !suffix.is_empty();
        if changes && !["Namespace", "CustomResourceDefinition", "APIService"].contains(&item.kind()) {
            rename(item, |name| format!("{prefix}{name}{suffix}"));
        }
    }
}

/// Gives an object another name; what refers to it finds it by the old one.
pub fn rename(item: &mut Item, name: impl Fn(&str) -> String) {
    let new = name(meta::name(&item.object));
    meta::metadata_mut(&mut item.object).insert("name".into(), new.as_str().into());
    item.former.push(new);
}

fn is_namespaced(object: &Value) -> bool {
    let builtin = Gvk::of(object).and_then(|gvk| schema::builtin().by_kind(&gvk.group, &gvk.version, &gvk.kind));
    // An unknown kind is taken for a namespaced one, as upstream does.
    builtin.is_none_or(|builtin| builtin.namespaced)
}

fn set_namespace(item: &mut Item, namespace: &str) {
    if is_namespaced(&item.object) {
        meta::metadata_mut(&mut item.object).insert("namespace".into(), namespace.into());
    }
    if item.kind() == "Namespace" {
        meta::metadata_mut(&mut item.object).insert("name".into(), namespace.into());
    }
    if ["RoleBinding", "ClusterRoleBinding"].contains(&item.kind()) {
        for subject in item.object["subjects"].as_array_mut().into_iter().flatten() {
            if subject["kind"] == "ServiceAccount" && subject["name"] == "default" {
                subject["namespace"] = namespace.into();
            }
        }
    }
}

/// How far labels go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Metadata,
    Templates,
    Selectors,
}

fn put(into: &mut Value, pairs: &BTreeMap<String, String>) {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    pairs.iter().for_each(|(key, value)| into[key] = value.as_str().into());
}

/// The metadata of an object's pod and job templates.
fn templates(object: &mut Value) -> Vec<&mut Value> {
    let paths: &[&str] = match meta::kind(object) {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => &["/spec/template"],
        "CronJob" => &["/spec/jobTemplate"],
        _ => &[],
    };
    let mut found = Vec::new();
    if let Some(fields) = paths.first().and_then(|path| object.pointer_mut(path)).and_then(Value::as_object_mut) {
        fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        for (name, value) in fields.iter_mut() {
            match name.as_str() {
                "metadata" => found.push(value),
                "spec" => {
                    if let Some(inner) = value.get_mut("template").and_then(Value::as_object_mut) {
                        found.push(inner.entry("metadata").or_insert_with(|| Value::Object(Map::new())));
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn label(item: &mut Item, pairs: &BTreeMap<String, String>, reach: Reach) {
    if pairs.is_empty() {
        return;
    }
    meta::metadata_mut(&mut item.object);
    put(&mut item.object["metadata"]["labels"], pairs);
    if reach >= Reach::Templates {
        templates(&mut item.object).into_iter().for_each(|metadata| put(&mut metadata["labels"], pairs));
    }
    if reach < Reach::Selectors {
        return;
    }
    let kind = item.kind().to_owned();
    let object = &mut item.object;
    match kind.as_str() {
        "Service" if object["spec"].is_object() => put(&mut object["spec"]["selector"], pairs),
        "ReplicationController" if object["spec"]["selector"].is_object() => put(&mut object["spec"]["selector"], pairs),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => put(&mut object["spec"]["selector"]["matchLabels"], pairs),
        "Job" | "CronJob" | "PodDisruptionBudget" => {
            let path =
                if kind == "CronJob" { "/spec/jobTemplate/spec/selector/matchLabels" } else { "/spec/selector/matchLabels" };
            object.pointer_mut(path).into_iter().for_each(|labels| put(labels, pairs));
        }
        "NetworkPolicy" => {
            object.pointer_mut("/spec/podSelector/matchLabels").into_iter().for_each(|labels| put(labels, pairs));
        }
        _ => {}
    }
}

fn annotate(item: &mut Item, pairs: &BTreeMap<String, String>) {
    if pairs.is_empty() {
        return;
    }
    meta::metadata_mut(&mut item.object);
    put(&mut item.object["metadata"]["annotations"], pairs);
    templates(&mut item.object).into_iter().for_each(|metadata| put(&mut metadata["annotations"], pairs));
}

/// Sets the image of every container whose image has the name, wherever in an object containers stand.
fn set_images(value: &mut Value, image: &Image) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if ["containers", "initContainers", "ephemeralContainers"].contains(&name.as_str()) {
                    for container in value.as_array_mut().into_iter().flatten() {
                        if let Some(new) = container["image"].as_str().and_then(|old| changed(old, image)) {
                            container["image"] = new.into();
                        }
                    }
                } else {
                    set_images(value, image);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| set_images(item, image)),
        _ => {}
    }
}

/// `old` after the change; nothing if it is another image.
fn changed(old: &str, image: &Image) -> Option<String> {
    let (rest, digest) = old.split_once('@').map_or((old, None), |(rest, digest)| (rest, Some(digest)));
    // A colon before the last slash is that of a registry's port.
    let at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = at.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
    if name != image.name {
        return None;
    }
    let name = if image.new_name.is_empty() { name } else { &image.new_name };
    let rest = match (&image.new_tag, &image.digest) {
        (tag, digest) if !digest.is_empty() => {
            let tag = if tag.is_empty() { String::new() } else { format!(":{tag}") };
            format!("{tag}@{digest}")
        }
        (tag, _) if !tag.is_empty() => format!(":{tag}"),
        _ => format!(
            "{}{}",
            tag.map_or_else(String::new, |tag| format!(":{tag}")),
            digest.map_or_else(String::new, |digest| format!("@{digest}"))
        ),
    };
    Some(format!("{name}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let check = |old: &str, new_name: &str, new_tag: &str, digest: &str, want: Option<&str>| {
            let image =
                Image { name: "reg:5000/web".into(), new_name: new_name.into(), new_tag: new_tag.into(), digest: digest.into() };
            assert_eq!(changed(old, &image).as_deref(), want, "{old}");
        };
        check("reg:5000/web:1", "", "2", "", Some("reg:5000/web:2"));
        check("reg:5000/web", "x/y", "", "", Some("x/y"));
        check("reg:5000/web:1@sha256:a", "x", "", "", Some("x:1@sha256:a"));
        check("reg:5000/web:1", "", "", "sha256:b", Some("reg:5000/web@sha256:b"));
        check("reg:5000/other:1", "", "2", "", None);
    }
}
