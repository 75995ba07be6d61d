//! The task of one pod: brings it to what it is to be, keeps it there, and ends it.
//!
//! ```text
//! running ── deletion, removal, failure, completion ──> ending ── containers gone ──> ended ── object gone ──> task ends
//! ```
//! Each step looks at the whole pod anew: nothing depends on which event came.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use api::Kind as _;
use api::core::{Pod, PodStatus};
use client::DeleteParams;
use client::events::EventType;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};

use super::spec::{self, Role};
use super::{mirror, start};
use crate::admission;
use crate::agent::{Agent, Shown};
use crate::runtime::actions;
use crate::runtime::backoff::Backoff;
use crate::runtime::view::{ContainerView, PodView, State};
use crate::status::containers::{Seen, Waiting};
use crate::status::pod::{Failure, pod_status};
use crate::volume;

/// What a pod's source wants.
#[derive(Clone, Debug)]
pub enum Wish {
    Run(Arc<Pod>),
    /// The source no longer has it.
    End,
}

/// After a failure.
const RETRY: Duration = Duration::from_secs(3);

pub(super) struct Worker {
    pub(super) agent: Arc<Agent>,
    pub(super) pod: Arc<Pod>,
    wish: watch::Receiver<Wish>,
    shown: Arc<RwLock<Shown>>,
    /// Why containers do not run, by name.
    pub(super) waiting: BTreeMap<String, Waiting>,
    pub(super) crash: Backoff,
    /// The status that was told last.
    told: Option<PodStatus>,
    failure: Option<Failure>,
    admitted: bool,
    /// The last words of containers that ended, by id.
    messages: BTreeMap<String, String>,
    /// Where a wait for a container's next start ends.
    pub(super) next: Option<Timestamp>,
}

pub async fn run(agent: Arc<Agent>, pod: Arc<Pod>, wish: watch::Receiver<Wish>, wake: Arc<Notify>, shown: Arc<RwLock<Shown>>) {
    let max = SignedDuration::try_from(agent.config.crash_backoff_max).unwrap_or(SignedDuration::from_secs(300));
    let mut worker = Worker {
        told: pod.status.clone(),
        agent,
        pod,
        wish,
        shown,
        waiting: BTreeMap::new(),
        crash: Backoff::new(SignedDuration::from_secs(10).min(max), max),
        failure: None,
        admitted: false,
        messages: BTreeMap::new(),
        next: None,
    };
    worker.live(&wake).await;
    worker.end(&wake).await;
    worker.wait_for_removal(&wake).await;
    worker.clean_up().await;
}

impl Worker {
    /// Takes over the newest wish; true when the source no longer has the pod.
    fn look(&mut self) -> bool {
        match &*self.wish.borrow_and_update() {
            Wish::Run(pod) => {
                self.pod = pod.clone();
                false
            }
            Wish::End => true,
        }
    }

    fn is_wanted(&mut self) -> bool {
        !self.look() && spec::deletion_timestamp(&self.pod).is_none() && self.failure.is_none() && !self.is_complete()
    }

    fn is_complete(&self) -> bool {
        let phase = self.told.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        matches!(phase, "Succeeded" | "Failed") || !spec::is_static(&self.pod) && spec::is_terminal(&self.pod)
    }

