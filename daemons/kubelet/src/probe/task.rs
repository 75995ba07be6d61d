//! The task of one probe of one container.

use std::sync::Arc;
use std::time::Duration;

use api::Kind as _;
use api::core::{Container, Pod, Probe};
use client::events::EventType;
use jiff::Timestamp;

use super::run::{self, Action, Target};
use super::{Kind, Schedule, Streak, Verdict};
use crate::agent::Agent;
use crate::pod::spec;
use crate::runtime::view::{ContainerView, PodView};

/// Starts the probes of a running container.
pub fn ensure(agent: &Arc<Agent>, pod: &Arc<Pod>, container: &Container, c: &ContainerView, view: &PodView) {
    agent.probes.ensure(pod.uid(), container, &c.id, |kind, probe| {
        let pod_ip = if spec::host_network(pod) {
            agent.host_ips.load().first().copied()
        } else {
            view.ips().first().and_then(|ip| ip.parse().ok())
        };
        let task = Task {
            agent: agent.clone(),
            pod: pod.clone(),
            container: container.clone(),
            kind,
            schedule: Schedule::of(probe),
            action: action(probe),
            target: Target { container_id: c.id.clone(), pod_ip },
            started_at: c.started_at,
        };
        tokio::spawn(task.run()).abort_handle()
    });
}

fn action(probe: &Probe) -> Action {
    Action { exec: probe.exec.clone(), http: probe.http_get.clone(), tcp: probe.tcp_socket.clone(), grpc: probe.grpc.clone() }
}

struct Task {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    container: Container,
    kind: Kind,
    schedule: Schedule,
    action: Action,
    target: Target,
    started_at: i64,
}

impl Task {
    async fn run(self) {
        let id = self.target.container_id.clone();
        let started = Timestamp::from_nanosecond(self.started_at.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        let age = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
        tokio::time::sleep(self.schedule.initial_delay.saturating_sub(age)).await;
        let mut streak = Streak::default();
        let mut ticks = tokio::time::interval(self.schedule.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // Until a container has started, only its startup probe counts.
            if self.kind != Kind::Startup && !self.agent.probes.started(&self.container, &id) {
                tokio::time::sleep(Duration::from_millis(100)).await;
                ticks.reset_immediately();
                continue;
            }
            let result = self.look().await;
            let Some(verdict) = streak.add(&self.schedule, result) else { continue };
            if self.agent.probes.set(&id, self.kind, verdict) {
                self.agent.wake(self.pod.uid());
            }
            let done = match (self.kind, verdict) {
                (Kind::Startup, _) => true,
                // The container is killed: a second verdict would be about the same run.
                (Kind::Liveness, Verdict::Failure) => true,
                _ => false,
            };
            if done {
                return;
            }
        }
    }

    /// One look. A failure is looked at again before it counts when no answer came at all, as upstream does.
    async fn look(&self) -> Verdict {
        match run::run(&self.action, &self.container, &self.target, &self.agent.runtime, self.schedule.timeout).await {
            Ok(_) => Verdict::Success,
            Err(output) => {
                let message = format!("{} probe failed: {output}", self.kind.name());
                self.agent.event(&self.pod, Some(&self.container.name), EventType::Warning, "Unhealthy", message);
                Verdict::Failure
            }
        }
    }
}
