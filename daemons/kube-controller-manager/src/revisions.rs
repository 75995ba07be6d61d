//! Writes the ControllerRevisions that [`crate::history`] decides on.

use api::Kind;
use api::apps::ControllerRevision;
use api::core::{Pod, PodTemplateSpec};
use client::{Client, DeleteParams, Informer, ObjectKey};
use machinery::selector::LabelSelector;

use crate::context::candidates;
use crate::error::{During, Error, GoneIsDone};
use crate::fence::Fence;
use crate::history::{self, Parent, Step};
use crate::{claims, owner};

/// The revisions that one controller writes.
pub(crate) struct Revisions {
    client: Client,
    informer: Informer<ControllerRevision>,
    fence: Fence<ControllerRevision>,
}

pub(crate) struct History {
    /// Of the present template; `None` when another template has taken its name.
    pub(crate) present: Option<String>,
    pub(crate) all: Vec<ControllerRevision>,
}

impl Revisions {
    pub(crate) fn new(client: Client, informer: Informer<ControllerRevision>) -> Self {
        Self { client, fence: Fence::new(informer.clone()), informer }
    }

    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.fence.forget(owner);
    }

    /// Sees to it that the present template has the newest revision.
    pub(crate) async fn sync<O: Kind>(
        &self,
        key: &ObjectKey,
        owner: &O,
        selector: &LabelSelector,
        template: &PodTemplateSpec,
        collisions: Option<i32>,
    ) -> Result<History, Error> {
        self.fence.caught_up(key).await?;
        let all = candidates(&self.informer, &key.namespace, owner.uid());
        let all = claims::claim_all(&self.client, owner, selector, all, &self.fence).await?;
        let parent = Parent {
            name: owner.name(),
            namespace: owner.meta().namespace.clone(),
            reference: owner::controller_ref(owner),
            labels: template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default(),
            annotations: owner.meta().annotations.clone(),
            collisions,
        };
        match history::decide(&parent, template, &all) {
            Step::Keep(i) => Ok(History { present: Some(history::hash_of(&all[i])), all }),
            Step::Renumber(i, number) => {
                let revision = ControllerRevision { revision: number, ..all[i].clone() };
                let written = self.client.update(&revision).await.during(|| format!("renumbering a revision of {key}"))?;
                self.fence.wrote(key, &written);
                Ok(History { present: Some(history::hash_of(&written)), all })
            }
            Step::Create(revision) => self.create(key, owner, &revision, all).await,
        }
    }

    async fn create<O: Kind>(
        &self,
        key: &ObjectKey,
        owner: &O,
        revision: &ControllerRevision,
        mut all: Vec<ControllerRevision>,
    ) -> Result<History, Error> {
        let present = match self.client.create(revision).await {
            Ok(written) => Some(written),
            Err(error) if error.is_already_exists() => {
                let live = self.client.get::<ControllerRevision>(&key.namespace, revision.name()).await;
                let live = live.during(|| format!("reading a revision of {key}"))?;
                // Ours: the cache is behind.
                (owner::is_controlled_by(&live.metadata, owner.uid()) && history::is_same(&live, revision)).then_some(live)
            }
            Err(error) => return Err(error).during(|| format!("creating a revision of {key}")),
        };
        let Some(present) = present else { return Ok(History { present: None, all }) };
        self.fence.wrote(key, &present);
        let hash = history::hash_of(&present);
        all.push(present);
        Ok(History { present: Some(hash), all })
    }

    /// Deletes the oldest revisions beyond `limit` that neither a pod nor the status names.
    pub(crate) async fn clean(
        &self,
        key: &ObjectKey,
        all: &[ControllerRevision],
        pods: &[Pod],
        named: &[&str],
        limit: usize,
    ) -> Result<(), Error> {
        let carried = pods.iter().filter_map(|p| p.metadata.labels.as_ref()?.get(history::HASH_LABEL));
        let in_use: Vec<&str> = carried.map(String::as_str).chain(named.iter().copied()).collect();
        for revision in history::surplus(all, &in_use, limit) {
            let params = DeleteParams::uid(revision.uid());
            let deleted = self.client.delete::<ControllerRevision>(&key.namespace, revision.name(), &params).await;
            deleted.gone_is_done().during(|| format!("deleting the old revision {}", revision.name()))?;
            self.fence.deleted(key, ObjectKey::of(revision), revision.uid());
        }
        Ok(())
    }
}
