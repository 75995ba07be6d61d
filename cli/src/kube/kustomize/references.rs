//! Names that objects know each other by: when one is renamed, the others must follow.

use machinery::meta;
use serde_json::Value;

use super::Item;

/// In a pod's spec, wherever it stands: the kind, and the path to its name. A list is looked through.
const OF_PODS: &[(&str, &str)] = &[
    ("ConfigMap", "volumes/configMap/name"),
    ("ConfigMap", "volumes/projected/sources/configMap/name"),
    ("ConfigMap", "containers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "initContainers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "containers/envFrom/configMapRef/name"),
    ("ConfigMap", "initContainers/envFrom/configMapRef/name"),
    ("Secret", "volumes/secret/secretName"),
    ("Secret", "volumes/projected/sources/secret/name"),
    ("Secret", "containers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "initContainers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "containers/envFrom/secretRef/name"),
    ("Secret", "initContainers/envFrom/secretRef/name"),
    ("Secret", "imagePullSecrets/name"),
    ("ServiceAccount", "serviceAccountName"),
    ("PersistentVolumeClaim", "volumes/persistentVolumeClaim/claimName"),
    ("PriorityClass", "priorityClassName"),
];

/// The rest: the kind that refers, the kind that is meant, the path.
const OTHERS: &[(&str, &str, &str)] = &[
    ("StatefulSet", "Service", "spec/serviceName"),
    ("Ingress", "Service", "spec/rules/http/paths/backend/service/name"),
    ("Ingress", "Service", "spec/defaultBackend/service/name"),
    ("Ingress", "Secret", "spec/tls/secretName"),
    ("Ingress", "IngressClass", "spec/ingressClassName"),
    ("APIService", "Service", "spec/service/name"),
    ("ValidatingWebhookConfiguration", "Service", "webhooks/clientConfig/service/name"),
    ("MutatingWebhookConfiguration", "Service", "webhooks/clientConfig/service/name"),
    ("ServiceAccount", "Secret", "imagePullSecrets/name"),
    ("PersistentVolumeClaim", "PersistentVolume", "spec/volumeName"),
    ("PersistentVolumeClaim", "StorageClass", "spec/storageClassName"),
    ("PersistentVolume", "StorageClass", "spec/storageClassName"),
    ("StatefulSet", "StorageClass", "spec/volumeClaimTemplates/spec/storageClassName"),
];

/// Where a kind's pod spec stands.
fn pod_spec(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("spec"),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => Some("spec/template/spec"),
        "CronJob" => Some("spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// Renames every reference to an object that has another name by now.
pub fn follow(items: &mut [Item]) {
    let names: Vec<(String, Vec<String>, String)> =
        items.iter().map(|item| (item.kind().to_owned(), item.former.clone(), meta::name(&item.object).to_owned())).collect();
    let current = |kind: &str, name: &str| {
        let found = names.iter().find(|(other, former, _)| other == kind && former.iter().any(|old| old == name));
        found.map(|(_, _, now)| now.clone())
    };
    for item in items {
        let kind = item.kind().to_owned();
        if let Some(path) = pod_spec(&kind) {
            for (referred, rest) in OF_PODS {
                visit(&mut item.object, &format!("{path}/{rest}"), &mut |name| current(referred, name));
            }
        }
        for (_, referred, path) in OTHERS.iter().filter(|(own, _, _)| *own == kind) {
            visit(&mut item.object, path, &mut |name| current(referred, name));
        }
        match kind.as_str() {
            "HorizontalPodAutoscaler" => typed(&mut item.object["spec"]["scaleTargetRef"], &current),
            "RoleBinding" | "ClusterRoleBinding" => {
                typed(&mut item.object["roleRef"], &current);
                for subject in item.object["subjects"].as_array_mut().into_iter().flatten() {
                    if subject["kind"] == "ServiceAccount" {
                        typed(subject, &current);
                    }
                }
            }
            _ => {}
        }
    }
}

/// A reference that says its kind.
fn typed(reference: &mut Value, current: &dyn Fn(&str, &str) -> Option<String>) {
    let kind = meta::kind(reference).to_owned();
    if let Some(new) = reference["name"].as_str().and_then(|name| current(&kind, name)) {
        reference["name"] = new.into();
    }
}

fn visit(value: &mut Value, path: &str, change: &mut dyn FnMut(&str) -> Option<String>) {
    if let Value::Array(items) = value {
        return items.iter_mut().for_each(|item| visit(item, path, change));
    }
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(next) = value.get_mut(first) else { return };
    match rest {
        Some(rest) => visit(next, rest, change),
        None => {
            if let Some(new) = next.as_str().and_then(change) {
                *next = new.into();
            }
        }
    }
}
