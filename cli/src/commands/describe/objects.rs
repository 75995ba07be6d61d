//! Services, namespaces, configuration and access.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::writer::{Writer, items, labels_text, or_none, pairs, show};

pub fn service(out: &mut Writer, object: &Value, slices: &[Value]) {
    let spec = &object["spec"];
    let list = |value: &Value| items(value).iter().map(show).collect::<Vec<_>>().join(",");
    out.name_and_namespace(object);
    out.labels_and_annotations(object);
    out.field(0, "Selector", labels_text(&spec["selector"]));
    out.field(0, "Type", show(&spec["type"]));
    out.some(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    out.field(0, "IP Families", or_none(list(&spec["ipFamilies"])));
    out.field(0, "IP", show(&spec["clusterIP"]));
    out.field(0, "IPs", or_none(list(&spec["clusterIPs"])));
    if !items(&spec["externalIPs"]).is_empty() {
        out.field(0, "External IPs", list(&spec["externalIPs"]));
    }
    out.some(0, "Desired LoadBalancer IP", &spec["loadBalancerIP"]);
    out.some(0, "External Name", &spec["externalName"]);
    let ingress: Vec<String> = items(&object["status"]["loadBalancer"]["ingress"])
        .iter()
        .map(|point| {
            let address =
                [&point["ip"], &point["hostname"]].into_iter().map(show).find(|text| !text.is_empty()).unwrap_or_default();
            let mode = show(&point["ipMode"]);
            if mode.is_empty() { address } else { format!("{address} ({mode})") }
        })
        .collect();
    if !ingress.is_empty() {
        out.field(0, "LoadBalancer Ingress", ingress.join(", "));
    }
    for port in items(&spec["ports"]) {
        let name = show(&port["name"]);
        let shown = if name.is_empty() { "<unset>" } else { &name };
        let protocol = show(&port["protocol"]);
        out.field(0, "Port", format!("{shown}\t{}/{protocol}", show(&port["port"])));
        out.field(0, "TargetPort", format!("{}/{protocol}", show(&port["targetPort"])));
        out.some(0, "AppProtocol", &port["appProtocol"]);
        if port["nodePort"].as_i64().is_some_and(|port| port != 0) {
            out.field(0, "NodePort", format!("{shown}\t{}/{protocol}", show(&port["nodePort"])));
        }
        out.field(0, "Endpoints", endpoints(slices, &name));
    }
    out.field(0, "Session Affinity", show(&spec["sessionAffinity"]));
    out.some(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    out.some(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
    if spec["healthCheckNodePort"].as_i64().is_some_and(|port| port != 0) {
        out.field(0, "HealthCheck NodePort", show(&spec["healthCheckNodePort"]));
    }
    if !items(&spec["loadBalancerSourceRanges"]).is_empty() {
        out.field(0, "LoadBalancer Source Ranges", list(&spec["loadBalancerSourceRanges"]));
    }
    out.some(0, "Traffic Distribution", &spec["trafficDistribution"]);
}

/// `10.0.0.1:80,10.0.0.2:80 + 3 more...`
fn endpoints(slices: &[Value], port_name: &str) -> String {
    const SHOWN: usize = 3;
    let mut found = Vec::new();
    for slice in slices {
        for port in items(&slice["ports"]).iter().filter(|port| show(&port["name"]) == port_name) {
            for endpoint in items(&slice["endpoints"]).iter().filter(|endpoint| endpoint["conditions"]["ready"] != false) {
                for address in items(&endpoint["addresses"]) {
                    let address = show(address);
                    let address = if address.contains(':') { format!("[{address}]") } else { address };
                    found.push(format!("{address}:{}", show(&port["port"])));
                }
            }
        }
    }
    if found.is_empty() {
        return "<none>".into();
    }
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    let text = found.join(",");
    if more > 0 { format!("{text} + {more} more...") } else { text }
}

pub fn namespace(out: &mut Writer, object: &Value, quotas: &[Value], limits: &[Value]) {
    out.field(0, "Name", machinery::meta::name(object));
    out.labels_and_annotations(object);
    out.field(0, "Status", show(&object["status"]["phase"]));
    if !items(&object["status"]["conditions"]).is_empty() {
        let columns = [
            ("Type", "type"),
            ("Status", "status"),
            ("LastTransitionTime", "lastTransitionTime"),
            ("Reason", "reason"),
            ("Message", "message"),
        ];
        out.conditions(&object["status"]["conditions"], &columns);
    }
    out.line(0, "");
    if quotas.is_empty() {
        out.line(0, "No resource quota.");
    } else {
        out.line(0, "Resource Quotas");
        for quota in quotas {
            out.field(1, "Name", machinery::meta::name(quota));
            out.line(1, "Resource\tUsed\tHard");
            out.line(1, "--------\t---\t---");
            for (name, hard) in pairs(&quota["status"]["hard"]) {
                out.line(1, format!("{name}\t{}\t{hard}", show(&quota["status"]["used"][name])));
            }
        }
    }
    out.line(0, "");
    if limits.is_empty() {
        out.line(0, "No LimitRange resource.");
        return;
    }
    out.line(0, "Resource Limits");
    out.line(0, " Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    out.line(0, " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    for limit in limits.iter().flat_map(|range| items(&range["spec"]["limits"])) {
        let fields = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
        let names: BTreeMap<&str, ()> =
            fields.iter().flat_map(|field| pairs(&limit[field])).map(|(name, _)| (name, ())).collect();
        for name in names.keys() {
            let cells: Vec<String> = fields
                .iter()
                .map(|field| show(&limit[field][name]))
                .map(|text| if text.is_empty() { "-".into() } else { text })
                .collect();
            out.line(0, format!(" {}\t{name}\t{}", show(&limit["type"]), cells.join("\t")));
        }
    }
}

pub fn config_map(out: &mut Writer, object: &Value) {
    out.name_and_namespace(object);
    out.labels_and_annotations(object);
    out.raw("\nData\n====\n");
    for (key, value) in pairs(&object["data"]) {
        out.line(0, format!("{key}:\n----"));
        out.line(0, value);
        out.line(0, "");
    }
    out.raw("\nBinaryData\n====\n");
    for (key, value) in pairs(&object["binaryData"]) {
        out.line(0, format!("{key}: {} bytes", bytes(value)));
    }
    out.line(0, "");
}

/// The sizes of a secret's values, never the values: descriptions get into tickets.
pub fn secret(out: &mut Writer, object: &Value) {
    out.name_and_namespace(object);
    out.labels_and_annotations(object);
    out.raw(&format!("\nType:\t{}\n", show(&object["type"])));
    out.raw("\nData\n====\n");
    for (key, value) in pairs(&object["data"]) {
        out.field(0, key, format!("{} bytes", bytes(value)));
    }
}

fn bytes(base64: &str) -> usize {
    STANDARD.decode(base64).map_or(0, |bytes| bytes.len())
}

pub fn service_account(out: &mut Writer, object: &Value) {
    out.name_and_namespace(object);
    out.labels_and_annotations(object);
    let secrets = items(&object["imagePullSecrets"]);
    if secrets.is_empty() {
        out.line(0, "Image pull secrets:\t<none>");
    }
    for (at, secret) in secrets.iter().enumerate() {
        let head = if at == 0 { "Image pull secrets:" } else { "                   " };
        out.line(0, format!("{head}\t{}", show(&secret["name"])));
    }
}

pub fn role(out: &mut Writer, object: &Value) {
    out.field(0, "Name", machinery::meta::name(object));
    out.labels_and_annotations(object);
    out.line(0, "PolicyRule:");
    out.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    out.line(1, "---------\t-----------------\t--------------\t-----");
    for Rule { group, resource, url, name, verbs } in rules(&object["rules"]) {
        let (plural, sub) =
            resource.split_once('/').map_or((resource.as_str(), String::new()), |(plural, sub)| (plural, format!("/{sub}")));
        let what = if group.is_empty() { format!("{plural}{sub}") } else { format!("{plural}.{group}{sub}") };
        out.line(1, format!("{what}\t[{url}]\t[{name}]\t[{}]", verbs.join(" ")));
    }
}

/// What is allowed on one resource, one named object, or one path.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    group: String,
    resource: String,
    url: String,
    name: String,
    verbs: Vec<String>,
}

/// Rules taken apart, and joined again where only the verbs differ.
fn rules(rules: &Value) -> Vec<Rule> {
    let texts = |value: &Value| items(value).iter().map(show).collect::<Vec<_>>();
    let mut found: Vec<Rule> = Vec::new();
    let mut add = |rule: Rule, verbs: &Value| {
        let same = |other: &Rule| {
            (&other.group, &other.resource, &other.url, &other.name) == (&rule.group, &rule.resource, &rule.url, &rule.name)
        };
        let at = found.iter().position(same).unwrap_or_else(|| {
            found.push(rule);
            found.len() - 1
        });
        for verb in texts(verbs) {
            if !found[at].verbs.contains(&verb) {
                found[at].verbs.push(verb);
            }
        }
    };
    for rule in items(rules) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let mut names = texts(&rule["resourceNames"]);
                if names.is_empty() {
                    names.push(String::new());
                }
                for name in names {
                    add(Rule { group: group.clone(), resource: resource.clone(), name, ..Rule::default() }, &rule["verbs"]);
                }
            }
        }
        texts(&rule["nonResourceURLs"]).into_iter().for_each(|url| add(Rule { url, ..Rule::default() }, &rule["verbs"]));
    }
    // What is no resource comes last.
    found.sort_by(|a, b| (a.resource.is_empty(), a).cmp(&(b.resource.is_empty(), b)));
    found
}

pub fn role_binding(out: &mut Writer, object: &Value) {
    out.field(0, "Name", machinery::meta::name(object));
    out.labels_and_annotations(object);
    out.line(0, "Role:");
    out.field(1, "Kind", show(&object["roleRef"]["kind"]));
    out.field(1, "Name", show(&object["roleRef"]["name"]));
    out.line(0, "Subjects:");
    out.line(1, "Kind\tName\tNamespace");
    out.line(1, "----\t----\t---------");
    for subject in items(&object["subjects"]) {
        let [kind, name, namespace] = ["kind", "name", "namespace"].map(|field| show(&subject[field]));
        out.line(1, format!("{kind}\t{name}\t{namespace}"));
    }
}
