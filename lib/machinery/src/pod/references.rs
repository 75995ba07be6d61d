//! The objects that a pod's spec names.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schema::{Shape, TypeRef};
use serde_json::Value;

/// The kinds of objects that a pod's spec may name, all in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

/// Where the types of a pod's spec hold the name of an object: type, field, kind. `None` is a name that opens nothing to a node.
///
/// A test holds this against the schema: a type that looks like a reference and is not here fails it.
const NAMES: &[(&str, &str, Option<Reference>)] = &[
    ("AzureFileVolumeSource", "secretName", Some(Reference::Secret)),
    ("LocalObjectReference", "name", Some(Reference::Secret)),
    ("SecretEnvSource", "name", Some(Reference::Secret)),
    ("SecretKeySelector", "name", Some(Reference::Secret)),
    ("SecretProjection", "name", Some(Reference::Secret)),
    ("SecretVolumeSource", "secretName", Some(Reference::Secret)),
    ("ConfigMapEnvSource", "name", Some(Reference::ConfigMap)),
    ("ConfigMapKeySelector", "name", Some(Reference::ConfigMap)),
    ("ConfigMapProjection", "name", Some(Reference::ConfigMap)),
    ("ConfigMapVolumeSource", "name", Some(Reference::ConfigMap)),
    ("PersistentVolumeClaimVolumeSource", "claimName", Some(Reference::Claim)),
    ("PodResourceClaim", "resourceClaimName", Some(Reference::ResourceClaim)),
    ("PodSpec", "serviceAccountName", Some(Reference::ServiceAccount)),
    // The deprecated twin of serviceAccountName, kept equal to it.
    ("PodSpec", "serviceAccount", None),
    // A template of which the controller makes the claim; the claim's name stands in the pod's status.
    ("PodResourceClaim", "resourceClaimTemplateName", None),
];

/// A step towards names: the fields of an object that lead to some.
#[derive(Debug, Default)]
struct Plan {
    names: Vec<(&'static str, Reference)>,
    fields: Vec<(&'static str, Plan)>,
}

/// The way through a pod's spec to every name, and through nothing else.
fn plan() -> &'static Plan {
    static PLAN: LazyLock<Plan> =
        LazyLock::new(|| schema::builtin().types().named("api.core.v1.PodSpec").map(compile).unwrap_or_default());
    &PLAN
}

/// Types of pods' specs do not contain themselves: the walk ends.
fn compile(ty: TypeRef<'static>) -> Plan {
    let Shape::Object(object) = ty.shape() else { return Plan::default() };
    let short = short_name(ty);
    let mut plan = Plan::default();
    for field in object.fields() {
        if let Some((.., kind)) = NAMES.iter().find(|(name, key, _)| *name == short && *key == field.name) {
            plan.names.extend(kind.map(|kind| (field.name, kind)));
            continue;
        }
        let inner = match field.ty.shape() {
            Shape::List { item, .. } => compile(item),
            Shape::Map { value, .. } => compile(value),
            _ => compile(field.ty),
        };
        if !inner.names.is_empty() || !inner.fields.is_empty() {
            plan.fields.push((field.name, inner));
        }
    }
    plan
}

fn short_name(ty: TypeRef<'_>) -> &str {
    ty.name().strip_prefix("api.core.v1.").unwrap_or_default()
}

/// Calls `see` with every name that the spec of a pod holds.
pub fn each<'a>(spec: &'a Value, mut see: impl FnMut(Reference, &'a str)) {
    walk(spec, plan(), &mut see);
}

fn walk<'a>(value: &'a Value, plan: &Plan, see: &mut impl FnMut(Reference, &'a str)) {
    if let Some(items) = value.as_array() {
        return items.iter().for_each(|item| walk(item, plan, see));
    }
    for (field, kind) in &plan.names {
        if let Some(name) = value.get(*field).and_then(Value::as_str).filter(|name| !name.is_empty()) {
            see(*kind, name);
        }
    }
    for (field, plan) in &plan.fields {
        if let Some(inner) = value.get(*field) {
            walk(inner, plan, see);
        }
    }
}

/// All names that a pod refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub secrets: BTreeSet<String>,
    pub config_maps: BTreeSet<String>,
    pub claims: BTreeSet<String>,
    pub resource_claims: BTreeSet<String>,
    pub service_account: String,
}

