//! RBAC: the roles and bindings of the store as an index by subject, kept up to date from the watch caches.

use std::collections::{BTreeMap, HashMap};
use std::sync::RwLock;

use serde::Deserialize;
use serde_json::Value;

use super::rule::Rule;
use super::{Attributes, Decision};
use crate::authn::user::{SERVICE_ACCOUNT_PREFIX, User};

pub const GROUP: &str = "rbac.authorization.k8s.io";

/// What a binding refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RoleRef {
    pub api_group: String,
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Debug)]
struct Binding {
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    name: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// (namespace, name); the namespace is empty for cluster-scoped objects.
type Key = (String, String);

#[derive(Default)]
struct Index {
    roles: HashMap<Key, Vec<Rule>>,
    bindings: HashMap<Key, Binding>,
    /// Which bindings name a subject, as `u:USER` or `g:GROUP`. Ordered, so that the reason given is always the same.
    by_subject: HashMap<String, BTreeMap<Key, Subject>>,
}

/// All roles and bindings.
#[derive(Default)]
pub struct Rbac {
    index: RwLock<Index>,
}

impl Rbac {
    /// One of the four resources changed; `object` is none when it was deleted.
    pub fn apply(&self, plural: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let mut index = self.index.write().unwrap_or_else(|e| e.into_inner());
        let key = (namespace.to_owned(), name.to_owned());
        match plural {
            "roles" | "clusterroles" => match object {
                Some(role) => {
                    index.roles.insert(key, rules_of(role));
                }
                None => {
                    index.roles.remove(&key);
                }
            },
            _ => {
                index.unbind(&key);
                if let Some(binding) = object {
                    index.bind(key, binding);
                }
            }
        }
    }

    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(user) = attributes.user else { return Decision::NoOpinion(String::new()) };
        let namespace = attributes.resource.map_or("", |r| r.namespace);
        let mut missing = Vec::new();
        let index = self.index.read().unwrap_or_else(|e| e.into_inner());
        for (binding, subject) in index.bindings_of(user, namespace) {
            match index.rules(binding) {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision::Allow(format!("RBAC: allowed by {}", binding.describe(subject)));
                }
                Some(_) => {}
                None => missing.push(format!("{}.{GROUP} {:?} not found", plural_of(&binding.role.kind), binding.role.name)),
            }
        }
        if missing.is_empty() {
            Decision::NoOpinion(String::new())
        } else {
            Decision::NoOpinion(format!("RBAC: {}", machinery::field::aggregate(missing)))
        }
    }

    /// All rules a user has in a namespace (cluster-wide ones when it is empty).
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let index = self.index.read().unwrap_or_else(|e| e.into_inner());
        index.bindings_of(user, namespace).into_iter().filter_map(|(b, _)| index.rules(b)).flatten().cloned().collect()
    }

    /// The rules of a role, for binding checks.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<Vec<Rule>> {
        let namespace = if role.kind == "ClusterRole" { "" } else { namespace };
        let index = self.index.read().unwrap_or_else(|e| e.into_inner());
        index.roles.get(&(namespace.to_owned(), role.name.clone())).cloned()
    }
}

/// The rules of a Role or ClusterRole. A rule that cannot be read grants nothing.
pub fn rules_of(role: &Value) -> Vec<Rule> {
    role["rules"].as_array().into_iter().flatten().filter_map(|rule| Rule::deserialize(rule).ok()).collect()
}

pub fn role_ref_of(binding: &Value) -> RoleRef {
    RoleRef::deserialize(&binding["roleRef"]).unwrap_or_default()
}

fn plural_of(kind: &str) -> &'static str {
    if kind == "ClusterRole" { "clusterroles" } else { "roles" }
}

impl Binding {
    fn describe(&self, subject: &Subject) -> String {
        let subject = match subject.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount {:?}", format!("{}/{}", subject.name, subject.namespace)),
            kind => format!("{kind} {:?}", subject.name),
        };
        let role = format!("{} {:?}", self.role.kind, self.role.name);
        if self.namespace.is_empty() {
            format!("ClusterRoleBinding {:?} of {role} to {subject}", self.name)
        } else {
            format!("RoleBinding {:?} of {role} to {subject}", format!("{}/{}", self.name, self.namespace))
        }
    }
}

impl Index {
    fn rules(&self, binding: &Binding) -> Option<&Vec<Rule>> {
        let namespace = if binding.role.kind == "ClusterRole" { "" } else { &binding.namespace };
        self.roles.get(&(namespace.to_owned(), binding.role.name.clone()))
    }

