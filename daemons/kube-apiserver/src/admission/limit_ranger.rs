//! LimitRanger: defaults and bounds for the resources of containers, pods and claims of a namespace.

use machinery::meta;
use machinery::pod::containers::{self, Role};
use machinery::pod::resources::{Amounts, Bound, amounts, of_pod};
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        for range in lookup.objects("", "limitranges", request.namespace) {
            for item in items(&range).filter(|item| item["type"] == "Container") {
                default_containers(pod, item);
            }
        }
        Ok(())
    }

    fn validate(&self, request: &Request<'_>, object: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let ranges = || lookup.objects("", "limitranges", request.namespace);
        let mut problems = Vec::new();
        if request.is("", "pods") {
            for range in ranges() {
                items(&range).for_each(|item| check_pod(object, item, &mut problems));
            }
        } else if request.is("", "persistentvolumeclaims") {
            let requested = amounts(&object["spec"]["resources"]["requests"]);
            for range in ranges() {
                for item in items(&range).filter(|item| item["type"] == "PersistentVolumeClaim") {
                    check_bounds(item, "PersistentVolumeClaim", &requested, &Amounts::new(), &mut problems);
                }
            }
        }
        match problems.len() {
            0 => Ok(()),
            1 => Err(request.forbidden(&problems[0])),
            _ => Err(request.forbidden(format!("[{}]", problems.join(", ")))),
        }
    }
}

fn items(range: &Value) -> impl Iterator<Item = &Value> {
    range["spec"]["limits"].as_array().into_iter().flatten()
}

fn default_containers(pod: &mut Value, item: &Value) {
    for (_, container) in containers::each_mut(&mut pod["spec"]).filter(|(role, _)| *role != Role::Ephemeral) {
        for (field, defaults) in [("limits", &item["default"]), ("requests", &item["defaultRequest"])] {
            for (resource, amount) in defaults.as_object().into_iter().flatten() {
                if container["resources"][field][resource].is_null() {
                    meta::set_path(container, &["resources", field, resource], amount.clone());
                }
            }
        }
    }
}

fn check_pod(pod: &Value, item: &Value, problems: &mut Vec<String>) {
    let kind = item["type"].as_str().unwrap_or_default();
    match kind {
        "Container" => {
            for (_, container) in containers::each(&pod["spec"]).filter(|(role, _)| *role != Role::Ephemeral) {
                let resources = &container["resources"];
                check_bounds(item, kind, &amounts(&resources["requests"]), &amounts(&resources["limits"]), problems);
            }
        }
        "Pod" => check_bounds(item, kind, &of_pod(pod, Bound::Requests), &of_pod(pod, Bound::Limits), problems),
        _ => {}
    }
}

fn check_bounds(item: &Value, kind: &str, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    let is_claim = kind == "PersistentVolumeClaim";
    for (name, min) in amounts(&item["min"]) {
        match requests.get(&name) {
            None => problems.push(format!("minimum {name} usage per {kind} is {min}.  No request is specified")),
            Some(request) if *request < min => {
                problems.push(format!("minimum {name} usage per {kind} is {min}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
    for (name, max) in amounts(&item["max"]) {
        let (used, what) = if is_claim { (requests.get(&name), "request") } else { (limits.get(&name), "limit") };
        match used {
            None => problems.push(format!("maximum {name} usage per {kind} is {max}.  No {what} is specified")),
            Some(used) if *used > max => {
                problems.push(format!("maximum {name} usage per {kind} is {max}, but {what} is {used}"));
            }
            Some(_) => {}
        }
    }
    for (name, ratio) in amounts(&item["maxLimitRequestRatio"]) {
        let (Some(request), Some(limit)) = (requests.get(&name), limits.get(&name)) else {
            problems.push(format!(
                "{name} max limit to request ratio per {kind} is {ratio}, but no request is specified or request is 0"
            ));
            continue;
        };
        let (request, limit) = (request.milli_value() as f64, limit.milli_value() as f64);
        if request == 0.0 || limit / request > ratio.milli_value() as f64 / 1000.0 {
            problems.push(format!(
                "{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is {:.6}",
                if request == 0.0 { 0.0 } else { limit / request }
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_and_bounds() {
        let item = json!({"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
            "max": {"cpu": "1"}, "min": {"cpu": "50m"}});
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "10m"}}}]}});
        default_containers(&mut pod, &item);
        assert_eq!(pod["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
        let mut problems = Vec::new();
        check_pod(&pod, &item, &mut problems);
        assert_eq!(
            problems,
            [
                "minimum cpu usage per Container is 50m, but request is 10m",
                "maximum cpu usage per Container is 1, but limit is 2"
            ]
        );
    }
}
