//! Makes and deletes pods on behalf of their owner, and tells of it in the owner's events.

use api::Kind;
use api::core::Pod;
use client::{Client, DeleteParams, Informer, ObjectKey};

use crate::context::Events;
use crate::error::{Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;

/// The pods that one controller writes.
pub(crate) struct PodControl {
    client: Client,
    events: Events,
    fence: Fence<Pod>,
}

impl PodControl {
    pub(crate) fn new(client: Client, events: Events, pods: &Informer<Pod>) -> Self {
        Self { client, events, fence: Fence::new(pods.clone()) }
    }

    pub(crate) fn fence(&self) -> &Fence<Pod> {
        &self.fence
    }

    /// See [`Fence::caught_up`].
    pub(crate) async fn caught_up(&self, owner: &ObjectKey) -> Result<(), Error> {
        self.fence.caught_up(owner).await
    }

    pub(crate) async fn create<O: Kind>(&self, key: &ObjectKey, owner: &O, pod: &Pod) -> Result<(), client::Error> {
        match self.client.create(pod).await {
            Ok(created) => {
                self.fence.wrote(key, &created);
                self.events.note(owner, &Note::normal("SuccessfulCreate", format!("Created pod: {}", created.name())));
                Ok(())
            }
            // Nothing more can be made there, and soon the owner goes too.
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                self.events.note(owner, &Note::warning("FailedCreate", format!("Error creating: {error}")));
                Err(error)
            }
        }
    }

    pub(crate) async fn delete<O: Kind>(&self, key: &ObjectKey, owner: &O, pod: &Pod) -> Result<(), client::Error> {
        let params = DeleteParams::uid(pod.uid());
        match self.client.delete::<Pod>(pod.namespace(), pod.name(), &params).await.gone_is_done() {
            Ok(()) => {
                self.fence.deleted(key, ObjectKey::of(pod), pod.uid());
                self.events.note(owner, &Note::normal("SuccessfulDelete", format!("Deleted pod: {}", pod.name())));
                Ok(())
            }
            Err(error) => {
                self.events.note(owner, &Note::warning("FailedDelete", format!("Error deleting: {error}")));
                Err(error)
            }
        }
    }
}
