//! Service.

use std::collections::BTreeSet;

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::table::{AGE, Column, NAME, column, wide};
use super::validate::{self, PROTOCOLS, one_of, required_one_of};
use super::value::{fill, has, int, items, items_mut, object_in, set, text, texts, unset};
use super::{Rules, Selectable};

const AFFINITY_SECONDS: i64 = 10800;
const AFFINITY_SECONDS_MAX: i64 = 86400;

pub(super) struct Service;

impl Rules for Service {
    fn default(&self, service: &mut Value) {
        let spec = object_in(service, "spec");
        fill(spec, "sessionAffinity", "None");
        match text(spec, "/sessionAffinity") {
            "None" => unset(spec, "sessionAffinityConfig"),
            "ClientIP" if !has(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds") => {
                set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
            }
            _ => {}
        }
        fill(spec, "type", "ClusterIP");
        for port in items_mut(spec, "/ports") {
            if matches!(port.get("targetPort"), None | Some(Value::Null)) || port["targetPort"] == 0 || port["targetPort"] == "" {
                let number = port["port"].clone();
                set(port, "targetPort", number);
            }
        }
        let kind = text(spec, "/type").to_owned();
        let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
            || kind == "ClusterIP" && !items(spec, "/externalIPs").is_empty();
        if external {
            fill(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
            fill(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            fill(spec, "allocateLoadBalancerNodePorts", true);
        }
        let status = object_in(service, "status");
        object_in(status, "loadBalancer");
        if kind == "LoadBalancer" {
            for ingress in items_mut(status, "/loadBalancer/ingress") {
                if !text(ingress, "/ip").is_empty() {
                    fill(ingress, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_for_create(&self, service: &mut Value) {
        set(service, "status", json!({"loadBalancer": {}}));
        normalise_cluster_ips(service, None);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        if !subresource.is_empty() {
            return;
        }
        patch_allocated(new, old);
        normalise_cluster_ips(new, Some(old));
        drop_unused(new, old);
    }

    fn validate(&self, service: &Value, errors: &mut FieldErrors) {
        validate_spec(service, &Path::new("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if !subresource.is_empty() {
            return;
        }
        let path = Path::new("spec");
        let external = |service: &Value| text(service, "/spec/type") == "ExternalName";
        if external(new) || external(old) {
            return;
        }
        let (before, after) = (texts(old, "/spec/clusterIPs"), texts(new, "/spec/clusterIPs"));
        if let Some(first) = before.first().filter(|first| !first.is_empty())
            && after.first() != Some(first)
        {
            let detail = "may not change once set";
            errors.invalid(&path.child("clusterIPs").index(0), json!(after), detail);
        }
        let (before, after) = (texts(old, "/spec/ipFamilies"), texts(new, "/spec/ipFamilies"));
        if let Some(first) = before.first()
            && after.first() != Some(first)
        {
            errors.invalid(&path.child("ipFamilies").index(0), json!(after), "may not change once set");
        }
    }

    fn warnings(&self, service: &Value) -> Vec<String> {
        if items(service, "/spec/externalIPs").is_empty() {
            return Vec::new();
        }
        vec!["spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned()]
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[
            ("spec.clusterIP", |service| text(service, "/spec/clusterIP").to_owned()),
            ("spec.type", |service| text(service, "/spec/type").to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Type", |row| row.text("/spec/type")).of("api.core.v1.ServiceSpec", "type"),
            column("Cluster-IP", |row| row.text_or("/spec/clusterIPs/0", "<none>")).of("api.core.v1.ServiceSpec", "clusterIP"),
            column("External-IP", |row| external_ip(row.object).into()).of("api.core.v1.ServiceSpec", "externalIPs"),
            column("Port(s)", |row| ports(row.object).into()).of("api.core.v1.ServiceSpec", "ports"),
            AGE,
            wide("Selector", |row| row.labels("/spec/selector")).of("api.core.v1.ServiceSpec", "selector"),
        ];
        COLUMNS
    }
}

/// What the server chose stays chosen when an update leaves it out.
fn patch_allocated(new: &mut Value, old: &Value) {
    let kind = text(new, "/spec/type").to_owned();
    if kind == "ExternalName" || text(old, "/spec/type") == "ExternalName" {
        return;
    }
    if text(new, "/spec/clusterIP").is_empty() && items(new, "/spec/clusterIPs").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            let value = old["spec"].get(field).cloned().unwrap_or(Value::Null);
            if !value.is_null() {
                set(&mut new["spec"], field, value);
            }
        }
    }
    for field in ["ipFamilies", "ipFamilyPolicy"] {
        let value = old["spec"].get(field).cloned().unwrap_or(Value::Null);
        if !value.is_null() && !has(new, &format!("/spec/{field}")) {
            set(&mut new["spec"], field, value);
        }
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") && matches!(text(old, "/spec/type"), "NodePort" | "LoadBalancer") {
        let before = items(old, "/spec/ports").to_vec();
        for port in items_mut(new, "/spec/ports") {
            let same = |other: &&Value| other.get("protocol") == port.get("protocol") && other.get("port") == port.get("port");
            if int(port, "/nodePort") == 0
                && let Some(found) = before.iter().find(same)
                && let Some(number) = found.get("nodePort").cloned()
            {
                set(port, "nodePort", number);
            }
        }
    }
    if kind == "LoadBalancer" && int(new, "/spec/healthCheckNodePort") == 0 && has(old, "/spec/healthCheckNodePort") {
        let port = old["spec"]["healthCheckNodePort"].clone();
        set(&mut new["spec"], "healthCheckNodePort", port);
    }
}

/// `clusterIP` is the first of `clusterIPs`, whichever of the two the client changed.
fn normalise_cluster_ips(service: &mut Value, old: Option<&Value>) {
    let spec = object_in(service, "spec");
    let single = text(spec, "/clusterIP").to_owned();
    let list: Vec<String> = texts(spec, "/clusterIPs").into_iter().map(str::to_owned).collect();
    match old {
        None if !single.is_empty() && list.is_empty() => set(spec, "clusterIPs", json!([single])),
        None => {}
        Some(old) => {
            let old_single = text(old, "/spec/clusterIP");
            let same_list = list == texts(old, "/spec/clusterIPs");
            if single.is_empty() && !old_single.is_empty() && same_list {
                unset(spec, "clusterIPs");
            } else if single != old_single && same_list && !single.is_empty() {
                set(spec, "clusterIPs", json!([single]));
            }
        }
    }
}

/// What a type of Service does not use goes when the type changes.
fn drop_unused(new: &mut Value, old: &Value) {
    let (kind, before) = (text(new, "/spec/type").to_owned(), text(old, "/spec/type"));
    if kind == before {
        return;
    }
    let unchanged = |new: &Value, field: &str| new["spec"].get(field) == old["spec"].get(field);
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if unchanged(new, field) || field.starts_with("clusterIP") {
                unset(&mut new["spec"], field);
            }
        }
    }
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        let ports = items(old, "/spec/ports").to_vec();
        for port in items_mut(new, "/spec/ports") {
            let kept = ports.iter().any(|old| old.get("nodePort").is_some() && old.get("nodePort") == port.get("nodePort"));
            if kept {
                unset(port, "nodePort");
            }
        }
        if items(new, "/spec/externalIPs").is_empty() && unchanged(new, "externalTrafficPolicy") {
            unset(&mut new["spec"], "externalTrafficPolicy");
        }
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"] {
            if unchanged(new, field) {
                unset(&mut new["spec"], field);
            }
        }
        set(new, "status", json!({"loadBalancer": {}}));
    }
}

fn validate_spec(service: &Value, path: &Path, errors: &mut FieldErrors) {
    let spec = &service["spec"];
    let kind = text(spec, "/type");
    let headless = text(spec, "/clusterIP") == "None" || text(spec, "/clusterIPs/0") == "None";
    if items(spec, "/ports").is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            if has(spec, "/clusterIPs") {
                errors.forbidden(&path.child("clusterIPs"), "may not be set for ExternalName services");
            }
            let name = text(spec, "/externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&path.child("externalName"), "");
            } else {
                errors.invalid_each(&path.child("externalName"), name, names::dns1123_subdomain(name));
            }
        }
        _ => {}
    }
    validate_ports(spec, kind, path, errors);
    if let Some(selector) = spec.get("selector") {
        validate::labels(selector, &path.child("selector"), errors);
    }
    required_one_of(spec, "sessionAffinity", &["ClientIP", "None"], path, errors);
    if let Some(seconds) = super::value::number(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds")
        && !(1..=AFFINITY_SECONDS_MAX).contains(&seconds)
    {
        let path = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        errors.invalid(&path, seconds, format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
    }
    for (index, ip) in texts(spec, "/externalIPs").into_iter().enumerate() {
        validate::endpoint_ip(ip, &path.child("externalIPs").index(index), errors);
    }
    for (index, ip) in texts(spec, "/clusterIPs").into_iter().enumerate().filter(|(_, ip)| *ip != "None") {
        let path = path.child("clusterIPs").index(index);
        validate::ip(ip, &path, errors);
    }
    if let (Some(first), single) = (texts(spec, "/clusterIPs").first(), text(spec, "/clusterIP"))
        && !single.is_empty()
        && *first != single
    {
        errors.invalid(&path.child("clusterIPs"), json!(texts(spec, "/clusterIPs")), "first value must match `clusterIP`");
    }
    required_one_of(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], path, errors);
    one_of(spec, "ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"], path, errors);
    one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], path, errors);
    let external = matches!(kind, "NodePort" | "LoadBalancer") || !items(spec, "/externalIPs").is_empty();
    if external {
        one_of(spec, "externalTrafficPolicy", &["Cluster", "Local"], path, errors);
    } else if has(spec, "/externalTrafficPolicy") {
        let detail = "may only be set for externally-accessible services";
        errors.invalid(&path.child("externalTrafficPolicy"), spec["externalTrafficPolicy"].clone(), detail);
    }
    for (field, label) in [
        ("allocateLoadBalancerNodePorts", "allocateLoadBalancerNodePorts"),
        ("loadBalancerSourceRanges", "LoadBalancerSourceRanges"),
    ] {
        if has(spec, &format!("/{field}")) && kind != "LoadBalancer" {
            errors.forbidden(&path.child(label), "may only be used when `type` is 'LoadBalancer'");
        }
    }
    for (index, range) in texts(spec, "/loadBalancerSourceRanges").into_iter().enumerate() {
        validate::cidr(range.trim(), &path.child("LoadBalancerSourceRanges").index(index), errors);
    }
}

