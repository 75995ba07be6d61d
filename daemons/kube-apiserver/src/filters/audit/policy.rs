//! How much of which request is written down (`audit.k8s.io/v1` Policy).

use std::path::Path;

use serde::Deserialize;

use crate::authn::user::User;
use crate::request_info::RequestInfo;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// The moments of a request at which an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of requests that stay open: the answer has begun.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What the policy says about one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Plan {
    pub fn writes(&self, stage: Stage) -> bool {
        self.level != Level::None && !self.omit_stages.contains(&stage)
    }
}

/// One rule of a policy file. Empty lists match everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// The first rule that matches decides; a request that none matches is not written down.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("failed to read file path {path:?}")]
    Read { path: String, source: std::io::Error },
    #[error("failed decoding file {path:?}: {why}")]
    Malformed { path: String, why: String },
    #[error("invalid audit policy {path:?}: {why}")]
    Invalid { path: String, why: String },
}

impl Policy {
    pub fn from_file(path: &Path) -> Result<Self, PolicyError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: name.clone(), source })?;
        let policy: Self = machinery::yaml::from_str(&text)
            .map_err(|error| PolicyError::Malformed { path: name.clone(), why: error.to_string() })?;
        policy.check().map_err(|why| PolicyError::Invalid { path: name, why })?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), String> {
        if self.kind != "Policy" || self.api_version != "audit.k8s.io/v1" {
            return Err(format!("unknown group version field {:?} in policy", self.api_version));
        }
        if self.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        self.rules.iter().enumerate().try_for_each(|(index, rule)| rule.check().map_err(|why| format!("rules[{index}]{why}")))
    }

    /// Metadata of everything, but not of what is only reading and watching the health of things.
    pub fn metadata() -> Self {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let quiet = Rule {
            level: Some(Level::None),
            non_resource_urls: list(&["/healthz*", "/livez*", "/readyz*", "/metrics", "/version", "/openapi*"]),
            ..Rule::default()
        };
        let leases =
            GroupResources { group: "coordination.k8s.io".to_owned(), resources: list(&["leases"]), ..GroupResources::default() };
        let leases = Rule { level: Some(Level::None), resources: vec![leases], ..Rule::default() };
        let all = Rule { level: Some(Level::Metadata), ..Rule::default() };
        Self {
            rules: vec![quiet, leases, all],
            omit_stages: vec![Stage::RequestReceived, Stage::ResponseStarted],
            ..Self::default()
        }
    }

    pub fn decide(&self, user: &User, info: &RequestInfo) -> Plan {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, info)) else { return Plan::default() };
        Plan {
            level: rule.level.unwrap_or_default(),
            omit_stages: rule.omit_stages.iter().chain(&self.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        if self.level.is_none() {
            return Err(".level: Required value".to_owned());
        }
        for url in self.non_resource_urls.iter().filter(|url| *url != "*") {
            if !url.starts_with('/') {
                return Err(format!(
                    ".nonResourceURLs: Invalid value: {url:?}: non-resource URL rules must begin with a '/' character"
                ));
            }
            if url.trim_end_matches('*').len() + 1 < url.len() || url[..url.len() - 1].contains('*') {
                return Err(format!(
                    ".nonResourceURLs: Invalid value: {url:?}: non-resource URL wildcards '*' must be the final character of the rule"
                ));
            }
        }
        if self.resources.iter().any(|r| !r.resource_names.is_empty() && r.resources.is_empty()) {
            return Err(".resources.resourceNames: Invalid value: using resourceNames requires at least one resource".to_owned());
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            return Err(
                ".nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs".to_owned()
            );
        }
        Ok(())
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        any(&self.users, &user.name)
            && (self.user_groups.is_empty() || self.user_groups.iter().any(|group| user.is_in(group)))
            && any(&self.verbs, &info.verb)
            && self.matches_target(info)
    }

    fn matches_target(&self, info: &RequestInfo) -> bool {
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.resource.as_ref().is_some_and(|r| {
                let in_namespace = self.namespaces.is_empty() || self.namespaces.contains(&r.namespace);
                in_namespace && (self.resources.is_empty() || self.resources.iter().any(|group| group.matches(r)))
            });
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        info.resource.is_none()
            && self.non_resource_urls.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => info.path.starts_with(prefix),
                None => *pattern == info.path,
            })
    }
}

