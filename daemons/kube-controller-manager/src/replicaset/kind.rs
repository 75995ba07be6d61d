//! The two kinds that keep a number of pods: ReplicaSet, and its elder ReplicationController.

use api::Kind;
use api::apps::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use api::core::{ReplicationController, ReplicationControllerCondition, ReplicationControllerSpec, ReplicationControllerStatus};
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

/// The rest of the two kinds is alike field for field; only ReplicaSets count pods that are about to go.
macro_rules! replica_owner {
    ($kind:ident, $status:ident, $condition:ident, $controller:literal, $component:literal, $counted:ident $(, $terminating:ident)?) => {
        impl ReplicaOwner for $kind {
            const CONTROLLER: &'static str = $controller;
            const COMPONENT: &'static str = $component;

            fn selector(&self) -> Option<LabelSelector> {
                self.spec.as_ref()?.selects()
            }

            fn wanted(&self) -> Wanted<'_> {
                let spec = self.spec.as_ref();
                Wanted {
                    replicas: spec.and_then(|s| s.replicas).unwrap_or(1),
                    min_ready_seconds: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
                    template: spec.and_then(|s| s.template.as_ref()),
                    generation: self.metadata.generation.unwrap_or(0),
                    deleting: self.metadata.deletion_timestamp.is_some(),
                    terminating_counted: TerminatingCounted::$counted,
                }
            }

            fn status(&self) -> Status {
                let Some(s) = &self.status else { return Status::default() };
                Status {
                    replicas: s.replicas,
                    fully_labeled: s.fully_labeled_replicas.unwrap_or(0),
                    ready: s.ready_replicas.unwrap_or(0),
                    available: s.available_replicas.unwrap_or(0),
                    observed_generation: s.observed_generation.unwrap_or(0),
                    conditions: s.conditions.iter().flatten().cloned().map(Condition::from).collect(),
                    terminating: None::<i32>$(.or(s.$terminating))?,
                }
            }

            fn set_status(&mut self, status: Status) {
                self.status = Some($status {
                    replicas: status.replicas,
                    fully_labeled_replicas: Some(status.fully_labeled),
                    ready_replicas: Some(status.ready),
                    available_replicas: Some(status.available),
                    observed_generation: Some(status.observed_generation),
                    conditions: Some(status.conditions.into_iter().map($condition::from).collect()),
                    $($terminating: status.terminating,)?
                });
            }
        }

        impl From<$condition> for Condition {
            fn from(c: $condition) -> Self {
                let $condition { type_, status, reason, message, last_transition_time } = c;
                Self { type_, status, reason, message, last_transition_time }
            }
        }

        impl From<Condition> for $condition {
            fn from(c: Condition) -> Self {
                let Condition { type_, status, reason, message, last_transition_time } = c;
                Self { type_, status, reason, message, last_transition_time }
            }
        }
    };
}

replica_owner!(
    ReplicaSet,
    ReplicaSetStatus,
    ReplicaSetCondition,
    "replicaset-controller",
    "replicaset-controller",
    Yes,
    terminating_replicas
);
replica_owner!(
    ReplicationController,
    ReplicationControllerStatus,
    ReplicationControllerCondition,
    "replicationcontroller-controller",
    "replication-controller",
    No
);

/// A spec that selects pods; `None` when its selector is no selector.
trait Selects {
    fn selects(&self) -> Option<LabelSelector>;
}

impl Selects for ReplicaSetSpec {
    fn selects(&self) -> Option<LabelSelector> {
        crate::selector::compile(&self.selector).ok()
    }
}

impl Selects for ReplicationControllerSpec {
    fn selects(&self) -> Option<LabelSelector> {
        // An empty selector would select every pod of the namespace; validation refuses it.
        let selector = self.selector.as_ref().filter(|s| !s.is_empty())?;
        Some(LabelSelector::from_labels(selector.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
    }
}
