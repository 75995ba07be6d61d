//! The audit log: one JSON line for each request, who did what and how it ended.

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use jiff::Timestamp;
use machinery::time;
use serde_json::{Value, json};

use super::rotating::{RotatingFile, Rotation};
use crate::authn::user::User;
use crate::authz::Decision;
use crate::request_info::RequestInfo;

/// How much of a request is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// One rule of a policy file. Empty lists match everything.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// `audit.k8s.io/v1` Policy: the first rule that matches decides.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("reading the audit policy {path}")]
    Read { path: String, source: std::io::Error },
    #[error("the audit policy {path} is malformed: {why}")]
    Policy { path: String, why: String },
    #[error("opening the audit log {path}")]
    Open { path: String, source: std::io::Error },
}

impl Policy {
    pub fn from_file(path: &Path) -> Result<Self, AuditError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| AuditError::Read { path: name.clone(), source })?;
        machinery::yaml::from_str(&text).map_err(|error| AuditError::Policy { path: name, why: error.to_string() })
    }

    /// Metadata of everything, but not of what is only reading and watching the health of things.
    pub fn metadata() -> Self {
        let quiet = Rule {
            level: "None".into(),
            non_resource_urls: vec![
                "/healthz*".into(),
                "/livez*".into(),
                "/readyz*".into(),
                "/metrics".into(),
                "/version".into(),
                "/openapi*".into(),
            ],
            ..Rule::default()
        };
        let leases = Rule {
            level: "None".into(),
            resources: vec![GroupResources {
                group: "coordination.k8s.io".into(),
                resources: vec!["leases".into()],
                ..GroupResources::default()
            }],
            ..Rule::default()
        };
        let all = Rule { level: "Metadata".into(), ..Rule::default() };
        Self { rules: vec![quiet, leases, all], omit_stages: vec!["RequestReceived".into()] }
    }

    fn decide(&self, user: &User, info: &RequestInfo) -> (Level, bool) {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, info)) else { return (Level::None, false) };
        let level = match rule.level.as_str() {
            "Metadata" => Level::Metadata,
            "Request" => Level::Request,
            "RequestResponse" => Level::RequestResponse,
            _ => Level::None,
        };
        let omitted = |stage: &str| rule.omit_stages.iter().chain(&self.omit_stages).any(|omitted| omitted == stage);
        (level, omitted("ResponseComplete"))
    }
}

impl Rule {
    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let any = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        any(&self.users, &user.name)
            && (self.user_groups.is_empty() || self.user_groups.iter().any(|group| user.is_in(group)))
            && any(&self.verbs, &info.verb)
            && self.matches_target(info)
    }

    fn matches_target(&self, info: &RequestInfo) -> bool {
        let everything = self.resources.is_empty() && self.namespaces.is_empty() && self.non_resource_urls.is_empty();
        match &info.resource {
            _ if everything => true,
            None => self.non_resource_urls.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => info.path.starts_with(prefix),
                None => *pattern == info.path,
            }),
            Some(r) => {
                let in_namespace = self.namespaces.is_empty() || self.namespaces.contains(&r.namespace);
                let of_resource = self.resources.iter().any(|group| {
                    let names = group.resource_names.is_empty() || group.resource_names.contains(&r.name);
                    let resource = group.resources.is_empty()
                        || group.resources.iter().any(|wanted| {
                            *wanted == r.combined()
                                || wanted == "*"
                                || wanted.strip_suffix("/*").is_some_and(|w| w == r.resource && !r.subresource.is_empty())
                                || wanted.strip_prefix("*/").is_some_and(|w| w == r.subresource)
                        });
                    group.group == r.group && resource && names
                });
                let resources = (self.resources.is_empty() && self.non_resource_urls.is_empty()) || of_resource;
                in_namespace && resources
            }
        }
    }
}

/// Where the lines go.
pub struct Log {
    policy: Policy,
    output: Mutex<Box<dyn Write + Send>>,
}

