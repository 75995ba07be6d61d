//! What may only be taken where a quota covers it (`limitedResources` of ResourceQuotaConfiguration).

use std::collections::BTreeSet;

use serde_json::Value;

use super::charge::{Subject, growth};
use super::evaluator::Evaluator;
use super::scope::Selector;
use crate::pod::resources::amounts;

/// One entry of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    group: String,
    resource: String,
    /// Amounts whose names contain one of these.
    contains: Vec<String>,
    /// Objects that these match.
    scopes: Vec<Selector>,
}

impl Limited {
    /// All entries of an `apiserver.config.k8s.io/v1` ResourceQuotaConfiguration.
    pub fn of_configuration(configuration: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let entries = configuration["limitedResources"].as_array().into_iter().flatten();
        let entry = |entry: &Value| Self {
            group: text(&entry["apiGroup"]),
            resource: text(&entry["resource"]),
            contains: entry["matchContains"].as_array().into_iter().flatten().map(text).collect(),
            scopes: Selector::of_expressions(&entry["matchScopes"]),
        };
        entries.map(entry).collect()
    }
}

/// Whether the write takes nothing that is limited and no quota of its namespace covers.
///
/// # Errors
/// What it takes, in upstream's words.
pub fn check(
    limited: &[Limited],
    quotas: &[Value],
    evaluator: &Evaluator,
    (group, resource): (&str, &str),
    subject: Subject<'_>,
) -> Result<(), String> {
    let matches = |selector: &Selector| evaluator.in_scopes(std::slice::from_ref(selector), subject.new);
    let scopes: Vec<&Selector> = limited.iter().flat_map(|entry| &entry.scopes).filter(|scope| matches(scope)).collect();
    let of_resource: Vec<&Limited> = limited.iter().filter(|entry| entry.group == group && entry.resource == resource).collect();
    if scopes.is_empty() && of_resource.is_empty() {
        return Ok(());
    }
    let wanted = evaluator.usage(subject.new, subject.now);
    let before = subject.old.map(|old| evaluator.usage(old, subject.now));
    if growth(&wanted, before.as_ref()).is_empty() {
        return Ok(());
    }
    let selectors: Vec<Vec<Selector>> = quotas.iter().map(Selector::of_quota).collect();
    let covered: BTreeSet<String> = quotas
        .iter()
        .zip(&selectors)
        .filter(|(_, selectors)| evaluator.in_scopes(selectors, subject.new))
        .flat_map(|(quota, _)| amounts(&quota["status"]["hard"]).into_keys())
        .collect();
    let is_limited = |name: &str| of_resource.iter().flat_map(|entry| &entry.contains).any(|part| name.contains(part));
    let taken = wanted.iter().filter(|(_, amount)| !amount.is_zero() && !amount.is_negative()).map(|(name, _)| name.as_str());
    let uncovered: Vec<&str> = taken.filter(|name| is_limited(name) && !covered.contains(*name)).collect();
    if !uncovered.is_empty() {
        return Err(format!("insufficient quota to consume: {}", uncovered.join(",")));
    }
    let known: Vec<&Selector> = selectors.iter().flatten().filter(|selector| matches(selector)).collect();
    let uncovered: Vec<String> = scopes
        .into_iter()
        .filter(|scope| !known.iter().any(|other| other.scope == scope.scope))
        .map(Selector::to_string)
        .collect();
    if uncovered.is_empty() {
        return Ok(());
    }
    Err(format!("insufficient quota to match these scopes: [{}]", uncovered.join(" ")))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn claim(class: &str) -> Value {
        json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}})
    }

    fn quota(spec: Value) -> Value {
        json!({"spec": spec, "status": {"hard": spec["hard"]}})
    }

    #[test]
    fn amounts_need_a_quota() {
        let limited = Limited::of_configuration(&json!({"limitedResources": [
            {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass.storage.k8s.io/requests.storage"]}]}));
        let gold = "gold.storageclass.storage.k8s.io/requests.storage";
        let check = |quotas: &[Value], new: &Value, old: Option<&Value>, expected: Result<(), &str>| {
            let subject = Subject { subresource: "", new, old, now: Timestamp::UNIX_EPOCH };
            let kind = ("", "persistentvolumeclaims");
            let got = check(&limited, quotas, &Evaluator::of(kind.0, kind.1).unwrap(), kind, subject);
            assert_eq!(got, expected.map_err(str::to_owned), "{new}");
        };
        let refused = format!("insufficient quota to consume: {gold}");
        check(&[], &claim("iron"), None, Ok(()));
        check(&[], &claim("gold"), None, Err(&refused));
        check(&[quota(json!({"hard": {"requests.storage": "9Gi"}}))], &claim("gold"), None, Err(&refused));
        check(&[quota(json!({"hard": {gold: "9Gi"}}))], &claim("gold"), None, Ok(()));
        check(&[], &claim("gold"), Some(&claim("gold")), Ok(()));
    }

    #[test]
    fn scopes_need_a_quota() {
        let limited = Limited::of_configuration(&json!({"limitedResources": [{"resource": "pods", "matchScopes":
            [{"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]}]}]}));
        let check = |quotas: &[Value], class: &str, expected: Result<(), &str>| {
            let pod = json!({"spec": {"priorityClassName": class, "containers": []}});
            let subject = Subject { subresource: "", new: &pod, old: None, now: Timestamp::UNIX_EPOCH };
            let got = check(&limited, quotas, &Evaluator::of("", "pods").unwrap(), ("", "pods"), subject);
            assert_eq!(got, expected.map_err(str::to_owned), "{class}");
        };
        let covering = |class: &str| {
            let expressions = json!([{"scopeName": "PriorityClass", "operator": "In", "values": [class]}]);
            quota(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": expressions}}))
        };
        let refused = "insufficient quota to match these scopes: [{PriorityClass In [high higher]}]";
        check(&[], "low", Ok(()));
        check(&[], "high", Err(refused));
        check(&[covering("low")], "high", Err(refused));
        check(&[covering("high")], "high", Ok(()));
        check(&[quota(json!({"hard": {"pods": "1"}}))], "high", Err(refused));
    }
}