impl References {
    /// Of a pod: its spec, the claims made for it, and what its status says was made for it.
    pub fn of(pod: &Value) -> Self {
        let mut out = Self::default();
        each(&pod["spec"], |kind, name| match kind {
            Reference::Secret => _ = out.secrets.insert(name.to_owned()),
            Reference::ConfigMap => _ = out.config_maps.insert(name.to_owned()),
            Reference::Claim => _ = out.claims.insert(name.to_owned()),
            Reference::ResourceClaim => _ = out.resource_claims.insert(name.to_owned()),
            Reference::ServiceAccount => name.clone_into(&mut out.service_account),
        });
        // The claim of an ephemeral volume is named after pod and volume.
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten().filter(|volume| !volume["ephemeral"].is_null()) {
            if let Some(name) = volume["name"].as_str() {
                out.claims.insert(format!("{}-{name}", crate::meta::name(pod)));
            }
        }
        let made = pod["status"]["resourceClaimStatuses"].as_array().into_iter().flatten();
        let extended = &pod["status"]["extendedResourceClaimStatus"];
        for name in made.chain([extended]).filter_map(|status| status["resourceClaimName"].as_str()) {
            out.resource_claims.insert(name.to_owned());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Whatever in a pod's spec is called after a kind that pods refer to is in the table.
    #[test]
    fn every_reference_is_classified() {
        fn visit(ty: TypeRef<'static>, path: &str) {
            let Shape::Object(object) = ty.shape() else { return };
            for field in object.fields() {
                let is_name = |suffix: &str| field.name.to_lowercase().ends_with(suffix);
                let short = short_name(ty);
                let suspicious =
                    ["secretname", "configmapname", "claimname", "claimtemplatename", "serviceaccountname", "serviceaccount"]
                        .iter()
                        .any(|suffix| is_name(suffix))
                        || (field.name == "name"
                            && ["Secret", "ConfigMap", "ObjectReference"].iter().any(|word| short.contains(word)));
                let known = NAMES.iter().any(|(name, key, _)| *name == short && *key == field.name);
                // The data source of a claim is read by its provisioner, not by the node.
                let of_claim = path.contains("volumeClaimTemplate");
                assert!(!suspicious || known || of_claim, "{path}.{} ({short})", field.name);
                let path = format!("{path}.{}", field.name);
                match field.ty.shape() {
                    Shape::List { item, .. } => visit(item, &path),
                    Shape::Map { value, .. } => visit(value, &path),
                    _ => visit(field.ty, &path),
                }
            }
        }
        visit(schema::builtin().types().named("api.core.v1.PodSpec").unwrap(), "spec");
        for (ty, field, _) in NAMES {
            let ty = schema::builtin().types().named(&format!("api.core.v1.{ty}")).unwrap_or_else(|| panic!("{ty}"));
            assert!(ty.field(field).is_some(), "{ty:?} {field}");
        }
    }

    #[test]
    fn names_of_all_kinds() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa", "serviceAccount": "old", "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "cm-key"}, "secretKeyRef": {"name": "key"}}}]}],
            "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "from"}, "configMapRef": {"name": "cm-from"}}]}],
            "resourceClaims": [{"name": "a", "resourceClaimName": "device"}, {"name": "b", "resourceClaimTemplateName": "t"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "volume"}}, {"name": "b", "azureFile": {"secretName": "azure"}},
                {"name": "c", "csi": {"nodePublishSecretRef": {"name": "publish"}}}, {"name": "d", "rbd": {"secretRef": {"name": "rbd"}}},
                {"name": "e", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "cm-projected"}}]}},
                {"name": "f", "persistentVolumeClaim": {"claimName": "claim"}}, {"name": "g", "ephemeral": {}},
                {"name": "h", "configMap": {"name": "cm"}}, {"name": "i", "emptyDir": {}}]},
            "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}]}});
        let all = References::of(&pod);
        assert_eq!(
            all.secrets,
            ["pull", "key", "from", "volume", "azure", "publish", "rbd", "projected"].map(String::from).into()
        );
        assert_eq!(all.config_maps, ["cm", "cm-key", "cm-from", "cm-projected"].map(String::from).into());
        assert_eq!(all.claims, ["claim", "p-g"].map(String::from).into());
        assert_eq!(all.resource_claims, ["device", "made"].map(String::from).into());
        assert_eq!(all.service_account, "sa");
    }
}
