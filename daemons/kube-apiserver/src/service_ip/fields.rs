//! The fields of a Service that hold numbers.

use machinery::field::FieldError;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

pub(super) fn invalid(service: &Value, error: FieldError) -> Status {
    Status::invalid("Service", meta::name(service), vec![error])
}

pub(super) fn same_object(a: &Value, b: &Value) -> bool {
    meta::namespace(a) == meta::namespace(b) && meta::name(a) == meta::name(b)
}

/// `clusterIPs`, or what `clusterIP` alone says.
pub(super) fn cluster_ips(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let many: Vec<String> =
        spec["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    match spec["clusterIP"].as_str().filter(|ip| !ip.is_empty()) {
        Some(one) if many.is_empty() => vec![one.to_owned()],
        _ => many,
    }
}

pub(super) fn set_addresses(service: &mut Value, addresses: &[String], families: &[String]) {
    meta::set_path(service, &["spec", "clusterIP"], json!(addresses.first()));
    meta::set_path(service, &["spec", "clusterIPs"], json!(addresses));
    meta::set_path(service, &["spec", "ipFamilies"], json!(families));
}

pub(super) fn ports(service: &Value) -> &[Value] {
    service["spec"]["ports"].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

pub(super) fn health_port(service: &Value) -> Option<u16> {
    service["spec"]["healthCheckNodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

pub(super) fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}
