//! How many replicas a measurement asks for. Pure; behaviour follows upstream's `replica_calculator.go`.
//!
//! Amounts are in thousandths, as the APIs of metrics are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::Kind;
use api::core::{Container, Pod};
use api::jiff::Timestamp;
use machinery::quantity::Quantity;

use crate::clock::{plus, plus_seconds};
use crate::pod;

/// What was measured of one pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) value: i64,
    pub(super) at: Timestamp,
    pub(super) window_seconds: i64,
}

/// By pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// By which ratios nothing is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What is asked of a measurement of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Percent of what the containers (or the one that is named) request of the resource.
    Utilization { percent: i32, resource: &'a str, container: Option<&'a str> },
    /// An average over the pods; of a resource, if it is one.
    Average { value: i64, resource: Option<&'a str> },
}

impl Target<'_> {
    fn is_cpu(&self) -> bool {
        matches!(self, Self::Utilization { resource: "cpu", .. } | Self::Average { resource: Some("cpu"), .. })
    }
}

/// What a measurement asks for, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// Percent, of a target that is in percent.
    pub(super) utilization: Option<i32>,
    /// The average over the pods, or the whole of what has no pods.
    pub(super) usage: i64,
}

/// The state of a target's pods.
pub(super) struct Observed<'a> {
    /// `spec.replicas` of the scale.
    pub(super) current: i32,
    pub(super) pods: &'a [Pod],
    pub(super) tolerance: Tolerance,
    pub(super) starting: Starting,
    pub(super) now: Timestamp,
}

/// For how long after its start a pod is taken to be starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Starting {
    /// It may burn more CPU than it will need.
    pub(super) cpu_initialization: Duration,
    /// It was never ready until then.
    pub(super) initial_readiness: Duration,
}

#[derive(Debug, Default, PartialEq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(observed: &Observed<'_>, samples: &Samples, is_cpu: bool) -> Groups {
    let mut groups = Groups::default();
    for pod in observed.pods {
        let name = pod.name().to_owned();
        match (pod::phase(pod), samples.get(&name)) {
            _ if pod::is_deleting(pod) => _ = groups.ignored.insert(name),
            ("Failed", _) => _ = groups.ignored.insert(name),
            ("Pending", _) => _ = groups.unready.insert(name),
            (_, None) => _ = groups.missing.insert(name),
            (_, Some(sample)) if is_cpu && is_starting(pod, sample, observed) => _ = groups.unready.insert(name),
            _ => groups.ready += 1,
        }
    }
    groups
}

/// Whether a pod's CPU says nothing yet, because it starts.
fn is_starting(pod: &Pod, sample: &Sample, observed: &Observed<'_>) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let Some((ready, started)) = pod::condition(pod, "Ready").zip(started) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
    let unready = ready.status == "False";
    if plus(started, observed.starting.cpu_initialization) > observed.now {
        unready || sample.at < plus_seconds(since, sample.window_seconds)
    } else {
        unready && plus(started, observed.starting.initial_readiness) > since
    }
}

/// The proposal of a measurement of the target's pods.
///
/// # Errors
/// In upstream's words: they stand in conditions.
pub(super) fn by_pods(observed: &Observed<'_>, samples: &Samples, target: Target<'_>) -> Result<Proposal, String> {
    if observed.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = group(observed, samples, target.is_cpu());
    let left_out = |name: &String| groups.ignored.contains(name) || groups.unready.contains(name);
    let mut values: BTreeMap<String, i64> =
        samples.iter().filter(|(name, _)| !left_out(name)).map(|(name, s)| (name.clone(), s.value)).collect();
    if values.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let requests = match target {
        Target::Utilization { resource, container, .. } => requests(observed.pods, resource, container)?,
        Target::Average { .. } => BTreeMap::new(),
    };
    let first = measure(&values, &requests, target)?;
    let proposal = |replicas: i32| Proposal { replicas, utilization: first.utilization, usage: first.usage };
    let with_unready = !groups.unready.is_empty() && first.ratio > 1.0;
    if !with_unready && groups.missing.is_empty() {
        let same = observed.tolerance.covers(first.ratio);
        return Ok(proposal(if same { observed.current } else { ceil(first.ratio * groups.ready as f64) }));
    }
    // What is not known is taken to speak against a change.
    for name in &groups.missing {
        let assumed = match target {
            _ if first.ratio > 1.0 => 0,
            Target::Utilization { percent, .. } => {
                requests.get(name).copied().unwrap_or(0).saturating_mul(i64::from(percent.max(100))) / 100
            }
            Target::Average { value, .. } => value,
        };
        if first.ratio != 1.0 {
            values.insert(name.clone(), assumed);
        }
    }
    if with_unready {
        values.extend(groups.unready.iter().map(|name| (name.clone(), 0)));
    }
    let ratio = measure(&values, &requests, target)?.ratio;
    let replicas = ceil(ratio * values.len() as f64);
    let turned = (first.ratio < 1.0 && ratio > 1.0) || (first.ratio > 1.0 && ratio < 1.0);
    let against = (ratio < 1.0 && replicas > observed.current) || (ratio > 1.0 && replicas < observed.current);
    let keep = observed.tolerance.covers(ratio) || turned || against;
    Ok(proposal(if keep { observed.current } else { replicas }))
}

