//! A question as a SubjectAccessReview, and what its answer means.

use machinery::selector::{FieldSelector, LabelSelector};
use serde_json::{Map, Value, json};

use crate::authz::{Attributes, Decision, ResourceAttributes};

/// The spec of a SubjectAccessReview (`authorization.k8s.io/v1`).
pub fn spec(attributes: &Attributes<'_>) -> Value {
    let mut spec = json!({});
    match &attributes.resource {
        Some(resource) => spec["resourceAttributes"] = resource_attributes(attributes.verb, resource),
        None => spec["nonResourceAttributes"] = json!({"path": attributes.path, "verb": attributes.verb}),
    }
    if let Some(user) = attributes.user {
        let fields =
            [("user", json!(user.name)), ("groups", json!(user.groups)), ("extra", json!(user.extra)), ("uid", json!(user.uid))];
        for (field, value) in fields {
            let empty = value.as_str() == Some("") || value == json!([]) || value == json!({});
            if !empty {
                spec[field] = value;
            }
        }
    }
    spec
}

fn resource_attributes(verb: &str, r: &ResourceAttributes<'_>) -> Value {
    let texts = [
        ("namespace", r.namespace),
        ("verb", verb),
        ("group", r.group),
        ("version", r.version),
        ("resource", r.resource),
        ("subresource", r.subresource),
        ("name", r.name),
    ];
    let mut value: Map<String, Value> =
        texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(field, text)| (field.to_owned(), json!(text))).collect();
    // A selector only narrows: what of it cannot be read makes the question wider.
    let fields = FieldSelector::parse(r.field_selector).unwrap_or_else(|_| FieldSelector::everything());
    let requirements: Vec<Value> = fields
        .terms()
        .iter()
        .map(|term| json!({"key": term.field, "operator": if term.equal { "In" } else { "NotIn" }, "values": [term.value]}))
        .collect();
    if !requirements.is_empty() {
        value.insert("fieldSelector".into(), json!({"requirements": requirements}));
    }
    let labels = LabelSelector::parse(r.label_selector).unwrap_or_else(|_| LabelSelector::everything());
    let requirements: Vec<Value> = labels.requirements().iter().filter_map(label_requirement).collect();
    if !requirements.is_empty() {
        value.insert("labelSelector".into(), json!({"requirements": requirements}));
    }
    Value::Object(value)
}

fn label_requirement(requirement: &machinery::selector::Requirement) -> Option<Value> {
    use machinery::selector::Operator;
    let operator = match requirement.operator() {
        Operator::In | Operator::Equals | Operator::DoubleEquals => "In",
        Operator::NotIn | Operator::NotEquals => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::GreaterThan | Operator::LessThan => return None,
    };
    let mut value = json!({"key": requirement.key(), "operator": operator});
    if !requirement.values().is_empty() {
        value["values"] = json!(requirement.values());
    }
    Some(value)
}

/// What the status of the answer means. Both at once is a refusal.
pub fn decision(status: &Value) -> Decision {
    let reason = status["reason"].as_str().unwrap_or_default().to_owned();
    match (status["denied"] == true, status["allowed"] == true) {
        (true, _) => Decision::Deny(reason),
        (false, true) => Decision::Allow(reason),
        (false, false) => Decision::NoOpinion(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::user::User;

    #[test]
    fn questions() {
        let user = User::new("ann", &["dev"]);
        let path = Attributes { user: Some(&user), verb: "get", path: "/metrics", ..Attributes::default() };
        assert_eq!(
            spec(&path),
            json!({"user": "ann", "groups": ["dev"], "nonResourceAttributes": {"path": "/metrics", "verb": "get"}})
        );
        let list = Attributes::resource(
            &user,
            "list",
            ResourceAttributes {
                version: "v1",
                resource: "pods",
                namespace: "ns",
                field_selector: "spec.nodeName=n1,metadata.name!=x",
                label_selector: "app in (a,b),!canary",
                ..Default::default()
            },
        );
        assert_eq!(
            spec(&list)["resourceAttributes"],
            json!({"verb": "list", "version": "v1", "resource": "pods", "namespace": "ns",
                "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "NotIn", "values": ["x"]},
                    {"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]},
                "labelSelector": {"requirements": [{"key": "app", "operator": "In", "values": ["a", "b"]},
                    {"key": "canary", "operator": "DoesNotExist"}]}})
        );
    }

    #[test]
    fn answers() {
        let r = |text: &str| text.to_owned();
        for (status, expected) in [
            (json!({"allowed": true, "reason": "x"}), Decision::Allow(r("x"))),
            (json!({"allowed": false}), Decision::NoOpinion(r(""))),
            (json!({"allowed": false, "denied": true}), Decision::Deny(r(""))),
            (json!({"allowed": true, "denied": true}), Decision::Deny(r(""))),
            (Value::Null, Decision::NoOpinion(r(""))),
        ] {
            assert_eq!(decision(&status), expected, "{status}");
        }
    }
}
