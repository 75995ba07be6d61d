//! Role, ClusterRole, RoleBinding, ClusterRoleBinding.

use machinery::field::{FieldErrors, Path};
use machinery::{meta, names};
use serde_json::{Value, json};

use super::Rules;
use super::table::{AGE, Column, NAME, column, wide};
use super::validate;
use super::value::{has, items, text, texts};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) struct Role;

impl Rules for Role {
    fn default(&self, role: &mut Value) {
        super::value::fill(role, "rules", json!([]));
    }

    fn validate(&self, role: &Value, errors: &mut FieldErrors) {
        let namespaced = text(role, "/kind") != "ClusterRole";
        for (index, rule) in items(role, "/rules").iter().enumerate() {
            let path = Path::new("rules").index(index);
            if texts(rule, "/verbs").is_empty() {
                errors.required(&path.child("verbs"), "verbs must contain at least one value");
            }
            let urls = texts(rule, "/nonResourceURLs");
            if !urls.is_empty() {
                if namespaced {
                    let detail = "namespaced rules cannot apply to non-resource URLs";
                    errors.invalid(&path.child("nonResourceURLs"), json!(urls), detail);
                }
                if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !items(rule, &format!("/{field}")).is_empty()) {
                    let detail = "rules cannot apply to both regular resources and non-resource URLs";
                    errors.invalid(&path.child("nonResourceURLs"), json!(urls), detail);
                }
                continue;
            }
            if texts(rule, "/apiGroups").is_empty() {
                errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
            }
            if texts(rule, "/resources").is_empty() {
                errors.required(&path.child("resources"), "resource rules must supply at least one resource");
            }
        }
        if has(role, "/aggregationRule") {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors");
            let selectors = items(role, "/aggregationRule/clusterRoleSelectors");
            if selectors.is_empty() {
                errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
            }
            for (index, selector) in selectors.iter().enumerate() {
                validate::label_selector(selector, &path.index(index), errors);
            }
        }
    }
}

/// A binding of a role to subjects.
pub(super) struct Binding {
    columns: &'static [Column],
}

pub(super) const ROLE_BINDING: Binding = Binding {
    columns: &binding_columns(
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot \
         be resolved, the Authorizer must return an error.",
        ["Users in the roleBinding", "Groups in the roleBinding", "ServiceAccounts in the roleBinding"],
    ),
};

pub(super) const CLUSTER_ROLE_BINDING: Binding = Binding {
    columns: &binding_columns(
        "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must \
         return an error.",
        ["Users in the clusterRoleBinding", "Groups in the clusterRoleBinding", "ServiceAccounts in the clusterRoleBinding"],
    ),
};

/// The columns of a binding, which say so of its role and of its subjects.
const fn binding_columns(role: &'static str, [users, groups, accounts]: [&'static str; 3]) -> [Column; 6] {
    [
        NAME,
        column("Role", |row| format!("{}/{}", text(row.object, "/roleRef/kind"), text(row.object, "/roleRef/name")).into())
            .says(role),
        AGE,
        wide("Users", |row| subjects(row.object, "User").into()).says(users),
        wide("Groups", |row| subjects(row.object, "Group").into()).says(groups),
        wide("ServiceAccounts", |row| subjects(row.object, "ServiceAccount").into()).says(accounts),
    ]
}

impl Rules for Binding {
    fn validate(&self, binding: &Value, errors: &mut FieldErrors) {
        let cluster = text(binding, "/kind") == "ClusterRoleBinding";
        let role = Path::new("roleRef");
        if text(binding, "/roleRef/apiGroup") != GROUP {
            errors.not_supported(&role.child("apiGroup"), text(binding, "/roleRef/apiGroup"), &[GROUP]);
        }
        let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
        if !kinds.contains(&text(binding, "/roleRef/kind")) {
            errors.not_supported(&role.child("kind"), text(binding, "/roleRef/kind"), kinds);
        }
        let name = text(binding, "/roleRef/name");
        if name.is_empty() {
            errors.required(&role.child("name"), "");
        } else {
            errors.invalid_each(&role.child("name"), name, names::path_segment(name));
        }
        for (index, subject) in items(binding, "/subjects").iter().enumerate() {
            let path = Path::new("subjects").index(index);
            let (name, group) = (text(subject, "/name"), text(subject, "/apiGroup"));
            if name.is_empty() {
                errors.required(&path.child("name"), "");
            }
            match text(subject, "/kind") {
                "ServiceAccount" => {
                    if !name.is_empty() {
                        errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
                    }
                    if !group.is_empty() {
                        errors.not_supported(&path.child("apiGroup"), group, &[""]);
                    }
                    if cluster && text(subject, "/namespace").is_empty() {
                        errors.required(&path.child("namespace"), "");
                    }
                }
                "User" | "Group" => {
                    if group != GROUP {
                        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
                    }
                }
                kind => errors.not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"]),
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: &str, errors: &mut FieldErrors) {
        if new["roleRef"] != old["roleRef"] {
            errors.invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef");
        }
    }

    fn columns(&self) -> &'static [Column] {
        self.columns
    }
}

fn subjects(binding: &Value, kind: &str) -> String {
    let all = items(binding, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
    let names: Vec<String> = all
        .map(|subject| {
            let name = text(subject, "/name");
            if kind != "ServiceAccount" {
                return name.to_owned();
            }
            match text(subject, "/namespace") {
                "" => format!("{}/{name}", meta::namespace(binding)),
                namespace => format!("{namespace}/{name}"),
            }
        })
        .collect();
    names.join(", ")
}
