//! Rules of webhooks and policies: which operations on which resources.

use machinery::gvk::Gvr;
use serde_json::Value;

use super::Operation;

const ANY: &str = "*";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
    /// A value that no validation lets in.
    None,
}

/// One entry of `rules` or `resourceRules`.
#[derive(Clone, Debug)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// (resource, subresource), each may be `*`.
    resources: Vec<(String, String)>,
    /// Policies only; empty matches every name.
    names: Vec<String>,
    scope: Scope,
}

/// What a rule is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'s> {
    pub operation: Operation,
    pub resource: &'s Gvr,
    pub subresource: &'s str,
    /// Of a namespace its own name.
    pub namespace: &'s str,
    pub name: &'s str,
}

impl Rule {
    pub fn parse(rule: &Value) -> Self {
        let list = |field: &str| -> Vec<String> {
            rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let split = |resource: String| match resource.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (resource, String::new()),
        };
        let scope = match rule["scope"].as_str() {
            None | Some(ANY) => Scope::All,
            Some("Cluster") => Scope::Cluster,
            Some("Namespaced") => Scope::Namespaced,
            Some(_) => Scope::None,
        };
        Self {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources").into_iter().map(split).collect(),
            names: list("resourceNames"),
            scope,
        }
    }

    pub fn parse_all(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::parse).collect()
    }

    pub fn matches(&self, subject: Subject<'_>) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|item| item == ANY || item == wanted);
        let resource = subject.resource;
        any(&self.operations, subject.operation.as_str())
            && any(&self.groups, &resource.group)
            && any(&self.versions, &resource.version)
            && self
                .resources
                .iter()
                .any(|(r, sub)| (r == ANY || *r == resource.resource) && (sub == ANY || sub == subject.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == subject.name))
            && self.in_scope(subject)
    }

    fn in_scope(&self, subject: Subject<'_>) -> bool {
        // A namespace is not in a namespace, though the request about it is.
        let is_namespace = subject.resource.group.is_empty() && subject.resource.resource == "namespaces";
        let namespaced = !is_namespace && !subject.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Namespaced => namespaced,
            Scope::Cluster => !namespaced,
            Scope::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn matching() {
        let good = json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
        let check = |change: Value, subresource: &str, namespace: &str, expected: bool| {
            let mut rule = good.clone();
            for (field, value) in change.as_object().into_iter().flatten() {
                rule[field] = value.clone();
            }
            let resource = Gvr::new("apps", "v1", "deployments");
            let subject = Subject { operation: Operation::Create, resource: &resource, subresource, namespace, name: "n" };
            assert_eq!(Rule::parse(&rule).matches(subject), expected, "{change} {subresource}");
        };
        check(json!({}), "", "ns", true);
        check(json!({"operations": ["UPDATE", "DELETE"]}), "", "ns", false);
        check(json!({"operations": ["*"]}), "", "ns", true);
        check(json!({"apiGroups": [""]}), "", "ns", false);
        check(json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}), "", "ns", true);
        check(json!({"resources": ["*"]}), "status", "ns", false);
        check(json!({"resources": ["*/*"]}), "status", "ns", true);
        check(json!({"resources": ["*/*"]}), "", "ns", true);
        check(json!({"resources": ["deployments/*"]}), "scale", "ns", true);
        check(json!({"resources": ["*/scale"]}), "scale", "ns", true);
        check(json!({"resources": ["*/scale"]}), "", "ns", false);
        check(json!({"scope": "Namespaced"}), "", "ns", true);
        check(json!({"scope": "Cluster"}), "", "ns", false);
        check(json!({"scope": "Cluster"}), "", "", true);
        check(json!({"resourceNames": ["n"]}), "", "ns", true);
        check(json!({"resourceNames": ["m"]}), "", "ns", false);
    }

    #[test]
    fn a_namespace_is_cluster_scoped() {
        let rule = |scope: &str| {
            Rule::parse(
                &json!({"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"], "scope": scope}),
            )
        };
        let resource = Gvr::new("", "v1", "namespaces");
        let subject = Subject { operation: Operation::Create, resource: &resource, subresource: "", namespace: "a", name: "a" };
        assert!(rule("Cluster").matches(subject) && !rule("Namespaced").matches(subject));
    }
}
