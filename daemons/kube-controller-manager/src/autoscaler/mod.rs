//! horizontal-pod-autoscaler-controller: as many replicas as the metrics ask for.
//!
//! Metrics can't be watched: each autoscaler is looked at every `--horizontal-pod-autoscaler-sync-period`, as upstream does.

mod behavior;
mod metrics;
mod propose;
mod replicas;
mod sample;
mod status;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::Kind;
use api::autoscaling::{HorizontalPodAutoscaler, MetricStatus};
use api::core::Pod;
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, Informer, InformerConfig, ObjectKey};
use machinery::quantity::Quantity;
use machinery::selector::LabelSelector;

use self::behavior::{Bounds, History, Rules};
use self::metrics::Metrics;
use self::propose::{Failure, propose};
use self::replicas::{Observed, Starting, Tolerance};
use self::status::{ABLE_TO_SCALE, Draft, SCALING_ACTIVE, SCALING_LIMITED, measured};
use crate::context::{Context, Events};
use crate::error::{During, Error};
use crate::event::Note;
use crate::fence::Fence;
use crate::scale::{self, Scale};
use crate::worker;

pub(crate) const NAME: &str = "horizontal-pod-autoscaler-controller";
const IDENTITY: &str = "horizontal-pod-autoscaler";

pub(crate) async fn run(ctx: Arc<Context>) {
    let autoscalers = Informer::<HorizontalPodAutoscaler>::start(ctx.root(), InformerConfig::default());
    autoscalers.synced().await;
    ctx.informers.pods.synced().await;
    let queue: Queue<ObjectKey> = Queue::new();
    let q = queue.clone();
    // A change of the status alone is this controller's own.
    autoscalers.subscribe(move |change| match change {
        client::Change::Updated { old, new } if old.generation == new.generation && old.uid == new.uid => {}
        _ => q.add(change.object().key()),
    });
    let controller = Arc::new(Controller {
        client: ctx.client(IDENTITY),
        events: ctx.events(IDENTITY, "horizontal-pod-autoscaler"),
        written: Fence::new(autoscalers.clone()),
        histories: Mutex::default(),
        autoscalers,
        ctx,
    });
    let workers = controller.ctx.settings.workers.autoscalers;
    client::controller::run(NAME, queue, workers, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    written: Fence<HorizontalPodAutoscaler>,
    /// Of each autoscaler by uid; forgotten with it.
    histories: Mutex<HashMap<ObjectKey, (String, History)>>,
}

/// What all metrics together ask for.
struct Outlook {
    replicas: i32,
    metric: String,
    statuses: Vec<MetricStatus>,
}

impl Controller {
    fn histories(&self) -> MutexGuard<'_, HashMap<ObjectKey, (String, History)>> {
        self.histories.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Lets the history of the autoscaler be read and written.
    fn with_history<T>(&self, autoscaler: &HorizontalPodAutoscaler, f: impl FnOnce(&mut History) -> T) -> T {
        let mut histories = self.histories();
        let (uid, history) = histories.entry(ObjectKey::of(autoscaler)).or_default();
        if uid != autoscaler.uid() {
            (*uid, *history) = (autoscaler.uid().to_owned(), History::default());
        }
        f(history)
    }

    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        self.written.caught_up(&key).await?;
        let Some(cached) = self.autoscalers.get_key(&key) else {
            self.histories().remove(&key);
            self.written.forget(&key);
            return Ok(Outcome::Done);
        };
        let autoscaler = cached.parse()?;
        let mut draft = Draft::new(&autoscaler, self.ctx.clock.now());
        self.autoscale(&key, &autoscaler, &mut draft).await?;
        if let Some(after) = draft.finish(&autoscaler) {
            let written = self.client.update_status(&after).await.during(|| format!("writing the status of {key}"))?;
            self.written.wrote(&key, &written);
        }
        Ok(Outcome::Again(self.ctx.settings.autoscaling.sync_period))
    }

    async fn autoscale(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler, draft: &mut Draft) -> Result<(), Error> {
        let Some(scale) = self.target(key, autoscaler, draft).await else { return Ok(()) };
        let spec = &autoscaler.spec;
        let (current, now) = (scale.replicas, self.ctx.clock.now());
        let bounds = Bounds { min: spec.min_replicas.unwrap_or(1), max: spec.max_replicas };
        self.with_history(autoscaler, |history| history.begin(current, now));
        let mut statuses = Vec::new();
        let (desired, why) = if current == 0 && bounds.min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            draft.condition(SCALING_ACTIVE, false, "ScalingDisabled", message);
            (0, String::new())
        } else if current > bounds.max {
            (bounds.max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < bounds.min {
            (bounds.min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            match self.by_metrics(key, autoscaler, &scale, draft).await {
                Err(failed) => {
                    draft.replicas(current, failed);
                    return Ok(());
                }
                Ok(outlook) => {
                    statuses = outlook.statuses;
                    let proposed = outlook.replicas;
                    let rules = Rules {
                        behavior: spec.behavior.as_ref(),
                        bounds,
                        downscale_stabilization: self.ctx.settings.autoscaling.downscale_stabilization,
                    };
                    let decision =
                        self.with_history(autoscaler, |history| behavior::decide(history, &rules, current, proposed, now));
                    draft.condition(ABLE_TO_SCALE, true, decision.able.0, decision.able.1);
                    draft.condition(SCALING_LIMITED, decision.limited, decision.limit.0, decision.limit.1);
                    let why = if proposed > current {
                        format!("{} above target", outlook.metric)
                    } else {
                        "All metrics below target".to_owned()
                    };
                    (decision.replicas, why)
                }
            }
        };
        draft.replicas(current, statuses);
        if desired == current {
            draft.desired(current);
            return Ok(());
        }
        if let Err(error) = scale::write(&self.client, &scale, desired).await {
            let message = format!("New size: {desired}; reason: {why}; error: {error}");
            self.events.note(autoscaler, &Note::warning("FailedRescale", message));
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            draft.condition(ABLE_TO_SCALE, false, "FailedUpdateScale", message);
            return Ok(());
        }
        let message = format!("the HPA controller was able to update the target scale to {desired}");
        draft.condition(ABLE_TO_SCALE, true, "SucceededRescale", message);
        self.events.note(autoscaler, &Note::normal("SuccessfulRescale", format!("New size: {desired}; reason: {why}")));
        self.with_history(autoscaler, |history| history.scaled(current, desired, now));
        draft.desired(desired);
        draft.scaled();
        Ok(())
    }

    /// The scale of what is scaled.
    async fn target(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler, draft: &mut Draft) -> Option<Scale> {
        let reference = &autoscaler.spec.scale_target_ref;
        let version = reference.api_version.clone().unwrap_or_default();
        let resources = self.ctx.resources().borrow().clone();
        let read = scale::read(&self.client, &resources, &version, &reference.kind, &key.namespace, &reference.name).await;
        let why = match read {
            Ok(Some(scale)) => {
                let message = "the HPA controller was able to get the target's current scale";
                draft.condition(ABLE_TO_SCALE, true, "SucceededGetScale", message);
                return Some(scale);
            }
            Ok(None) => format!("{} {:?} not found", reference.kind, reference.name),
            Err(error) => error.to_string(),
        };
        self.events.note(autoscaler, &Note::warning("FailedGetScale", why.clone()));
        let message = format!("the HPA controller was unable to get the target's current scale: {why}");
        draft.condition(ABLE_TO_SCALE, false, "FailedGetScale", message);
        None
    }

    /// What the metrics ask for: the most of them. `Err` has what could be measured, when that does not suffice.
    async fn by_metrics(
        &self,
        key: &ObjectKey,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &Scale,
        draft: &mut Draft,
    ) -> Result<Outlook, Vec<MetricStatus>> {
        let fail = |draft: &mut Draft, reason: &'static str, message: &str| {
            self.events.note(autoscaler, &Note::warning(reason, message));
            draft.condition(SCALING_ACTIVE, false, "InvalidSelector", message);
        };
        if scale.selector.is_empty() {
            self.events.note(autoscaler, &Note::warning("SelectorRequired", "selector is required"));
            let message = "the HPA target's scale is missing a selector";
            draft.condition(SCALING_ACTIVE, false, "InvalidSelector", message);
            return Err(Vec::new());
        }
        let selector = match LabelSelector::parse(&scale.selector) {
            Ok(selector) => selector,
            Err(error) => {
                let message = format!("couldn't convert selector into a corresponding internal selector object: {error}");
                fail(draft, "InvalidSelector", &message);
                return Err(Vec::new());
            }
        };
        let pods = self.ctx.informers.pods.list_namespace(&key.namespace);
        let pods: Vec<Pod> = pods.iter().filter(|p| selector.matches(&p.labels)).filter_map(client::informer::logged).collect();
        let resources = self.ctx.resources().borrow().clone();
        let metrics = Metrics { client: &self.client, resources: &resources, namespace: &key.namespace, pods: &scale.selector };
        let autoscaling = &self.ctx.settings.autoscaling;
        let observed = Observed {
            current: scale.replicas,
            pods: &pods,
            tolerance: tolerance(autoscaler, autoscaling.tolerance),
            starting: Starting {
                cpu_initialization: autoscaling.cpu_initialization_period,
                initial_readiness: autoscaling.initial_readiness_delay,
            },
            now: self.ctx.clock.now(),
        };
        let specs = autoscaler.spec.metrics.as_deref().unwrap_or_default();
        let mut outlook = Outlook { replicas: 0, metric: String::new(), statuses: Vec::new() };
        let mut failures: Vec<Failure> = Vec::new();
        for spec in specs {
            match propose(&metrics, &observed, scale, spec).await {
                Ok((proposal, of, name)) => {
                    outlook.statuses.push(measured(spec, &proposal, of));
                    if outlook.metric.is_empty() || proposal.replicas > outlook.replicas {
                        (outlook.replicas, outlook.metric) = (proposal.replicas, name);
                    }
                }
                Err(failure) => {
                    self.events.note(autoscaler, &Note::warning(failure.reason, failure.message.clone()));
                    failures.push(failure);
                }
            }
        }
        let lacking = failures.len() >= specs.len() || (!failures.is_empty() && outlook.replicas < scale.replicas);
        match failures.first().filter(|_| lacking) {
            Some(first) => {
                let message = format!("the HPA was unable to compute the replica count: {}", first.message);
                draft.condition(SCALING_ACTIVE, false, first.reason, message);
                let (count, of) = (failures.len(), specs.len());
                let message = format!("invalid metrics ({count} invalid out of {of}), first error is: {}", first.message);
                self.events.note(autoscaler, &Note::warning("FailedComputeMetricsReplicas", message));
                Err(outlook.statuses)
            }
            None => {
                let message = format!("the HPA was able to successfully calculate a replica count from {}", outlook.metric);
                draft.condition(SCALING_ACTIVE, true, "ValidMetricFound", message);
                Ok(outlook)
            }
        }
    }
}

/// What the autoscaler says of it; `default` where it says nothing.
fn tolerance(autoscaler: &HorizontalPodAutoscaler, default: f64) -> Tolerance {
    let behavior = autoscaler.spec.behavior.as_ref();
    let given = |rules: Option<&api::autoscaling::HPAScalingRules>| {
        let quantity = rules.and_then(|r| r.tolerance.as_ref()).and_then(|q| Quantity::parse(&q.0).ok());
        quantity.map_or(default, |q| q.as_f64())
    };
    Tolerance { down: given(behavior.and_then(|b| b.scale_down.as_ref())), up: given(behavior.and_then(|b| b.scale_up.as_ref())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerances_of_an_autoscaler() {
        let autoscaler = |behavior: serde_json::Value| {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
            let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "behavior": behavior});
            HorizontalPodAutoscaler::decode_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
        };
        assert_eq!(tolerance(&autoscaler(json!(null)), 0.1), Tolerance { down: 0.1, up: 0.1 });
        let given = autoscaler(json!({"scaleUp": {"tolerance": "50m"}}));
        assert_eq!(tolerance(&given, 0.2), Tolerance { down: 0.2, up: 0.05 });
    }
}
