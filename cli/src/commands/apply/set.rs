//! Apply sets (KEP-3659): which objects were applied together, kept in labels, so that what left the files can be found
//! and deleted.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{
    kube::{Error, Info, Request, Resource, Result, Session, select, session::APPLY_PATCH},
    output::format::DryRun,
};

const PART_OF: &str = "applyset.kubernetes.io/part-of";
const ID: &str = "applyset.kubernetes.io/id";
const TOOLING: &str = "applyset.kubernetes.io/tooling";
const KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
const NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";

/// A set and the object that keeps its name and extent.
pub struct ApplySet {
    parent: Info,
    id: String,
    dry_run: DryRun,
    manager: String,
    /// Kinds (`Deployment.apps`) and namespaces that members had so far, and have now.
    kinds: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    now_kinds: BTreeSet<String>,
    now_namespaces: BTreeSet<String>,
    applied: BTreeSet<String>,
}

impl ApplySet {
    pub async fn new(session: &Session, name: &str, dry_run: DryRun, manager: &str) -> Result<Self> {
        let (kind, name) = name.split_once('/').unwrap_or(("secrets", name));
        let resource = session.resource(kind).await?;
        let namespace = if resource.namespaced { session.namespace.clone() } else { String::new() };
        let id = id(name, &namespace, &resource);
        let mut parent = Info { resource, namespace, name: name.to_owned(), object: json!({}), source: None };
        let (mut kinds, mut namespaces) = (BTreeSet::new(), BTreeSet::new());
        match session.json(Request::get(parent.path())).await {
            Ok(object) => {
                let annotation = |name: &str| machinery::meta::annotation(&object, name);
                let tool = annotation(TOOLING).map(|tool| tool.split('/').next().unwrap_or(tool));
                let about = format!("ApplySet parent object {:?} already exists and is", parent.label());
                match tool {
                    None => return Err(Error::message(format!("{about} missing required annotation {TOOLING:?}"))),
                    Some(tool) if tool != "kctl" && tool != "kubectl" => {
                        return Err(Error::message(format!("{about} managed by tooling {tool:?} instead of \"kctl\"")));
                    }
                    Some(_) => {}
                }
                if machinery::meta::label(&object, ID) != Some(&id) {
                    return Err(Error::message(format!("{about} without the label {ID}={id}")));
                }
                let split = |text: Option<&str>| {
                    text.unwrap_or_default().split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
                };
                kinds = split(annotation(KINDS));
                namespaces = split(annotation(NAMESPACES));
                parent.object = object;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let (now_kinds, now_namespaces, applied) = Default::default();
        let manager = format!("{manager}-applyset");
        Ok(Self { parent, id, dry_run, manager, kinds, namespaces, now_kinds, now_namespaces, applied })
    }

    /// Marks the objects as members and writes the extent of the set before any of them is applied: nothing can get lost.
    pub async fn adopt(&mut self, session: &Session, infos: &mut [Info]) -> Result<()> {
        for info in infos {
            let labels = machinery::meta::metadata_mut(&mut info.object).entry("labels").or_insert_with(|| json!({}));
            if labels.get(PART_OF).is_some() {
                return Err(Error::message(format!("ApplySet label {PART_OF:?} already set in input data")));
            }
            labels[PART_OF] = self.id.as_str().into();
            let resource = &info.resource;
            self.now_kinds.insert(if resource.group.is_empty() {
                resource.kind.clone()
            } else {
                format!("{}.{}", resource.kind, resource.group)
            });
            if resource.namespaced && info.namespace != self.parent.namespace {
                self.now_namespaces.insert(info.namespace.clone());
            }
        }
        self.kinds.extend(self.now_kinds.iter().cloned());
        self.namespaces.extend(self.now_namespaces.iter().cloned());
        self.write_parent(session, &self.kinds, &self.namespaces).await
    }

    pub fn keep(&mut self, uid: &str) {
        self.applied.insert(uid.to_owned());
    }

    /// Deletes the members that were not applied, then narrows the extent.
    pub async fn prune(self, session: &Session) -> Result<()> {
        for kind in &self.kinds {
            let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
            let Some(resource) = session.discovery().await?.preferred().find(|r| r.kind == kind && r.group == group).cloned()
            else {
                eprintln!("Warning: members of kind {kind} cannot be pruned: the server does not serve it");
                continue;
            };
            let mut namespaces: Vec<&str> =
                if resource.namespaced { self.namespaces.iter().map(String::as_str).collect() } else { vec![""] };
            if resource.namespaced && !self.parent.namespace.is_empty() {
                namespaces.push(&self.parent.namespace);
            }
            for namespace in namespaces {
                let request =
                    Request::get(resource.path(namespace, None)).query("labelSelector", format!("{PART_OF}={}", self.id));
                let (members, _) = select::list(session, request).await?;
                for member in members.into_iter().filter(|member| !self.applied.contains(machinery::meta::uid(member))) {
                    self.delete(session, &select::info(resource.clone(), member)).await?;
                }
            }
        }
        self.write_parent(session, &self.now_kinds, &self.now_namespaces).await
    }

    async fn delete(&self, session: &Session, info: &Info) -> Result<()> {
        if self.dry_run != DryRun::Client {
            let uid = machinery::meta::uid(&info.object);
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": {"uid": uid}});
            match session.json(Request::delete(info.path(), &options).query_some("dryRun", self.dry_run.parameter())).await {
                Err(error) if !error.is_not_found() => return Err(error.during(format!("pruning {}", info.label()))),
                _ => {}
            }
        }
        println!("{} pruned{}", info.label(), self.dry_run.suffix());
        Ok(())
    }

    async fn write_parent(&self, session: &Session, kinds: &BTreeSet<String>, namespaces: &BTreeSet<String>) -> Result<()> {
        if self.dry_run == DryRun::Client {
            return Ok(());
        }
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        let mut metadata = json!({
            "name": self.parent.name,
            "labels": {ID: self.id},
            "annotations": {TOOLING: concat!("kctl/v", env!("CARGO_PKG_VERSION")), KINDS: list(kinds), NAMESPACES: list(namespaces)},
        });
        if !self.parent.namespace.is_empty() {
            metadata["namespace"] = self.parent.namespace.as_str().into();
        }
        let parent =
            json!({"apiVersion": self.parent.resource.api_version(), "kind": self.parent.resource.kind, "metadata": metadata});
        let request = Request::patch(self.parent.path(), APPLY_PATCH, &parent)
            .query("fieldManager", &self.manager)
            .query("force", true)
            .query_some("dryRun", self.dry_run.parameter());
        session.json(request).await.map(drop)
    }
}

/// The identifier of the set that an object keeps.
fn id(name: &str, namespace: &str, parent: &Resource) -> String {
    let text = format!("{name}.{namespace}.{}.{}", parent.kind, parent.group);
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    format!("applyset-{}-v1", URL_SAFE_NO_PAD.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_upstreams() {
        let secret = Resource { kind: "Secret".into(), ..Resource::default() };
        assert_eq!(id("my-set", "test", &secret), "applyset-0eFHV8ySqp7XoShsGvyWFQD3s96yqwHmzc4e0HR1dsY-v1");
    }
}
