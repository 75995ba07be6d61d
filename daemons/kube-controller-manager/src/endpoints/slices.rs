//! What the controllers of EndpointSlices share: how slices are told apart, planned and written.

use std::collections::BTreeMap;

use api::Kind;
use api::discovery::{Endpoint, EndpointPort, EndpointSlice};
use api::metav1::ObjectMeta;
use client::{Client, DeleteParams, ObjectKey};

use super::protocol;
use crate::context::Events;
use crate::error::{During, Error, GoneIsDone};
use crate::event::Note;
use crate::fence::Fence;
use crate::owner;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    pub(super) delete: Vec<EndpointSlice>,
    /// A pod was left out because its node is not known: to be looked at again.
    pub(super) unknown_node: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
}

/// The ports of a slice, in canonical order: endpoints with the same ports share slices.
pub(super) type Ports = Vec<(String, String, Option<i32>, Option<String>)>;

pub(super) fn port_key(ports: &[EndpointPort]) -> Ports {
    let mut key: Ports = ports
        .iter()
        .map(|p| {
            let name = p.name.clone().unwrap_or_default();
            (name, protocol(p.protocol.as_deref()).to_owned(), p.port, p.app_protocol.clone())
        })
        .collect();
    key.sort();
    key
}

/// By what an endpoint is the same though its conditions change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    addresses: Vec<String>,
    pod_uid: Option<String>,
}

impl Identity {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let pod_uid = endpoint.target_ref.as_ref().and_then(|t| t.uid.clone());
        Self { addresses: endpoint.addresses.clone(), pod_uid }
    }
}

/// A slice without endpoints, of the object that it goes with.
pub(super) fn new_slice<O: Kind>(
    of: &O,
    family: &str,
    ports: &[EndpointPort],
    labels: BTreeMap<String, String>,
) -> EndpointSlice {
    let prefix = format!("{}-", of.name());
    let valid = machinery::names::dns1123_subdomain(&machinery::names::mask_trailing_dash(&prefix)).is_empty();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(if valid { prefix } else { of.name().to_owned() }),
            namespace: of.meta().namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::controller_ref(of)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(ports.to_vec()),
    }
}

/// Slices about to be deleted take the content of ones about to be created.
pub(super) fn reuse(plan: &mut Plan) {
    for write in &mut plan.writes {
        let Write::Create(new) = write else { continue };
        let Some(at) = plan.delete.iter().rposition(|old| old.address_type == new.address_type) else { continue };
        let old = plan.delete.remove(at);
        let (labels, annotations) = (new.metadata.labels.clone(), new.metadata.annotations.clone());
        let metadata = ObjectMeta { labels, annotations: annotations.or(old.metadata.annotations), ..old.metadata };
        *write = Write::Update(Box::new(EndpointSlice { metadata, ..EndpointSlice::clone(new) }));
    }
}

/// Who writes slices, and where it is told when that fails.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) slices: Fence<EndpointSlice>,
}

impl Writer {
    /// Carries out the plan for the object that the slices go with.
    pub(super) async fn obey<O: Kind>(&self, key: &ObjectKey, of: &O, plan: &Plan) -> Result<(), Error> {
        for write in &plan.writes {
            let (result, reason, verb) = match write {
                Write::Create(slice) => (self.client.create(&**slice).await, "FailedToCreateEndpointSlices", "create"),
                Write::Update(slice) => (self.client.update(&**slice).await, "FailedToUpdateEndpointSlices", "update"),
            };
            match result {
                Ok(written) => self.slices.wrote(key, &written),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
                Err(error) => {
                    if !error.is_conflict() {
                        let (kind, failure) = (O::KIND, format!("failed to {verb} EndpointSlice: {error}"));
                        let message = format!("Error updating Endpoint Slices for {kind} {key}: {failure}");
                        self.events.note(of, &Note::warning(reason, message));
                    }
                    return Err(error).during(|| format!("EndpointSlices of {key}"));
                }
            }
        }
        self.delete(key, &plan.delete).await
    }

    pub(super) async fn delete(&self, key: &ObjectKey, slices: &[EndpointSlice]) -> Result<(), Error> {
        for slice in slices {
            let params = DeleteParams::uid(slice.uid());
            let deleted = self.client.delete::<EndpointSlice>(&key.namespace, slice.name(), &params).await;
            deleted.gone_is_done().during(|| format!("deleting the EndpointSlice {}", slice.name()))?;
            self.slices.deleted(key, ObjectKey::of(slice), slice.uid());
        }
        Ok(())
    }
}
