//! Kinds that are served in several versions over one stored form.
//!
//! Nearly all versions of a kind have one schema, and converting is writing another `apiVersion`. The exceptions are here.

use machinery::meta;
use schema::Resource;
use serde_json::{Value, json};

/// The resource in whose group and version objects of this one are stored.
pub fn stored_as(resource: &Resource) -> &Resource {
    let builtin = schema::builtin();
    if resource.group == "events.k8s.io"
        && let Some(core) = builtin.resource("", "v1", &resource.plural)
    {
        return core;
    }
    let same = |r: &&Resource| r.group == resource.group && r.plural == resource.plural && r.storage_version;
    builtin.resources.iter().find(same).unwrap_or(resource)
}

/// The object in another version of its kind.
pub fn to(mut object: Value, api_version: &str) -> Value {
    let from = meta::api_version(&object).to_owned();
    match (from.as_str(), api_version, meta::kind(&object)) {
        ("v1", "events.k8s.io/v1", "Event") => rename(&mut object, EVENT_FIELDS.iter().copied()),
        ("events.k8s.io/v1", "v1", "Event") => rename(&mut object, EVENT_FIELDS.iter().map(|(core, new)| (*new, *core))),
        ("autoscaling/v2", "autoscaling/v1", "HorizontalPodAutoscaler") => autoscaler_to_v1(&mut object),
        ("autoscaling/v1", "autoscaling/v2", "HorizontalPodAutoscaler") => autoscaler_to_v2(&mut object),
        _ => {}
    }
    meta::as_object_mut(&mut object).insert("apiVersion".to_owned(), json!(api_version));
    object
}

/// (core/v1, events.k8s.io/v1)
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(object: &mut Value, fields: impl Iterator<Item = (&'a str, &'a str)>) {
    let map = meta::as_object_mut(object);
    for (from, to) in fields {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// Where version 1 of an autoscaler has its metrics other than the CPU's.
pub(crate) const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// CPU utilization has a field in v1; everything else of v2 travels in annotations.
fn autoscaler_to_v1(object: &mut Value) {
    let (cpu, others) = split_cpu(meta::remove_path(object, &["spec", "metrics"]), "target");
    if let Some(percent) = cpu {
        meta::set_path(object, &["spec", "targetCPUUtilizationPercentage"], percent);
    }
    let (cpu, current) = split_cpu(meta::remove_path(object, &["status", "currentMetrics"]), "current");
    if let Some(percent) = cpu {
        meta::set_path(object, &["status", "currentCPUUtilizationPercentage"], percent);
    }
    let carried = [
        (METRICS, others),
        (CURRENT_METRICS, current),
        (CONDITIONS, meta::remove_path(object, &["status", "conditions"])),
        (BEHAVIOR, meta::remove_path(object, &["spec", "behavior"])),
    ];
    for (annotation, value) in carried {
        if let Some(value) = value {
            meta::set_path(object, &["metadata", "annotations", annotation], json!(value.to_string()));
        }
    }
}

fn autoscaler_to_v2(object: &mut Value) {
    let mut restore = |annotation: &str| {
        let text = meta::remove_path(object, &["metadata", "annotations", annotation])?;
        serde_json::from_str::<Value>(text.as_str()?).ok()
    };
    let (metrics, current) = (restore(METRICS), restore(CURRENT_METRICS));
    let (conditions, behavior) = (restore(CONDITIONS), restore(BEHAVIOR));
    let cpu = meta::remove_path(object, &["spec", "targetCPUUtilizationPercentage"]);
    if let Some(metrics) = join_cpu(cpu, metrics, "target") {
        meta::set_path(object, &["spec", "metrics"], metrics);
    }
    let cpu = meta::remove_path(object, &["status", "currentCPUUtilizationPercentage"]);
    if let Some(metrics) = join_cpu(cpu, current, "current") {
        meta::set_path(object, &["status", "currentMetrics"], metrics);
    }
    if let Some(conditions) = conditions {
        meta::set_path(object, &["status", "conditions"], conditions);
    }
    if let Some(behavior) = behavior {
        meta::set_path(object, &["spec", "behavior"], behavior);
    }
    if meta::annotations(object).is_some_and(serde_json::Map::is_empty) {
        meta::remove_path(object, &["metadata", "annotations"]);
    }
}

/// The first CPU utilization among the metrics, and the others.
fn split_cpu(metrics: Option<Value>, field: &str) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(metrics)) = metrics else { return (None, None) };
    let mut cpu = None;
    let mut others = Vec::new();
    for metric in metrics {
        let percent = &metric["resource"][field]["averageUtilization"];
        if cpu.is_none() && metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && percent.is_number() {
            cpu = Some(percent.clone());
        } else {
            others.push(metric);
        }
    }
    (cpu, (!others.is_empty()).then_some(Value::Array(others)))
}

fn join_cpu(cpu: Option<Value>, others: Option<Value>, field: &str) -> Option<Value> {
    let mut metrics = Vec::new();
    if let Some(percent) = cpu {
        let mut value = json!({"averageUtilization": percent});
        if field == "target" {
            value["type"] = json!("Utilization");
        }
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", field: value}}));
    }
    if let Some(Value::Array(others)) = others {
        metrics.extend(others);
    }
    (!metrics.is_empty()).then_some(Value::Array(metrics))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(object: Value, other: &str) -> Value {
        let version = meta::api_version(&object).to_owned();
        let there = to(object.clone(), other);
        assert_eq!(to(there.clone(), &version), object);
        there
    }

    #[test]
    fn events() {
        let event = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 2, "reason": "r"});
        let new = round_trip(event, "events.k8s.io/v1");
        assert_eq!(new["regarding"]["name"], "p");
        assert_eq!((&new["note"], &new["deprecatedCount"]), (&json!("m"), &json!(2)));
    }

    #[test]
    fn autoscalers() {
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 60}}});
        let cpu =
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [cpu, memory], "behavior": {"scaleDown": {}}}});
        let old = round_trip(object, "autoscaling/v1");
        assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 80);
        assert!(old["metadata"]["annotations"][METRICS].as_str().unwrap().contains("memory"));
    }

    #[test]
    fn the_rest_changes_its_version_only() {
        let object = json!({"apiVersion": "a/v1", "kind": "K", "spec": {}});
        assert_eq!(to(object, "a/v2"), json!({"apiVersion": "a/v2", "kind": "K", "spec": {}}));
    }
}
