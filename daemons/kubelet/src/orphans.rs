//! What no pod owns any more: containers, sandboxes, directories and cgroups of pods that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cri::v1;

use crate::agent::Agent;
use crate::runtime::client::Listed;
use crate::volume;

/// Ends what the runtime has of pods that this kubelet does not know. Nothing is touched before all sources have been read:
/// a pod that is not known yet is no orphan.
pub async fn look(agent: &Arc<Agent>, all: &[Listed]) {
    if !*agent.sources_ready.borrow() {
        return;
    }
    let mut orphans: BTreeMap<&str, Vec<&Listed>> = BTreeMap::new();
    for listed in all.iter().filter(|l| !agent.knows(&l.pod_uid)) {
        orphans.entry(&listed.pod_uid).or_default().push(listed);
    }
    for (uid, listed) in orphans {
        tracing::info!(uid, pod = %format!("{}/{}", listed[0].pod_namespace, listed[0].pod_name), "ending an orphan");
        end(agent, &listed).await;
    }
}

async fn end(agent: &Agent, listed: &[&Listed]) {
    const GRACE: Duration = Duration::from_secs(10);
    let runtime = &agent.runtime;
    for l in listed.iter().filter(|l| !l.sandbox) {
        if l.state == i32::from(v1::ContainerState::ContainerRunning) {
            let _ = runtime.stop_container(&l.id, GRACE).await;
        }
        let _ = runtime.remove_container(&l.id).await;
    }
    for l in listed.iter().filter(|l| l.sandbox) {
        let _ = runtime.stop_sandbox(&l.id).await;
        let _ = runtime.remove_sandbox(&l.id).await;
    }
}

/// Directories, logs and cgroups of pods that are gone and of which nothing runs. Called from time to time.
pub async fn clean_directories(agent: &Arc<Agent>) {
    if !*agent.sources_ready.borrow() {
        return;
    }
    let Ok(all) = agent.runtime.list_all().await else { return };
    let alive: BTreeSet<String> = all.into_iter().map(|l| l.pod_uid).collect();
    let gone = |uid: &str| !uid.is_empty() && !alive.contains(uid) && !agent.knows(uid);
    for uid in names(&agent.config.root_dir.join("pods")).into_iter().filter(|u| gone(u)) {
        let (root, id) = (agent.config.root_dir.clone(), uid.clone());
        let result = tokio::task::spawn_blocking(move || volume::tear_down(&root, &id)).await;
        if let Ok(Err(error)) = result {
            tracing::warn!(uid, %error, "taking an orphan's directory away");
            continue;
        }
        agent.cgroups.remove_pod(&uid).await;
    }
    for name in names(&agent.config.log_dir) {
        if name.rsplit('_').next().is_some_and(|uid| name.matches('_').count() == 2 && gone(uid)) {
            let _ = tokio::fs::remove_dir_all(agent.config.log_dir.join(&name)).await;
        }
    }
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}
