//! The roles and bindings of a new cluster, reconciled at every start: what is missing is added, what an administrator
//! added stays, and an object whose annotation `autoupdate` is `false` is left alone.

use daemon::feature_gates::FeatureGates;
use machinery::meta;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authz::rbac::GROUP;
use crate::authz::rule::{Rule, uncovered};
use crate::server::Server;

const TABLE: &str = include_str!("rbac.txt");
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// One role or binding of the table.
#[derive(Debug)]
enum Item {
    Role { namespace: String, name: String, labels: Vec<String>, aggregate: Vec<String>, rules: Vec<Rule> },
    Binding { namespace: String, name: String, role: String, subjects: Vec<Value> },
}

/// What every kubelet may do.
pub fn node_rules() -> Vec<Rule> {
    let node = items().into_iter().find_map(|item| match item {
        Item::Role { name, rules, .. } if name == "system:node" => Some(rules),
        _ => None,
    });
    node.unwrap_or_default()
}

pub async fn reconcile(server: &Server, gates: &FeatureGates) -> Result<(), Status> {
    let one = async |item: Item| {
        let (plural, object) = item.object();
        let change = |old: &Value| merged(old, &object);
        super::reconcile(server, GROUP, plural, &object, &change).await
    };
    super::together(with(gates).into_iter().map(one)).await
}

/// What no feature gate is about.
fn items() -> Vec<Item> {
    with(&FeatureGates::default())
}

/// What a server with these feature gates has.
fn with(gates: &FeatureGates) -> Vec<Item> {
    let mut items = Vec::new();
    let mut on = true;
    for line in TABLE.lines().map(|line| line.split('#').next().unwrap_or_default()).filter(|line| !line.trim().is_empty()) {
        if let Some(gate) = line.strip_prefix("GATE") {
            on = gate.trim().is_empty() || gates.is_on(gate.trim());
        }
        if !on || line.starts_with("GATE") {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ROLE", name, labels @ ..] => {
                let (namespace, name) = split(name);
                let labels = labels.iter().map(|label| label.trim_start_matches('+').to_owned()).collect();
                items.push(Item::Role { namespace, name, labels, aggregate: Vec::new(), rules: Vec::new() });
            }
            ["BIND", name, role, subjects @ ..] => {
                let (namespace, name) = split(name);
                let subjects = subjects.iter().map(|subject| parse_subject(subject)).collect();
                items.push(Item::Binding { namespace, name, role: (*role).to_owned(), subjects });
            }
            ["AGGREGATE", to] => {
                if let Some(Item::Role { aggregate, .. }) = items.last_mut() {
                    aggregate.push((*to).to_owned());
                }
            }
            words => {
                if let Some(Item::Role { rules, .. }) = items.last_mut() {
                    rules.push(rule(words));
                }
            }
        }
    }
    items
}

fn split(name: &str) -> (String, String) {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    (namespace.to_owned(), name.to_owned())
}

fn parse_subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or(("u", text));
    match kind {
        "g" => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
        "sa" => {
            let (namespace, name) = split(name);
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
        _ => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
    }
}

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

fn rule(words: &[&str]) -> Rule {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let verbs = match words.first().copied().unwrap_or_default() {
        "r" => READ.iter().map(|verb| (*verb).to_owned()).collect(),
        "w" => WRITE.iter().map(|verb| (*verb).to_owned()).collect(),
        "rw" => READ.iter().chain(&WRITE).map(|verb| (*verb).to_owned()).collect(),
        verbs => list(verbs),
    };
    match words {
        [_, "url", urls] => Rule { verbs, non_resource_urls: list(urls), ..Rule::default() },
        [_, groups, resources, names @ ..] => Rule {
            verbs,
            api_groups: list(groups).into_iter().map(|group| if group == "-" { String::new() } else { group }).collect(),
            resources: list(resources),
            resource_names: names.first().map(|names| list(names)).unwrap_or_default(),
            ..Rule::default()
        },
        _ => Rule::default(),
    }
}

impl Item {
    fn object(&self) -> (&'static str, Value) {
        let metadata = |namespace: &str, name: &str, labels: &[String]| {
            let mut metadata = json!({"name": name, "annotations": {AUTOUPDATE: "true"},
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
            for label in labels {
                metadata["labels"][format!("{AGGREGATE_TO}{label}")] = json!("true");
            }
            if !namespace.is_empty() {
                metadata["namespace"] = json!(namespace);
            }
            metadata
        };
        match self {
            Self::Role { namespace, name, labels, aggregate, rules } => {
                let (kind, plural) = if namespace.is_empty() { ("ClusterRole", "clusterroles") } else { ("Role", "roles") };
                let mut object =
                    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(namespace, name, labels)});
                object["rules"] = json!(rules);
                if !aggregate.is_empty() {
                    let selectors: Vec<Value> =
                        aggregate.iter().map(|to| json!({"matchLabels": {format!("{AGGREGATE_TO}{to}"): "true"}})).collect();
                    object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
                    object["rules"] = json!(gathered(aggregate));
                }
                (plural, object)
            }
            Self::Binding { namespace, name, role, subjects } => {
                let (kind, plural, role_kind) = if namespace.is_empty() {
                    ("ClusterRoleBinding", "clusterrolebindings", "ClusterRole")
                } else {
                    ("RoleBinding", "rolebindings", "Role")
                };
                let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata(namespace, name, &[]),
                    "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role}, "subjects": subjects});
                (plural, object)
            }
        }
    }
}