struct Measure {
    ratio: f64,
    utilization: Option<i32>,
    usage: i64,
}

fn measure(values: &BTreeMap<String, i64>, requests: &BTreeMap<String, i64>, target: Target<'_>) -> Result<Measure, String> {
    let average = |total: i64, count: usize| total / i64::try_from(count).unwrap_or(1).max(1);
    match target {
        Target::Average { value, .. } => {
            let usage = average(values.values().sum(), values.len());
            Ok(Measure { ratio: usage as f64 / value as f64, utilization: None, usage })
        }
        Target::Utilization { percent, .. } => {
            let known: Vec<(i64, i64)> = values.iter().filter_map(|(name, v)| Some((*v, *requests.get(name)?))).collect();
            let (used, asked) = known.iter().fold((0, 0), |(u, a), (used, asked)| (u + used, a + asked));
            if asked == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = i32::try_from(used * 100 / asked).unwrap_or(i32::MAX);
            let ratio = f64::from(utilization) / f64::from(percent);
            Ok(Measure { ratio, utilization: Some(utilization), usage: average(used, known.len()) })
        }
    }
}

/// What each pod asks of the resource, all containers together or one.
fn requests(pods: &[Pod], resource: &str, container: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    pods.iter().map(|pod| Ok((pod.name().to_owned(), request(pod, resource, container)?))).collect()
}

fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let milli = |q: &api::Quantity| Quantity::parse(&q.0).map_or(0, |q| q.milli_value());
    let Some(spec) = &pod.spec else { return Ok(0) };
    let of_pod = spec.resources.as_ref().and_then(|r| r.requests.as_ref()).filter(|r| !r.is_empty());
    if let Some(whole) = of_pod.filter(|_| container.is_none()) {
        let asked = whole.get(resource).map(milli);
        return asked.ok_or_else(|| format!("missing pod-level request for {resource} in Pod {}", pod.name()));
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars).filter(|c| container.is_none_or(|name| name == c.name));
    let of = |c: &Container| {
        let asked = c.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get(resource));
        asked.map(milli).ok_or_else(|| format!("missing request for {resource} in container {} of Pod {}", c.name, pod.name()))
    };
    let asked: Vec<i64> = all.map(of).collect::<Result<_, _>>()?;
    match container {
        Some(name) if asked.is_empty() => Err(format!("container {name} not found in Pod {}", pod.name())),
        _ => Ok(asked.into_iter().sum()),
    }
}

/// The proposal of one number for all pods together, with a target for the whole.
pub(super) fn by_value(observed: &Observed<'_>, usage: i64, target: i64) -> Result<Proposal, String> {
    let ratio = usage as f64 / target as f64;
    let proposal = |replicas: i32| Proposal { replicas, utilization: None, usage };
    if observed.current == 0 {
        return Ok(proposal(ceil(ratio)));
    }
    if observed.tolerance.covers(ratio) {
        return Ok(proposal(observed.current));
    }
    if observed.pods.is_empty() {
        let why = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {why}"));
    }
    let ready = observed.pods.iter().filter(|p| pod::phase(p) == "Running" && pod::is_ready(p)).count();
    Ok(proposal(ceil(ratio * ready as f64)))
}

/// The same with a target for each pod; `present` is `status.replicas` of the scale.
pub(super) fn by_average(observed: &Observed<'_>, present: i32, usage: i64, target: i64) -> Proposal {
    let ratio = usage as f64 / (target as f64 * f64::from(present));
    let replicas = if observed.tolerance.covers(ratio) { present } else { ceil(usage as f64 / target as f64) };
    // Truncation to the bounds is what is wanted.
    let average = (usage as f64 / f64::from(present.max(1))).ceil() as i64;
    Proposal { replicas, utilization: None, usage: average }
}

