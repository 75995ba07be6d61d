//! Priority: the number behind a pod's priority class.

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

const GROUP: &str = "scheduling.k8s.io";

pub(super) struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn mutate(&self, request: &Request<'_>, pod: &mut Value, old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") {
            return Ok(());
        }
        match request.operation {
            Operation::Create => resolve(request, pod, lookup),
            Operation::Update => {
                // An update that says nothing keeps what was resolved.
                for field in ["priority", "preemptionPolicy"] {
                    if let Some(value) = old.map(|old| &old["spec"][field]).filter(|v| !v.is_null())
                        && pod["spec"][field].is_null()
                    {
                        meta::set_path(pod, &["spec", field], value.clone());
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn validate(&self, request: &Request<'_>, class: &Value, _old: Option<&Value>, lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is(GROUP, "priorityclasses") || class["globalDefault"] != true {
            return Ok(());
        }
        match default_class(lookup) {
            Some(other) if meta::name(&other) != meta::name(class) => Err(request.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(&other)
            ))),
            _ => Ok(()),
        }
    }
}

fn default_class(lookup: &dyn Lookup) -> Option<Value> {
    let classes = lookup.objects(GROUP, "priorityclasses", "").into_iter().filter(|class| class["globalDefault"] == true);
    classes.min_by_key(|class| class["value"].as_i64().unwrap_or(0))
}

fn resolve(request: &Request<'_>, pod: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
    let name = pod["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let class = if name.is_empty() {
        let default = default_class(lookup);
        if let Some(default) = &default {
            meta::set_path(pod, &["spec", "priorityClassName"], json!(meta::name(default)));
        }
        default
    } else {
        let class = lookup.object(GROUP, "priorityclasses", "", &name);
        Some(class.ok_or_else(|| request.forbidden(format!("no PriorityClass with name {name} was found")))?)
    };
    let priority = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority").to_owned();
    match pod["spec"]["priority"].as_i64() {
        Some(given) if given != priority => {
            return Err(request.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            )));
        }
        _ => meta::set_path(pod, &["spec", "priority"], json!(priority)),
    }
    if pod["spec"]["preemptionPolicy"].is_null() {
        meta::set_path(pod, &["spec", "preemptionPolicy"], json!(policy));
    } else if pod["spec"]["preemptionPolicy"] != policy.as_str() {
        return Err(request.forbidden(format!(
            "the string value of PreemptionPolicy ({}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name",
            pod["spec"]["preemptionPolicy"].as_str().unwrap_or_default()
        )));
    }
    Ok(())
}
