//! clusterrole-aggregation-controller: a ClusterRole with an `aggregationRule` has the rules of all that it selects. The
//! roles `admin`, `edit` and `view` are made this way.

use std::sync::Arc;

use api::Kind;
use api::rbac::{ClusterRole, PolicyRule};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, Informer, InformerConfig, Patch, PatchParams};
use serde_json::json;

use crate::context::Context;
use crate::error::{During, Error};
use crate::selector;

pub(crate) const NAME: &str = "clusterrole-aggregation-controller";

pub(crate) async fn run(ctx: Arc<Context>) {
    let roles = Informer::<ClusterRole>::start(ctx.root(), InformerConfig::default());
    roles.synced().await;
    // A change of any role may concern every aggregate; they are few, and looked at together.
    let queue: Queue<()> = Queue::new();
    let q = queue.clone();
    roles.subscribe(move |_| q.add(()));
    let client = ctx.client(NAME);
    client::controller::run(NAME, queue, 1, move |()| {
        let (roles, client) = (roles.clone(), client.clone());
        async move { reconcile(&roles, &client).await }
    })
    .await;
}

async fn reconcile(roles: &Informer<ClusterRole>, client: &Client) -> Result<Outcome, Error> {
    let all = roles.parsed();
    let mut failure = None;
    for (role, rules) in decide(&all) {
        let version = role.metadata.resource_version.as_deref();
        let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "rules": rules}));
        let patched = client.patch::<ClusterRole>("", role.name(), &patch, &PatchParams::default()).await;
        if let Err(error) = patched.during(|| format!("aggregating the ClusterRole {}", role.name())) {
            failure = Some(error);
        }
    }
    failure.map_or(Ok(Outcome::Done), Err)
}

/// The aggregates whose rules are to change.
fn decide(all: &[ClusterRole]) -> Vec<(&ClusterRole, Vec<PolicyRule>)> {
    let mut changes = Vec::new();
    for role in all {
        let Some(aggregation) = &role.aggregation_rule else { continue };
        let selectors = aggregation.cluster_role_selectors.iter().flatten();
        let selectors: Vec<_> = selectors.filter_map(|s| selector::compile(s).ok()).collect();
        let mut selected: Vec<&ClusterRole> = all
            .iter()
            .filter(|other| other.name() != role.name() && selectors.iter().any(|s| s.matches(&other.metadata.labels)))
            .collect();
        selected.sort_by_key(|other| other.name().to_owned());
        let mut rules: Vec<PolicyRule> = Vec::new();
        for rule in selected.into_iter().flat_map(|r| r.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        if role.rules.clone().unwrap_or_default() != rules {
            changes.push((role, rules));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_collected() {
        let role = |name: &str, label: &str, verbs: &[&str], aggregates: Option<&str>| -> ClusterRole {
            let rules: Vec<_> = verbs.iter().map(|v| json!({"verbs": [v]})).collect();
            let rule = aggregates.map(|l| json!({"clusterRoleSelectors": [{"matchLabels": {l: "true"}}]}));
            let value = json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules, "aggregationRule": rule});
            ClusterRole::decode_value(value).unwrap()
        };
        let mut all = vec![
            role("b", "view", &["list", "get"], None),
            role("a", "view", &["get"], None),
            role("view", "edit", &["old"], Some("view")),
        ];
        let changes = decide(&all);
        let verbs: Vec<_> = changes[0].1.iter().map(|r| r.verbs[0].as_str()).collect();
        assert_eq!((changes.len(), verbs), (1, vec!["get", "list"]));
        let rules = changes[0].1.clone();
        all[2].rules = Some(rules);
        assert!(decide(&all).is_empty());
    }
}
