//! Numbers as keys of the store: whoever creates the key has the number, whichever server it asks.
//!
//! An address is held by an IPAddress object that refers to its Service (KEP-1880); a port of the nodes by a key below
//! [`PORTS`]. What a crash leaves behind is found by [`super::repair`].

use std::net::IpAddr;

use ::store::StoreError;
use bytes::Bytes;
use jiff::Timestamp;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::taken::Number;
use crate::registry::Registry;
use crate::registry::store::EntryExt;

/// Keys of ports: `UDP/30001`.
pub const PORTS: &str = "/registry/ranges/servicenodeports/";
/// What marks the IPAddress objects that this server made.
pub const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
const GROUP: &str = "networking.k8s.io";

/// Somebody else has it.
pub struct Lost(pub Number);

/// What came of taking a number.
#[derive(Clone, Copy, PartialEq)]
enum Claim {
    Taken,
    /// The Service has it already, by another write: that one gives it back, or keeps it.
    Own,
    Lost,
}

/// What a write of a Service holds, and what it gives up when it succeeds.
#[derive(Debug, Default)]
pub struct Held {
    /// New keys: given back when the write fails.
    pub new: Vec<Number>,
    /// Keys that the Service has no more use for.
    pub given_up: Vec<Number>,
}

/// The object that holds an address.
pub fn ip_address(address: IpAddr, service: &Value) -> Value {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": address.to_string(), "labels": {MANAGED_BY.0: MANAGED_BY.1, "ipaddress.kubernetes.io/ip-family": family}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": meta::namespace(service), "name": meta::name(service)}}})
}

/// What the key of a port says.
fn owner(service: &Value, now: Timestamp) -> Value {
    json!({"namespace": meta::namespace(service), "name": meta::name(service), "made": machinery::time::format(now)})
}

/// Whether an IPAddress's reference, or a port's value, is to that Service.
pub(super) fn is_owned_by(reference: &Value, service: &Value) -> bool {
    reference["namespace"] == meta::namespace(service) && reference["name"] == meta::name(service)
}

pub(super) fn port_key(port: u16, protocol: &str) -> String {
    format!("{PORTS}{protocol}/{port}")
}

impl Registry {
    /// Creates the keys of all numbers, or of none. Those that were made are the answer.
    ///
    /// # Errors
    /// `Ok(Err(Lost))`: one of them is somebody else's. `Err`: the store does not answer.
    pub(crate) async fn hold_numbers(
        &self,
        wanted: impl IntoIterator<Item = Number>,
        service: &Value,
        now: Timestamp,
    ) -> Result<Result<Vec<Number>, Lost>, Status> {
        let mut held = Vec::new();
        for number in wanted {
            match self.hold(&number, service, now).await {
                Ok(Claim::Taken) => held.push(number),
                Ok(Claim::Own) => {}
                Ok(Claim::Lost) => {
                    self.release_numbers(&held).await;
                    return Ok(Err(Lost(number)));
                }
                Err(status) => {
                    self.release_numbers(&held).await;
                    return Err(status);
                }
            }
        }
        Ok(Ok(held))
    }

    async fn hold(&self, number: &Number, service: &Value, now: Timestamp) -> Result<Claim, Status> {
        let own = |is_owned: bool| if is_owned { Claim::Own } else { Claim::Lost };
        match number {
            Number::Address(address) => {
                let served = self.stored(GROUP, "ipaddresses").ok_or_else(|| Status::internal("addresses are not served"))?;
                let mut object = ip_address(*address, service);
                crate::registry::metadata::fill(&mut object, self.new_uid(), now, self.random());
                let name = address.to_string();
                match served.store.create("", &name, &object).await {
                    Ok(_) => Ok(Claim::Taken),
                    Err(status) if status.code() == 409 => {
                        let there = served.store.consistent().await?.get(&served.store.key("", &name)).and_then(EntryExt::value);
                        Ok(own(there.is_some_and(|there| is_owned_by(&there["spec"]["parentRef"], service))))
                    }
                    Err(status) => Err(status),
                }
            }
            Number::Port(port, protocol) => {
                let (key, storage) = (port_key(*port, protocol), self.feed.storage());
                let unavailable = |error: StoreError| Status::unavailable(error.to_string());
                match storage.create(&key, Bytes::from(owner(service, now).to_string()), None).await {
                    Ok(_) => Ok(Claim::Taken),
                    Err(StoreError::Exists) => {
                        let there = storage.get(&key).await.map_err(unavailable)?;
                        let there = there.and_then(|stored| serde_json::from_slice::<Value>(&stored.value).ok());
                        Ok(own(there.is_some_and(|there| is_owned_by(&there, service))))
                    }
                    Err(error) => Err(unavailable(error)),
                }
            }
        }
    }

    /// Gives numbers back. What cannot be reached now is found by the next repair.
    pub(crate) async fn release_numbers(&self, numbers: &[Number]) {
        for number in numbers {
            let result = match number {
                Number::Address(address) => self.release_address(*address).await,
                Number::Port(port, protocol) => self.release_port(*port, protocol).await,
            };
            if let Err(error) = result {
                tracing::warn!(?number, %error, "giving back a Service's number; the next repair will");
            }
        }
    }

    async fn release_address(&self, address: IpAddr) -> Result<(), StoreError> {
        let Some(served) = self.stored(GROUP, "ipaddresses") else { return Ok(()) };
        let name = address.to_string();
        let Some(entry) = served.store.get_now("", &name) else { return Ok(()) };
        match served.store.delete("", &name, entry.revision()).await {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn release_port(&self, port: u16, protocol: &str) -> Result<(), StoreError> {
        let key = port_key(port, protocol);
        let storage = self.feed.storage();
        let Some(stored) = storage.get(&key).await? else { return Ok(()) };
        match storage.delete(&key, stored.revision).await {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
