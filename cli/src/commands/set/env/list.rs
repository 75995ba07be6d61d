//! `kctl set env --list`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use machinery::meta;
use serde_json::Value;

use super::super::containers::{pod_spec, selected};
use crate::kube::{Error, Info, Request, Result, Session};

/// Prints the variables of each container as they would be after `edit`.
pub async fn print(
    session: &Session,
    infos: Vec<Info>,
    pattern: &str,
    resolve: bool,
    edit: impl Fn(Vec<&mut Value>) -> Result<()>,
) -> Result<()> {
    for info in infos {
        let mut object = info.object.clone();
        let mut containers = selected(pod_spec(&info, &mut object)?, pattern);
        edit(containers.iter_mut().map(|container| &mut **container).collect())?;
        for container in containers {
            println!("# {} {}, container {}", info.resource.kind, info.name, meta::text(container, &["name"]));
            let mut unresolved: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for variable in container["env"].as_array().into_iter().flatten() {
                let name = meta::text(variable, &["name"]);
                let source = &variable["valueFrom"];
                if source.is_null() {
                    println!("{name}={}", meta::text(variable, &["value"]));
                    continue;
                }
                match if resolve { value(session, &info, source).await } else { Err(String::new()) } {
                    Ok(value) => println!("{name}={value}"),
                    Err(error) => {
                        println!("# {name} from {}", reference(source));
                        unresolved.entry(error).or_default().push(name);
                    }
                }
            }
            unresolved.remove("");
            for (error, mut names) in unresolved {
                names.sort_unstable();
                eprintln!("error retrieving reference for {}: {error}", names.join(", "));
            }
        }
    }
    Ok(())
}

/// Where a value comes from, in words.
fn reference(source: &Value) -> String {
    let key = |kind: &str, from: &Value| format!("{kind} {}, key {}", meta::text(from, &["name"]), meta::text(from, &["key"]));
    if source["configMapKeyRef"].is_object() {
        key("configmap", &source["configMapKeyRef"])
    } else if source["secretKeyRef"].is_object() {
        key("secret", &source["secretKeyRef"])
    } else if let Some(path) = source["fieldRef"]["fieldPath"].as_str() {
        format!("field path {path}")
    } else if let Some(resource) = source["resourceFieldRef"]["resource"].as_str() {
        let container = source["resourceFieldRef"]["containerName"].as_str().filter(|name| !name.is_empty());
        format!("resource field {}{resource}", container.map_or_else(String::new, |name| format!("{name}/")))
    } else {
        "invalid valueFrom".into()
    }
}

/// What a variable refers to.
async fn value(session: &Session, info: &Info, source: &Value) -> Result<String, String> {
    let keys = [("configMapKeyRef", "configmaps", "config map"), ("secretKeyRef", "secrets", "secret")];
    for (field, plural, kind) in keys {
        let Some(name) = source[field]["name"].as_str() else { continue };
        let key = meta::text(&source[field], &["key"]);
        let path = format!("/api/v1/namespaces/{}/{plural}/{name}", session.namespace);
        let object = session.json(Request::get(path)).await.map_err(|error: Error| error.bare())?;
        let text = object["data"][key].as_str().ok_or_else(|| format!("key {key} not found in {kind} {name}"))?;
        let bytes = if plural == "secrets" { STANDARD.decode(text).unwrap_or_default() } else { text.as_bytes().to_vec() };
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    match source["fieldRef"]["fieldPath"].as_str() {
        Some("metadata.name") => Ok(info.name.clone()),
        Some("metadata.namespace") => Ok(info.namespace.clone()),
        Some("metadata.uid") => Ok(meta::uid(&info.object).to_owned()),
        Some(path) => Err(format!("unsupported fieldPath: {path}")),
        None => Err("the resources of a running container are not looked up".into()),
    }
}
