//! Nobody gives what they do not have: the check before a role is written or bound.

use machinery::status::Status;
use serde_json::Value;

use super::rbac::{self, GROUP, RoleRef};
use super::rule::{Rule, uncovered};
use super::{Attributes, Authorizer, ResourceAttributes};
use crate::authn::user::{MASTERS, User};

/// Checks a write of a role or binding. `old` is none for a create. Other resources pass.
pub fn check(
    authorizer: &Authorizer,
    user: &User,
    resource: ResourceAttributes<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if resource.group != GROUP || user.is_in(MASTERS) || authorizer.rbac().is_none() {
        return Ok(());
    }
    match resource.resource {
        "roles" | "clusterroles" => check_role(authorizer, user, resource, new, old),
        "rolebindings" | "clusterrolebindings" => check_binding(authorizer, user, resource, new, old),
        _ => Ok(()),
    }
}

fn check_role(
    authorizer: &Authorizer,
    user: &User,
    resource: ResourceAttributes<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let unchanged = |old: &Value| old["rules"] == new["rules"] && old["aggregationRule"] == new["aggregationRule"];
    if old.is_some_and(unchanged) || authorizer.authorize(&Attributes::resource(user, "escalate", resource)).allowed() {
        return Ok(());
    }
    confirm(authorizer, user, resource, &rbac::rules_of(new))?;
    let aggregates = |role: &Value| role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|s| !s.is_empty());
    if (aggregates(new) || old.is_some_and(aggregates)) && confirm(authorizer, user, resource, &Rule::everything()).is_err() {
        return Err(Status::forbidden(
            (GROUP, resource.resource),
            resource.name,
            "must have cluster-admin privileges to use the aggregationRule",
        ));
    }
    Ok(())
}

fn check_binding(
    authorizer: &Authorizer,
    user: &User,
    resource: ResourceAttributes<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let unchanged = |old: &Value| old["roleRef"] == new["roleRef"] && old["subjects"] == new["subjects"];
    if old.is_some_and(unchanged) {
        return Ok(());
    }
    let role: RoleRef = rbac::role_ref_of(new);
    let plural = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
    let bind = ResourceAttributes {
        group: GROUP,
        resource: plural,
        namespace: resource.namespace,
        name: &role.name,
        ..Default::default()
    };
    if authorizer.authorize(&Attributes::resource(user, "bind", bind)).allowed() {
        return Ok(());
    }
    let rules = authorizer
        .rbac()
        .and_then(|rbac| rbac.role_rules(&role, resource.namespace))
        .ok_or_else(|| Status::not_found((GROUP, plural), &role.name))?;
    confirm(authorizer, user, resource, &rules)
}

fn confirm(authorizer: &Authorizer, user: &User, resource: ResourceAttributes<'_>, wanted: &[Rule]) -> Result<(), Status> {
    let held = authorizer.rbac().map(|rbac| rbac.rules_for(user, resource.namespace)).unwrap_or_default();
    let missing = uncovered(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = compact(missing).iter().map(Rule::describe).collect();
    lines.sort();
    lines.dedup();
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        lines.join("\n")
    );
    Err(Status::forbidden((GROUP, resource.resource), resource.name, why))
}

/// Rules that differ in their verbs only become one, so that the message stays readable.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = out.iter_mut().find(|other| {
            other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls == rule.non_resource_urls
        });
        match same {
            Some(other) => other.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}
