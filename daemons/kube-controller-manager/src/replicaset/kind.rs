//! The two kinds that keep a number of pods: ReplicaSet, and its elder ReplicationController.

use api::Kind;
use api::apps::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use api::core::{ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus};
use machinery::selector::LabelSelector;

use super::decide::{Condition, Status, TerminatingCounted, Wanted};

/// What differs between them.
pub(super) trait ReplicaOwner: Kind {
    /// As `--controllers` and metrics name it.
    const CONTROLLER: &'static str;
    /// As events name their source.
    const COMPONENT: &'static str;

    /// Which pods it asks for; `None` when the selector is no selector.
    fn selector(&self) -> Option<LabelSelector>;
    fn wanted(&self) -> Wanted<'_>;
    fn status(&self) -> Status;
    fn set_status(&mut self, status: Status);
}

impl ReplicaOwner for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const COMPONENT: &'static str = "replicaset-controller";

    fn selector(&self) -> Option<LabelSelector> {
        crate::selector::compile(&self.spec.as_ref()?.selector).ok()
    }

    fn wanted(&self) -> Wanted<'_> {
        let spec = self.spec.as_ref();
        Wanted {
            replicas: spec.and_then(|s| s.replicas).unwrap_or(1),
            min_ready_seconds: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
            template: spec.and_then(|s| s.template.as_ref()),
            generation: self.metadata.generation.unwrap_or(0),
            deleting: self.metadata.deletion_timestamp.is_some(),
            terminating_counted: TerminatingCounted::Yes,
        }
    }

    fn status(&self) -> Status {
        let Some(s) = &self.status else { return Status::default() };
        Status {
            replicas: s.replicas,
            fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
            ready: s.ready_replicas.unwrap_or(0),
            available: s.available_replicas.unwrap_or(0),
            terminating: s.terminating_replicas,
            observed_generation: s.observed_generation.unwrap_or(0),
            conditions: s.conditions.iter().flatten().cloned().map(Condition::from).collect(),
        }
    }

    fn set_status(&mut self, status: Status) {
        self.status = Some(ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: Some(status.fully_labeled),
            ready_replicas: Some(status.ready),
            available_replicas: Some(status.available),
            terminating_replicas: status.terminating,
            observed_generation: Some(status.observed_generation),
            conditions: Some(status.conditions.into_iter().map(ReplicaSetCondition::from).collect()),
        });
    }
}

impl ReplicaOwner for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller-controller";
    const COMPONENT: &'static str = "replication-controller";

    fn selector(&self) -> Option<LabelSelector> {
        let selector = self.spec.as_ref()?.selector.as_ref()?;
        // An empty selector would select every pod of the namespace; validation refuses it.
        (!selector.is_empty()).then(|| LabelSelector::from_labels(selector.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
    }

    fn wanted(&self) -> Wanted<'_> {
        let spec = self.spec.as_ref();
        Wanted {
            replicas: spec.and_then(|s| s.replicas).unwrap_or(1),
            min_ready_seconds: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
            template: spec.and_then(|s| s.template.as_ref()),
            generation: self.metadata.generation.unwrap_or(0),
            deleting: self.metadata.deletion_timestamp.is_some(),
            terminating_counted: TerminatingCounted::No,
        }
    }

    fn status(&self) -> Status {
        let Some(s) = &self.status else { return Status::default() };
        Status {
            replicas: s.replicas,
            fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
            ready: s.ready_replicas.unwrap_or(0),
            available: s.available_replicas.unwrap_or(0),
            terminating: None,
            observed_generation: s.observed_generation.unwrap_or(0),
            conditions: s.conditions.iter().flatten().cloned().map(Condition::from).collect(),
        }
    }

    fn set_status(&mut self, status: Status) {
        self.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: Some(status.fully_labeled),
            ready_replicas: Some(status.ready),
            available_replicas: Some(status.available),
            observed_generation: Some(status.observed_generation),
            conditions: Some(status.conditions.into_iter().map(ReplicationControllerCondition::from).collect()),
        });
    }
}

macro_rules! conditions {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Condition {
            fn from(c: $kind) -> Self {
                Self {
                    type_: c.type_,
                    status: c.status,
                    reason: c.reason,
                    message: c.message,
                    last_transition_time: c.last_transition_time,
                }
            }
        }

        impl From<Condition> for $kind {
            fn from(c: Condition) -> Self {
                Self {
                    type_: c.type_,
                    status: c.status,
                    reason: c.reason,
                    message: c.message,
                    last_transition_time: c.last_transition_time,
                }
            }
        }
    )*};
}

conditions!(ReplicaSetCondition, ReplicationControllerCondition);
