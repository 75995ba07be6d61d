//! Ingress, IngressClass, NetworkPolicy.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::Rules;
use super::service::load_balancer;
use super::storage::named;
use super::table::{AGE, Column, NAME, column};
use super::validate::{self, one_of, required};
use super::value::{fill, has, items, number, object_in, set, text, texts};

const HOSTS_SHOWN_MAX: usize = 3;

pub(super) struct Ingress;

impl Rules for Ingress {
    fn default(&self, ingress: &mut Value) {
        object_in(object_in(ingress, "status"), "loadBalancer");
    }

    fn prepare_for_create(&self, ingress: &mut Value) {
        set(ingress, "status", json!({"loadBalancer": {}}));
    }

    fn validate(&self, ingress: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&ingress["spec"], Path::new("spec"));
        if items(spec, "/rules").is_empty() && !has(spec, "/defaultBackend") {
            errors.invalid(&path, json!(spec["rules"]), "either `defaultBackend` or `rules` must be specified");
        }
        if let Some(default) = spec.get("defaultBackend") {
            backend(default, &path.child("defaultBackend"), errors);
        }
        for (index, rule) in items(spec, "/rules").iter().enumerate() {
            let path = path.child("rules").index(index);
            let host = text(rule, "/host");
            if !host.is_empty() {
                let messages =
                    if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host) };
                errors.invalid_each(&path.child("host"), host, messages);
                if host.parse::<std::net::IpAddr>().is_ok() {
                    errors.invalid(&path.child("host"), host, "must be a DNS name, not an IP address");
                }
            }
            if !has(rule, "/http") {
                continue;
            }
            let paths = path.child("http").child("paths");
            if items(rule, "/http/paths").is_empty() {
                errors.required(&paths, "");
            }
            for (index, entry) in items(rule, "/http/paths").iter().enumerate() {
                let path = paths.index(index);
                let (kind, value) = (text(entry, "/pathType"), text(entry, "/path"));
                if kind.is_empty() {
                    errors.required(&path.child("pathType"), "pathType must be specified");
                    continue;
                }
                one_of(entry, "pathType", &["Exact", "ImplementationSpecific", "Prefix"], &path, errors);
                let optional = kind == "ImplementationSpecific" && value.is_empty();
                if !optional && !value.starts_with('/') {
                    errors.invalid(&path.child("path"), value, "must be an absolute path");
                }
                backend(&entry["backend"], &path.child("backend"), errors);
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Class", |row| row.text_or("/spec/ingressClassName", "<none>"))
                .says("The name of the IngressClass resource that should be used for additional configuration"),
            column("Hosts", |row| hosts(row.object).into())
                .says("Hosts that incoming requests are matched against before the ingress rule"),
            column("Address", |row| load_balancer(row.object).into_iter().collect::<Vec<_>>().join(",").into())
                .says("Address is a list containing ingress points for the load-balancer"),
            column("Ports", |row| if items(row.object, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into())
                .says("Ports of TLS configurations that open"),
            AGE,
        ];
        COLUMNS
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut FieldErrors) {
    match (has(backend, "/service"), has(backend, "/resource")) {
        (true, true) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (false, false) => errors.invalid(path, "", "resource or service backend is required"),
        (false, true) => {}
        (true, false) => {
            let path = path.child("service");
            let name = text(backend, "/service/name");
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            } else {
                errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
            }
            let (port_name, port) = (text(backend, "/service/port/name"), number(backend, "/service/port/number"));
            let path = path.child("port");
            match (port_name.is_empty(), port.unwrap_or(0)) {
                (true, 0) => errors.required(&path, "port name or number is required"),
                (false, number) if number != 0 => {
                    errors.invalid(&path, backend["service"]["port"].clone(), "cannot set both port name & port number");
                }
                (false, _) => errors.invalid_each(&path.child("name"), port_name, names::port_name(port_name)),
                (true, number) => {
                    for message in names::port_number(number) {
                        errors.invalid(&path.child("number"), number, message);
                    }
                }
            }
        }
    }
}