    /// Cluster-wide bindings first, then those of the namespace.
    fn bindings_of(&self, user: &User, namespace: &str) -> Vec<(&Binding, &Subject)> {
        let subjects = std::iter::once(format!("u:{}", user.name)).chain(user.groups.iter().map(|group| format!("g:{group}")));
        let mut found: BTreeMap<&Key, &Subject> = BTreeMap::new();
        for subject in subjects {
            let Some(keys) = self.by_subject.get(&subject) else { continue };
            // A group may be bound in each of thousands of namespaces: only two are looked at.
            for scope in ["", namespace] {
                let bindings = keys.range((scope.to_owned(), String::new())..).take_while(|(key, _)| key.0 == scope);
                for (key, subject) in bindings {
                    found.entry(key).or_insert(subject);
                }
            }
        }
        found.into_iter().filter_map(|(key, subject)| Some((self.bindings.get(key)?, subject))).collect()
    }

    fn bind(&mut self, key: Key, object: &Value) {
        let subjects: Vec<Subject> =
            object["subjects"].as_array().into_iter().flatten().filter_map(|s| Subject::deserialize(s).ok()).collect();
        for subject in &subjects {
            self.by_subject.entry(subject_key(subject, &key.0)).or_default().insert(key.clone(), subject.clone());
        }
        let binding = Binding { namespace: key.0.clone(), name: key.1.clone(), role: role_ref_of(object), subjects };
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in &binding.subjects {
            let subject = subject_key(subject, &binding.namespace);
            if let Some(keys) = self.by_subject.get_mut(&subject) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_subject.remove(&subject);
                }
            }
        }
    }
}

/// A service account without a namespace is one of the binding's namespace.
fn subject_key(subject: &Subject, binding_namespace: &str) -> String {
    match subject.kind.as_str() {
        "Group" => format!("g:{}", subject.name),
        "ServiceAccount" => {
            let namespace = if subject.namespace.is_empty() { binding_namespace } else { &subject.namespace };
            format!("u:{SERVICE_ACCOUNT_PREFIX}{namespace}:{}", subject.name)
        }
        _ => format!("u:{}", subject.name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ResourceAttributes;
    use super::*;

    fn rbac() -> Rbac {
        let rbac = Rbac::default();
        let rule = |verb: &str| json!({"rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]});
        rbac.apply("clusterroles", "", "reader", Some(&rule("get")));
        rbac.apply("roles", "a", "writer", Some(&rule("create")));
        let binding =
            |kind: &str, role: &str, subject: Value| json!({"roleRef": {"kind": kind, "name": role}, "subjects": [subject]});
        rbac.apply(
            "clusterrolebindings",
            "",
            "all",
            Some(&binding("ClusterRole", "reader", json!({"kind": "Group", "name": "team"}))),
        );
        rbac.apply("rolebindings", "a", "w", Some(&binding("Role", "writer", json!({"kind": "User", "name": "ann"}))));
        rbac.apply(
            "rolebindings",
            "a",
            "sa",
            Some(&binding("ClusterRole", "reader", json!({"kind": "ServiceAccount", "name": "bot"}))),
        );
        rbac.apply("rolebindings", "b", "none", Some(&binding("Role", "gone", json!({"kind": "User", "name": "ann"}))));
        rbac
    }

    fn check(user: &str, groups: &[&str], verb: &str, namespace: &str, expected: Result<&str, &str>) {
        let user = User::new(user, groups);
        let resource = ResourceAttributes { resource: "pods", namespace, ..Default::default() };
        let decision = rbac().authorize(&Attributes::resource(&user, verb, resource));
        let got = if decision.allowed() { Ok(decision.reason()) } else { Err(decision.reason()) };
        assert_eq!(got, expected, "{user:?} {verb} {namespace}");
    }

    #[test]
    fn decisions() {
        const TEAM: &str = r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "team""#;
        check("bob", &["team"], "get", "", Ok(TEAM));
        check("bob", &["team"], "get", "x", Ok(TEAM));
        check("bob", &["team"], "create", "a", Err(""));
        check("ann", &[], "create", "a", Ok(r#"RBAC: allowed by RoleBinding "w/a" of Role "writer" to User "ann""#));
        check("ann", &[], "create", "", Err(""));
        check("ann", &[], "create", "b", Err(r#"RBAC: roles.rbac.authorization.k8s.io "gone" not found"#));
        check(
            "system:serviceaccount:a:bot",
            &[],
            "get",
            "a",
            Ok(r#"RBAC: allowed by RoleBinding "sa/a" of ClusterRole "reader" to ServiceAccount "bot/""#),
        );
    }

    #[test]
    fn a_deleted_binding_grants_nothing() {
        let rbac = rbac();
        rbac.apply("clusterrolebindings", "", "all", None);
        assert!(rbac.rules_for(&User::new("bob", &["team"]), "").is_empty());
        assert!(!rbac.index.read().unwrap().by_subject.contains_key("g:team"));
    }
}