/// The rules that an aggregated role starts with, so that it works before the controller that keeps it up to date does.
fn gathered(aggregate: &[String]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for item in items() {
        if let Item::Role { labels, rules: own, aggregate: nested, .. } = item
            && labels.iter().any(|label| aggregate.contains(label))
        {
            for rule in if nested.is_empty() { own } else { gathered(&nested) } {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    rules
}

/// What is there, with what must be.
fn merged(old: &Value, wanted: &Value) -> Value {
    let mut new = old.clone();
    if meta::annotation(old, AUTOUPDATE) == Some("false") {
        return new;
    }
    for kind in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][kind].as_object().into_iter().flatten() {
            meta::set_path(&mut new, &["metadata", kind, key], value.clone());
        }
    }
    if let Some(aggregation) = wanted.get("aggregationRule") {
        // Its rules are gathered by a controller.
        new["aggregationRule"] = aggregation.clone();
        if old["rules"].as_array().is_none_or(Vec::is_empty) {
            new["rules"] = wanted["rules"].clone();
        }
        return new;
    }
    if wanted.get("rules").is_some() {
        let (have, want) = (crate::authz::rbac::rules_of(old), crate::authz::rbac::rules_of(wanted));
        let missing = uncovered(&have, &want);
        if !missing.is_empty() {
            new["rules"] = json!(have.into_iter().chain(missing).collect::<Vec<_>>());
        }
    }
    if let Some(wanted) = wanted["subjects"].as_array() {
        let mut subjects = old["subjects"].as_array().cloned().unwrap_or_default();
        subjects.extend(wanted.iter().filter(|subject| !subjects.contains(subject)).cloned().collect::<Vec<_>>());
        if !subjects.is_empty() {
            new["subjects"] = json!(subjects);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let items = items();
        let roles: Vec<&str> =
            items.iter().filter_map(|i| if let Item::Role { name, .. } = i { Some(name.as_str()) } else { None }).collect();
        for name in ["cluster-admin", "admin", "edit", "view", "system:node", "system:kube-scheduler", "system:discovery"] {
            assert!(roles.contains(&name), "{name}");
        }
        for item in &items {
            match item {
                Item::Role { rules, aggregate, name, .. } => {
                    assert!(aggregate.is_empty() || rules.is_empty(), "{name}");
                    assert!(
                        rules
                            .iter()
                            .all(|rule| !rule.verbs.is_empty()
                                && (!rule.resources.is_empty() || !rule.non_resource_urls.is_empty())),
                        "{name}"
                    );
                }
                Item::Binding { role, name, .. } => assert!(roles.contains(&role.as_str()), "{name} binds {role}"),
            }
        }
        assert!(node_rules().len() > 20);
    }

    #[test]
    fn some_wait_for_a_feature_gate() {
        let gates = FeatureGates::parse(&["StorageVersionMigrator=true".to_owned()]).unwrap();
        let name = |item: &Item| match item {
            Item::Role { name, .. } | Item::Binding { name, .. } => name.clone(),
        };
        let without: Vec<String> = items().iter().map(name).collect();
        let more: Vec<String> = with(&gates).iter().map(name).filter(|name| !without.contains(name)).collect();
        assert_eq!(more, ["system:controller:storage-version-migrator-controller"; 2]);
    }

    #[test]
    fn aggregated_roles_gather() {
        let admin = gathered(&["admin".to_owned()]);
        let pods = Rule {
            verbs: vec!["create".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods".into()],
            ..Rule::default()
        };
        assert!(uncovered(&admin, &[pods]).is_empty());
    }

    #[test]
    fn what_administrators_changed_stays() {
        let rule = |resource: &str| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let old = json!({"metadata": {"labels": {"mine": "x"}}, "rules": [rule("pods"), rule("secrets")]});
        let wanted = json!({"metadata": {"labels": {"a": "b"}}, "rules": [rule("pods"), rule("nodes")]});
        let new = merged(&old, &wanted);
        assert_eq!(new["rules"].as_array().unwrap().len(), 3);
        assert_eq!(new["metadata"]["labels"], json!({"mine": "x", "a": "b"}));
        let frozen = json!({"metadata": {"annotations": {AUTOUPDATE: "false"}}, "rules": []});
        assert_eq!(merged(&frozen, &wanted), frozen);
    }
}
