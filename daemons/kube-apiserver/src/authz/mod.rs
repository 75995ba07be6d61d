//! Authorization: may this user do that? Node, then RBAC, as `--authorization-mode` lists them; the first who allows decides.

pub mod escalation;
pub mod node;
pub mod rbac;
pub mod rule;

use std::sync::Arc;

use machinery::status::Status;

use self::node::NodeAuthorizer;
use self::rbac::Rbac;
use crate::authn::user::{MASTERS, User};
use crate::request_info::RequestInfo;

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
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// As it stands in the query of a list or watch.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    pub fn of(user: &'a User, info: &'a RequestInfo, field_selector: &'a str) -> Self {
        let resource = info.resource.as_ref().map(|r| ResourceAttributes {
            group: &r.group,
            resource: &r.resource,
            subresource: &r.subresource,
            namespace: &r.namespace,
            name: &r.name,
            field_selector,
        });
        Self { user: Some(user), verb: &info.verb, resource, path: &info.path }
    }

    pub fn resource(user: &'a User, verb: &'a str, resource: ResourceAttributes<'a>) -> Self {
        Self { user: Some(user), verb, resource: Some(resource), path: "" }
    }
}

/// The answer, with the reason that audit and access reviews show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    NoOpinion(String),
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// One entry of `--authorization-mode`.
#[derive(Clone)]
pub enum Mode {
    Node(Arc<NodeAuthorizer>),
    Rbac(Arc<Rbac>),
    AlwaysAllow,
    AlwaysDeny,
}

/// The modes in order, behind what is always allowed.
#[derive(Clone)]
pub struct Authorizer {
    modes: Vec<Mode>,
}

impl Authorizer {
    pub fn new(modes: Vec<Mode>) -> Self {
        Self { modes }
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_some_and(|user| user.is_in(MASTERS)) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for mode in &self.modes {
            let decision = match mode {
                Mode::Node(node) => node.authorize(attributes),
                Mode::Rbac(rbac) => rbac.authorize(attributes),
                Mode::AlwaysAllow => return Decision::Allow(String::new()),
                Mode::AlwaysDeny => Decision::NoOpinion("Everything is forbidden.".to_owned()),
            };
            match decision {
                Decision::Allow(reason) => return Decision::Allow(reason),
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// The rules a user has in a namespace, and why the list may be incomplete.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<rule::Rule>, Option<String>) {
        let mut rules = Vec::new();
        let mut incomplete = None;
        if user.is_in(MASTERS) {
            rules.extend(rule::Rule::everything());
        }
        for mode in &self.modes {
            match mode {
                Mode::Node(_) if user.node_name().is_some() => {
                    incomplete = Some("node authorizer does not support user rule resolution".to_owned());
                }
                Mode::Node(_) | Mode::AlwaysDeny => {}
                Mode::Rbac(rbac) => rules.extend(rbac.rules_for(user, namespace)),
                Mode::AlwaysAllow => rules.extend(rule::Rule::everything()),
            }
        }
        (rules, incomplete)
    }

    /// The rules that RBAC gives: what a role may not exceed.
    pub fn rbac(&self) -> Option<&Rbac> {
        self.modes.iter().find_map(|mode| match mode {
            Mode::Rbac(rbac) => Some(rbac.as_ref()),
            _ => None,
        })
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
