//! What one metric of an autoscaler asks for.

use api::autoscaling::{MetricSpec, MetricTarget};
use machinery::quantity::Quantity;

use super::metrics::Metrics;
use super::replicas::{self, Observed, Proposal, Target};
use super::status::Of;
use crate::scale::Scale;

/// Why an autoscaler can't do its work, as its condition and its event tell it.
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn milli(quantity: Option<&api::Quantity>) -> Option<i64> {
    quantity.and_then(|q| Quantity::parse(&q.0).ok()).map(|q| q.milli_value())
}

/// What one metric asks for, of what its measurement is, and its name.
pub(super) async fn propose(
    metrics: &Metrics<'_>,
    observed: &Observed<'_>,
    scale: &Scale,
    spec: &MetricSpec,
) -> Result<(Proposal, Of, String), Failure> {
    let failed = |reason, message: String| Failure { reason, message };
    if let Some(source) = &spec.resource {
        let proposal = by_resource(metrics, observed, &source.name, None, &source.target).await;
        let proposal = proposal.map_err(|why| failed("FailedGetResourceMetric", why))?;
        return Ok((proposal, Of::Each, resource_name(&source.name, "resource", &source.target)));
    }
    if let Some(source) = &spec.container_resource {
        let proposal = by_resource(metrics, observed, &source.name, Some(&source.container), &source.target).await;
        let proposal = proposal.map_err(|why| failed("FailedGetContainerResourceMetric", why))?;
        return Ok((proposal, Of::Each, resource_name(&source.name, "container resource", &source.target)));
    }
    if let Some(source) = &spec.pods {
        let name = &source.metric.name;
        let target = Target::Average { value: milli(source.target.average_value.as_ref()).unwrap_or(0), resource: None };
        let samples = metrics.pods(&source.metric).await.map_err(|why| format!("unable to get metric {name}: {why}"));
        let proposal = samples.and_then(|s| replicas::by_pods(observed, &s, target));
        let proposal =
            proposal.map_err(|why| failed("FailedGetPodsMetric", format!("failed to get pods metric value: {why}")))?;
        return Ok((proposal, Of::Each, format!("pods metric {name}")));
    }
    if let Some(source) = &spec.object {
        let (object, name) = (&source.described_object, &source.metric.name);
        let usage = metrics.object(object, &source.metric).await.map_err(|why| {
            let on = format!("{} {}/{}", object.kind, metrics.namespace, object.name);
            format!("unable to get metric {name}: {why} on {on}")
        });
        let proposal = usage.and_then(|usage| by_number(observed, scale, usage, &source.target));
        let proposal =
            proposal.map_err(|why| failed("FailedGetObjectMetric", format!("failed to get object metric value: {why}")))?;
        return Ok((proposal, of(&source.target), format!("{} metric {name}", object.kind)));
    }
    if let Some(source) = &spec.external {
        let name = &source.metric.name;
        let usage = metrics.external(&source.metric).await;
        let usage = usage.map_err(|why| format!("unable to get external metric {}/{name}: {why}", metrics.namespace));
        let proposal = usage.and_then(|usage| by_number(observed, scale, usage, &source.target));
        let proposal =
            proposal.map_err(|why| failed("FailedGetExternalMetric", format!("failed to get external metric {name}: {why}")))?;
        return Ok((proposal, of(&source.target), format!("external metric {name}")));
    }
    Err(failed("InvalidMetricSourceType", format!("unknown metric source type {:?}", spec.type_)))
}

async fn by_resource(
    metrics: &Metrics<'_>,
    observed: &Observed<'_>,
    resource: &str,
    container: Option<&str>,
    target: &MetricTarget,
) -> Result<Proposal, String> {
    let (target, what) = match (milli(target.average_value.as_ref()), target.average_utilization) {
        (Some(value), _) => (Target::Average { value, resource: Some(resource) }, "usage"),
        (None, Some(percent)) => (Target::Utilization { percent, resource, container }, "utilization"),
        (None, None) => {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) \
                        target was set"
                .into());
        }
    };
    let samples = metrics.resource(resource, container).await;
    let samples = samples.map_err(|why| format!("unable to get metrics for resource {resource}: {why}"));
    let proposal = samples.and_then(|s| replicas::by_pods(observed, &s, target));
    proposal.map_err(|why| format!("failed to get {resource} {what}: {why}"))
}

fn resource_name(resource: &str, kind: &str, target: &MetricTarget) -> String {
    match target.average_value {
        Some(_) => format!("{resource} resource"),
        None => format!("{resource} {kind} utilization (percentage of request)"),
    }
}

fn of(target: &MetricTarget) -> Of {
    if target.value.is_some() { Of::Whole } else { Of::Each }
}

/// One number for all, with a target for the whole or for each pod.
fn by_number(observed: &Observed<'_>, scale: &Scale, usage: i64, target: &MetricTarget) -> Result<Proposal, String> {
    match (milli(target.value.as_ref()), milli(target.average_value.as_ref())) {
        (Some(value), _) => replicas::by_value(observed, usage, value),
        (None, Some(value)) => Ok(replicas::by_average(observed, scale.current, usage, value)),
        (None, None) => Err("neither a value target nor an average value target was set".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::autoscaler::replicas::{Starting, Tolerance};
    use api::jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn targets_of_numbers() {
        let observed = Observed {
            current: 2,
            pods: &[],
            tolerance: Tolerance { down: 0.1, up: 0.1 },
            starting: Starting { cpu_initialization: Duration::ZERO, initial_readiness: Duration::ZERO },
            now: Timestamp::UNIX_EPOCH,
        };
        let scale = Scale {
            uid: String::new(),
            replicas: 2,
            current: 2,
            selector: String::new(),
            path: String::new(),
            object: json!({}),
        };
        let target = |value: serde_json::Value| serde_json::from_value::<MetricTarget>(value).unwrap();
        let each = target(json!({"type": "AverageValue", "averageValue": "2"}));
        assert_eq!(by_number(&observed, &scale, 10_000, &each).unwrap().replicas, 5);
        let whole = target(json!({"type": "Value", "value": "10"}));
        assert_eq!(by_number(&observed, &scale, 10_000, &whole).unwrap().replicas, 2);
        assert!(by_number(&observed, &scale, 1, &target(json!({"type": "Value"}))).is_err());
        assert_eq!((of(&each), of(&whole)), (Of::Each, Of::Whole));
    }
}
