//! persistentvolume-binder-controller: gives claims volumes, and tells of both how they are.

mod decide;
mod matching;

use std::sync::Arc;

use api::Kind;
use api::core::{PersistentVolume, PersistentVolumeClaim, Pod};
use client::controller::Outcome;
use client::queue::Queue;
use client::{Client, ObjectKey};

use self::decide::{Observed, Plan};
use super::facts::{BIND_COMPLETED, SELECTED_NODE, annotation};
use crate::context::{BY_CLAIM, Context, Events};
use crate::error::{During, Error};
use crate::fence::Fence;
use crate::{pod, worker};

pub(crate) const NAME: &str = "persistentvolume-binder-controller";
const IDENTITY: &str = "persistent-volume-binder";
/// One: two claims must not be given the same volume.
const WORKERS: usize = 1;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Claim(ObjectKey),
    Volume(String),
}

pub(crate) async fn run(ctx: Arc<Context>) {
    let informers = &ctx.informers;
    informers.volumes.synced().await;
    informers.volume_claims.synced().await;
    informers.storage_classes.synced().await;
    informers.pods.synced().await;
    informers.nodes.synced().await;
    let queue: Queue<Work> = Queue::new();
    let controller = Arc::new(Controller {
        client: ctx.client(IDENTITY),
        events: ctx.events(IDENTITY, "persistentvolume-controller"),
        volumes: Fence::new(informers.volumes.clone()),
        claims: Fence::new(informers.volume_claims.clone()),
        ctx: ctx.clone(),
    });
    controller.subscribe(&queue);
    client::controller::run(NAME, queue, WORKERS, worker::of(controller, Controller::reconcile)).await;
}

struct Controller {
    ctx: Arc<Context>,
    client: Client,
    events: Events,
    volumes: Fence<PersistentVolume>,
    claims: Fence<PersistentVolumeClaim>,
}

/// The one worker's fence: it has one owner.
fn everything() -> ObjectKey {
    ObjectKey::new("", NAME)
}

impl Controller {
    fn subscribe(self: &Arc<Self>, queue: &Queue<Work>) {
        let informers = &self.ctx.informers;
        let (q, this) = (queue.clone(), self.clone());
        informers.volumes.subscribe(move |change| {
            q.add(Work::Volume(change.object().name.clone()));
            let Some(volume) = client::informer::logged(change.object()) else { return };
            match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
                Some(claim) => {
                    let text = |t: &Option<String>| t.clone().unwrap_or_default();
                    q.add(Work::Claim(ObjectKey::new(text(&claim.namespace), text(&claim.name))));
                }
                // Free: whoever waits may have it.
                None => this.unbound_claims().into_iter().for_each(|key| q.add(Work::Claim(key))),
            }
        });
        let q = queue.clone();
        informers.volume_claims.subscribe(move |change| {
            q.add(Work::Claim(change.object().key()));
            let claim = client::informer::logged(change.object());
            if let Some(volume) = claim.and_then(|c| c.spec?.volume_name).filter(|v| !v.is_empty()) {
                q.add(Work::Volume(volume));
            }
        });
        let (q, this) = (queue.clone(), self.clone());
        informers.storage_classes.subscribe(move |_| {
            this.unbound_claims().into_iter().for_each(|key| q.add(Work::Claim(key)));
        });
    }

    fn unbound_claims(&self) -> Vec<ObjectKey> {
        let claims = self.ctx.informers.volume_claims.list();
        let unbound =
            claims.iter().filter(|c| client::informer::logged(c).is_some_and(|c| annotation(&c, BIND_COMPLETED).is_none()));
        unbound.map(|c| c.key()).collect()
    }

    async fn reconcile(self: Arc<Self>, work: Work) -> Result<Outcome, Error> {
        self.volumes.caught_up(&everything()).await?;
        self.claims.caught_up(&everything()).await?;
        let informers = &self.ctx.informers;
        match work {
            Work::Claim(key) => {
                let Some(cached) = informers.volume_claims.get_key(&key) else { return Ok(Outcome::Done) };
                let claim = cached.parse()?;
                let node = annotation(&claim, SELECTED_NODE).and_then(|n| informers.nodes.get("", n));
                let node = node.map(|n| n.parse()).transpose()?;
                let observed = Observed {
                    volumes: &informers.volumes.parsed(),
                    classes: &informers.storage_classes.parsed(),
                    node: node.as_ref(),
                    waiting_pods: &self.waiting_pods(&key),
                };
                let plan = decide::claim(&claim, &observed);
                plan.notes.iter().for_each(|note| self.events.note(&claim, note));
                self.obey(plan, observed.volumes, Some(claim)).await?;
            }
            Work::Volume(name) => {
                let Some(cached) = informers.volumes.get("", &name) else { return Ok(Outcome::Done) };
                let volume = cached.parse()?;
                let claim = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|r| {
                    informers.volume_claims.get(r.namespace.as_deref().unwrap_or_default(), r.name.as_deref().unwrap_or_default())
                });
                let claim = claim.map(|c| c.parse()).transpose()?;
                let plan = decide::volume(&volume, claim.as_ref());
                plan.notes.iter().for_each(|note| self.events.note(&volume, note));
                self.obey(plan, &[volume], None).await?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Pods that name the claim and have no node.
    fn waiting_pods(&self, claim: &ObjectKey) -> Vec<String> {
        let pods = self.ctx.informers.pods.by_index(BY_CLAIM, &claim.to_string());
        let pods = pods.iter().filter_map(client::informer::logged::<Pod>);
        pods.filter(|p| pod::node_name(p).is_empty()).map(|p| p.name().to_owned()).collect()
    }

    async fn obey(&self, plan: Plan, volumes: &[PersistentVolume], claim: Option<PersistentVolumeClaim>) -> Result<(), Error> {
        let mut written = None;
        if let Some(volume) = plan.volume {
            let after = self.client.update(&*volume).await.during(|| format!("binding the volume {}", volume.name()))?;
            self.volumes.wrote(&everything(), &after);
            written = Some(after);
        }
        if let Some((name, status)) = plan.volume_status {
            // The newest version of it.
            let volume = written.or_else(|| volumes.iter().find(|v| v.name() == name).cloned());
            if let Some(volume) = volume {
                let after = PersistentVolume { status: Some(status), ..volume };
                let after = self.client.update_status(&after).await.during(|| format!("the phase of the volume {name}"))?;
                self.volumes.wrote(&everything(), &after);
            }
        }
        let mut claim = claim;
        if let Some(after) = plan.claim {
            let after = self.client.update(&*after).await.during(|| format!("binding the claim {}", ObjectKey::of(&*after)))?;
            self.claims.wrote(&everything(), &after);
            claim = Some(after);
        }
        if let (Some(status), Some(claim)) = (plan.claim_status, claim) {
            let after = PersistentVolumeClaim { status: Some(status), ..claim };
            let key = ObjectKey::of(&after);
            let after = self.client.update_status(&after).await.during(|| format!("the phase of the claim {key}"))?;
            self.claims.wrote(&everything(), &after);
        }
        Ok(())
    }
}
