//! Cluster addresses: which families a Service has, and which address of each.

use std::net::IpAddr;

use machinery::field::{FieldError, Path};
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use super::ServiceNetwork;
use super::cidr::Cidr;
use super::fields::{cluster_ips, invalid, set_addresses};
use super::taken::Taken;

impl ServiceNetwork {
    pub(super) fn addresses(&self, taken: &mut Taken, service: &mut Value, random: u64) -> Result<(), Status> {
        let mut wanted = cluster_ips(service);
        if is_bare_headless(service, &wanted) {
            // Its endpoints are written by hand, in whichever family.
            set_addresses(service, &["None".to_owned()], &["IPv4".to_owned(), "IPv6".to_owned()]);
            meta::set_path(service, &["spec", "ipFamilyPolicy"], json!("RequireDualStack"));
            return Ok(());
        }
        let families = self.families(service, &wanted)?;
        if wanted.first().is_some_and(|ip| ip == "None") {
            set_addresses(service, &["None".to_owned()], &families);
            return Ok(());
        }
        wanted.resize(families.len(), String::new());
        let path = Path::new("spec").child("clusterIPs");
        let mut given = Vec::new();
        for (index, (family, wanted)) in families.iter().zip(&wanted).enumerate() {
            let mut ranges = self.ranges.iter().filter(|range| range.family() == family);
            let address = if wanted.is_empty() {
                ranges
                    .find_map(|range| next_address(*range, taken, random))
                    .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?
            } else {
                let invalid = |detail: String| invalid(service, FieldError::invalid(&path, json!(cluster_ips(service)), detail));
                let Ok(address) = wanted.parse::<IpAddr>() else {
                    let path = path.index(index);
                    return Err(super::fields::invalid(
                        service,
                        FieldError::invalid(
                            &path,
                            wanted.as_str(),
                            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                        ),
                    ));
                };
                if !ranges.any(|range| range.contains(address)) {
                    return Err(invalid(format!(
                        "failed to allocate IP {address}: the provided network does not match the current range"
                    )));
                }
                if taken.addresses.contains(&address) {
                    return Err(invalid(format!("failed to allocate IP {address}: provided IP is already allocated")));
                }
                address
            };
            taken.addresses.insert(address);
            given.push(address.to_string());
        }
        set_addresses(service, &given, &families);
        Ok(())
    }

    /// The families a Service has, in order.
    fn families(&self, service: &mut Value, wanted: &[String]) -> Result<Vec<String>, Status> {
        let asked: Vec<String> =
            service["spec"]["ipFamilies"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or("SingleStack").to_owned();
        let mut served: Vec<&str> = self.ranges.iter().map(|range| range.family()).collect();
        served.dedup();
        let of_address = |ip: &String| ip.parse::<IpAddr>().ok().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned());
        let mut families = if asked.is_empty() { wanted.iter().filter_map(of_address).collect() } else { asked };
        let path = Path::new("spec").child("ipFamilies");
        if let Some(unserved) = families.iter().find(|family| !served.contains(&family.as_str())) {
            let detail = "not configured on this cluster";
            return Err(invalid(service, FieldError::invalid(&path.index(0), unserved.as_str(), detail)));
        }
        if families.is_empty() {
            families.extend(served.first().map(|family| (*family).to_owned()));
        }
        match policy.as_str() {
            "RequireDualStack" | "PreferDualStack" => {
                let other = served.iter().find(|family| !families.iter().any(|f| f == *family));
                if families.len() < 2 {
                    families.extend(other.map(|family| (*family).to_owned()));
                }
                if policy == "RequireDualStack" && families.len() < 2 {
                    let path = Path::new("spec").child("ipFamilyPolicy");
                    let detail = "this cluster is not configured for dual-stack services";
                    return Err(invalid(service, FieldError::invalid(&path, policy, detail)));
                }
            }
            _ => families.truncate(1),
        }
        meta::set_path(service, &["spec", "ipFamilyPolicy"], json!(policy));
        Ok(families)
    }
}

/// The start of a range is kept for addresses that users choose.
fn reserved(usable: u128) -> u128 {
    const MIN: u128 = 16;
    const MAX: u128 = 256;
    const STEP: u128 = 16;
    if usable <= MIN { 0 } else { (usable / STEP).clamp(MIN, MAX) }
}

fn next_address(range: Cidr, taken: &Taken, random: u64) -> Option<IpAddr> {
    let usable = range.usable();
    let low = reserved(usable);
    let free = |n: u128| {
        let address = range.nth(n);
        (!taken.addresses.contains(&address)).then_some(address)
    };
    let upper = usable - low;
    // The set of taken addresses is finite: one of the first `taken + 1` candidates is free, if any is.
    let tries = upper.min(taken.addresses.len() as u128 + 1);
    let high = (0..tries).find_map(|i| free(low + (u128::from(random) + i) % upper));
    // The server's own address, number 0, is never given.
    high.or_else(|| (1..low).find_map(free))
}

/// Headless, without a selector, and silent about families.
fn is_bare_headless(service: &Value, wanted: &[String]) -> bool {
    let spec = &service["spec"];
    let said = |field: &str| !spec[field].is_null() && spec[field].as_array().is_none_or(|list| !list.is_empty());
    let decided = spec["ipFamilyPolicy"] == "RequireDualStack" && spec["ipFamilies"].as_array().is_some_and(|f| f.len() == 2);
    wanted.first().is_some_and(|ip| ip == "None")
        && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty)
        && (decided || (!said("ipFamilyPolicy") && !said("ipFamilies")))
}

/// A change that does not speak of addresses and ports keeps them: clients send what they know.
pub(super) fn keep_addresses(service: &mut Value, old: &Value) {
    if !service["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() || !cluster_ips(service).is_empty() {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !old["spec"][field].is_null() && service["spec"][field].is_null() {
            meta::set_path(service, &["spec", field], old["spec"][field].clone());
        }
    }
}
