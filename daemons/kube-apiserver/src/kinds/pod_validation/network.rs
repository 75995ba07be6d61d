//! Names and their resolution.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use crate::kinds::validate;
use crate::kinds::value::{has, items, text, texts};

pub(super) const NAMESERVERS_MAX: usize = 3;

pub(super) fn dns_config(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("dnsConfig");
    let servers = texts(spec, "/dnsConfig/nameservers");
    if text(spec, "/dnsPolicy") == "None" {
        if !has(spec, "/dnsConfig") {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&path.child("nameservers"), Value::from(servers.clone()), detail);
    }
    for (index, server) in servers.into_iter().enumerate() {
        validate::ip(server, &path.child("nameservers").index(index), errors);
    }
}

pub(super) fn host_aliases(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, alias) in items(spec, "/hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(index);
        validate::ip(text(alias, "/ip"), &path.child("ip"), errors);
        for (index, name) in texts(alias, "/hostnames").into_iter().enumerate() {
            errors.invalid_each(&path.child("hostnames").index(index), name, names::dns1123_subdomain(name));
        }
    }
}
