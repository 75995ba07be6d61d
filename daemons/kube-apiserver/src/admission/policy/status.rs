//! Writes a policy's `status.typeChecking`, as upstream's validatingadmissionpolicy-status-controller does.

use std::sync::Arc;

use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::type_check::{self, KindType};
use crate::admission::GROUP;
use crate::follow;
use crate::registry::update::{Changed, Target};
use crate::registry::{Context, Registry};
use crate::server::Server;

const MANAGER: &str = "validatingadmissionpolicy-status-controller";

/// Checks every policy when it comes or changes.
pub fn start(server: &Arc<Server>) {
    let this = server.clone();
    follow::spawn(server, GROUP, "validatingadmissionpolicies", move |_namespace, name, policy| {
        let Some(policy) = policy.filter(|policy| is_due(policy)) else { return };
        let (server, name, policy) = (this.clone(), name.to_owned(), policy.clone());
        tokio::spawn(async move {
            if let Err(status) = write(&server, &name, &policy).await {
                tracing::warn!(name, error = %status, "writing the status of a policy");
            }
        });
    });
}

fn is_due(policy: &Value) -> bool {
    meta::generation(policy) > policy["status"]["observedGeneration"].as_i64().unwrap_or(0)
}

async fn write(server: &Arc<Server>, name: &str, policy: &Value) -> Result<(), Status> {
    let registry = &server.registry;
    let warnings = check(registry, policy);
    let served = registry.stored(GROUP, "validatingadmissionpolicies").ok_or_else(Status::no_such_path)?;
    let target = Target { served: &served, namespace: "", name, subresource: "status" };
    let generation = meta::generation(policy);
    let change = |old: Option<&Value>| {
        let old = old.ok_or_else(|| served.not_found(name))?;
        let mut new = old.clone();
        // A newer one is checked when it is seen.
        if is_due(old) && meta::generation(old) == generation {
            meta::set_path(&mut new, &["status", "observedGeneration"], json!(generation));
            let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
            meta::set_path(&mut new, &["status", "typeChecking"], checked);
        }
        Ok(Changed::Object(new))
    };
    let mut cx = Context::server((server.now)());
    cx.options.field_manager = MANAGER.to_owned();
    match registry.modify(&cx, target, &change, false).await {
        Err(status) if status.code() != 404 => Err(status),
        _ => Ok(()),
    }
}

fn check(registry: &Registry, policy: &Value) -> Vec<Value> {
    let served = type_check::resources(policy).into_iter().filter_map(|(g, v, r)| registry.served(&g, &v, &r));
    let kinds: Vec<_> = served.filter_map(|served| Some((type_check::kind_of(&served), type_check::type_of(&served)?))).collect();
    let kind = &policy["spec"]["paramKind"];
    let params: Option<KindType> =
        registry.of_kind(meta::text(kind, &["apiVersion"]), meta::text(kind, &["kind"])).and_then(|s| type_check::type_of(&s));
    type_check::warnings(policy, &kinds, params.as_ref())
}
