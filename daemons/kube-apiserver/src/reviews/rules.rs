//! SelfSubjectRulesReview: what may I do in this namespace?

use machinery::status::Status;
use serde_json::{Value, json};

use crate::endpoints::Call;

pub(super) fn review(call: &Call<'_>, review: &Value) -> Result<Value, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, incomplete) = call.server.authorizer.rules_for(&call.cx.user, namespace);
    let mut resources = Vec::new();
    let mut others = Vec::new();
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                value["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(value);
        }
        if !rule.non_resource_urls.is_empty() {
            others.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": others, "incomplete": incomplete.is_some()});
    if let Some(why) = incomplete {
        status["evaluationError"] = json!(why);
    }
    Ok(status)
}