impl GroupResources {
    fn matches(&self, r: &crate::request_info::ResourcePath) -> bool {
        if self.group != r.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&r.name);
        named
            && self.resources.iter().any(|wanted| {
                *wanted == r.combined()
                    || wanted == "*"
                    || wanted.strip_suffix("/*").is_some_and(|w| w == r.resource)
                    || wanted.strip_prefix("*/").is_some_and(|w| !w.is_empty() && w == r.subresource)
            })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    const HEAD: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";

    fn policy(text: &str) -> Result<Policy, String> {
        let policy: Policy = machinery::yaml::from_str(&format!("{HEAD}{text}")).map_err(|error| error.to_string())?;
        policy.check().map(|()| policy)
    }

    #[test]
    fn the_first_rule_decides() {
        let policy = policy(
            "omitManagedFields: true\nomitStages: [RequestReceived]\nrules:\n- {level: None, users: [bob]}\n- {level: Request, resources: [{group: '', resources: [pods/*]}], omitManagedFields: false, omitStages: [Panic]}\n- {level: RequestResponse, userGroups: [dev], namespaces: [a]}\n- {level: Metadata, nonResourceURLs: ['/metrics', '/api*']}\n- {level: Metadata, verbs: [create], resources: [{group: '*', resources: ['*/scale', configmaps], resourceNames: ['', c]}]}\n",
        )
        .unwrap();
        let check = |user: &str, groups: &[&str], method: Method, path: &str, level: Level| {
            let info = RequestInfo::parse(&method, path, "");
            assert_eq!(policy.decide(&User::new(user, groups), &info).level, level, "{user} {method} {path}");
        };
        check("bob", &["dev"], Method::POST, "/api/v1/namespaces/a/pods", Level::None);
        check("ann", &["dev"], Method::POST, "/api/v1/namespaces/a/services", Level::RequestResponse);
        check("ann", &["dev"], Method::POST, "/api/v1/namespaces/b/services", Level::None);
        check("ann", &[], Method::GET, "/api/v1/namespaces/a/pods/p/log", Level::Request);
        check("ann", &[], Method::GET, "/api/v1/namespaces/a/pods/p", Level::Request);
        check("ann", &[], Method::GET, "/metrics", Level::Metadata);
        check("ann", &[], Method::GET, "/apis", Level::Metadata);
        check("ann", &[], Method::GET, "/version", Level::None);
        check("ann", &[], Method::POST, "/api/v1/namespaces/a/configmaps", Level::Metadata);
        check("ann", &[], Method::POST, "/api/v1/namespaces/a/configmaps/c/x", Level::None);
        check("ann", &[], Method::POST, "/apis/apps/v1/namespaces/a/deployments/c/scale", Level::Metadata);
        let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/a/pods/p", "");
        let plan = policy.decide(&User::new("ann", &[]), &info);
        assert!(!plan.omit_managed_fields);
        assert_eq!(
            [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic].map(|s| plan.writes(s)),
            [false, true, true, false]
        );
    }

    #[test]
    fn what_a_policy_may_not_say() {
        for (text, expected) in [
            ("rules: []", "0 rules"),
            ("rules: [{users: [a]}]", "rules[0].level: Required"),
            ("rules: [{level: Everything}]", "Everything"),
            ("rules: [{level: None, nonResourceURLs: [x]}]", "must begin with"),
            ("rules: [{level: None, nonResourceURLs: ['/a*b']}]", "must be the final"),
            ("rules: [{level: None, nonResourceURLs: ['/a'], namespaces: [b]}]", "cannot apply to both"),
            ("rules: [{level: None, resources: [{group: '', resourceNames: [b]}]}]", "requires at least one resource"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn health_is_not_news() {
        let info = RequestInfo::parse(&Method::GET, "/readyz", "");
        assert_eq!(Policy::metadata().decide(&User::anonymous(), &info).level, Level::None);
    }
}
