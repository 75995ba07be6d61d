//! A StatefulSet's pods: their names, their identity, and the claims that their volumes need. Pure.

use std::collections::BTreeMap;

use api::Kind;
use api::apps::StatefulSet;
use api::core::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::decide::New;
use crate::{history, owner, pod};

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, when the name is one of this set's.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let text = pod.strip_prefix(set)?.strip_prefix('-')?;
    let number: i32 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

/// Revisions stand in the status, and on pods, by the name of their object.
pub(super) fn revision_name(set: &StatefulSet, hash: &str) -> String {
    format!("{}-{hash}", set.name())
}

/// The hash of the revision that a pod runs.
pub(super) fn revision_of<'a>(set: &StatefulSet, pod: &'a Pod) -> Option<&'a str> {
    let label = pod.metadata.labels.as_ref()?.get(history::HASH_LABEL)?;
    Some(label.strip_prefix(set.name()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(label))
}

/// A pod of that ordinal and revision.
pub(super) fn pod_for(set: &StatefulSet, template: &PodTemplateSpec, new: &New) -> Pod {
    let spec = set.spec.clone().unwrap_or_default();
    let name = format!("{}-{}", set.name(), new.ordinal);
    let mut pod = pod::from_template(template, set, owner::controller_ref(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels: &mut BTreeMap<String, String> = pod.metadata.labels.get_or_insert_default();
    labels.insert(history::HASH_LABEL.into(), revision_name(set, &new.revision));
    labels.extend(identity(set, new.ordinal));
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|s| !s.is_empty());
    for (volume, claim) in claims(set, new.ordinal) {
        let volumes = pod_spec.volumes.get_or_insert_default();
        volumes.retain(|v| v.name != volume);
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.name().to_owned(), read_only: None };
        volumes.push(Volume { name: volume, persistent_volume_claim: Some(source), ..Volume::default() });
    }
    pod
}

/// The labels that tell a pod's name and place.
fn identity(set: &StatefulSet, ordinal: i32) -> [(String, String); 2] {
    [(POD_NAME_LABEL.into(), format!("{}-{ordinal}", set.name())), (POD_INDEX_LABEL.into(), ordinal.to_string())]
}

/// The labels of its identity, when the pod has lost its name's.
pub(super) fn lost_identity(set: &StatefulSet, pod: &Pod) -> Option<BTreeMap<String, String>> {
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get(POD_NAME_LABEL));
    let lost = label.is_none_or(|name| name != pod.name());
    lost.then(|| ordinal(set.name(), pod.name()).map(|o| identity(set, o).into())).flatten()
}

/// The claims of the pod with that ordinal, by volume.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let claim = |template: &PersistentVolumeClaim| {
        let volume = template.name().to_owned();
        let mut claim = template.clone();
        claim.metadata.name = Some(format!("{volume}-{}-{ordinal}", set.name()));
        claim.metadata.namespace = set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        (volume, claim)
    };
    spec.volume_claim_templates.iter().flatten().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_has_its_name_and_its_volumes() {
        let set = StatefulSet::decode_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "u"},
            "spec": {
                "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            },
        }))
        .unwrap();
        let template = set.spec.as_ref().unwrap().template.clone();
        let mut pod = pod_for(&set, &template, &New { ordinal: 2, revision: "abc".into() });
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!((pod.name(), spec.hostname.as_deref(), spec.subdomain.as_deref()), ("db-2", Some("db-2"), Some("db")));
        let volumes = spec.volumes.as_ref().unwrap();
        assert_eq!((volumes.len(), volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name.as_str()), (1, "data-db-2"));
        let claims = claims(&set, 2);
        assert_eq!((claims[0].1.name(), claims[0].1.namespace()), ("data-db-2", "default"));
        assert_eq!(claims[0].1.metadata.labels.as_ref().unwrap()["app"], "db");
        assert!(owner::is_controlled_by(&pod.metadata, "u") && claims[0].1.metadata.owner_references.is_none());
        assert_eq!((revision_of(&set, &pod), lost_identity(&set, &pod)), (Some("abc"), None));
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[history::HASH_LABEL], "db-abc");
        pod.metadata.labels = None;
        assert_eq!(lost_identity(&set, &pod).unwrap()[POD_NAME_LABEL], "db-2");
    }

    #[test]
    fn ordinals_in_names() {
        for (name, want) in
            [("db-0", Some(0)), ("db-12", Some(12)), ("db-01", None), ("db-x", None), ("dbx-1", None), ("db--1", None)]
        {
            assert_eq!(ordinal("db", name), want, "{name}");
        }
    }
}
