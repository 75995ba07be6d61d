//! What a Job's own rules say of its pods: `podFailurePolicy` (KEP-3329) and `successPolicy` (KEP-3998). Pure.

use std::collections::BTreeSet;

use api::Kind;
use api::batch::{PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy};
use api::core::{ContainerStatus, Pod};

use super::indexes;

/// What becomes of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limits of failures.
    Count,
    /// It is replaced and not counted.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// The verdict of the first rule that matches.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    let verdict = rules.iter().enumerate().find_map(|(i, rule)| {
        let why = matched(rule, pod)?;
        Some(match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {i}")),
            _ => Verdict::Count,
        })
    });
    verdict.unwrap_or(Verdict::Count)
}

/// What of the pod the rule matches.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let containers = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        let (name, code) = containers.filter_map(|c| Some((c, exit_code(c)?))).find(|(c, code)| fits(codes, c, *code))?;
        let (namespace, pod) = (pod.namespace(), pod.name());
        return Some(format!("Container {} for pod {namespace}/{pod} failed with exit code {code}", name.name));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let found =
        conditions.find(|c| patterns.iter().any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status))?;
    Some(format!("Pod {}/{} has condition {}", pod.namespace(), pod.name(), found.type_))
}

fn exit_code(container: &ContainerStatus) -> Option<i32> {
    container.state.as_ref()?.terminated.as_ref().map(|t| t.exit_code)
}

fn fits(rule: &PodFailurePolicyOnExitCodesRequirement, container: &ContainerStatus, code: i32) -> bool {
    let named = rule.container_name.as_ref().is_none_or(|n| *n == container.name);
    let listed = rule.values.contains(&code);
    named
        && code != 0
        && match rule.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
}

/// The message of the first rule by which enough indexes have succeeded.
pub(super) fn success(policy: Option<&SuccessPolicy>, completions: u32, succeeded: &BTreeSet<u32>) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let enough = |count: Option<i32>, have: usize| count.is_some_and(|c| usize::try_from(c).is_ok_and(|c| have >= c));
    let met = policy?.rules.iter().position(|rule| match &rule.succeeded_indexes {
        None => enough(rule.succeeded_count, succeeded.len()),
        Some(text) => {
            let asked = indexes::parse(text, completions);
            let have = asked.intersection(succeeded).count();
            !asked.is_empty() && (have == asked.len() || enough(rule.succeeded_count, have))
        }
    })?;
    Some(format!("Matched rules at index {met}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Pod {
        Pod::decode_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": status})).unwrap()
    }

    #[test]
    fn failed_pods_are_judged_by_the_first_rule_that_matches() {
        let exited = |name: &str, code: i32| {
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}})
        };
        let policy = |rules: Value| serde_json::from_value::<PodFailurePolicy>(json!({ "rules": rules })).unwrap();
        let codes = |action: &str, op: &str, container: Value| json!({"action": action, "onExitCodes": {"operator": op, "values": [42], "containerName": container}});
        let disrupted = json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]});
        let all = policy(json!([disrupted, codes("FailJob", "In", json!("main")), codes("FailIndex", "NotIn", Value::Null)]));
        for (status, want) in [
            (json!({}), Verdict::Count),
            (json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}), Verdict::Ignore),
            (json!({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}), Verdict::Count),
            (
                json!({"containerStatuses": [exited("main", 42)]}),
                Verdict::FailJob("Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1".into()),
            ),
            (json!({"containerStatuses": [exited("side", 42)]}), Verdict::Count),
            (json!({"containerStatuses": [exited("side", 1)]}), Verdict::FailIndex),
            (json!({"containerStatuses": [exited("main", 0)]}), Verdict::Count),
            (json!({"initContainerStatuses": [exited("setup", 3)]}), Verdict::FailIndex),
        ] {
            assert_eq!(judge(Some(&all), &pod(status.clone())), want, "{status}");
        }
        assert_eq!(judge(None, &pod(json!({"containerStatuses": [exited("main", 42)]}))), Verdict::Count);
        let fail = policy(json!([{"action": "FailJob", "onPodConditions": [{"type": "Broken", "status": "True"}]}]));
        let broken = pod(json!({"conditions": [{"type": "Broken", "status": "True"}]}));
        let message = "Pod n/p has condition Broken matching FailJob rule at index 0";
        assert_eq!(judge(Some(&fail), &broken), Verdict::FailJob(message.into()));
    }

    #[test]
    fn success_by_indexes_and_by_count() {
        for (rules, succeeded, want) in [
            (json!([{"succeededIndexes": "0,2"}]), &[0, 1][..], None),
            (json!([{"succeededIndexes": "0,2"}]), &[0, 2], Some(0)),
            (json!([{"succeededIndexes": "0-4", "succeededCount": 2}]), &[1, 9], None),
            (json!([{"succeededIndexes": "0-4", "succeededCount": 2}]), &[1, 3], Some(0)),
            (json!([{"succeededIndexes": "7"}, {"succeededCount": 1}]), &[3], Some(1)),
            (json!([{"succeededIndexes": "20"}]), &[3], None),
            (json!([{"succeededCount": 1}]), &[], None),
        ] {
            let policy: SuccessPolicy = serde_json::from_value(json!({ "rules": rules })).unwrap();
            let got = success(Some(&policy), 10, &succeeded.iter().copied().collect());
            assert_eq!(got, want.map(|i| format!("Matched rules at index {i}")), "{rules} {succeeded:?}");
        }
    }
}