fn hosts(ingress: &Value) -> String {
    let rules = items(ingress, "/spec/rules");
    let all: Vec<&str> = rules.iter().map(|rule| text(rule, "/host")).filter(|host| !host.is_empty()).collect();
    match all.len() {
        0 => "*".to_owned(),
        count if count > HOSTS_SHOWN_MAX => {
            format!("{} + {} more...", all[..HOSTS_SHOWN_MAX].join(","), rules.len() - HOSTS_SHOWN_MAX)
        }
        _ => all.join(","),
    }
}

pub(super) struct IngressClass;

impl Rules for IngressClass {
    fn validate(&self, class: &Value, errors: &mut FieldErrors) {
        required(&class["spec"], "controller", &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("controller");
        validate::immutable(&new["spec"]["controller"], &old["spec"]["controller"], &path, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            Column { cell: |row| named(row.object, &["ingressclass.kubernetes.io/is-default-class"]).into(), ..NAME },
            column("Controller", |row| row.text("/spec/controller"))
                .says("Controller that is responsible for handling this class"),
            column("Parameters", |row| {
                if !row.has("/spec/parameters") {
                    return "<none>".into();
                }
                let part = |name: &str| text(row.object, &format!("/spec/parameters/{name}"));
                let group = if part("apiGroup").is_empty() { String::new() } else { format!(".{}", part("apiGroup")) };
                format!("{}{group}/{}", part("kind"), part("name")).into()
            })
            .says("A reference to a resource with additional parameters"),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) struct NetworkPolicy;

impl Rules for NetworkPolicy {
    fn default(&self, policy: &mut Value) {
        let spec = object_in(policy, "spec");
        let egress = !items(spec, "/egress").is_empty();
        let kinds = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        fill(spec, "policyTypes", kinds);
        fill(spec, "podSelector", json!({}));
    }

    fn validate(&self, policy: &Value, errors: &mut FieldErrors) {
        let (spec, path) = (&policy["spec"], Path::new("spec"));
        validate::label_selector(&spec["podSelector"], &path.child("podSelector"), errors);
        for (list, side) in [("ingress", "from"), ("egress", "to")] {
            for (index, rule) in items(spec, &format!("/{list}")).iter().enumerate() {
                let path = path.child(list).index(index);
                for (index, port) in items(rule, "/ports").iter().enumerate() {
                    let path = path.child("ports").index(index);
                    one_of(port, "protocol", validate::PROTOCOLS, &path, errors);
                    if let Some(number) = port.get("port") {
                        validate::port(number, &path.child("port"), errors);
                    }
                }
                for (index, peer) in items(rule, &format!("/{side}")).iter().enumerate() {
                    let path = path.child(side).index(index);
                    let selectors = has(peer, "/podSelector") || has(peer, "/namespaceSelector");
                    match (selectors, has(peer, "/ipBlock")) {
                        (false, false) => errors.required(&path, "must specify a peer"),
                        (true, true) => {
                            errors.forbidden(&path, "may not specify both ipBlock and another peer");
                        }
                        (false, true) => {
                            let cidr = text(peer, "/ipBlock/cidr");
                            validate::cidr(cidr, &path.child("ipBlock").child("cidr"), errors);
                            for (index, except) in texts(peer, "/ipBlock/except").into_iter().enumerate() {
                                validate::cidr(except, &path.child("ipBlock").child("except").index(index), errors);
                            }
                        }
                        (true, false) => {
                            for field in ["podSelector", "namespaceSelector"] {
                                if let Some(selector) = peer.get(field) {
                                    validate::label_selector(selector, &path.child(field), errors);
                                }
                            }
                        }
                    }
                }
            }
        }
        for (index, kind) in texts(spec, "/policyTypes").into_iter().enumerate() {
            if !matches!(kind, "Ingress" | "Egress") {
                errors.not_supported(&path.child("policyTypes").index(index), kind, &["Egress", "Ingress"]);
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Pod-Selector", |row| row.selector("/spec/podSelector"))
                .of("api.networking.v1.NetworkPolicySpec", "podSelector"),
            AGE,
        ];
        COLUMNS
    }
}