    async fn live(&mut self, wake: &Notify) {
        self.wait_for_namesake(wake).await;
        while self.is_wanted() {
            let mut wish = self.wish.clone();
            let pause = tokio::select! {
                biased;
                () = ends(&mut wish) => continue,
                result = self.sync() => match result {
                    Ok(()) => self.pause(),
                    Err(error) => {
                        tracing::debug!(pod = %spec::full_name(&self.pod), "{error}");
                        RETRY.min(self.pause())
                    }
                },
            };
            if !self.is_wanted() {
                return;
            }
            tokio::select! {
                () = wake.notified() => {}
                _ = self.wish.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A static pod whose file changed starts when the former one is gone: they share names, ports, volumes.
    async fn wait_for_namesake(&mut self, wake: &Notify) {
        while spec::is_static(&self.pod) && self.agent.has_namesake(&self.pod) {
            let ended = self.agent.ended.notified();
            tokio::select! {
                () = ended => {}
                () = wake.notified() => {}
                _ = self.wish.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            if self.look() {
                return;
            }
        }
    }

    /// Until when nothing needs to be looked at.
    fn pause(&self) -> Duration {
        let now = Timestamp::now();
        let until = |t: Timestamp| Duration::try_from(t.duration_since(now)).unwrap_or(Duration::from_millis(100));
        let token = self.agent.api().and_then(|api| api.tokens.next_renewal(self.pod.uid()));
        let deadline = self.deadline();
        // Looked at again after this long even when nothing tells of a change.
        let resync = self.agent.config.sync_frequency;
        [self.next, token, deadline].into_iter().flatten().map(until).fold(resync, Duration::min).max(Duration::from_millis(100))
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = spec::spec(&self.pod).active_deadline_seconds?;
        let start = self.told.as_ref()?.start_time.as_ref()?.0;
        start.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    pub(super) fn look_again_within(&mut self, time: SignedDuration) {
        if let Ok(at) = Timestamp::now().checked_add(time) {
            self.next = Some(self.next.map_or(at, |n| n.min(at)));
        }
    }

    pub(super) fn event(&self, container: Option<&str>, kind: EventType, reason: &str, message: impl Into<String>) {
        self.agent.event(&self.pod, container, kind, reason, message.into());
    }

    // --- running ---

    async fn sync(&mut self) -> Result<(), String> {
        self.next = None;
        let view = self.view().await?;
        if self.deadline().is_some_and(|d| d <= Timestamp::now()) {
            self.fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline", &view);
            return Ok(());
        }
        if !self.admitted {
            // What already runs was taken before this kubelet started.
            let taken = view.is_running().then_some(Ok(()));
            if let Err(failure) = taken.unwrap_or_else(|| self.admit()) {
                self.event(None, EventType::Warning, &failure.reason, failure.message.clone());
                self.failure = Some(failure);
                self.tell(&view, true);
                return Ok(());
            }
            self.admitted = true;
        }
        if spec::is_static(&self.pod) {
            mirror::ensure(&self.agent, &self.pod).await;
        }
        self.probe(&view);
        self.tell(&view, false);
        if self.is_complete() {
            return Ok(());
        }
        let plan = actions::compute(&self.pod, &view, &self.agent.probes);
        if !plan.is_empty() {
            tracing::debug!(pod = %spec::full_name(&self.pod), ?plan, "plan");
        }
        let result = start::apply(self, &plan, &view).await;
        let view = self.view().await?;
        self.probe(&view);
        self.tell(&view, false);
        self.collect_garbage(&view).await;
        result
    }

    fn admit(&self) -> Result<(), Failure> {
        admission::sysctls(&self.pod, &self.agent.config.allowed_unsafe_sysctls)?;
        let allocatable = self.agent.allocatable();
        let node = self.agent.api().and_then(|api| api.node.get("", &self.agent.config.node_name));
        let room = admission::Room {
            cpu_milli: allocatable.get("cpu").copied().unwrap_or(0),
            memory: allocatable.get("memory").copied().unwrap_or(0),
            pods: self.agent.config.max_pods as usize,
            labels: node.map(|n| n.labels.clone()),
        };
        admission::admit(&self.pod, &self.agent.taking_room(self.pod.uid()), &room)
    }

    fn fail(&mut self, reason: &str, message: &str, view: &PodView) {
        self.event(None, EventType::Normal, reason, message);
        self.failure = Some(Failure { reason: reason.to_owned(), message: message.to_owned() });
        self.tell(view, false);
    }

    /// What the runtime has, with the last words of what ended.
    pub(super) async fn view(&mut self) -> Result<PodView, String> {
        let mut view = self.agent.runtime.pod(self.pod.uid()).await.map_err(|e| e.to_string())?;
        let mut messages = BTreeMap::new();
        for c in view.containers.iter_mut().filter(|c| c.state == State::Exited) {
            let message = match self.messages.remove(&c.id) {
                Some(known) => known,
                None => last_words(c),
            };
            if !message.is_empty() {
                c.message.clone_from(&message);
            }
            messages.insert(c.id.clone(), message);
        }
        self.messages = messages;
        self.shown.write().unwrap_or_else(|e| e.into_inner()).view = view.clone();
        Ok(view)
    }

    fn probe(&self, view: &PodView) {
        let running: Vec<&str> = view.running().map(|c| c.id.as_str()).collect();
        self.agent.probes.retain(self.pod.uid(), &running);
        for (role, container) in spec::containers(&self.pod) {
            if role == Role::Ephemeral || role == Role::Init && !spec::is_sidecar(&container) {
                continue;
            }
            if let Some(c) = view.container(&container.name).filter(|c| c.state == State::Running) {
                crate::probe::task::ensure(&self.agent, &self.pod, &container, c, view);
            }
        }
    }

    /// Makes the status and hands it on. `ending`: nothing will be started any more.
    fn tell(&mut self, view: &PodView, ending: bool) {
        let probes = &self.agent.probes;
        let runtime_name = self.agent.runtime_name.load();
        let seen = Seen {
            pod: &self.pod,
            view,
            waiting: &self.waiting,
            before: self.told.as_ref(),
            ready: &|c, id| probes.ready(c, id),
            started: &|c, id| probes.started(c, id),
            runtime_name: &runtime_name,
            ending,
        };
        let mut status = pod_status(&seen, &self.agent.host_ips.load(), self.failure.as_ref(), Timestamp::now());
        if self.failure.is_some() && !self.admitted {
            // The node refused it: there is nothing to be said of its containers.
            status.container_statuses = None;
            status.init_container_statuses = None;
            status.ephemeral_container_statuses = None;
            status.conditions = None;
        }
        {
            let mut shown = self.shown.write().unwrap_or_else(|e| e.into_inner());
            shown.status = status.clone();
            shown.admitted = self.admitted;
            shown.ended = ending && !view.is_running();
        }
        self.told = Some(status.clone());
        // A status that says "failed" while containers still run would let others take the pod's place too early.
        let premature = self.failure.is_some() && view.running().next().is_some();
        if !premature {
            self.agent.statuses.set(&self.pod, status);
        }
    }

    /// Dead containers beyond the last one of each name, and dead sandboxes that nothing is left in, are removed.
    async fn collect_garbage(&self, view: &PodView) {
        for c in superfluous_containers(view) {
            if self.agent.runtime.remove_container(&c.id).await.is_ok() {
                remove_logs(c);
            }
        }
        for s in view.sandboxes.iter().skip(1).filter(|s| !s.ready) {
            if !view.containers.iter().any(|c| c.sandbox_id == s.id) {
                let _ = self.agent.runtime.remove_sandbox(&s.id).await;
            }
        }
    }

    // --- ending ---

    /// The grace that the pod has, from its deletion, or from its specification.
    fn grace(&self) -> i64 {
        let own = spec::spec(&self.pod).termination_grace_period_seconds.unwrap_or(30);
        self.pod.meta().deletion_grace_period_seconds.unwrap_or(own).max(0)
    }

    async fn end(&mut self, wake: &Notify) {
        self.agent.probes.stop_killing(self.pod.uid());
        self.waiting.clear();
        let mut pause = Duration::from_millis(200);
        loop {
            self.look();
            let grace = self.grace();
            let mut wish = self.wish.clone();
            // A shorter grace takes effect at once.
            let result = tokio::select! {
                biased;
                () = shortened(&mut wish, grace) => continue,
                result = self.stop_all(grace) => result,
            };
            match result {
                Ok(view) => {
                    self.tell(&view, true);
                    break;
                }
                Err(error) => {
                    self.event(None, EventType::Warning, "FailedKillPod", format!("error killing pod: {error}"));
                    tokio::select! {
                        () = wake.notified() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
        self.agent.probes.retain(self.pod.uid(), &[]);
        self.release().await;
    }

    async fn stop_all(&mut self, grace: i64) -> Result<PodView, String> {
        let view = self.view().await?;
        self.tell(&view, false);
        start::kill_pod(self, &view, Some(grace)).await?;
        let view = self.view().await?;
        if view.is_running() { Err("containers still run".to_owned()) } else { Ok(view) }
    }

    /// Gives back what a pod without containers does not need: volumes, the cgroup, watches.
    async fn release(&self) {
        let (root, uid) = (self.agent.config.root_dir.clone(), self.pod.uid().to_owned());
        loop {
            let (root, uid) = (root.clone(), uid.clone());
            // A panic there is a fault of ours; the directory then stays for the next start's clean-up.
            let result = tokio::task::spawn_blocking(move || volume::tear_down(&root, &uid)).await;
            match result {
                Ok(Err(error)) => {
                    self.event(None, EventType::Warning, "FailedUnmount", format!("{error}"));
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                Ok(Ok(())) | Err(_) => break,
            }
        }
        self.agent.cgroups.remove_pod(&uid).await;
        if let Some(api) = self.agent.api() {
            let none = std::collections::BTreeSet::new();
            api.config_maps.set(&uid, self.pod.namespace(), &none);
            api.secrets.set(&uid, self.pod.namespace(), &none);
            api.tokens.forget(&uid);
        }
    }

    /// The containers are gone. The object is deleted when that was asked for; the task ends when the source lets go.
    async fn wait_for_removal(&mut self, wake: &Notify) {
        loop {
            if self.look() {
                return;
            }
            if spec::deletion_timestamp(&self.pod).is_some()
                && !spec::is_static(&self.pod)
                && let Some(api) = self.agent.api()
                && self.agent.statuses.is_written(self.pod.uid())
            {
                // What the last status says must be there before the object goes: who watches it learns how it ended.
                let params = DeleteParams::uid(self.pod.uid()).grace(0);
                match api.client.delete::<Pod>(self.pod.namespace(), self.pod.name(), &params).await {
                    Ok(()) => {}
                    Err(error) if error.is_not_found() || error.is_conflict() => {}
                    Err(error) => tracing::warn!(pod = %spec::full_name(&self.pod), "deleting: {}", daemon::chain(&error)),
                }
            }
            tokio::select! {
                () = wake.notified() => {}
                _ = self.wish.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(10)) => {}
            }
        }
    }

    /// Takes away what is left of the pod: containers, sandboxes, logs, the mirror.
    async fn clean_up(&mut self) {
        let runtime = &self.agent.runtime;
        if let Ok(view) = runtime.pod(self.pod.uid()).await {
            for c in &view.containers {
                let _ = runtime.remove_container(&c.id).await;
            }
            for s in &view.sandboxes {
                let _ = runtime.remove_sandbox(&s.id).await;
            }
        }
        start::remove_log_links(&self.pod);
        let _ = tokio::fs::remove_dir_all(self.agent.log_dir(&self.pod)).await;
        if spec::is_static(&self.pod) {
            mirror::remove(&self.agent, &self.pod).await;
        }
        self.agent.statuses.forget(self.pod.uid());
    }
}

/// Returns when the pod is no longer to run.
async fn ends(wish: &mut watch::Receiver<Wish>) {
    let ended = wish.wait_for(|w| match w {
        Wish::End => true,
        Wish::Run(pod) => spec::deletion_timestamp(pod).is_some(),
    });
    if ended.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the pod has less grace than before.
async fn shortened(wish: &mut watch::Receiver<Wish>, grace: i64) {
    let shorter = wish.wait_for(|w| match w {
        Wish::End => false,
        Wish::Run(pod) => pod.meta().deletion_grace_period_seconds.is_some_and(|g| g < grace),
    });
    if shorter.await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn superfluous_containers(view: &PodView) -> Vec<&ContainerView> {
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    let dead = view.containers.iter().filter(|c| matches!(c.state, State::Exited | State::Created));
    dead.filter(|c| {
        let n = kept.entry(c.name.as_str()).or_default();
        *n += 1;
        // A created one may be about to be started.
        *n > 1 && c.state == State::Exited
    })
    .collect()
}

/// Removes a container's log with its rotated parts.
fn remove_logs(c: &ContainerView) {
    let path = std::path::Path::new(&c.log_path);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file == name || file.starts_with(&format!("{name}.")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What a container wrote for its end, or the end of its log when it failed and its policy says so.
fn last_words(c: &ContainerView) -> String {
    use crate::runtime::container::annotation;
    const MAX: usize = 4096;
    const LOG_BYTES: u64 = 2048;
    const LOG_LINES: usize = 80;
    let file = c.termination_log.as_ref().and_then(|path| read_start(path, MAX));
    if let Some(text) = file.filter(|t| !t.is_empty()) {
        return text;
    }
    let fallback = c.annotations.get(annotation::TERMINATION_MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
    if fallback && c.exit_code != 0 { log_tail(&c.log_path, LOG_BYTES, LOG_LINES).unwrap_or_default() } else { String::new() }
}

fn read_start(path: &str, max: usize) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    std::fs::File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in the runtime's format, without what stands before their text.
fn log_tail(path: &str, bytes_max: u64, lines_max: usize) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    // Each line has a time and more before its text.
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max * 4))).ok()?;
    let mut bytes = Vec::new();
    file.take(bytes_max * 4).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let mut tail: String = lines.iter().skip(lines.len().saturating_sub(lines_max)).map(|l| format!("{l}\n")).collect();
    let max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    if tail.len() > max {
        let mut cut = tail.len() - max;
        while !tail.is_char_boundary(cut) {
            cut += 1;
        }
        tail.drain(..cut);
    }
    Some(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dead_container_of_each_name_stays() {
        let c = |id: &str, name: &str, state| ContainerView { id: id.into(), name: name.into(), state, ..Default::default() };
        let view = PodView {
            containers: vec![
                c("a3", "a", State::Running),
                c("a2", "a", State::Exited),
                c("a1", "a", State::Exited),
                c("b1", "b", State::Exited),
            ],
            ..PodView::default()
        };
        let ids: Vec<&str> = superfluous_containers(&view).iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["a1"]);
    }

    #[test]
    fn the_end_of_a_log() {
        let path = std::env::temp_dir().join(format!("kubelet-tail-{}", std::process::id()));
        std::fs::write(&path, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr F two three\n").unwrap();
        assert_eq!(log_tail(path.to_str().unwrap(), 2048, 1).as_deref(), Some("two three\n"));
        std::fs::remove_file(path).unwrap();
    }
}
