//! A pod's host name and its /etc/hosts.

use std::fmt::Write as _;

use api::core::Pod;

use super::spec;

/// The host name and the domain of a pod; the domain is empty without a subdomain.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec::spec(pod);
    if let Some(own) = spec.hostname_override.as_deref().filter(|h| !h.is_empty()) {
        return (own.to_owned(), String::new());
    }
    let name = match spec.hostname.as_deref().filter(|h| !h.is_empty()) {
        Some(name) => name.to_owned(),
        None => {
            // A kernel host name has at most 63 characters and ends with none of these.
            let name = api::Kind::name(pod);
            let end = name.char_indices().nth(63).map_or(name.len(), |(i, _)| i);
            name[..end].trim_end_matches(['-', '.']).to_owned()
        }
    };
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(sub) => format!("{sub}.{}.svc.{cluster_domain}", api::Kind::namespace(pod)),
        None => String::new(),
    };
    (name, domain)
}

/// The file of a pod with its own network.
pub fn pod_hosts(pod: &Pod, ips: &[String], hostname: &str, domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        let _ = match domain {
            "" => writeln!(text, "{ip}\t{hostname}"),
            _ => writeln!(text, "{ip}\t{hostname}.{domain}\t{hostname}"),
        };
    }
    text.push_str(&aliases(pod));
    text
}

/// The file of a pod in the host's network: the host's own, and the pod's aliases.
pub fn host_network_hosts(pod: &Pod, host: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host}{}", aliases(pod))
}

fn aliases(pod: &Pod) -> String {
    let aliases = spec::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Kind as _;
    use serde_json::json;

    #[test]
    fn names() {
        let pod = |name: &str, spec: serde_json::Value| {
            Pod::decode_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})).unwrap()
        };
        let long = format!("{}-x", "a".repeat(62));
        assert_eq!(hostname(&pod(&long, json!({"containers": []})), "cluster.local"), ("a".repeat(62), String::new()));
        assert_eq!(
            hostname(&pod("p", json!({"containers": [], "hostname": "h", "subdomain": "s"})), "cluster.local"),
            ("h".into(), "s.n.svc.cluster.local".into())
        );
    }

    #[test]
    fn hosts_file() {
        let pod = Pod::decode_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}})).unwrap();
        let text = pod_hosts(&pod, &["10.0.0.2".into()], "h", "d");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n"));
        assert!(text.ends_with("10.0.0.2\th.d\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
