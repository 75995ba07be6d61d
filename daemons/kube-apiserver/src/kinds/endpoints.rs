//! Endpoints and EndpointSlice.

use std::collections::BTreeSet;

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, NAME, column, list_with_more};
use super::validate::{self, PROTOCOLS, one_of, required_one_of};
use super::value::{int, items, number, text, texts};

const SHOWN_MAX: usize = 3;
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20000;
const ADDRESSES_MAX: usize = 100;

pub(super) struct Endpoints;

impl Rules for Endpoints {
    fn validate(&self, endpoints: &Value, errors: &mut FieldErrors) {
        for (index, subset) in items(endpoints, "/subsets").iter().enumerate() {
            let path = Path::new("subsets").index(index);
            let addresses = ["addresses", "notReadyAddresses"];
            if addresses.iter().all(|field| items(subset, &format!("/{field}")).is_empty()) {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for field in addresses {
                for (index, address) in items(subset, &format!("/{field}")).iter().enumerate() {
                    let path = path.child(field).index(index);
                    let ip = text(address, "/ip");
                    validate::endpoint_ip(ip, &path.child("ip"), errors);
                    if ip.parse::<std::net::IpAddr>().is_err() {
                        errors.invalid(&path.child("ip"), ip, "must be a valid IP address");
                    }
                    let hostname = text(address, "/hostname");
                    if !hostname.is_empty() {
                        errors.invalid_each(&path.child("hostname"), hostname, names::dns1123_label(hostname));
                    }
                    let node = text(address, "/nodeName");
                    if !node.is_empty() {
                        errors.invalid_each(&path.child("nodeName"), node, names::dns1123_subdomain(node));
                    }
                }
            }
            let ports = items(subset, "/ports");
            for (index, port) in ports.iter().enumerate() {
                let path = path.child("ports").index(index);
                let name = text(port, "/name");
                if name.is_empty() && ports.len() > 1 {
                    errors.required(&path.child("name"), "");
                } else if !name.is_empty() {
                    errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
                }
                for message in names::port_number(int(port, "/port")) {
                    errors.invalid(&path.child("port"), int(port, "/port"), message);
                }
                required_one_of(port, "protocol", PROTOCOLS, &path, errors);
            }
        }
    }

    fn warnings(&self, _endpoints: &Value) -> Vec<String> {
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column("Endpoints", |row| shown(row.object).into()).of("api.core.v1.Endpoints", "subsets"), AGE];
        COLUMNS
    }
}

fn shown(endpoints: &Value) -> String {
    let subsets = items(endpoints, "/subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = items(subset, "/addresses");
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|address| text(address, "/ip").to_owned()));
        }
        for port in ports {
            all.extend(addresses.iter().map(|address| {
                let (ip, port) = (text(address, "/ip"), int(port, "/port"));
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            }));
        }
    }
    if all.len() > SHOWN_MAX { list_with_more(&all, SHOWN_MAX) } else { all.join(",") }
}

pub(super) struct EndpointSlice;

impl Rules for EndpointSlice {
    fn prepare_for_update(&self, new: &mut Value, old: &Value, _subresource: &str) {
        // Only a change of what the slice says counts.
        let changed = ["endpoints", "ports", "addressType"].iter().any(|field| new.get(field) != old.get(field))
            || new.pointer("/metadata/labels") != old.pointer("/metadata/labels");
        let generation = machinery::meta::generation(old) + i64::from(changed);
        machinery::meta::metadata_mut(new).insert("generation".to_owned(), json!(generation));
    }

    fn prepare_for_create(&self, slice: &mut Value) {
        machinery::meta::metadata_mut(slice).insert("generation".to_owned(), json!(1));
    }

    fn validate(&self, slice: &Value, errors: &mut FieldErrors) {
        let kind = text(slice, "/addressType");
        let root = Path::root();
        required_one_of(slice, "addressType", &["FQDN", "IPv4", "IPv6"], &root, errors);
        let endpoints = items(slice, "/endpoints");
        if endpoints.len() > ENDPOINTS_MAX {
            errors.push(machinery::field::FieldError::too_many(&root.child("endpoints"), endpoints.len(), ENDPOINTS_MAX));
            return;
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let path = root.child("endpoints").index(index);
            let addresses = texts(endpoint, "/addresses");
            if addresses.is_empty() {
                errors.required(&path.child("addresses"), "must contain at least 1 address");
            } else if addresses.len() > ADDRESSES_MAX {
                let error = machinery::field::FieldError::too_many(&path.child("addresses"), addresses.len(), ADDRESSES_MAX);
                errors.push(error);
            }
            for (index, address) in addresses.into_iter().enumerate() {
                let path = path.child("addresses").index(index);
                match kind {
                    "IPv4" | "IPv6" if address.parse::<std::net::IpAddr>().is_err() => {
                        validate::ip(address, &path, errors);
                    }
                    "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                        errors.invalid(&path, address, "must be an IPv4 address");
                    }
                    "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                        errors.invalid(&path, address, "must be an IPv6 address");
                    }
                    "FQDN" => errors.invalid_each(&path, address, names::dns1123_subdomain(address)),
                    _ => validate::endpoint_ip(address, &path, errors),
                }
            }
            for (field, rule) in [
                ("nodeName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
                ("zone", names::label_value),
                ("hostname", names::dns1123_label),
            ] {
                let value = text(endpoint, &format!("/{field}"));
                if !value.is_empty() {
                    errors.invalid_each(&path.child(field), value, rule(value));
                }
            }
        }
        let ports = items(slice, "/ports");
        if ports.len() > PORTS_MAX {
            errors.push(machinery::field::FieldError::too_many(&root.child("ports"), ports.len(), PORTS_MAX));
        }
        let mut seen = BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            let path = root.child("ports").index(index);
            let name = text(port, "/name");
            if !name.is_empty() {
                errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
            }
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            one_of(port, "protocol", PROTOCOLS, &path, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        validate::immutable(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("AddressType", |row| row.text("/addressType")).of("api.discovery.v1.EndpointSlice", "addressType"),
            column("Ports", |row| {
                let ports = items(row.object, "/ports").iter();
                let ports: Vec<String> = ports
                    .map(|port| match number(port, "/port") {
                        Some(number) => number.to_string(),
                        None => match text(port, "/name") {
                            "" => "*".to_owned(),
                            name => name.to_owned(),
                        },
                    })
                    .collect();
                list_with_more(&ports, SHOWN_MAX).into()
            })
            .of("api.discovery.v1.EndpointSlice", "ports"),
            column("Endpoints", |row| {
                let endpoints = items(row.object, "/endpoints").iter();
                let all: Vec<String> = endpoints.flat_map(|endpoint| texts(endpoint, "/addresses")).map(str::to_owned).collect();
                list_with_more(&all, SHOWN_MAX).into()
            })
            .of("api.discovery.v1.EndpointSlice", "endpoints"),
            AGE,
        ];
        COLUMNS
    }
}
