//! ResourceQuota and LimitRange.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, column};
use super::validate;
use super::value::{entries, items, text};

pub(super) struct ResourceQuota;

/// Names without a domain that a quota may limit.
const STANDARD: &[&str] = &[
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Numbers of objects.
const WHOLE: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const COMPUTE: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "pods"];
const ABOUT_PODS: &[&str] = &["Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity"];

/// Whether a quota of that scope may limit the resource.
fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        _ if !STANDARD.contains(&resource) => true,
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            COMPUTE.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn is_scope(scope: &str) -> bool {
    ABOUT_PODS.contains(&scope) || matches!(scope, "PriorityClass" | "VolumeAttributesClass")
}

fn amounts(quota: &Value, part: &str, field: &str, errors: &mut FieldErrors) {
    let path = Path::new(part).child(field);
    for (name, value) in entries(quota, &format!("/{part}/{field}")) {
        let path = path.key(name);
        let messages = names::qualified_name(name);
        let unknown = messages.is_empty() && !name.contains('/') && !STANDARD.contains(&name.as_str());
        errors.invalid_each(&path, name, messages);
        if unknown && !name.starts_with("hugepages-") && !name.starts_with("requests.hugepages-") {
            errors.invalid(&path, name.as_str(), "must be a standard resource type or fully qualified");
            errors.invalid(&path, name.as_str(), "must be a standard resource for quota");
        }
        validate::quantity(value, &path, errors);
        let parsed = machinery::quantity::Quantity::from_value(value);
        if WHOLE.contains(&name.as_str()) && parsed.is_ok_and(|amount| !amount.is_integer()) {
            errors.invalid(&path, value.clone(), "must be an integer");
        }
    }
}

fn scopes(quota: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("scopes");
    let all = super::value::texts(quota, "/spec/scopes");
    let mut bad = |detail: &str| errors.invalid(&path, quota["spec"]["scopes"].clone(), detail);
    for scope in &all {
        if !is_scope(scope) {
            bad("unsupported scope");
        }
        for _ in entries(quota, "/spec/hard").filter(|(name, _)| !fits(scope, name)) {
            bad("unsupported scope applied to resource");
        }
    }
    if is_contradiction(&all) {
        bad("conflicting scopes");
    }
}

fn is_contradiction(scopes: &[&str]) -> bool {
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]]
        .iter()
        .any(|pair| pair.iter().all(|scope| scopes.contains(scope)))
}

fn scope_selector(quota: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("scopeSelector").child("matchExpressions");
    let mut all = Vec::new();
    for expression in items(quota, "/spec/scopeSelector/matchExpressions") {
        let (scope, operator) = (text(expression, "/scopeName"), text(expression, "/operator"));
        if !is_scope(scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in entries(quota, "/spec/hard").filter(|(name, _)| !fits(scope, name)) {
            errors.invalid(&path, quota["spec"]["scopeSelector"].clone(), "unsupported scope applied to resource");
        }
        if ABOUT_PODS.contains(&scope) && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                          ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        let values = items(expression, "/values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), detail);
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                    errors.invalid(&path.child("values"), values.to_vec(), detail);
                }
            }
            _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        all.push(scope);
    }
    if is_contradiction(&all) {
        errors.invalid(&path, quota["spec"]["scopes"].clone(), "conflicting scopes");
    }
}

