//! A pod's resolv.conf.

use api::core::Pod;

use super::spec;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// The host's resolv.conf.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            // The last one counts.
            Some("search") => config.searches = words.map(|w| w.trim_end_matches('.').to_owned()).collect(),
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

/// What the pod's containers get, by its policy and its own additions.
pub fn pod_dns(pod: &Pod, cluster_servers: &[String], cluster_domain: &str, host: &DnsConfig) -> DnsConfig {
    let spec = spec::spec(pod);
    let policy = match spec.dns_policy.as_deref() {
        Some("ClusterFirst") if spec::host_network(pod) => "Default",
        Some(p) => p,
        None if spec::host_network(pod) => "Default",
        None => "ClusterFirst",
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        // Without a cluster server there is only the host's.
        "ClusterFirst" | "ClusterFirstWithHostNet" if !cluster_servers.is_empty() => {
            let namespace = api::Kind::namespace(pod);
            let mut searches = Vec::new();
            if !cluster_domain.is_empty() {
                searches.push(format!("{namespace}.svc.{cluster_domain}"));
                searches.push(format!("svc.{cluster_domain}"));
                searches.push(cluster_domain.to_owned());
            }
            searches.extend(host.searches.iter().cloned());
            DnsConfig { servers: cluster_servers.to_vec(), searches, options: vec!["ndots:5".to_owned()] }
        }
        _ => {
            let mut config = host.clone();
            if config.servers.is_empty() {
                config.servers.push("127.0.0.1".to_owned());
            }
            config
        }
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            config.options.retain(|o| o != name && !o.starts_with(&format!("{name}:")));
            config.options.push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    config.servers.truncate(SERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    while config.searches.iter().map(|s| s.len() + 1).sum::<usize>() > SEARCH_CHARS_MAX {
        config.searches.pop();
    }
    config
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Kind as _;
    use serde_json::json;

    #[track_caller]
    fn check(spec: serde_json::Value, want: &str) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = Pod::decode_value(json!({"metadata": {"namespace": "n"}, "spec": spec})).unwrap();
        let host = parse("nameserver 1.1.1.1\nsearch a.example. b.example # x\noptions edns0\n");
        let c = pod_dns(&pod, &["10.96.0.10".into()], "cluster.local", &host);
        assert_eq!(format!("{} | {} | {}", c.servers.join(" "), c.searches.join(" "), c.options.join(" ")), want);
    }

    #[test]
    fn policies() {
        let cluster = "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local a.example b.example | ndots:5";
        check(json!({}), cluster);
        check(json!({"dnsPolicy": "ClusterFirst"}), cluster);
        check(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), "1.1.1.1 | a.example b.example | edns0");
        check(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster);
        check(json!({"dnsPolicy": "Default"}), "1.1.1.1 | a.example b.example | edns0");
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "debug"}]}}),
            "9.9.9.9 | x | ndots:2 debug",
        );
        check(
            json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}),
            "10.96.0.10 | n.svc.cluster.local svc.cluster.local cluster.local a.example b.example | ndots:1",
        );
    }
}
