//! Eviction: a deletion that asks disruption budgets first.

use http::Response;
use machinery::meta;
use machinery::selector::LabelSelector;
use machinery::status::{Cause, Status};
use serde_json::{Value, json};

use crate::admission::{Operation, Request};
use crate::body;
use crate::endpoints::Call;
use crate::lookup::Lookup;
use crate::registry::options::DeleteOptions;
use crate::registry::store::EntryExt;
use crate::registry::update::{Changed, Target};
use crate::respond::Body;

/// How many evictions a budget remembers before its controller has seen them.
const DISRUPTED_MAX: usize = 2000;

pub(super) async fn handle(call: &Call<'_>, bytes: &[u8]) -> Result<Response<Body>, Status> {
    let mut eviction = body::typed(&call.cx, &call.parts.headers, bytes, "policy/v1", "Eviction")?;
    let name = &call.path.name;
    if !meta::name(&eviction).is_empty() && meta::name(&eviction) != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options: DeleteOptions = match eviction.get("deleteOptions") {
        Some(options) => serde_json::from_value(options.clone()).map_err(|error| Status::bad_request(error.to_string()))?,
        None => DeleteOptions::default(),
    };
    let request = Request::new(&call.cx, call.served, Operation::Create, "eviction", call.namespace(), name)
        .of_kind("policy/v1", "Eviction");
    let admission = &call.server.registry.admission;
    admission.mutate(&request, &mut eviction, None).await?;
    admission.validate(&request, &eviction, None).await?;
    let entry = call.server.registry.get(call.served, call.namespace(), name, &Default::default()).await?;
    let pod = entry.value().ok_or_else(|| Status::internal("the stored object cannot be read"))?;
    let dry_run = call.cx.options.dry_run || options.is_dry_run()?;
    if meta::deletion_timestamp(&pod).is_none() && !is_free(&pod) {
        claim(call, &pod, dry_run).await?;
    }
    call.server.registry.delete(&call.cx, call.served, call.namespace(), name, &options).await?;
    super::done(call)
}

/// Pods that are over or were never started disrupt nothing.
fn is_free(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Takes one disruption from the budget that covers the pod, or says that there is none.
async fn claim(call: &Call<'_>, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let registry = &call.server.registry;
    let budgets: Vec<Value> =
        registry.objects("policy", "poddisruptionbudgets", call.namespace()).into_iter().filter(|b| covers(b, pod)).collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let healthy = budget["status"]["currentHealthy"].as_i64().unwrap_or(0);
    let desired = budget["status"]["desiredHealthy"].as_i64().unwrap_or(0);
    if !is_ready(pod) && (always || (desired > 0 && healthy >= desired)) {
        return Ok(());
    }
    let served = registry.stored("policy", "poddisruptionbudgets").ok_or_else(Status::no_such_path)?;
    let target = Target { served: &served, namespace: call.namespace(), name: meta::name(budget), subresource: "status" };
    let pod_name = meta::name(pod).to_owned();
    let now = machinery::time::format(call.cx.now);
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| served.not_found(target.name))?;
        decrement(old, &pod_name, &now).map(Changed::Object)
    };
    let mut cx = crate::registry::Context::server(call.cx.now);
    cx.options.dry_run = dry_run;
    registry.modify(&cx, target, &change, false).await.map(|_| ())
}

fn covers(budget: &Value, pod: &Value) -> bool {
    LabelSelector::from_label_selector(&budget["spec"]["selector"]).is_ok_and(|selector| selector.matches_object(pod))
}

fn decrement(budget: &Value, pod: &str, now: &str) -> Result<Value, Status> {
    let name = meta::name(budget);
    let refuse = |message: String| {
        let mut status = Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
        let cause = Cause { reason: "DisruptionBudget".to_owned(), message, ..Cause::default() };
        status.details.get_or_insert_default().causes.push(cause);
        status
    };
    let observed = budget["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if observed < meta::generation(budget) {
        return Err(refuse(format!("The disruption budget {name} is still being processed by the server.")).with_retry_after(10));
    }
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let (allowed, desired, healthy) = (number("disruptionsAllowed"), number("desiredHealthy"), number("currentHealthy"));
    if allowed <= 0 {
        return Err(refuse(format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")));
    }
    if budget["status"]["disruptedPods"].as_object().is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return Err(Status::forbidden(
            "poddisruptionbudgets.policy",
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    let mut budget = budget.clone();
    meta::set_path(&mut budget, &["status", "disruptionsAllowed"], json!(allowed - 1));
    meta::set_path(&mut budget, &["status", "disruptedPods", pod], json!(now));
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let budget = |allowed: i64, observed: i64| json!({"metadata": {"name": "b", "generation": 1}, "status": {"disruptionsAllowed": allowed, "observedGeneration": observed}});
        let after = decrement(&budget(1, 1), "p", "t").unwrap();
        assert_eq!(after["status"], json!({"disruptionsAllowed": 0, "observedGeneration": 1, "disruptedPods": {"p": "t"}}));
        assert_eq!(decrement(&budget(0, 1), "p", "t").unwrap_err().code(), 429);
        assert_eq!(decrement(&budget(1, 0), "p", "t").unwrap_err().code(), 429);
    }
}
