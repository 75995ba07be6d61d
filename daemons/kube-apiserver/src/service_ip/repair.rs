//! The numbers of Services and the keys that hold them, made to agree again: at start, and every few minutes, as upstream's
//! repair loops do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::store::{ListOptions, StoreError};
use jiff::{SignedDuration, Timestamp};
use machinery::meta;
use machinery::status::Status;
use serde_json::Value;

use super::claims::{MANAGED_BY, PORTS, is_owned_by};
use super::taken::{Number, numbers};
use crate::registry::store::EntryExt;
use crate::server::Server;

const INTERVAL: Duration = Duration::from_secs(180);
/// A key is made before its Service is written: a younger one may still get its Service.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Keys of ports are read so many at a time.
const PAGE: usize = 1000;

/// A key that holds a number.
#[derive(Clone, Debug)]
struct Key {
    number: Number,
    /// The namespace and name of the Service.
    owner: Value,
    made: Timestamp,
    revision: u64,
}

/// What is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Numbers without a key, by the index of the Service that has them.
    hold: Vec<(usize, Number)>,
    /// Keys without a Service, by their index.
    release: Vec<usize>,
    /// Numbers that two Services have, by the index of the one without the key.
    conflicts: Vec<(usize, Number)>,
}

fn plan(services: &[Value], keys: &[Key], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let by_number: BTreeMap<&Number, &Key> = keys.iter().map(|key| (&key.number, key)).collect();
    let mut used: BTreeSet<(Number, String, String)> = BTreeSet::new();
    for (index, service) in services.iter().enumerate() {
        for number in numbers(service) {
            match by_number.get(&number) {
                None => plan.hold.push((index, number.clone())),
                Some(key) if !is_owned_by(&key.owner, service) => plan.conflicts.push((index, number.clone())),
                Some(_) => {}
            }
            used.insert((number, meta::namespace(service).to_owned(), meta::name(service).to_owned()));
        }
    }
    for (index, key) in keys.iter().enumerate() {
        let text = |field: &str| key.owner[field].as_str().unwrap_or_default().to_owned();
        let is_used = used.contains(&(key.number.clone(), text("namespace"), text("name")));
        if !is_used && now.duration_since(key.made) > GRACE {
            plan.release.push(index);
        }
    }
    plan
}

/// Repairs for as long as the server runs.
pub async fn run(server: Arc<Server>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = server.shutdown.requested() => return,
            _ = interval.tick() => {}
        }
        if let Err(status) = repair(&server).await {
            tracing::warn!(error = %status, "repairing the numbers of Services");
        }
    }
}

async fn repair(server: &Server) -> Result<(), Status> {
    let registry = &server.registry;
    let now = (server.now)();
    // Keys first: a Service written later has a newer key, which is not on this list.
    let keys = keys(server, now).await?;
    let services = registry.services_in_use().await?;
    let plan = plan(&services, &keys, now);
    for (index, number) in plan.conflicts {
        let (namespace, name) = (meta::namespace(&services[index]), meta::name(&services[index]));
        tracing::warn!(?number, namespace, name, "this number of a Service is another's");
    }
    for (index, number) in plan.hold {
        if registry.hold_numbers([number.clone()], &services[index], now).await?.is_err() {
            tracing::warn!(?number, "somebody else was faster");
        }
    }
    for index in plan.release {
        release(server, &keys[index]).await?;
    }
    Ok(())
}

async fn keys(server: &Server, now: Timestamp) -> Result<Vec<Key>, Status> {
    let registry = &server.registry;
    let served =
        registry.stored("networking.k8s.io", "ipaddresses").ok_or_else(|| Status::internal("addresses are not served"))?;
    let snapshot = served.store.consistent().await?;
    let time = |text: &str| text.parse().unwrap_or(now);
    let prefix = served.store.prefix("");
    let of_addresses = snapshot.scan(&prefix, None).filter_map(|entry| {
        let object = entry.value()?;
        let managed = meta::label(&object, MANAGED_BY.0) == Some(MANAGED_BY.1);
        let number = meta::name(&object).parse().ok().filter(|_| managed).map(Number::Address)?;
        let made = time(meta::text(&object, &["metadata", "creationTimestamp"]));
        Some(Key { number, owner: object["spec"]["parentRef"].clone(), made, revision: entry.revision() })
    });
    let mut keys: Vec<Key> = of_addresses.collect();
    let mut options = ListOptions { limit: PAGE, ..ListOptions::default() };
    loop {
        let page = registry.feed.storage().list(PORTS, options.clone()).await;
        let page = page.map_err(|error| Status::unavailable(error.to_string()))?;
        let last = page.items.last().map(|stored| stored.key.to_string());
        let full = page.items.len() >= PAGE;
        keys.extend(page.items.iter().filter_map(|stored| {
            let (protocol, port) = stored.key.strip_prefix(PORTS)?.split_once('/')?;
            let value: Value = serde_json::from_slice(&stored.value).ok()?;
            let made = time(value["made"].as_str().unwrap_or_default());
            let number = Number::Port(port.parse().ok()?, protocol.to_owned());
            Some(Key { number, owner: value, made, revision: stored.revision })
        }));
        match last.filter(|_| full) {
            Some(key) => options.start_after = Some(key),
            None => return Ok(keys),
        }
    }
}

/// Removes the key if it is still the one that was looked at.
async fn release(server: &Server, key: &Key) -> Result<(), Status> {
    let registry = &server.registry;
    let result = match &key.number {
        Number::Address(address) => match registry.stored("networking.k8s.io", "ipaddresses") {
            Some(served) => served.store.delete("", &address.to_string(), key.revision).await,
            None => return Ok(()),
        },
        Number::Port(port, protocol) => {
            registry.feed.storage().delete(&super::claims::port_key(*port, protocol), key.revision).await
        }
    };
    match result {
        Ok(_) | Err(StoreError::NotFound | StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(Status::unavailable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, address: &str, port: u16) -> Value {
        json!({"metadata": {"namespace": "ns", "name": name},
            "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"nodePort": port, "protocol": "TCP"}]}})
    }

    fn key(number: Number, owner: &str, made: i64) -> Key {
        let made = Timestamp::from_second(made).unwrap();
        Key { number, owner: json!({"namespace": "ns", "name": owner}), made, revision: 1 }
    }

    #[test]
    fn what_does_not_agree() {
        let now = Timestamp::from_second(1000).unwrap();
        let address = |last: u8| Number::Address(format!("10.0.0.{last}").parse().unwrap());
        let port = |number: u16| Number::Port(number, "TCP".to_owned());
        let services = [service("a", "10.0.0.1", 30001), service("b", "10.0.0.2", 30002)];
        let keys = [
            key(address(1), "a", 0),
            key(port(30001), "b", 0),
            key(address(3), "gone", 0),
            key(address(4), "coming", 990),
            key(port(30002), "b", 0),
        ];
        let expected = Plan { hold: vec![(1, address(2))], release: vec![1, 2], conflicts: vec![(0, port(30001))] };
        assert_eq!(plan(&services, &keys, now), expected);
    }
}
