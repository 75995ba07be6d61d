//! Which schema a request falls under, and which flow it is part of.

use super::config::{Configuration, Distinguisher, ResourceRule, Rule, Schema, Subject};
use crate::authn::user::User;
use crate::request_info::{RequestInfo, ResourcePath};

/// The first schema that matches. One always does: the last of the mandatory ones takes everybody.
pub fn classify<'c>(configuration: &'c Configuration, user: &User, info: &RequestInfo) -> Option<&'c Schema> {
    configuration.schemas.iter().find(|schema| schema.rules.iter().any(|rule| matches(rule, user, info)))
}

/// A number that is the same for all requests of one flow.
pub fn flow(schema: &Schema, user: &User, info: &RequestInfo) -> u64 {
    let distinguisher = match schema.distinguisher {
        Distinguisher::Nothing => "",
        Distinguisher::User => &user.name,
        Distinguisher::Namespace => info.resource.as_ref().map_or("", |r| &r.namespace),
    };
    // FNV-1a, with a last mix so that short names differ in every bit.
    let bytes = schema.name.bytes().chain([0]).chain(distinguisher.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

fn matches(rule: &Rule, user: &User, info: &RequestInfo) -> bool {
    let asked = match &info.resource {
        Some(r) => rule.resource_rules.iter().any(|resource| matches_resource(resource, &info.verb, r)),
        None => rule
            .non_resource_rules
            .iter()
            .any(|urls| has_or_star(&urls.verbs, &info.verb) && urls.urls.iter().any(|pattern| matches_url(pattern, &info.path))),
    };
    asked && rule.subjects.iter().any(|subject| matches_subject(subject, user))
}

fn has_or_star(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == "*" || item == value)
}

fn matches_subject(subject: &Subject, user: &User) -> bool {
    if let Some(named) = &subject.user {
        return named.name == "*" || named.name == user.name;
    }
    if let Some(named) = &subject.group {
        return named.name == "*" || user.is_in(&named.name);
    }
    subject.service_account.as_ref().is_some_and(|named| {
        user.service_account_name()
            .is_some_and(|(namespace, name)| namespace == named.namespace && (named.name == "*" || named.name == name))
    })
}

fn matches_resource(rule: &ResourceRule, verb: &str, r: &ResourcePath) -> bool {
    if !has_or_star(&rule.verbs, verb) || !has_or_star(&rule.api_groups, &r.group) {
        return false;
    }
    let place = if r.namespace.is_empty() { rule.cluster_scope } else { has_or_star(&rule.namespaces, &r.namespace) };
    place
        && rule.resources.iter().any(|wanted| {
            wanted == "*"
                || match wanted.split_once('/') {
                    None => r.subresource.is_empty() && *wanted == r.resource,
                    Some((resource, sub)) => resource == r.resource && sub == r.subresource,
                }
        })
}

/// `*`, `/a/*` for everything below, or the path itself.
fn matches_url(pattern: &str, path: &str) -> bool {
    pattern == "*"
        || pattern == path
        || pattern.strip_suffix("/*").is_some_and(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Method;

    use super::*;
    use crate::authn::user::{AUTHENTICATED, MASTERS, NODES};
    use crate::filters::fairness::{config, defaults};

    #[test]
    fn the_default_schemas() {
        let of = |kind: &str| -> BTreeMap<String, serde_json::Value> {
            let objects = defaults::all().into_iter().filter(|object| object["kind"] == kind);
            objects.map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object)).collect()
        };
        let configuration = config::configuration(&of("FlowSchema"), &of("PriorityLevelConfiguration"), 600);
        let check = |user: &User, method: Method, path: &str, expected: &str| {
            let info = RequestInfo::parse(&method, path, "");
            let schema = classify(&configuration, user, &info).map(|schema| schema.name.as_str());
            assert_eq!(schema, Some(expected), "{} {method} {path}", user.name);
        };
        let node = User::new("system:node:n1", &[NODES, AUTHENTICATED]);
        let account = |namespace: &str| User::service_account(namespace, "x", "1");
        let manager = User::new("system:kube-controller-manager", &[AUTHENTICATED]);
        let bob = User::new("bob", &[AUTHENTICATED]);
        const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l";
        const POD: &str = "/api/v1/namespaces/a/pods/p";
        check(&User::new("admin", &[MASTERS, AUTHENTICATED]), Method::GET, POD, "exempt");
        check(&User::anonymous(), Method::GET, "/readyz", "probes");
        check(&User::anonymous(), Method::GET, "/readyz/ping", "global-default");
        check(&manager, Method::PUT, LEASE, "system-leader-election");
        check(&manager, Method::DELETE, LEASE, "kube-controller-manager");
        check(&account("kube-system"), Method::GET, LEASE, "system-leader-election");
        check(&account("kube-system"), Method::GET, POD, "kube-system-service-accounts");
        check(&account("a"), Method::GET, POD, "service-accounts");
        check(&node, Method::PATCH, "/api/v1/nodes/n1/status", "system-node-high");
        check(&node, Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "system-node-high");
        check(&node, Method::GET, POD, "system-nodes");
        check(&bob, Method::GET, POD, "global-default");
        check(&bob, Method::GET, "/version", "global-default");
        let global = configuration.schemas.iter().find(|schema| schema.name == "global-default").unwrap();
        let info = RequestInfo::parse(&Method::GET, POD, "");
        assert_eq!(flow(global, &bob, &info), flow(global, &bob, &RequestInfo::parse(&Method::GET, "/version", "")));
        assert_ne!(flow(global, &bob, &info), flow(global, &node, &info));
    }

    #[test]
    fn urls() {
        for (pattern, path, expected) in
            [("*", "/x", true), ("/a", "/a", true), ("/a", "/a/b", false), ("/a/*", "/a/b", true), ("/a/*", "/ab", false)]
        {
            assert_eq!(matches_url(pattern, path), expected, "{pattern} {path}");
        }
    }
}
