//! The Lease by which a server is known (KEP-1965): `kube-system/apiserver-HASH`, renewed while it runs, and removed by the
//! others an hour after it stopped to be.

use jiff::{SignedDuration, Timestamp};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::lookup::Lookup;
use crate::server::Server;

const GROUP: &str = "coordination.k8s.io";
const NAMESPACE: &str = "kube-system";
const LABEL: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";
const DURATION_SECONDS: i64 = 3600;

/// Who this process is.
pub(super) struct Identity {
    hostname: String,
    name: String,
    holder: String,
}

impl Identity {
    /// Of the server on this host; `unique` tells it from the one that was here before.
    pub(super) fn new(hostname: &str, unique: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, hostname.as_bytes());
        let name = format!("apiserver-{}", base32(&digest.as_ref()[..16]));
        Self { hostname: hostname.to_owned(), holder: format!("{name}_{unique}"), name }
    }

    pub(super) async fn renew(&self, server: &Server) -> Result<(), Status> {
        let now = machinery::time::format_micro((server.now)());
        let spec = json!({"holderIdentity": self.holder, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now});
        let lease = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Lease",
            "metadata": {"namespace": NAMESPACE, "name": self.name,
                "labels": {LABEL: COMPONENT, "kubernetes.io/hostname": self.hostname}}, "spec": spec});
        let change = |old: &Value| {
            let mut new = old.clone();
            new["spec"] = lease["spec"].clone();
            meta::set_path(&mut new, &["metadata", "labels", LABEL], json!(COMPONENT));
            new
        };
        super::reconcile(server, GROUP, "leases", &lease, &change).await
    }
}

/// Removes the Leases of servers that are gone for good.
pub(super) async fn remove_expired(server: &Server) -> Result<(), Status> {
    let now = (server.now)();
    for lease in server.registry.objects(GROUP, "leases", NAMESPACE).iter().filter(|lease| is_expired(lease, now)) {
        let served = super::stored(&server.registry, GROUP, "leases")?;
        let revision = meta::resource_version(lease);
        // Renewed or removed by another meanwhile: both are well.
        let _ = served.store.delete(NAMESPACE, meta::name(lease), revision).await;
    }
    Ok(())
}

fn is_expired(lease: &Value, now: Timestamp) -> bool {
    let seconds = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(DURATION_SECONDS);
    let renewed = lease["spec"]["renewTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    meta::label(lease, LABEL) == Some(COMPONENT)
        && renewed.is_none_or(|renewed| now.duration_since(renewed) > SignedDuration::from_secs(seconds))
}

/// RFC 4648 in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits = |at: usize| (0..5).fold(0, |value, bit| value << 1 | bit_of(bytes, at * 5 + bit));
    (0..(bytes.len() * 8).div_ceil(5)).map(|at| char::from(ALPHABET[bits(at)])).collect()
}

fn bit_of(bytes: &[u8], at: usize) -> usize {
    bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
}

/// The name of this host, as the kernel has it.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        let identity = Identity::new("host", "u");
        assert_eq!(identity.name.len(), "apiserver-".len() + 26);
        assert_eq!(identity.holder, format!("{}_u", identity.name));
    }

    #[test]
    fn an_hour_without_a_word() {
        let lease = |label: &str, renewed: Value| json!({"metadata": {"labels": {LABEL: label}}, "spec": {"leaseDurationSeconds": 3600, "renewTime": renewed}});
        let now = "2026-01-01T02:00:00Z".parse().unwrap();
        for (lease, expired) in [
            (lease(COMPONENT, json!("2026-01-01T01:30:00.000000Z")), false),
            (lease(COMPONENT, json!("2026-01-01T00:30:00.000000Z")), true),
            (lease(COMPONENT, Value::Null), true),
            (lease("other", Value::Null), false),
        ] {
            assert_eq!(is_expired(&lease, now), expired, "{lease}");
        }
    }
}