impl Rules for ResourceQuota {
    fn validate(&self, quota: &Value, errors: &mut FieldErrors) {
        amounts(quota, "spec", "hard", errors);
        scopes(quota, errors);
        scope_selector(quota, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource == "status" {
            amounts(new, "status", "hard", errors);
            amounts(new, "status", "used", errors);
            return;
        }
        let set = |quota: &Value| -> std::collections::BTreeSet<String> {
            super::value::texts(quota, "/spec/scopes").into_iter().map(str::to_owned).collect()
        };
        if set(new) != set(old) {
            errors.invalid(&Path::new("spec").child("scopes"), new["spec"]["scopes"].clone(), "field is immutable");
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Request", |row| usage(row.object, false).into())
                .says("Request represents a minimum amount of cpu/memory that a container may consume."),
            column("Limit", |row| usage(row.object, true).into()).says(
                "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
            ),
            AGE,
        ];
        COLUMNS
    }
}

/// `name: used/hard` of the resources that are limits, or of those that are not.
fn usage(quota: &Value, limits: bool) -> String {
    let used = |name: &str| match quota["status"]["used"].get(name).and_then(Value::as_str) {
        Some(used) => used.to_owned(),
        None => "0".to_owned(),
    };
    let all = entries(quota, "/status/hard").filter(|(name, _)| name.starts_with("limits.") == limits);
    let shown: Vec<String> =
        all.map(|(name, hard)| format!("{name}: {}/{}", used(name), hard.as_str().unwrap_or_default())).collect();
    shown.join(", ")
}

pub(super) struct LimitRange;

impl Rules for LimitRange {
    fn validate(&self, range: &Value, errors: &mut FieldErrors) {
        let mut kinds = Vec::new();
        for (index, limit) in items(range, "/spec/limits").iter().enumerate() {
            let path = Path::new("spec").child("limits").index(index);
            let kind = text(limit, "/type");
            errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
            if kinds.contains(&kind) {
                errors.duplicate(&path.child("type"), kind);
            }
            kinds.push(kind);
            self::limit(limit, kind, &path, errors);
        }
    }
}

const BOUNDS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn limit(limit: &Value, kind: &str, path: &Path, errors: &mut FieldErrors) {
    let mut resources = std::collections::BTreeSet::new();
    for field in BOUNDS {
        if kind == "Pod" && field.starts_with("default") {
            if super::value::count(limit, &format!("/{field}")) > 0 {
                errors.forbidden(&path.child(field), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, value) in entries(limit, &format!("/{field}")) {
            validate::quantity(value, &path.child(field).key(name), errors);
            resources.insert(name);
        }
    }
    let has_storage = ["min", "max"].iter().any(|field| !limit[*field]["storage"].is_null());
    if kind == "PersistentVolumeClaim" && !has_storage {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    for resource in resources {
        bounds(limit, kind, resource, path, errors);
    }
}

/// What the bounds of one resource say of each other.
fn bounds(limit: &Value, kind: &str, resource: &str, path: &Path, errors: &mut FieldErrors) {
    use machinery::quantity::Quantity;
    let get = |field: &str| {
        let of_pod = kind == "Pod" && field.starts_with("default");
        limit[field].get(resource).filter(|_| !of_pod).and_then(|value| Quantity::from_value(value).ok())
    };
    let [max, min, default, request, ratio] =
        [get("max"), get("min"), get("default"), get("defaultRequest"), get("maxLimitRequestRatio")];
    let mut ordered =
        |small: (&Option<Quantity>, &str), large: (&Option<Quantity>, &str), field: &str, shown: &Option<Quantity>| {
            if let ((Some(a), a_name), (Some(b), b_name), Some(shown)) = (small, large, shown)
                && a > b
            {
                let detail = format!("{a_name} value {a} is greater than {b_name} value {b}");
                errors.invalid(&path.child(field).key(resource), shown.to_string(), detail);
            }
        };
    ordered((&min, "min"), (&max, "max"), "min", &min);
    ordered((&min, "min"), (&request, "default request"), "defaultRequest", &request);
    ordered((&request, "default request"), (&max, "max"), "defaultRequest", &request);
    ordered((&request, "default request"), (&default, "default limit"), "defaultRequest", &request);
    ordered((&min, "min"), (&default, "default"), "default", &min);
    ordered((&default, "default"), (&max, "max"), "default", &max);
    let Some(ratio) = ratio else { return };
    let path = path.child("maxLimitRequestRatio").key(resource);
    if ratio < Quantity::new(1, Default::default()) {
        errors.invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let limit = max.as_f64() / min.as_f64();
        if ratio.as_f64() > limit {
            errors.invalid(&path, ratio.to_string(), format!("ratio {ratio} is greater than max/min = {limit:.6}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(rules: &dyn Rules, object: Value, expected: &[&str]) {
        let mut errors = FieldErrors::new();
        rules.validate(&object, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{object}");
    }

    #[test]
    fn quotas() {
        let quota = |hard: Value, scopes: Value| json!({"spec": {"hard": hard, "scopes": scopes}});
        check(
            &ResourceQuota,
            quota(json!({"pods": "3", "count/foos.example.com": "1", "requests.example.com/gpu": "2"}), json!([])),
            &[],
        );
        check(
            &ResourceQuota,
            quota(json!({"pods": "1500m"}), json!([])),
            &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"],
        );
        let unknown = [
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource type or fully qualified",
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource for quota",
        ];
        check(&ResourceQuota, quota(json!({"apples": "1"}), json!([])), &unknown);
        let scope = "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource";
        check(&ResourceQuota, quota(json!({"cpu": "1"}), json!(["BestEffort"])), &[scope]);
        let both = "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes";
        check(&ResourceQuota, quota(json!({"pods": "1"}), json!(["Terminating", "NotTerminating"])), &[both]);
        let selector = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]});
        let empty = "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is \
                     'In' or 'NotIn' for scope selector";
        check(&ResourceQuota, json!({"spec": {"hard": {"pods": "1"}, "scopeSelector": selector}}), &[empty]);
    }

    #[test]
    fn ranges() {
        let range = |limit: Value| json!({"spec": {"limits": [limit]}});
        let good = json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "4"}, "default": {"cpu": "3"},
            "defaultRequest": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "2"}});
        check(&LimitRange, range(good), &[]);
        let pod = json!({"type": "Pod", "max": {"cpu": "1"}, "default": {"cpu": "1"}});
        check(&LimitRange, range(pod), &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"]);
        let swapped = json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}});
        let why = "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1";
        check(&LimitRange, range(swapped), &[why]);
        let claim = json!({"type": "PersistentVolumeClaim", "default": {"storage": "1"}});
        let why = "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided";
        check(&LimitRange, range(claim), &[why]);
    }
}
