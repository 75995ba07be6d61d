//! One RBAC rule: whether it allows a request, and whether it covers another rule.

use serde::{Deserialize, Serialize};

use super::Attributes;

/// `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub api_groups: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub non_resource_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resource_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn has(set: &[String], element: &str) -> bool {
    set.iter().any(|e| e == element)
}

fn has_or_star(set: &[String], element: &str) -> bool {
    set.iter().any(|e| e == "*" || e == element)
}

/// `/healthz/*` matches all below, `*` everything.
fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

impl Rule {
    pub fn everything() -> [Self; 2] {
        let star = || vec!["*".to_owned()];
        [
            Self { verbs: star(), api_groups: star(), resources: star(), ..Self::default() },
            Self { verbs: star(), non_resource_urls: star(), ..Self::default() },
        ]
    }

    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has_or_star(&self.verbs, attributes.verb) {
            return false;
        }
        match &attributes.resource {
            None => self.non_resource_urls.iter().any(|pattern| url_matches(pattern, attributes.path)),
            Some(r) => {
                has_or_star(&self.api_groups, r.group)
                    && self.resources.iter().any(|resource| resource_matches(resource, r.resource, r.subresource))
                    && (self.resource_names.is_empty() || has(&self.resource_names, r.name))
            }
        }
    }

    /// The same rule as many with one verb, group, resource and name each.
    fn breakdown(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                    } else {
                        parts.extend(self.resource_names.iter().map(|n| Self { resource_names: one(n), ..part.clone() }));
                    }
                }
            }
            for url in &self.non_resource_urls {
                parts.push(Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() });
            }
        }
        parts
    }

    /// `part` comes from [`Rule::breakdown`].
    fn covers(&self, part: &Self) -> bool {
        let all = |set: &[String], wanted: &[String]| wanted.iter().all(|w| has_or_star(set, w));
        let resources = part.resources.iter().all(|wanted| {
            has_or_star(&self.resources, wanted)
                || wanted.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
        });
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty() && part.resource_names.iter().all(|n| has(&self.resource_names, n)));
        let urls = part.non_resource_urls.iter().all(|url| self.non_resource_urls.iter().any(|p| url_matches(p, url)));
        all(&self.verbs, &part.verbs) && all(&self.api_groups, &part.api_groups) && resources && names && urls
    }

    /// As upstream prints rules in its messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub fn describe(&self) -> String {
        let quoted = |set: &[String]| set.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>().join(" ");
        let mut parts = Vec::new();
        for (name, set) in [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ] {
            if !set.is_empty() {
                parts.push(format!("{name}:[{}]", quoted(set)));
            }
        }
        format!("{{{}}}", parts.join(", "))
    }
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    let Some((r, s)) = pattern.split_once('/') else { return false };
    s == subresource && (r == "*" || r == resource)
}

/// What of `wanted` is not covered by `held`, one verb, group, resource and name at a time.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(Rule::breakdown).filter(|part| !held.iter().any(|rule| rule.covers(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ResourceAttributes;
    use super::*;

    /// `verbs groups resources names`, lists by commas; or `verbs url URLS`.
    fn rule(text: &str) -> Rule {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let parts: Vec<&str> = text.split(' ').collect();
        match parts.as_slice() {
            [verbs, "url", urls] => Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() },
            [verbs, groups, resources, rest @ ..] => Rule {
                verbs: list(verbs),
                api_groups: list(groups.trim_matches('"')),
                resources: list(resources),
                resource_names: rest.first().map(|names| list(names)).unwrap_or_default(),
                ..Rule::default()
            },
            _ => panic!("{text}"),
        }
    }

    fn check(text: &str, verb: &str, group: &str, resource: &str, name: &str, allowed: bool) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = Attributes {
            verb,
            resource: Some(ResourceAttributes { group, resource, subresource, name, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(rule(text).allows(&attributes), allowed, "{text}: {verb} {resource}/{subresource} {name}");
    }

    #[test]
    fn rules_allow() {
        check("get,list \"\" pods", "get", "", "pods", "a", true);
        check("get,list \"\" pods", "watch", "", "pods", "a", false);
        check("get apps pods", "get", "", "pods", "a", false);
        check("* * *", "delete", "apps", "deployments/scale", "a", true);
        check("get \"\" pods", "get", "", "pods/log", "a", false);
        check("get \"\" pods/log", "get", "", "pods/log", "a", true);
        check("get \"\" */log", "get", "", "pods/log", "a", true);
        check("get \"\" */log", "get", "", "pods", "a", false);
        check("get \"\" pods a,b", "get", "", "pods", "b", true);
        check("get \"\" pods a,b", "get", "", "pods", "c", false);
        check("get \"\" pods a,b", "list", "", "pods", "", false);
    }

    #[test]
    fn urls() {
        for (pattern, path, allowed) in [
            ("/healthz", "/healthz", true),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/x", true),
        ] {
            let attributes = Attributes { verb: "get", path, ..Default::default() };
            assert_eq!(rule(&format!("get url {pattern}")).allows(&attributes), allowed, "{pattern} {path}");
        }
    }

    #[test]
    fn covering() {
        let check = |held: &[&str], wanted: &str, missing: usize| {
            let held: Vec<Rule> = held.iter().map(|text| rule(text)).collect();
            assert_eq!(uncovered(&held, &[rule(wanted)]).len(), missing, "{held:?} {wanted}");
        };
        check(&["* * *"], "get,list apps deployments", 0);
        check(&["get \"\" pods", "list \"\" pods"], "get,list \"\" pods", 0);
        check(&["get \"\" pods"], "get,list \"\" pods,secrets", 3);
        check(&["get \"\" pods a"], "get \"\" pods a", 0);
        check(&["get \"\" pods a"], "get \"\" pods", 1);
        check(&["get \"\" pods"], "get \"\" pods a", 0);
        check(&["get \"\" */status"], "get \"\" pods/status", 0);
        check(&["get url /a/*"], "get url /a/b", 0);
        check(&["get url /a"], "get url /a/*", 1);
        assert_eq!(rule("get \"\" pods").describe(), r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#);
    }
}
