//! Ingresses.

use clap::Args;
use serde_json::{Value, json};

use super::CreateFlags;
use crate::kube::{Error, Result};

/// Creates an ingress
///
///   kctl create ingress web --class=nginx --rule="example.com/*=web:80,tls=web-cert"
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub struct IngressArgs {
    name: String,
    /// HOST/PATH=SERVICE:PORT[,tls[=SECRET]]; a path that ends in * is a prefix
    #[arg(long)]
    rule: Vec<String>,
    /// SERVICE:PORT for everything else
    #[arg(long, default_value = "", hide_default_value = true)]
    default_backend: String,
    /// The ingress class
    #[arg(long)]
    class: Option<String>,
    /// KEY=VALUE; may be given several times
    #[arg(long)]
    annotation: Vec<String>,
    #[command(flatten)]
    pub(super) flags: CreateFlags,
}

/// One `--rule`.
#[derive(Debug, PartialEq)]
struct Rule {
    host: String,
    path: String,
    prefix: bool,
    service: String,
    port: String,
    /// With the secret, if one is named.
    tls: Option<Option<String>>,
}

impl Rule {
    fn parse(text: &str) -> Result<Self> {
        let wrong =
            || Error::message(format!("rule {text} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"));
        let (backend, tls) = match text.split_once(',') {
            Some((backend, "tls")) => (backend, Some(None)),
            Some((backend, rest)) => {
                let secret = rest.strip_prefix("tls=").filter(|secret| !secret.contains(',')).ok_or_else(wrong)?;
                (backend, Some((!secret.is_empty()).then(|| secret.to_owned())))
            }
            None => (text, None),
        };
        let (address, backend) = backend.split_once('=').ok_or_else(wrong)?;
        let (host, path) = address.split_once('/').ok_or_else(wrong)?;
        let (service, port) = backend.split_once(':').ok_or_else(wrong)?;
        if service.is_empty() || port.is_empty() || !port.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == ':') {
            return Err(wrong());
        }
        let (path, prefix) = path.strip_suffix('*').map_or((path, false), |path| (path, true));
        let port = port.split(':').next().unwrap_or(port);
        Ok(Self { host: host.into(), path: format!("/{path}"), prefix, service: service.into(), port: port.into(), tls })
    }
}

fn backend(service: &str, port: &str) -> Value {
    let port = port.parse::<u16>().map_or_else(|_| json!({"name": port}), |number| json!({"number": number}));
    json!({"service": {"name": service, "port": port}})
}

impl IngressArgs {
    pub(super) fn object(&self) -> Result<Value> {
        if self.rule.is_empty() && self.default_backend.is_empty() {
            return Err(Error::message(
                "not enough information provided: every ingress has to either specify a default-backend (which catches all \
                 traffic) or a list of rules (which catch specific paths)",
            ));
        }
        let rules = self.rule.iter().map(|rule| Rule::parse(rule)).collect::<Result<Vec<_>>>()?;
        let mut metadata = json!({"name": self.name});
        for annotation in &self.annotation {
            let pair = annotation.split_once('=').filter(|(key, _)| !key.is_empty());
            let (key, value) = pair.ok_or_else(|| {
                Error::message(format!("annotation {annotation} is invalid and should be in format key=[value]"))
            })?;
            metadata["annotations"][key] = value.into();
        }
        let mut spec = spec(&rules);
        if !self.default_backend.is_empty() {
            let parts = self.default_backend.split_once(':').filter(|(service, port)| !service.is_empty() && !port.is_empty());
            let (service, port) =
                parts.ok_or_else(|| Error::message("default-backend should be in format servicename:serviceport"))?;
            spec["defaultBackend"] = backend(service, port);
        }
        if let Some(class) = &self.class {
            spec["ingressClassName"] = class.as_str().into();
        }
        Ok(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec,
            "status": {"loadBalancer": {}},
        }))
    }
}

/// Paths of one host are one rule, hosts of one secret one entry of `tls`.
fn spec(rules: &[Rule]) -> Value {
    let mut hosts: Vec<(&str, Vec<Value>)> = Vec::new();
    let mut tls: Vec<(Option<&str>, Vec<&str>)> = Vec::new();
    for rule in rules {
        let kind = if rule.prefix { "Prefix" } else { "Exact" };
        let path = json!({"backend": backend(&rule.service, &rule.port), "path": rule.path, "pathType": kind});
        match hosts.iter_mut().find(|(host, _)| *host == rule.host) {
            Some((_, paths)) => paths.push(path),
            None => hosts.push((&rule.host, vec![path])),
        }
        let Some(secret) = &rule.tls else { continue };
        let own = (!rule.host.is_empty()).then_some(rule.host.as_str());
        match tls.iter_mut().find(|(other, _)| *other == secret.as_deref()) {
            Some((_, hosts)) => hosts.extend(own.filter(|own| !hosts.contains(own))),
            None => tls.push((secret.as_deref(), own.into_iter().collect())),
        }
    }
    let mut spec = json!({});
    if !hosts.is_empty() {
        let rule = |(host, paths): (&str, Vec<Value>)| {
            let mut rule = json!({"http": {"paths": paths}});
            if !host.is_empty() {
                rule["host"] = host.into();
            }
            rule
        };
        spec["rules"] = hosts.into_iter().map(rule).collect();
    }
    if !tls.is_empty() {
        let entry = |(secret, hosts): (Option<&str>, Vec<&str>)| {
            let mut entry = json!({});
            if !hosts.is_empty() {
                entry["hosts"] = json!(hosts);
            }
            if let Some(secret) = secret {
                entry["secretName"] = secret.into();
            }
            entry
        };
        spec["tls"] = tls.into_iter().map(entry).collect();
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let rule = |host: &str, path: &str, prefix, port: &str, tls: Option<Option<&str>>| Rule {
            host: host.into(),
            path: path.into(),
            prefix,
            service: "s".into(),
            port: port.into(),
            tls: tls.map(|secret| secret.map(str::to_owned)),
        };
        let check = |text: &str, want: Option<Rule>| assert_eq!(Rule::parse(text).ok(), want, "{text}");
        check("a.com/x=s:80", Some(rule("a.com", "/x", false, "80", None)));
        check("a.com/*=s:http,tls", Some(rule("a.com", "/", true, "http", Some(None))));
        check("/x*=s:80,tls=c", Some(rule("", "/x", true, "80", Some(Some("c")))));
        for wrong in ["a.com", "a.com=s:80", "a.com/=s", "a.com/=s:", "a.com/=:80", "a.com/=s:80,x"] {
            check(wrong, None);
        }
    }

    #[test]
    fn what_is_of_one_host_is_one_rule() {
        let rules: Vec<Rule> =
            ["a/x=s:1,tls=c", "b/=s:1,tls=c", "a/y=s:p"].iter().map(|text| Rule::parse(text).unwrap()).collect();
        let spec = spec(&rules);
        assert_eq!(spec["rules"].as_array().map(Vec::len), Some(2));
        assert_eq!(spec["rules"][0]["http"]["paths"][1]["backend"], backend("s", "p"));
        assert_eq!(spec["tls"], json!([{"hosts": ["a", "b"], "secretName": "c"}]));
    }
}