fn validate_ports(spec: &Value, kind: &str, path: &Path, errors: &mut FieldErrors) {
    let ports = items(spec, "/ports");
    let (mut names_seen, mut ports_seen, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        let name = text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.required(&path.child("name"), "");
        } else if !name.is_empty() {
            errors.invalid_each(&path.child("name"), name, names::dns1123_label(name));
            if !names_seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let number = int(port, "/port");
        for message in names::port_number(number) {
            errors.invalid(&path.child("port"), number, message);
        }
        required_one_of(port, "protocol", PROTOCOLS, &path, errors);
        validate::port(&port["targetPort"], &path.child("targetPort"), errors);
        let protocol = text(port, "/appProtocol");
        if !protocol.is_empty() {
            errors.invalid_each(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
        let node_port = int(port, "/nodePort");
        if node_port != 0 {
            if kind == "ClusterIP" {
                errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            if !node_ports.insert((text(port, "/protocol"), node_port)) {
                errors.duplicate(&path.child("nodePort"), node_port);
            }
        }
        if !ports_seen.insert((text(port, "/protocol"), number)) {
            errors.duplicate(&path, json!({"protocol": text(port, "/protocol"), "port": number}));
        }
    }
}

fn external_ip(service: &Value) -> String {
    let given = texts(service, "/spec/externalIPs");
    match text(service, "/spec/type") {
        "ExternalName" => text(service, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let mut all = load_balancer(service).into_iter().collect::<Vec<_>>();
            all.extend(given);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ClusterIP" | "NodePort" if given.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => given.join(","),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses that a load balancer gave, each once.
pub(super) fn load_balancer(object: &Value) -> BTreeSet<&str> {
    items(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| if text(ingress, "/ip").is_empty() { text(ingress, "/hostname") } else { text(ingress, "/ip") })
        .filter(|address| !address.is_empty())
        .collect()
}

fn ports(service: &Value) -> String {
    let ports: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (int(port, "/port"), text(port, "/protocol"));
            match int(port, "/nodePort") {
                0 => format!("{number}/{protocol}"),
                node_port => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}