/// What is known of a request when it ends.
pub struct Event<'e> {
    pub id: &'e str,
    pub user: &'e User,
    /// Who the user acts as, if not as themselves.
    pub impersonated: Option<&'e User>,
    pub info: &'e RequestInfo,
    pub uri: &'e str,
    pub user_agent: &'e str,
    pub source: Option<String>,
    pub decision: Option<&'e Decision>,
    pub code: u16,
    /// The name of the object, when the path did not have it.
    pub object_name: &'e str,
    pub received: Timestamp,
    pub now: Timestamp,
}

impl Log {
    /// `-` is standard output.
    pub fn open(path: &str, policy: Policy, rotation: Rotation) -> Result<Self, AuditError> {
        let output: Box<dyn Write + Send> = if path == "-" {
            Box::new(std::io::stdout())
        } else {
            let open = RotatingFile::open(Path::new(path), rotation);
            Box::new(open.map_err(|source| AuditError::Open { path: path.to_owned(), source })?)
        };
        Ok(Self { policy, output: Mutex::new(output) })
    }

    /// For tests: lines go to memory.
    pub fn to(output: impl Write + Send + 'static, policy: Policy) -> Self {
        Self { policy, output: Mutex::new(Box::new(output)) }
    }

    pub fn write(&self, event: &Event<'_>) {
        let (level, omitted) = self.policy.decide(event.user, event.info);
        if level == Level::None || omitted {
            return;
        }
        let mut line = event.to_value().to_string();
        line.push('\n');
        let mut output = self.output.lock().unwrap_or_else(|e| e.into_inner());
        if let Err(error) = output.write_all(line.as_bytes()).and_then(|()| output.flush()) {
            tracing::warn!(%error, "writing the audit log");
        }
    }
}

impl Event<'_> {
    fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": self.id, "stage": "ResponseComplete",
            "requestURI": self.uri, "verb": self.info.verb, "user": self.user.to_value(),
            "sourceIPs": self.source.iter().collect::<Vec<_>>(), "userAgent": self.user_agent,
            "responseStatus": {"metadata": {}, "code": self.code},
            "requestReceivedTimestamp": time::format_micro(self.received), "stageTimestamp": time::format_micro(self.now),
        });
        if let Some(user) = self.impersonated {
            value["impersonatedUser"] = user.to_value();
        }
        if let Some(r) = &self.info.resource {
            let name = if r.name.is_empty() { self.object_name } else { &r.name };
            let mut reference = json!({"resource": r.resource, "apiVersion": r.version});
            for (field, text) in
                [("namespace", r.namespace.as_str()), ("name", name), ("apiGroup", &r.group), ("subresource", &r.subresource)]
            {
                if !text.is_empty() {
                    reference[field] = json!(text);
                }
            }
            value["objectRef"] = reference;
        }
        if let Some(decision) = self.decision {
            let word = if decision.allowed() { "allow" } else { "forbid" };
            value["annotations"] =
                json!({"authorization.k8s.io/decision": word, "authorization.k8s.io/reason": decision.reason()});
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn the_first_rule_decides() {
        let policy: Policy = machinery::yaml::from_str(
            "rules:\n- level: None\n  users: [bob]\n- level: Request\n  resources: [{group: '', resources: [pods/*]}]\n- level: Metadata\n  verbs: [create]\n",
        )
        .unwrap();
        let check = |user: &str, method: Method, path: &str, level: Level| {
            let info = RequestInfo::parse(&method, path, "");
            assert_eq!(policy.decide(&User::new(user, &[]), &info).0, level, "{user} {path}");
        };
        check("bob", Method::POST, "/api/v1/namespaces/a/pods", Level::None);
        check("ann", Method::POST, "/api/v1/namespaces/a/pods", Level::Metadata);
        check("ann", Method::GET, "/api/v1/namespaces/a/pods/p/log", Level::Request);
        check("ann", Method::GET, "/api/v1/namespaces/a/pods", Level::None);
    }

    #[test]
    fn health_is_not_news() {
        let info = RequestInfo::parse(&Method::GET, "/readyz", "");
        assert_eq!(Policy::metadata().decide(&User::anonymous(), &info).0, Level::None);
    }
}
