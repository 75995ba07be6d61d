//! What changed at the runtime: its events where it has them, and a relist as the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::runtime::client::{Listed, RuntimeError};

/// How often all is listed: where there are no events, and where they are only checked.
const RELIST: Duration = Duration::from_secs(1);
const RELIST_WITH_EVENTS: Duration = Duration::from_secs(60);
/// A list older than this means that the runtime does not answer.
pub const HEALTHY: Duration = Duration::from_secs(180);

/// When the last list came.
pub type LastList = tokio::sync::watch::Sender<Option<tokio::time::Instant>>;

pub async fn run(agent: Arc<Agent>, last: Arc<LastList>) {
    let mut before: Option<BTreeMap<String, (String, i32)>> = None;
    let mut supported = true;
    let mut events = None;
    loop {
        if supported && events.is_none() {
            match agent.runtime.events().await {
                Ok(stream) => events = Some(stream),
                Err(error) => supported = !error.is_unsupported(),
            }
        }
        match agent.runtime.list_all().await {
            Ok(all) => {
                last.send_replace(Some(tokio::time::Instant::now()));
                let now = states(&all);
                if let Some(before) = &before {
                    changed(before, &now).iter().for_each(|uid| agent.wake(uid));
                }
                before = Some(now);
                crate::orphans::look(&agent, &all).await;
            }
            Err(error) => tracing::warn!(%error, "listing containers"),
        }
        let pause = tokio::time::sleep(if events.is_some() { RELIST_WITH_EVENTS } else { RELIST });
        match &mut events {
            None => pause.await,
            Some(stream) => tokio::select! {
                () = pause => {}
                event = stream.message() => match event {
                    Ok(Some(event)) => {
                        if let Some(uid) = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid) {
                            agent.wake(&uid);
                        }
                    }
                    // The runtime went away: what happened in between shows in the list.
                    Ok(None) => events = None,
                    Err(status) => {
                        supported = !RuntimeError::new("get_container_events", &status).is_unsupported();
                        events = None;
                        tokio::time::sleep(RELIST).await;
                    }
                },
            },
        }
    }
}

/// Pod and state by container or sandbox.
fn states(all: &[Listed]) -> BTreeMap<String, (String, i32)> {
    all.iter().map(|l| (l.id.clone(), (l.pod_uid.clone(), l.state))).collect()
}

/// The pods of which something came, went or changed.
fn changed(before: &BTreeMap<String, (String, i32)>, now: &BTreeMap<String, (String, i32)>) -> BTreeSet<String> {
    let differs = |a: &BTreeMap<String, (String, i32)>, b: &BTreeMap<String, (String, i32)>| -> Vec<String> {
        a.iter().filter(|(id, entry)| b.get(*id) != Some(entry)).map(|(_, (uid, _))| uid.clone()).collect()
    };
    differs(before, now).into_iter().chain(differs(now, before)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_changed() {
        let map = |entries: &[(&str, &str, i32)]| {
            entries.iter().map(|(id, uid, s)| ((*id).to_owned(), ((*uid).to_owned(), *s))).collect()
        };
        let before = map(&[("a", "p", 1), ("b", "q", 1), ("c", "r", 1)]);
        let now = map(&[("a", "p", 1), ("b", "q", 2), ("d", "s", 0)]);
        let uids: Vec<String> = changed(&before, &now).into_iter().collect();
        assert_eq!(uids, ["q", "r", "s"]);
    }
}
