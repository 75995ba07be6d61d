//! Authorization: may this user do that? Node, then RBAC, as `--authorization-mode` lists them; the first who allows or
//! denies decides.

pub mod escalation;
pub mod node;
pub mod rbac;
pub mod rule;
pub mod webhook;

use std::sync::Arc;

use daemon::reload::Reloading;
use machinery::status::Status;

use self::node::NodeAuthorizer;
use self::rbac::Rbac;
use self::webhook::AccessWebhook;
use crate::authn::user::{MASTERS, User};
use crate::request_info::{RequestInfo, query_value};

/// One question.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    pub user: Option<&'a User>,
    pub verb: &'a str,
    /// Set for resources; the path counts for everything else.
    pub resource: Option<ResourceAttributes<'a>>,
    pub path: &'a str,
}

/// The part of a question about a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceAttributes<'a> {
    pub group: &'a str,
    /// Of the request; no local authorizer asks for it.
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// As it stands in the query of a list or watch.
    pub field_selector: &'a str,
    /// The same.
    pub label_selector: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(user: &'a User, info: &'a RequestInfo, selectors: &'a Selectors) -> Self {
        let resource = info.resource.as_ref().map(|r| ResourceAttributes {
            group: &r.group,
            version: &r.version,
            resource: &r.resource,
            subresource: &r.subresource,
            namespace: &r.namespace,
            name: &r.name,
            field_selector: &selectors.fields,
            label_selector: &selectors.labels,
        });
        Self { user: Some(user), verb: &info.verb, resource, path: &info.path }
    }

    pub fn resource(user: &'a User, verb: &'a str, resource: ResourceAttributes<'a>) -> Self {
        Self { user: Some(user), verb, resource: Some(resource), path: "" }
    }
}

/// The selectors of a list or watch, decoded.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    pub fields: String,
    pub labels: String,
}

impl Selectors {
    pub fn of(info: &RequestInfo, query: &str) -> Self {
        if query.is_empty() || !matches!(info.verb.as_ref(), "list" | "watch" | "deletecollection") {
            return Self::default();
        }
        let value = |name| query_value(query, name).unwrap_or_default();
        Self { fields: value("fieldSelector"), labels: value("labelSelector") }
    }
}

/// The answer, with the reason that audit and access reviews show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    /// Refused, whatever later authorizers would say.
    Deny(String),
    NoOpinion(String),
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn denied(&self) -> bool {
        matches!(self, Self::Deny(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// One entry of `--authorization-mode`.
#[derive(Clone)]
pub enum Mode {
    Node,
    Rbac,
    Webhook(Arc<AccessWebhook>),
    AlwaysAllow,
    AlwaysDeny,
}

/// What has been said so far.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    /// The decision, if this was one; else its reason is kept.
    fn take(&mut self, decision: Decision) -> Option<Decision> {
        match decision {
            Decision::NoOpinion(reason) => {
                if !reason.is_empty() {
                    self.0.push(reason);
                }
                None
            }
            decided => Some(decided),
        }
    }

    fn nobody(self) -> Decision {
        Decision::NoOpinion(self.0.join("\n"))
    }
}

/// The authorizers that answer from memory. They follow the cluster whether a mode asks them or not.
#[derive(Clone, Default)]
pub struct Local {
    pub node: Option<Arc<NodeAuthorizer>>,
    pub rbac: Arc<Rbac>,
}

impl Local {
    /// None for those that have to be asked over the network.
    fn answer(&self, mode: &Mode, attributes: &Attributes<'_>) -> Option<Decision> {
        Some(match mode {
            Mode::Node => {
                self.node.as_ref().map_or_else(|| Decision::NoOpinion(String::new()), |node| node.authorize(attributes))
            }
            Mode::Rbac => self.rbac.authorize(attributes),
            Mode::AlwaysAllow => Decision::Allow(String::new()),
            Mode::AlwaysDeny => Decision::NoOpinion("Everything is forbidden.".to_owned()),
            Mode::Webhook(_) => return None,
        })
    }
}

/// The modes in order, behind what is always allowed.
#[derive(Clone)]
pub struct Authorizer {
    modes: Arc<Reloading<Vec<Mode>>>,
    local: Local,
}

impl Authorizer {
    pub fn new(modes: Reloading<Vec<Mode>>, local: Local) -> Self {
        Self { modes: Arc::new(modes), local }
    }

    /// Asks everybody in order, over the network too.
    pub async fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        if is_master(attributes) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Reasons::default();
        for mode in self.modes.current().iter() {
            let decision = match (self.local.answer(mode, attributes), mode) {
                (Some(decision), _) => decision,
                (None, Mode::Webhook(webhook)) => webhook.authorize(attributes).await,
                (None, _) => continue,
            };
            if let Some(decided) = reasons.take(decision) {
                return decided;
            }
        }
        reasons.nobody()
    }

    /// The same for callers that cannot wait. A webhook is asked by blocking this thread, whose other work another one takes
    /// over; where there is no other, it has no opinion.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if is_master(attributes) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Reasons::default();
        for mode in self.modes.current().iter() {
            let decision = match (self.local.answer(mode, attributes), mode) {
                (Some(decision), _) => decision,
                (None, Mode::Webhook(webhook)) => ask_blocking(webhook, attributes),
                (None, _) => continue,
            };
            if let Some(decided) = reasons.take(decision) {
                return decided;
            }
        }
        reasons.nobody()
    }

    /// The rules a user has in a namespace, and why the list may be incomplete.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<rule::Rule>, Option<String>) {
        let mut rules = Vec::new();
        let mut incomplete = None;
        if user.is_in(MASTERS) {
            rules.extend(rule::Rule::everything());
        }
        for mode in self.modes.current().iter() {
            match mode {
                Mode::Node if user.node_name().is_some() => {
                    incomplete = Some("node authorizer does not support user rule resolution".to_owned());
                }
                Mode::Webhook(_) => incomplete = Some("webhook authorizer does not support user rule resolution".to_owned()),
                Mode::Node | Mode::AlwaysDeny => {}
                Mode::Rbac => rules.extend(self.local.rbac.rules_for(user, namespace)),
                Mode::AlwaysAllow => rules.extend(rule::Rule::everything()),
            }
        }
        (rules, incomplete)
    }

    /// The rules that RBAC gives: what a role may not exceed.
    pub fn rbac(&self) -> Option<&Rbac> {
        self.modes.current().iter().any(|mode| matches!(mode, Mode::Rbac)).then_some(&*self.local.rbac)
    }
}

/// Administrators are never locked out by what they configured.
fn is_master(attributes: &Attributes<'_>) -> bool {
    attributes.user.is_some_and(|user| user.is_in(MASTERS))
}

fn ask_blocking(webhook: &AccessWebhook, attributes: &Attributes<'_>) -> Decision {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(webhook.authorize(attributes)))
        }
        _ => Decision::NoOpinion("the authorization webhook cannot be asked here".to_owned()),
    }
}

/// The 403 for a question that nobody allowed, worded as upstream's.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let user = attributes.user.map_or("", |user| user.name.as_str());
    let mut why = match &attributes.resource {
        None => format!("User {user:?} cannot {} path {:?}", attributes.verb, attributes.path),
        Some(r) => {
            let slash = if r.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", r.resource, r.subresource);
            let scope = if r.namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {:?}", r.namespace)
            };
            format!("User {user:?} cannot {} resource {resource:?} in API group {:?} {scope}", attributes.verb, r.group)
        }
    };
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    match &attributes.resource {
        None => Status::forbidden("", "", why),
        Some(r) => Status::forbidden((r.group, r.resource), r.name, why),
    }
}
