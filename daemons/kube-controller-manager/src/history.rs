//! ControllerRevisions: the templates that a DaemonSet or a StatefulSet has had, for `kubectl rollout history` and `undo`.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::ControllerRevision;
use api::core::PodTemplateSpec;
use api::metav1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::{hash, template};

pub(crate) const HASH_LABEL: &str = "controller-revision-hash";

/// What a revision records: a strategic merge patch that puts the template back.
pub(crate) fn data(template: &PodTemplateSpec) -> Value {
    let mut template = template::canonical(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// What is to be done so that the present template has the newest revision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// It has. The index of its revision.
    Keep(usize),
    /// An older revision is it: it gets this number.
    Renumber(usize, i64),
    Create(Box<ControllerRevision>),
}

/// Whose revisions.
pub(crate) struct Parent<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: Option<String>,
    pub(crate) reference: OwnerReference,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) collisions: Option<i32>,
}

pub(crate) fn decide(parent: &Parent<'_>, template: &PodTemplateSpec, revisions: &[ControllerRevision]) -> Step {
    let data = data(template);
    let highest = revisions.iter().map(|r| r.revision).max().unwrap_or(0);
    let present =
        (0..revisions.len()).filter(|i| recorded(&revisions[*i]).as_ref() == Some(&data)).max_by_key(|i| revisions[*i].revision);
    match present {
        Some(i) if revisions[i].revision == highest => Step::Keep(i),
        Some(i) => Step::Renumber(i, highest + 1),
        None => {
            let hash = hash::of_value(&data, parent.collisions);
            let mut labels = parent.labels.clone();
            labels.insert(HASH_LABEL.into(), hash.clone());
            Step::Create(Box::new(ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{hash}", parent.name)),
                    namespace: parent.namespace.clone(),
                    labels: Some(labels),
                    annotations: parent.annotations.clone(),
                    owner_references: Some(vec![parent.reference.clone()]),
                    ..ObjectMeta::default()
                },
                data: Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(data)),
                revision: highest + 1,
            }))
        }
    }
}

/// Whether two record the same template.
pub(crate) fn is_same(a: &ControllerRevision, b: &ControllerRevision) -> bool {
    recorded(a) == recorded(b)
}

fn recorded(revision: &ControllerRevision) -> Option<Value> {
    revision.data.as_ref().map(|d| template::canonical_value(d.0.clone()))
}

/// The template that a revision records.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash that pods of this revision carry.
pub(crate) fn hash_of(revision: &ControllerRevision) -> String {
    let label = revision.metadata.labels.as_ref().and_then(|l| l.get(HASH_LABEL)).cloned();
    label.unwrap_or_else(|| revision.name().rsplit('-').next().unwrap_or_default().to_owned())
}

/// The oldest revisions beyond `limit`, not counting those that are in use.
pub(crate) fn surplus<'a>(revisions: &'a [ControllerRevision], in_use: &[&str], limit: usize) -> Vec<&'a ControllerRevision> {
    // Pods of a DaemonSet carry the hash, those of a StatefulSet the name.
    let is_used = |r: &&ControllerRevision| in_use.contains(&hash_of(r).as_str()) || in_use.contains(&r.name());
    let mut old: Vec<&ControllerRevision> = revisions.iter().filter(|r| !is_used(r)).collect();
    old.sort_by_key(|r| r.revision);
    let count = old.len().saturating_sub(limit);
    old.truncate(count);
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::core::{Container, PodSpec};

    fn template(image: &str) -> PodTemplateSpec {
        let container = Container { name: "c".into(), image: Some(image.into()), ..Container::default() };
        PodTemplateSpec { metadata: None, spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }) }
    }

    fn parent() -> Parent<'static> {
        Parent {
            name: "agent",
            namespace: None,
            reference: OwnerReference::default(),
            labels: BTreeMap::new(),
            annotations: None,
            collisions: None,
        }
    }

    fn created(step: Step) -> ControllerRevision {
        match step {
            Step::Create(revision) => *revision,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn revisions_count_up_and_old_templates_come_back() {
        let first = created(decide(&parent(), &template("v1"), &[]));
        assert_eq!((first.revision, first.name()), (1, format!("agent-{}", hash_of(&first)).as_str()));
        let second = created(decide(&parent(), &template("v2"), std::slice::from_ref(&first)));
        assert_eq!(second.revision, 2);
        let all = [first, second];
        assert_eq!(decide(&parent(), &template("v2"), &all), Step::Keep(1));
        assert_eq!(decide(&parent(), &template("v1"), &all), Step::Renumber(0, 3));
        assert_eq!(surplus(&all, &[&hash_of(&all[1])], 0), [&all[0]]);
        assert_eq!(surplus(&all, &[], 1), [&all[0]]);
        assert!(surplus(&all, &[], 10).is_empty());
    }

    #[test]
    fn another_writer_writes_nulls() {
        let mut revision = created(decide(&parent(), &template("v1"), &[]));
        let data = &mut revision.data.as_mut().unwrap().0;
        data["spec"]["template"]["metadata"] = json!({"creationTimestamp": null});
        data["spec"]["template"]["spec"]["dnsPolicy"] = Value::Null;
        data["spec"]["template"]["spec"]["tolerations"] = json!([]);
        // An empty structure that is a choice is not the same as none, though.
        let mut chosen = revision.clone();
        chosen.data.as_mut().unwrap().0["spec"]["template"]["spec"]["securityContext"] = json!({});
        assert!(matches!(decide(&parent(), &template("v1"), &[chosen]), Step::Create(_)));
        assert_eq!(decide(&parent(), &template("v1"), &[revision]), Step::Keep(0));
    }
}
