//! The API servers of a cluster, as they know of each other: keys that expire beside the objects, one for each address. A
//! server that is gone stops to be an endpoint of the Service `kubernetes`; upstream's servers keep the same keys.

use std::net::IpAddr;
use std::time::Duration;

use ::store::{ListOptions, Storage, StoreError};
use bytes::Bytes;
use serde_json::json;

const PREFIX: &str = "/registry/masterleases/";
/// How long a server counts as there without a word.
const TTL: Duration = Duration::from_secs(15);
/// More servers than any cluster has.
const PEERS_MAX: usize = 1000;

fn key(address: IpAddr) -> String {
    format!("{PREFIX}{address}")
}

/// Says that this server is there.
pub(super) async fn renew(storage: &dyn Storage, address: IpAddr) -> Result<(), StoreError> {
    let key = key(address);
    let value = json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": [{"addresses": [{"ip": address.to_string()}]}]});
    let value = Bytes::from(value.to_string());
    let result = match storage.get(&key).await? {
        Some(there) => storage.update(&key, value, there.revision, Some(TTL)).await,
        None => storage.create(&key, value, Some(TTL)).await,
    };
    match result {
        // It expired, or was made, in between: the next round looks again.
        Err(StoreError::NotFound | StoreError::Exists | StoreError::Conflict { .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// The servers that are there, in the order of their addresses.
pub(super) async fn alive(storage: &dyn Storage) -> Result<Vec<IpAddr>, StoreError> {
    let page = storage.list(PREFIX, ListOptions { limit: PEERS_MAX, ..ListOptions::default() }).await?;
    let mut addresses: Vec<IpAddr> = page.items.iter().filter_map(|item| item.key.strip_prefix(PREFIX)?.parse().ok()).collect();
    addresses.sort_unstable();
    Ok(addresses)
}

/// Says that this server goes.
pub(super) async fn leave(storage: &dyn Storage, address: IpAddr) -> Result<(), StoreError> {
    let key = key(address);
    match storage.get(&key).await? {
        Some(there) => storage.delete(&key, there.revision).await.map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ::store::Memory;

    use super::*;

    #[tokio::test]
    async fn servers_come_and_go() {
        let storage = Memory::new();
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        renew(&storage, two).await.unwrap();
        renew(&storage, one).await.unwrap();
        renew(&storage, one).await.unwrap();
        assert_eq!(alive(&storage).await.unwrap(), [one, two]);
        leave(&storage, two).await.unwrap();
        leave(&storage, two).await.unwrap();
        assert_eq!(alive(&storage).await.unwrap(), [one]);
    }
}
