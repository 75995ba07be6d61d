//! An autoscaler's status: its conditions, and what was measured. Pure.

use api::autoscaling::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
    ResourceMetricStatus,
};
use api::jiff::Timestamp;
use machinery::quantity::{Format, Quantity};

use super::replicas::Proposal;
use crate::clock::time;

pub(super) const ABLE_TO_SCALE: &str = "AbleToScale";
pub(super) const SCALING_ACTIVE: &str = "ScalingActive";
pub(super) const SCALING_LIMITED: &str = "ScalingLimited";

/// A status as it takes shape.
pub(super) struct Draft {
    status: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Draft {
    pub(super) fn new(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        Self { status: autoscaler.status.clone().unwrap_or_default(), now }
    }

    pub(super) fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let conditions = self.status.conditions.get_or_insert_default();
        let status = if holds { "True" } else { "False" };
        let index = conditions.iter().position(|c| c.type_ == kind).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition { type_: kind.into(), ..Default::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[index];
        if condition.status != status {
            condition.status = status.into();
            condition.last_transition_time = Some(time(self.now));
        }
        condition.reason = Some(reason.into());
        condition.message = Some(message.into());
    }

    pub(super) fn replicas(&mut self, current: i32, metrics: Vec<MetricStatus>) {
        self.status.current_replicas = Some(current);
        self.status.current_metrics = (!metrics.is_empty()).then_some(metrics);
    }

    pub(super) fn desired(&mut self, replicas: i32) {
        self.status.desired_replicas = replicas;
    }

    pub(super) fn scaled(&mut self) {
        self.status.last_scale_time = Some(time(self.now));
    }

    /// The autoscaler with the status; `None` when it has it.
    pub(super) fn finish(self, autoscaler: &HorizontalPodAutoscaler) -> Option<HorizontalPodAutoscaler> {
        (autoscaler.status.as_ref() != Some(&self.status))
            .then(|| HorizontalPodAutoscaler { status: Some(self.status), ..autoscaler.clone() })
    }
}

/// Which number of a metric the target is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Whole,
    Each,
}

/// What a metric's proposal rests on.
pub(super) fn measured(spec: &MetricSpec, proposal: &Proposal, of: Of) -> MetricStatus {
    let memory = spec.resource.as_ref().is_some_and(|r| r.name == "memory")
        || spec.container_resource.as_ref().is_some_and(|r| r.name == "memory");
    let format = if memory { Format::BinarySi } else { Format::DecimalSi };
    let usage = api::Quantity(Quantity::milli(proposal.usage, format).canonical());
    let current = match of {
        Of::Whole => MetricValueStatus { value: Some(usage), ..MetricValueStatus::default() },
        Of::Each => MetricValueStatus {
            average_value: Some(usage),
            average_utilization: proposal.utilization,
            ..MetricValueStatus::default()
        },
    };
    let mut status = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
    if let Some(source) = &spec.resource {
        status.resource = Some(ResourceMetricStatus { name: source.name.clone(), current: current.clone() });
    }
    if let Some(source) = &spec.container_resource {
        let (container, name) = (source.container.clone(), source.name.clone());
        status.container_resource = Some(ContainerResourceMetricStatus { container, name, current: current.clone() });
    }
    if let Some(source) = &spec.pods {
        status.pods = Some(PodsMetricStatus { metric: source.metric.clone(), current: current.clone() });
    }
    if let Some(source) = &spec.object {
        let (metric, described_object) = (source.metric.clone(), source.described_object.clone());
        status.object = Some(ObjectMetricStatus { metric, described_object, current: current.clone() });
    }
    if let Some(source) = &spec.external {
        status.external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::at;
    use serde_json::json;

    #[test]
    fn a_condition_keeps_its_time_while_it_holds() {
        let autoscaler = HorizontalPodAutoscaler::default();
        let mut draft = Draft::new(&autoscaler, at(1));
        draft.condition(ABLE_TO_SCALE, true, "SucceededGetScale", "fine");
        let first = draft.finish(&autoscaler).unwrap();
        let mut draft = Draft::new(&first, at(2));
        draft.condition(ABLE_TO_SCALE, true, "ReadyForNewScale", "fine");
        let second = draft.finish(&first).unwrap();
        let condition = &second.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
        assert_eq!(
            (condition.reason.as_deref(), condition.last_transition_time.as_ref().unwrap().0),
            (Some("ReadyForNewScale"), at(1))
        );
        let mut draft = Draft::new(&second, at(3));
        draft.condition(ABLE_TO_SCALE, true, "ReadyForNewScale", "fine");
        assert!(draft.finish(&second).is_none());
    }

    #[test]
    fn measurements_in_their_usual_form() {
        let spec: MetricSpec = serde_json::from_value(json!({"type": "Resource",
            "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 50}}}))
        .unwrap();
        let proposal = Proposal { replicas: 3, utilization: Some(40), usage: 1024 * 1024 * 1000 };
        let current = measured(&spec, &proposal, Of::Each).resource.unwrap().current;
        assert_eq!((current.average_value.unwrap().0.as_str(), current.average_utilization), ("1Mi", Some(40)));
    }
}