/// Up to a whole number, at the bounds when it is none.
fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::time;
    use crate::pod::tests::{at, not_ready, running};

    const TOLERANCE: Tolerance = Tolerance { down: 0.1, up: 0.1 };
    const STARTING: Starting =
        Starting { cpu_initialization: Duration::from_secs(300), initial_readiness: Duration::from_secs(30) };

    fn pods(count: usize) -> Vec<Pod> {
        (0..count)
            .map(|i| {
                let mut pod = running(&format!("p{i}"));
                pod.status.as_mut().unwrap().start_time = Some(time(at(0)));
                let requests = [("cpu".to_owned(), api::Quantity("1".into()))].into();
                pod.spec.as_mut().unwrap().containers = vec![Container {
                    name: "c".into(),
                    resources: Some(api::core::ResourceRequirements { requests: Some(requests), ..Default::default() }),
                    ..Container::default()
                }];
                pod
            })
            .collect()
    }

    fn samples(values: &[i64]) -> Samples {
        let sample = |value: i64| Sample { value, at: at(1000), window_seconds: 30 };
        values.iter().enumerate().map(|(i, v)| (format!("p{i}"), sample(*v))).collect()
    }

    fn observed(pods: &[Pod]) -> Observed<'_> {
        let current = i32::try_from(pods.len()).unwrap();
        Observed { current, pods, tolerance: TOLERANCE, starting: STARTING, now: at(1000) }
    }

    fn cpu(percent: i32) -> Target<'static> {
        Target::Utilization { percent, resource: "cpu", container: None }
    }

    #[test]
    fn by_utilization() {
        for (count, values, percent, want, utilization) in [
            (3, &[300, 500, 700][..], 30, 5, 50),
            (3, &[300, 300, 300], 30, 3, 30),
            (3, &[320, 320, 320], 30, 3, 32),
            (5, &[100, 300, 500, 250, 250], 50, 3, 28),
            // One is not measured: on the way up it counts as idle, on the way down as busy.
            (4, &[900, 900, 900], 50, 6, 90),
            (4, &[100, 100, 100], 50, 3, 10),
            (4, &[600, 600, 600], 50, 4, 60),
        ] {
            let pods = pods(count);
            let got = by_pods(&observed(&pods), &samples(values), cpu(percent)).unwrap();
            assert_eq!((got.replicas, got.utilization), (want, Some(utilization)), "{values:?}");
        }
    }

    #[test]
    fn by_averages() {
        let pods = pods(3);
        let target = Target::Average { value: 15_000, resource: None };
        assert_eq!(by_pods(&observed(&pods), &samples(&[20_000, 10_000, 30_000]), target).unwrap().replicas, 4);
        let whole = by_value(&observed(&pods), 20_000, 15_000).unwrap();
        assert_eq!((whole.replicas, whole.usage), (4, 20_000));
        let each = by_average(&observed(&pods), 3, 8600, 2150);
        assert_eq!((each.replicas, each.usage), (4, 2867));
        assert_eq!(by_average(&observed(&pods), 4, 8600, 2150).replicas, 4);
    }

    #[test]
    fn who_starts_is_not_asked() {
        let mut pods = pods(3);
        pods[2] = not_ready(pods[2].clone());
        pods[2].status.as_mut().unwrap().start_time = Some(time(at(900)));
        let got = by_pods(&observed(&pods), &samples(&[600, 600, 999]), cpu(50)).unwrap();
        assert_eq!((got.replicas, got.utilization), (3, Some(60)), "with the third idle nothing is to be done");
        for condition in pods[2].status.as_mut().unwrap().conditions.iter_mut().flatten() {
            condition.last_transition_time = Some(time(at(950)));
        }
        for (initialization, readiness, want) in [(300, 30, 3), (60, 60, 3), (60, 30, 5)] {
            let seconds = Duration::from_secs;
            let starting = Starting { cpu_initialization: seconds(initialization), initial_readiness: seconds(readiness) };
            let got = by_pods(&Observed { starting, ..observed(&pods) }, &samples(&[600, 600, 999]), cpu(50)).unwrap();
            assert_eq!(got.replicas, want, "{initialization} {readiness}");
        }
        pods[1].status.as_mut().unwrap().phase = Some("Failed".into());
        let got = by_pods(&observed(&pods), &samples(&[600, 600]), cpu(20)).unwrap();
        assert_eq!(got.replicas, 3);
    }

    #[test]
    fn what_is_missing_is_told() {
        let check = |pods: &[Pod], samples: &Samples, target, want: &str| {
            assert_eq!(by_pods(&observed(pods), samples, target), Err(want.to_owned()));
        };
        let all = pods(1);
        check(&[], &samples(&[1]), cpu(50), "no pods returned by selector while calculating replica count");
        check(&all, &Samples::new(), cpu(50), "did not receive metrics for targeted pods (pods might be unready)");
        let memory = Target::Utilization { percent: 50, resource: "memory", container: None };
        check(&all, &samples(&[1]), memory, "missing request for memory in container c of Pod p0");
        let other = Target::Utilization { percent: 50, resource: "cpu", container: Some("x") };
        check(&all, &samples(&[1]), other, "container x not found in Pod p0");
    }
}
