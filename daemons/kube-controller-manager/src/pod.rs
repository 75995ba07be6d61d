//! Facts about pods that several controllers ask for, and pods made from a template.

use std::cmp::Ordering;

use api::Kind;
use api::core::{Pod, PodCondition, PodTemplateSpec};
use api::jiff::Timestamp;
use api::metav1::{ObjectMeta, OwnerReference};

use crate::clock::plus_seconds;

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

pub(crate) fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// It has run to its end.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted: what counts towards `replicas`.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleting(pod)
}

/// Being deleted, and not finished yet.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && is_deleting(pod)
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Whether a pod has been ready for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    No,
    /// Ready, and available from then on unless something happens.
    From(Timestamp),
    Yes,
}

pub(crate) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    let Some(ready) = condition(pod, "Ready").filter(|c| c.status == "True") else { return Availability::No };
    if min_ready_seconds == 0 {
        return Availability::Yes;
    }
    let Some(since) = &ready.last_transition_time else { return Availability::No };
    let from = plus_seconds(since.0, i64::from(min_ready_seconds));
    if from <= now { Availability::Yes } else { Availability::From(from) }
}

/// A pod that `owner` manages, as the template describes it. Its name is the server's choice.
pub(crate) fn from_template<K: Kind>(template: &PodTemplateSpec, owner: &K, reference: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            generate_name: Some(name_prefix(owner.name())),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Says in the pod's status that it is about to be deleted through no fault of its own, and in which phase it ends.
pub(crate) async fn mark_disrupted(
    client: &client::Client,
    pod: &Pod,
    (reason, message): (&str, &str),
    phase: Option<&str>,
    now: Timestamp,
) -> Result<(), crate::error::Error> {
    use crate::error::During;
    let mut status = serde_json::json!({"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": crate::clock::time(now),
    }]});
    if let Some(phase) = phase {
        status["phase"] = phase.into();
    }
    let patch = client::Patch::Strategic(serde_json::json!({"metadata": {"uid": pod.uid()}, "status": status}));
    match client.patch::<Pod>(pod.namespace(), pod.name(), &patch, &client::PatchParams::status()).await {
        // Gone, or another pod has its name: nothing is left to be said.
        Err(error) if !error.is_not_found() && !error.is_conflict() => {
            Err(error).during(|| format!("marking {}", client::ObjectKey::of(pod)))
        }
        _ => Ok(()),
    }
}

/// `owner-`, unless that could begin no pod's name.
fn name_prefix(owner: &str) -> String {
    let prefix = format!("{owner}-");
    let valid = machinery::names::dns1123_subdomain(&machinery::names::mask_trailing_dash(&prefix)).is_empty();
    if valid { prefix } else { owner.to_owned() }
}

/// Which of two pods to delete first (`Less` goes first): unassigned, pending, not ready, cheap to delete, on a node
/// with many of its kind, ready for a short time (in steps that double), restarting often, young.
///
/// `rank` is how many active pods of the same owner and its kin run on the pod's node.
pub(crate) fn deletion_order(a: &Pod, rank_a: usize, b: &Pod, rank_b: usize, now: Timestamp) -> Ordering {
    let assigned = |p: &Pod| !node_name(p).is_empty();
    let by_phase = |p: &Pod| match phase(p) {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let ready_since =
        |p: &Pod| condition(p, "Ready").filter(|c| c.status == "True").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| by_phase(a).cmp(&by_phase(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| if is_ready(a) { younger_first(ready_since(a), ready_since(b), now) } else { Ordering::Equal })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(created(a), created(b), now))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// Ages are compared by the power of two of their seconds, so that among pods of like age the choice falls evenly.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let rank = |t: Option<Timestamp>| t.map(|t| now.duration_since(t).as_secs().max(0).checked_ilog2());
    match (rank(a), rank(b)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => a.cmp(&b),
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost"));
    annotation.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// How often its containers were restarted, all together.
pub(crate) fn restarts(pod: &Pod) -> usize {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let sidecars = status.and_then(|s| s.init_container_statuses.as_ref()).into_iter().flatten();
    containers.chain(sidecars).map(|c| usize::try_from(c.restart_count).unwrap_or(0)).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use api::core::{PodSpec, PodStatus};
    use api::metav1::Time;

    /// A running, ready pod, to be mutated per case.
    pub(crate) fn running(name: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some(format!("uid-{name}")),
                creation_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: Some("n1".into()), ..PodSpec::default() }),
            status: Some(PodStatus {
                phase: Some("Running".into()),
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: "True".into(),
                    last_transition_time: Some(Time(Timestamp::UNIX_EPOCH)),
                    ..PodCondition::default()
                }]),
                ..PodStatus::default()
            }),
        }
    }

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(crate) fn not_ready(mut pod: Pod) -> Pod {
        pod.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".into();
        pod
    }

    #[test]
    fn available_after_min_ready_seconds() {
        let pod = running("a");
        assert_eq!(availability(&pod, 0, at(0)), Availability::Yes);
        assert_eq!(availability(&pod, 10, at(9)), Availability::From(at(10)));
        assert_eq!(availability(&pod, 10, at(10)), Availability::Yes);
        assert_eq!(availability(&not_ready(pod), 10, at(10)), Availability::No);
    }

    #[test]
    fn who_is_deleted_first() {
        let base = running("b");
        let change = |f: &dyn Fn(&mut Pod)| {
            let mut pod = base.clone();
            f(&mut pod);
            pod
        };
        let first = [
            ("unassigned", change(&|p| p.spec.as_mut().unwrap().node_name = None), 0),
            ("pending", change(&|p| p.status.as_mut().unwrap().phase = Some("Pending".into())), 0),
            ("not ready", not_ready(base.clone()), 0),
            (
                "cheap",
                change(&|p| {
                    p.metadata.annotations = Some([("controller.kubernetes.io/pod-deletion-cost".into(), "-1".into())].into())
                }),
                0,
            ),
            ("crowded node", base.clone(), 2),
            ("younger", change(&|p| p.metadata.creation_timestamp = Some(Time(at(1000)))), 0),
        ];
        for (why, pod, rank) in first {
            assert_eq!(deletion_order(&pod, rank, &base, 0, at(1001)), Ordering::Less, "{why}");
            assert_eq!(deletion_order(&base, 0, &pod, rank, at(1001)), Ordering::Greater, "{why}");
        }
    }
}
