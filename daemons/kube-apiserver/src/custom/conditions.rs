//! What the status of a definition says beside its names: whether its schemas are structural, and whether the project agreed
//! to its group (KEP-1111). Pure.

use machinery::field::{FieldErrors, Path, aggregate};
use serde_json::{Value, json};

use super::{definition, naming};

const NON_STRUCTURAL: &str = "NonStructuralSchema";
const CONFORMANT: &str = "KubernetesAPIApprovalPolicyConformant";

/// The status that a definition should have; none when it has it.
pub fn decide(definition: &Value, now: &str) -> Option<Value> {
    let mut new = definition.clone();
    let violations = violations(&definition["spec"]);
    if violations.is_empty() {
        remove(&mut new, NON_STRUCTURAL);
    } else {
        naming::set_condition(&mut new, NON_STRUCTURAL, "True", "Violations", &aggregate(violations.into_vec()), now);
    }
    if definition::is_protected(definition["spec"]["group"].as_str().unwrap_or_default()) {
        let (status, reason, message) = definition::conformance(definition);
        naming::set_condition(&mut new, CONFORMANT, status, reason, &message, now);
    }
    (new["status"] != definition["status"]).then(|| new["status"].take())
}

/// What keeps the schemas from being structural. New ones are refused, so this is about definitions from before.
fn violations(spec: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    if spec["preserveUnknownFields"] == true {
        errors.invalid(&path.child("preserveUnknownFields"), true, "must be false");
    }
    for (index, version) in spec["versions"].as_array().into_iter().flatten().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_object() {
            let path = path.child("versions").index(index).child("schema").child("openAPIV3Schema");
            errors.extend(definition::non_structural(schema, &path));
        }
    }
    errors
}

fn remove(definition: &mut Value, kind: &str) {
    if let Some(conditions) = definition["status"].get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.retain(|condition| condition["type"] != json!(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "2026-01-01T00:00:00Z";

    fn check(definition: &Value, expected: &[(&str, &str, &str)]) {
        let status = decide(definition, AT);
        let conditions = status.as_ref().map_or(&[][..], |status| status["conditions"].as_array().map_or(&[][..], Vec::as_slice));
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let got: Vec<_> = conditions.iter().map(|c| (text(c, "type"), text(c, "status"), text(c, "reason"))).collect();
        let expected: Vec<_> = expected.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
        assert_eq!(got, expected, "{definition}");
    }

    #[test]
    fn approvals() {
        let check = |annotation: Value, expected: &[(&str, &str, &str)]| {
            let annotations = json!({"api-approved.kubernetes.io": annotation});
            check(&json!({"metadata": {"annotations": annotations}, "spec": {"group": "a.k8s.io"}, "status": {}}), expected);
        };
        check(json!("https://github.com/kubernetes/kubernetes/pull/1"), &[(CONFORMANT, "True", "ApprovedAnnotation")]);
        check(json!("unapproved, an experiment"), &[(CONFORMANT, "False", "UnapprovedAnnotation")]);
        check(json!("yes"), &[(CONFORMANT, "False", "InvalidAnnotation")]);
        check(json!(""), &[(CONFORMANT, "False", "MissingAnnotation")]);
        super::tests::check(&json!({"metadata": {}, "spec": {"group": "example.com"}, "status": {}}), &[]);
    }

    #[test]
    fn schemas() {
        let mut definition = json!({"spec": {"group": "example.com", "preserveUnknownFields": true}, "status": {}});
        check(&definition, &[(NON_STRUCTURAL, "True", "Violations")]);
        definition["spec"] = json!({"group": "example.com",
            "versions": [{"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}}]});
        let status = decide(&definition, AT).unwrap();
        let message = "spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields";
        assert_eq!(status["conditions"][0]["message"], message);
        // It is mended: the condition goes.
        definition["status"] = status;
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"]["type"] = json!("string");
        assert_eq!(decide(&definition, AT), Some(json!({"conditions": []})));
    }

    #[test]
    fn nothing_changes_twice() {
        let mut definition = json!({"spec": {"group": "a.k8s.io"}, "status": {}});
        definition["status"] = decide(&definition, AT).unwrap();
        assert_eq!(decide(&definition, "2027-01-01T00:00:00Z"), None);
    }
}
