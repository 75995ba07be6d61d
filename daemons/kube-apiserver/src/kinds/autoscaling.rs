//! HorizontalPodAutoscaler, and Scale.

use machinery::field::{FieldErrors, Path};
use machinery::meta;
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, NAME, column, integer};
use super::validate::required;
use super::value::{fill, has, int, items, number, object_in, set, text};
use crate::convert::METRICS;

const CPU_UTILIZATION: i64 = 80;
const METRICS_SHOWN_MAX: usize = 2;

pub(super) struct HorizontalPodAutoscaler;

impl Rules for HorizontalPodAutoscaler {
    fn default(&self, autoscaler: &mut Value) {
        let is_v1 = text(autoscaler, "/apiVersion") == "autoscaling/v1";
        let spec = object_in(autoscaler, "spec");
        fill(spec, "minReplicas", 1);
        if is_v1 {
            // Other metrics than the CPU's travel in an annotation of this version; without either the CPU counts.
            let others = meta::annotation(autoscaler, METRICS).and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
            if others.is_none_or(|others| others.is_empty()) {
                fill(object_in(autoscaler, "spec"), "targetCPUUtilizationPercentage", CPU_UTILIZATION);
            }
            return;
        }
        let metric = json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_UTILIZATION}},
        }]);
        fill(spec, "metrics", metric);
        if !has(spec, "/behavior") {
            return;
        }
        let behavior = object_in(spec, "behavior");
        if has(behavior, "/scaleUp") {
            let up = object_in(behavior, "scaleUp");
            fill(up, "stabilizationWindowSeconds", 0);
            fill(up, "selectPolicy", "Max");
            let policies = json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]);
            fill(up, "policies", policies);
        }
        if has(behavior, "/scaleDown") {
            let down = object_in(behavior, "scaleDown");
            fill(down, "selectPolicy", "Max");
            fill(down, "policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
        }
    }

    fn prepare_for_create(&self, autoscaler: &mut Value) {
        set(autoscaler, "status", json!({"currentMetrics": null, "desiredReplicas": 0}));
        super::value::unset(&mut autoscaler["status"], "currentMetrics");
    }

    fn validate(&self, autoscaler: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&autoscaler["spec"], Path::new("spec"));
        let (min, max) = (number(spec, "/minReplicas"), int(spec, "/maxReplicas"));
        if let Some(min) = min.filter(|min| *min < 1) {
            errors.invalid(&path.child("minReplicas"), min, "must be greater than or equal to 1");
        }
        if max < 1 {
            errors.required(&path.child("maxReplicas"), "must be set and greater than 0");
        }
        if min.is_some_and(|min| max < min) {
            errors.invalid(&path.child("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
        }
        let target = path.child("scaleTargetRef");
        required(&spec["scaleTargetRef"], "kind", &target, errors);
        required(&spec["scaleTargetRef"], "name", &target, errors);
        let (api_version, kind) = (text(spec, "/scaleTargetRef/apiVersion"), text(spec, "/scaleTargetRef/kind"));
        if !api_version.contains('/') && kind != "ReplicationController" {
            errors.invalid(&target.child("apiVersion"), api_version, "apiVersion must specify API group");
        }
        let scales_to_zero = |metric: &Value| matches!(text(metric, "/type"), "Object" | "External");
        if min == Some(0) && !items(spec, "/metrics").iter().any(scales_to_zero) {
            let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
            errors.forbidden(&path.child("metrics"), detail);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Reference", |row| {
                let target = &row.object["spec"]["scaleTargetRef"];
                format!("{}/{}", text(target, "/kind"), text(target, "/name")).into()
            })
            .of("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "scaleTargetRef"),
            column("Targets", |row| metrics(row.object).into()).of("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "metrics"),
            column("MinPods", |row| match number(row.object, "/spec/minReplicas") {
                Some(min) => min.to_string().into(),
                None => "<unset>".into(),
            })
            .of("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas"),
            column("MaxPods", |row| row.int("/spec/maxReplicas"))
                .of("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "maxReplicas"),
            column("Replicas", |row| row.int("/status/currentReplicas"))
                .of("api.autoscaling.v2.HorizontalPodAutoscalerStatus", "currentReplicas"),
            AGE,
        ];
        COLUMNS
    }
}

/// Each metric as `current/target`.
fn metrics(autoscaler: &Value) -> String {
    if text(autoscaler, "/apiVersion") == "autoscaling/v1" {
        let percent = |pointer: &str, other: &str| match number(autoscaler, pointer) {
            Some(number) => format!("{number}%"),
            None => other.to_owned(),
        };
        let current = percent("/status/currentCPUUtilizationPercentage", "<unknown>");
        return format!("cpu: {current}/{}", percent("/spec/targetCPUUtilizationPercentage", "<auto>"));
    }
    let specs = items(autoscaler, "/spec/metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = items(autoscaler, "/status/currentMetrics");
    let all: Vec<String> =
        specs.iter().enumerate().map(|(index, spec)| metric(spec, statuses.get(index).unwrap_or(&Value::Null))).collect();
    if all.len() > METRICS_SHOWN_MAX {
        format!("{} + {} more...", all[..METRICS_SHOWN_MAX].join(", "), all.len() - METRICS_SHOWN_MAX)
    } else {
        all.join(", ")
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let kind = match text(spec, "/type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let target = &spec[kind]["target"];
    let current = &status[kind]["current"];
    let shown = |value: &str| if value.is_empty() { "<unknown>".to_owned() } else { value.to_owned() };
    let average = text(target, "/averageValue");
    if kind == "resource" || kind == "containerResource" {
        let name = text(&spec[kind], "/name");
        if !average.is_empty() {
            return format!("{name}: {}/{average}", shown(text(current, "/averageValue")));
        }
        let percent = |value: &Value, other: &str| match number(value, "/averageUtilization") {
            Some(number) => format!("{number}%"),
            None => other.to_owned(),
        };
        return format!("{name}: {}/{}", percent(current, "<unknown>"), percent(target, "<auto>"));
    }
    if kind == "pods" {
        return format!("{}/{average}", shown(text(current, "/averageValue")));
    }
    if average.is_empty() {
        format!("{}/{}", shown(text(current, "/value")), text(target, "/value"))
    } else {
        format!("{}/{average} (avg)", shown(text(current, "/averageValue")))
    }
}

pub(super) struct Scale;

impl Rules for Scale {
    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Desired", |row| row.int("/spec/replicas")).of("api.autoscaling.v1.ScaleSpec", "replicas"),
            integer("Available", |row| row.int("/status/replicas")).of("api.autoscaling.v1.ScaleStatus", "replicas"),
            AGE,
        ];
        COLUMNS
    }
}
