//! A Deployment's conditions, with upstream's reasons and rules of when their times move.

use api::apps::DeploymentCondition;
use api::jiff::Timestamp;

use crate::clock::time;

pub(super) const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why a condition is as it is.
pub(super) mod reason {
    pub(crate) const REPLICA_SET_UPDATED: &str = "ReplicaSetUpdated";
    pub(crate) const REPLICA_SET_CREATE_ERROR: &str = "ReplicaSetCreateError";
    pub(crate) const NEW_REPLICA_SET_CREATED: &str = "NewReplicaSetCreated";
    pub(crate) const FOUND_NEW_REPLICA_SET: &str = "FoundNewReplicaSet";
    pub(crate) const NEW_REPLICA_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
    pub(crate) const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    pub(crate) const DEPLOYMENT_PAUSED: &str = "DeploymentPaused";
    pub(crate) const DEPLOYMENT_RESUMED: &str = "DeploymentResumed";
    pub(crate) const MINIMUM_REPLICAS_AVAILABLE: &str = "MinimumReplicasAvailable";
    pub(crate) const MINIMUM_REPLICAS_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
}

pub(super) fn new(kind: &str, status: &str, reason: &str, message: impl Into<String>, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

pub(super) fn get<'a>(conditions: &'a [DeploymentCondition], kind: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|c| c.type_ == kind)
}

pub(super) fn has_reason(conditions: &[DeploymentCondition], kind: &str, reason: &str) -> bool {
    get(conditions, kind).is_some_and(|c| c.reason.as_deref() == Some(reason))
}

/// Adds or replaces; one with the same status and reason stays as it was, its times too.
pub(super) fn set(conditions: &mut Vec<DeploymentCondition>, mut condition: DeploymentCondition) {
    if let Some(old) = get(conditions, &condition.type_).filter(|old| old.status == condition.status) {
        if old.reason == condition.reason {
            return;
        }
        condition.last_transition_time = old.last_transition_time.clone();
    }
    remove(conditions, &condition.type_);
    conditions.push(condition);
}

pub(super) fn remove(conditions: &mut Vec<DeploymentCondition>, kind: &str) {
    conditions.retain(|c| c.type_ != kind);
}
