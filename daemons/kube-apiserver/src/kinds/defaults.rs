//! Defaults by type: what the server fills in wherever a type occurs, in a Pod as in a Deployment's template.
//!
//! The walk also writes quantities and times in their canonical form, as decoding and encoding them does. Idempotent.

use std::collections::HashMap;
use std::sync::LazyLock;

use machinery::quantity::Quantity;
use machinery::time;
use schema::{Scalar, Shape, TypeRef};
use serde_json::Value;

use super::value::{fill, has, items, set, text};
use super::{containers, pod_spec};

/// Type, field, value as JSON. A field that is there keeps its value.
const FIELDS: &[(&str, &str, &str)] = &[
    ("api.admissionregistration.v1.MatchResources", "matchPolicy", r#""Equivalent""#),
    ("api.admissionregistration.v1.MatchResources", "namespaceSelector", "{}"),
    ("api.admissionregistration.v1.MatchResources", "objectSelector", "{}"),
    ("api.admissionregistration.v1.MutatingAdmissionPolicySpec", "failurePolicy", r#""Fail""#),
    ("api.admissionregistration.v1.MutatingWebhook", "failurePolicy", r#""Fail""#),
    ("api.admissionregistration.v1.MutatingWebhook", "matchPolicy", r#""Equivalent""#),
    ("api.admissionregistration.v1.MutatingWebhook", "namespaceSelector", "{}"),
    ("api.admissionregistration.v1.MutatingWebhook", "objectSelector", "{}"),
    ("api.admissionregistration.v1.MutatingWebhook", "reinvocationPolicy", r#""Never""#),
    ("api.admissionregistration.v1.MutatingWebhook", "timeoutSeconds", "10"),
    ("api.admissionregistration.v1.NamedRuleWithOperations", "scope", r#""*""#),
    ("api.admissionregistration.v1.RuleWithOperations", "scope", r#""*""#),
    ("api.admissionregistration.v1.ServiceReference", "port", "443"),
    ("api.admissionregistration.v1.ValidatingAdmissionPolicySpec", "failurePolicy", r#""Fail""#),
    ("api.admissionregistration.v1.ValidatingWebhook", "failurePolicy", r#""Fail""#),
    ("api.admissionregistration.v1.ValidatingWebhook", "matchPolicy", r#""Equivalent""#),
    ("api.admissionregistration.v1.ValidatingWebhook", "namespaceSelector", "{}"),
    ("api.admissionregistration.v1.ValidatingWebhook", "objectSelector", "{}"),
    ("api.admissionregistration.v1.ValidatingWebhook", "timeoutSeconds", "10"),
    ("api.apps.v1.DaemonSetSpec", "revisionHistoryLimit", "10"),
    ("api.apps.v1.DeploymentSpec", "progressDeadlineSeconds", "600"),
    ("api.apps.v1.DeploymentSpec", "replicas", "1"),
    ("api.apps.v1.DeploymentSpec", "revisionHistoryLimit", "10"),
    ("api.apps.v1.ReplicaSetSpec", "replicas", "1"),
    ("api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy", "whenDeleted", r#""Retain""#),
    ("api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy", "whenScaled", r#""Retain""#),
    ("api.apps.v1.StatefulSetSpec", "persistentVolumeClaimRetentionPolicy", "{}"),
    ("api.apps.v1.StatefulSetSpec", "podManagementPolicy", r#""OrderedReady""#),
    ("api.apps.v1.StatefulSetSpec", "replicas", "1"),
    ("api.apps.v1.StatefulSetSpec", "revisionHistoryLimit", "10"),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas", "1"),
    ("api.batch.v1.JobTemplateSpec", "metadata", "{}"),
    ("api.batch.v1.CronJobSpec", "concurrencyPolicy", r#""Allow""#),
    ("api.batch.v1.CronJobSpec", "failedJobsHistoryLimit", "1"),
    ("api.batch.v1.CronJobSpec", "successfulJobsHistoryLimit", "3"),
    ("api.batch.v1.CronJobSpec", "suspend", "false"),
    ("api.core.v1.AzureDiskVolumeSource", "cachingMode", r#""ReadWrite""#),
    ("api.core.v1.AzureDiskVolumeSource", "fsType", r#""ext4""#),
    ("api.core.v1.AzureDiskVolumeSource", "kind", r#""Shared""#),
    ("api.core.v1.AzureDiskVolumeSource", "readOnly", "false"),
    ("api.core.v1.ConfigMapVolumeSource", "defaultMode", "420"),
    ("api.core.v1.Container", "resources", "{}"),
    ("api.core.v1.Container", "terminationMessagePath", r#""/dev/termination-log""#),
    ("api.core.v1.Container", "terminationMessagePolicy", r#""File""#),
    ("api.core.v1.ContainerPort", "protocol", r#""TCP""#),
    ("api.core.v1.DownwardAPIVolumeSource", "defaultMode", "420"),
    ("api.core.v1.EndpointPort", "protocol", r#""TCP""#),
    ("api.core.v1.EphemeralContainer", "resources", "{}"),
    ("api.core.v1.EphemeralContainer", "terminationMessagePath", r#""/dev/termination-log""#),
    ("api.core.v1.EphemeralContainer", "terminationMessagePolicy", r#""File""#),
    ("api.core.v1.Event", "reportingComponent", r#""""#),
    ("api.core.v1.Event", "reportingInstance", r#""""#),
    ("api.core.v1.GRPCAction", "service", r#""""#),
    ("api.core.v1.HTTPGetAction", "path", r#""/""#),
    ("api.core.v1.HTTPGetAction", "scheme", r#""HTTP""#),
    ("api.core.v1.HostPathVolumeSource", "type", r#""""#),
    ("api.core.v1.ISCSIPersistentVolumeSource", "iscsiInterface", r#""default""#),
    ("api.core.v1.ISCSIVolumeSource", "iscsiInterface", r#""default""#),
    ("api.core.v1.ObjectFieldSelector", "apiVersion", r#""v1""#),
    ("api.core.v1.PersistentVolumeClaimTemplate", "metadata", "{}"),
    ("api.core.v1.PersistentVolumeClaimSpec", "resources", "{}"),
    ("api.core.v1.PersistentVolumeClaimSpec", "volumeMode", r#""Filesystem""#),
    ("api.core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy", r#""Retain""#),
    ("api.core.v1.PersistentVolumeSpec", "volumeMode", r#""Filesystem""#),
    ("api.core.v1.PodSpec", "dnsPolicy", r#""ClusterFirst""#),
    ("api.core.v1.PodSpec", "restartPolicy", r#""Always""#),
    ("api.core.v1.PodSpec", "schedulerName", r#""default-scheduler""#),
    ("api.core.v1.PodSpec", "securityContext", "{}"),
    ("api.core.v1.PodSpec", "terminationGracePeriodSeconds", "30"),
    ("api.core.v1.PodTemplateSpec", "metadata", "{}"),
    ("api.core.v1.Probe", "failureThreshold", "3"),
    ("api.core.v1.Probe", "periodSeconds", "10"),
    ("api.core.v1.Probe", "successThreshold", "1"),
    ("api.core.v1.Probe", "timeoutSeconds", "1"),
    ("api.core.v1.ProjectedVolumeSource", "defaultMode", "420"),
    ("api.core.v1.RBDPersistentVolumeSource", "keyring", r#""/etc/ceph/keyring""#),
    ("api.core.v1.RBDPersistentVolumeSource", "pool", r#""rbd""#),
    ("api.core.v1.RBDPersistentVolumeSource", "user", r#""admin""#),
    ("api.core.v1.RBDVolumeSource", "keyring", r#""/etc/ceph/keyring""#),
    ("api.core.v1.RBDVolumeSource", "pool", r#""rbd""#),
    ("api.core.v1.RBDVolumeSource", "user", r#""admin""#),
    ("api.core.v1.ReplicationControllerSpec", "replicas", "1"),
    ("api.core.v1.ResourceFieldSelector", "divisor", r#""0""#),
    ("api.core.v1.ScaleIOPersistentVolumeSource", "fsType", r#""xfs""#),
    ("api.core.v1.ScaleIOPersistentVolumeSource", "storageMode", r#""ThinProvisioned""#),
    ("api.core.v1.ScaleIOVolumeSource", "fsType", r#""xfs""#),
    ("api.core.v1.ScaleIOVolumeSource", "storageMode", r#""ThinProvisioned""#),
    ("api.core.v1.Secret", "type", r#""Opaque""#),
    ("api.core.v1.SecretVolumeSource", "defaultMode", "420"),
    ("api.core.v1.ServiceAccountTokenProjection", "expirationSeconds", "3600"),
    ("api.core.v1.ServicePort", "protocol", r#""TCP""#),
    ("api.discovery.v1.Endpoint", "conditions", "{}"),
    ("api.discovery.v1.EndpointPort", "name", r#""""#),
    ("api.discovery.v1.EndpointPort", "protocol", r#""TCP""#),
    ("api.flowcontrol.v1.ExemptPriorityLevelConfiguration", "lendablePercent", "0"),
    ("api.flowcontrol.v1.ExemptPriorityLevelConfiguration", "nominalConcurrencyShares", "0"),
    ("api.flowcontrol.v1.FlowSchemaSpec", "matchingPrecedence", "1000"),
    ("api.flowcontrol.v1.LimitedPriorityLevelConfiguration", "lendablePercent", "0"),
    ("api.flowcontrol.v1.LimitedPriorityLevelConfiguration", "nominalConcurrencyShares", "30"),
    ("api.flowcontrol.v1.QueuingConfiguration", "handSize", "8"),
    ("api.flowcontrol.v1.QueuingConfiguration", "queueLengthLimit", "50"),
    ("api.flowcontrol.v1.QueuingConfiguration", "queues", "64"),
    ("api.networking.v1.IngressClassParametersReference", "scope", r#""Cluster""#),
    ("api.networking.v1.NetworkPolicyPort", "protocol", r#""TCP""#),
    ("api.rbac.v1.RoleRef", "apiGroup", r#""rbac.authorization.k8s.io""#),
    ("api.resource.v1.ResourceClaimTemplateSpec", "metadata", "{}"),
    ("api.resource.v1.DeviceToleration", "operator", r#""Equal""#),
    ("api.scheduling.v1.PriorityClass", "preemptionPolicy", r#""PreemptLowerPriority""#),
    ("api.storage.v1.CSIDriverSpec", "attachRequired", "true"),
    ("api.storage.v1.CSIDriverSpec", "fsGroupPolicy", r#""ReadWriteOnceWithFSType""#),
    ("api.storage.v1.CSIDriverSpec", "podInfoOnMount", "false"),
    ("api.storage.v1.CSIDriverSpec", "requiresRepublish", "false"),
    ("api.storage.v1.CSIDriverSpec", "seLinuxMount", "false"),
    ("api.storage.v1.CSIDriverSpec", "storageCapacity", "false"),
    ("api.storage.v1.CSIDriverSpec", "volumeLifecycleModes", r#"["Persistent"]"#),
    ("api.storage.v1.StorageClass", "reclaimPolicy", r#""Delete""#),
    ("api.storage.v1.StorageClass", "volumeBindingMode", r#""Immediate""#),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionSpec", "conversion", r#"{"strategy":"None"}"#),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.ServiceReference", "port", "443"),
    ("kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference", "port", "443"),
];

type Hook = fn(&mut Value);

/// Types whose defaults depend on their other fields.
const HOOKS: &[(&str, Hook)] = &[
    ("api.core.v1.Container", containers::default_pull_policy),
    ("api.core.v1.EphemeralContainer", containers::default_pull_policy),
    ("api.core.v1.LimitRangeItem", default_limits),
    ("api.core.v1.PersistentVolumeClaim", |claim| {
        let status = super::value::object_in(claim, "status");
        fill(status, "phase", "Pending");
    }),
    ("api.core.v1.PodSpec", pod_spec::default),
    ("api.rbac.v1.Subject", |subject| {
        if matches!(text(subject, "/kind"), "User" | "Group") {
            fill(subject, "apiGroup", "rbac.authorization.k8s.io");
        }
    }),
    ("api.resource.v1.DeviceSubRequest", default_device_request),
    ("api.resource.v1.ExactDeviceRequest", default_device_request),
];

struct TypeDefaults {
    fields: Vec<(&'static str, Value)>,
    hook: Option<fn(&mut Value)>,
}

static BY_TYPE: LazyLock<HashMap<&'static str, TypeDefaults>> = LazyLock::new(|| {
    let mut types: HashMap<&'static str, TypeDefaults> = HashMap::new();
    let empty = || TypeDefaults { fields: Vec::new(), hook: None };
    for (name, field, json) in FIELDS {
        let value = serde_json::from_str(json).expect("defaults are JSON: tested");
        types.entry(name).or_insert_with(empty).fields.push((field, value));
    }
    for (name, hook) in HOOKS {
        types.entry(name).or_insert_with(empty).hook = Some(*hook);
    }
    types
});

/// Fills in the defaults of a type and of all that is inside.
pub(super) fn complete(value: &mut Value, ty: TypeRef<'_>) {
    match (ty.shape(), value) {
        (Shape::Object(_), value @ Value::Object(_)) => {
            if let Some(defaults) = BY_TYPE.get(ty.name()) {
                for (field, default) in &defaults.fields {
                    // A zero there says "not set", unless the reference types can tell.
                    fill(value, field, default.clone());
                }
                if let Some(hook) = defaults.hook {
                    hook(value);
                }
            }
            for (name, value) in value.as_object_mut().into_iter().flatten() {
                if (value.is_object() || value.is_array() || value.is_string())
                    && let Some(field) = ty.field(name)
                {
                    complete(value, field.ty);
                }
            }
        }
        (Shape::Map { value: inner, .. }, Value::Object(map)) if !is_text(inner) => {
            let amounts = matches!(inner.shape(), Shape::Scalar(Scalar::Quantity));
            map.values_mut().for_each(|value| if amounts { resource_amount(value) } else { complete(value, inner) });
        }
        (Shape::List { item, .. }, Value::Array(items)) if !is_text(item) => {
            items.iter_mut().for_each(|value| complete(value, item));
        }
        (Shape::Scalar(Scalar::Quantity), value) => canonical_quantity(value),
        (Shape::Scalar(Scalar::Time), Value::String(text)) => {
            if let Ok(instant) = time::parse(text) {
                *text = time::format(instant);
            }
        }
        (Shape::Scalar(Scalar::MicroTime), Value::String(text)) => {
            if let Ok(instant) = time::parse(text) {
                *text = time::format_micro(instant);
            }
        }
        _ => {}
    }
}

fn is_text(ty: TypeRef<'_>) -> bool {
    matches!(ty.shape(), Shape::Scalar(Scalar::String))
}

fn canonical_quantity(value: &mut Value) {
    respell(value, |quantity| quantity);
}

/// An amount of a resource: not finer than thousandths.
fn resource_amount(value: &mut Value) {
    respell(value, Quantity::round_up_to_milli);
}

/// Spells a quantity as upstream does, which leaves some spellings alone.
fn respell(value: &mut Value, change: fn(Quantity) -> Quantity) {
    if let Ok(quantity) = Quantity::from_value(value) {
        let spelled = change(quantity).to_string();
        if value.as_str() != Some(&spelled) {
            *value = Value::String(spelled);
        }
    }
}

/// Limits of containers: a maximum is the default limit, a default limit the default request, as is a minimum.
fn default_limits(item: &mut Value) {
    if text(item, "/type") != "Container" {
        return;
    }
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let Some(Value::Object(from)) = item.get(source).cloned() else { continue };
        let into = super::value::object_in(item, target);
        for (key, value) in from {
            fill(into, &key, value);
        }
    }
}

fn default_device_request(request: &mut Value) {
    fill(request, "allocationMode", "ExactCount");
    if text(request, "/allocationMode") == "ExactCount" {
        fill(request, "count", 1);
    }
}

/// Requests of a pod's containers are their limits where only these are given.
pub(super) fn requests_from_limits(container: &mut Value) {
    let Some(Value::Object(limits)) = container.pointer("/resources/limits").cloned() else { return };
    let requests = super::value::object_in(&mut container["resources"], "requests");
    for (resource, limit) in limits {
        fill(requests, &resource, limit);
    }
}

/// Requests of the whole pod, where only limits are given for it: what its containers request, else the limits.
pub(super) fn pod_requests(spec: &mut Value) {
    let Some(Value::Object(limits)) = spec.pointer("/resources/limits").cloned() else { return };
    let mut sums: HashMap<String, Quantity> = HashMap::new();
    for container in items(spec, "/containers") {
        for (resource, request) in super::value::entries(container, "/resources/requests") {
            if let Ok(request) = Quantity::from_value(request) {
                match sums.get_mut(resource) {
                    Some(sum) => sum.add(&request),
                    None => {
                        sums.insert(resource.clone(), request);
                    }
                }
            }
        }
    }
    let requests = super::value::object_in(&mut spec["resources"], "requests");
    for (resource, sum) in sums {
        if matches!(resource.as_str(), "cpu" | "memory") {
            fill(requests, &resource, sum.canonical());
        }
    }
    for (resource, limit) in limits {
        fill(requests, &resource, limit);
    }
}

/// Ports of pods in the host's network are ports of the host.
pub(super) fn host_ports(container: &mut Value) {
    for port in super::value::items_mut(container, "/ports") {
        if !has(port, "/hostPort") {
            let number = port["containerPort"].clone();
            set(port, "hostPort", number);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every type and field the tables name is there.
    #[test]
    fn the_tables_name_what_exists() {
        let types = schema::builtin().types();
        for (name, field, _) in FIELDS {
            let ty = types.named(name).unwrap_or_else(|| panic!("{name}"));
            assert!(ty.field(field).is_some(), "{name} has no {field}");
        }
        for (name, _) in HOOKS {
            assert!(types.named(name).is_some(), "{name}");
        }
        assert!(!BY_TYPE.is_empty());
    }

    #[test]
    fn quantities_and_times_become_canonical() {
        let ty = schema::builtin().type_of("", "v1", "Pod").unwrap();
        let mut pod = json!({
            "metadata": {"creationTimestamp": "2026-01-02T04:04:05+01:00"},
            "spec": {"containers": [{"image": "a", "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}}}]},
        });
        complete(&mut pod, ty);
        assert_eq!(pod["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
    }
}
