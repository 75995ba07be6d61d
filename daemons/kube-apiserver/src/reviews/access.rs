//! SubjectAccessReview and its local and self forms: may they?

use machinery::field::{FieldError, Path};
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::user::User;
use crate::authz::{Attributes, ResourceAttributes};
use crate::endpoints::Call;

pub(super) async fn review(call: &Call<'_>, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let form = Form::of(&call.served.resource.plural);
    let errors = check(form, review, &call.path.namespace);
    if !errors.is_empty() {
        return Err(Status::invalid(call.served.group_kind(), "", errors));
    }
    let subject = if form == Form::Own { User::clone(&call.cx.user) } else { subject(spec) };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = &spec["resourceAttributes"];
    let attribute = |field: &str| text(&resource[field]);
    let (group, name, namespace) = (attribute("group"), attribute("name"), attribute("namespace"));
    let (plural, subresource) = (attribute("resource"), attribute("subresource"));
    let (verb, path) = if resource.is_object() {
        (attribute("verb"), String::new())
    } else {
        (text(&spec["nonResourceAttributes"]["verb"]), text(&spec["nonResourceAttributes"]["path"]))
    };
    let (fields, labels) = (field_selector(&resource["fieldSelector"]), label_selector(&resource["labelSelector"]));
    let version = attribute("version");
    let attributes = Attributes {
        user: Some(&subject),
        verb: &verb,
        resource: resource.is_object().then_some(ResourceAttributes {
            group: &group,
            resource: &plural,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
            version: &version,
            field_selector: &fields,
            label_selector: &labels,
        }),
        path: &path,
    };
    let decision = call.server.authorizer.decide(&attributes).await;
    let mut status = json!({"allowed": decision.allowed()});
    if decision.denied() {
        status["denied"] = json!(true);
    }
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    Ok(status)
}

fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let extra = spec["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), list(values))).collect();
    User { name: text("user"), uid: text("uid"), groups: list(&spec["groups"]), extra }
}

/// The requirements that can be told in the form of a query. A selector only narrows, so leaving one out is safe.
fn field_selector(selector: &Value) -> String {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_owned();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let terms = requirements.filter_map(|r| {
        let sign = match r["operator"].as_str()? {
            "In" => "=",
            "NotIn" => "!=",
            _ => return None,
        };
        let values = r["values"].as_array().filter(|values| values.len() == 1)?;
        Some(format!("{}{sign}{}", r["key"].as_str()?, escaped(values[0].as_str()?)))
    });
    terms.collect::<Vec<_>>().join(",")
}

/// A value that is one term, whatever is in it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

fn label_selector(selector: &Value) -> String {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_owned();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let terms = requirements.filter_map(|r| {
        let key = r["key"].as_str()?;
        let values: Vec<&str> = r["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match r["operator"].as_str()? {
            "In" => Some(format!("{key} in ({})", values.join(","))),
            "NotIn" => Some(format!("{key} notin ({})", values.join(","))),
            "Exists" => Some(key.to_owned()),
            "DoesNotExist" => Some(format!("!{key}")),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}

/// Which of the three reviews it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Anybody,
    Local,
    Own,
}

impl Form {
    fn of(plural: &str) -> Self {
        match plural {
            "selfsubjectaccessreviews" => Self::Own,
            "localsubjectaccessreviews" => Self::Local,
            _ => Self::Anybody,
        }
    }
}

fn check(form: Form, review: &Value, namespace: &str) -> Vec<FieldError> {
    let spec = &review["spec"];
    let path = Path::new("spec");
    let resource_path = path.child("resourceAttributes");
    let mut errors = Vec::new();
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.is_object(), other.is_object()) {
        (true, true) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            other.clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &resource_path,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let nobody = spec["user"].as_str().unwrap_or_default().is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    if form != Form::Own && nobody {
        errors.push(FieldError::invalid(&path.child("user"), "", "at least one of user or group must be specified"));
    }
    for field in ["fieldSelector", "labelSelector"] {
        check_selector(&resource_path.child(field), &resource[field], &mut errors);
    }
    let named = review["metadata"].as_object().into_iter().flatten().any(|(key, value)| {
        let allowed = key == "managedFields" || (key == "namespace" && form == Form::Local);
        !allowed && !value.is_null() && value != "" && *value != json!({})
    });
    if named {
        let detail = if form == Form::Local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid(&Path::new("metadata"), review["metadata"].clone(), detail));
    }
    if form == Form::Local {
        let given = resource["namespace"].as_str().unwrap_or_default();
        if resource.is_object() && given != namespace {
            errors.push(FieldError::invalid(&resource_path.child("namespace"), given, "must match metadata.namespace"));
        }
        if other.is_object() {
            let path = path.child("nonResourceAttributes");
            errors.push(FieldError::invalid(&path, other.clone(), "disallowed on this kind of request"));
        }
    }
    errors
}

fn check_selector(path: &Path, selector: &Value, errors: &mut Vec<FieldError>) {
    if !selector.is_object() {
        return;
    }
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let requirements = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
    if !raw.is_empty() && !requirements.is_empty() {
        errors.push(FieldError::invalid(&path.child("rawSelector"), raw, "may not specified at the same time as requirements"));
    }
    if raw.is_empty() && requirements.is_empty() {
        let detail = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&path.child("requirements"), detail));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        let path = path.child("requirements").index(index);
        let values = requirement["values"].as_array().map_or(0, Vec::len);
        match requirement["operator"].as_str().unwrap_or_default() {
            "In" | "NotIn" if values == 0 => {
                errors.push(FieldError::required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
            }
            "Exists" | "DoesNotExist" if values > 0 => errors.push(FieldError::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            _ => {}
        }
        if requirement["key"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&path.child("key"), "must be specified"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(form: Form, review: Value, expected: &[&str]) {
        let got: Vec<String> = check(form, &review, "ns").iter().map(ToString::to_string).collect();
        let same = got.len() == expected.len() && got.iter().zip(expected).all(|(got, wanted)| got.starts_with(wanted));
        assert!(same, "{review}: {got:#?}");
    }

    #[test]
    fn what_a_review_may_ask() {
        let resource = json!({"verb": "get", "resource": "pods", "namespace": "ns"});
        let spec = |fields: Value| json!({"metadata": {}, "spec": fields});
        check_one(Form::Own, spec(json!({"resourceAttributes": resource})), &[]);
        check_one(Form::Anybody, spec(json!({"resourceAttributes": resource, "user": "ann"})), &[]);
        check_one(Form::Anybody, spec(json!({"resourceAttributes": resource})), &["spec.user: Invalid value: \"\""]);
        check_one(Form::Own, spec(json!({})), &["spec.resourceAttributes: Invalid value"]);
        check_one(
            Form::Own,
            spec(json!({"resourceAttributes": resource, "nonResourceAttributes": {"path": "/"}})),
            &["spec.nonResourceAttributes: Invalid value"],
        );
        check_one(
            Form::Own,
            json!({"metadata": {"name": "x"}, "spec": {"resourceAttributes": resource}}),
            &["metadata: Invalid value"],
        );
        let local = spec(json!({"resourceAttributes": {"namespace": "other"}, "user": "ann"}));
        check_one(Form::Local, local, &["spec.resourceAttributes.namespace: Invalid value: \"other\": must match"]);
        let selector = spec(json!({"resourceAttributes": {"fieldSelector": {}}}));
        check_one(Form::Own, selector, &["spec.resourceAttributes.fieldSelector.requirements: Required value"]);
    }

    #[test]
    fn selectors() {
        let requirements = json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["a,b"]},
            {"key": "x", "operator": "Newer", "values": ["y"]}]});
        assert_eq!(field_selector(&requirements), "spec.nodeName=a\\,b");
        let requirements = json!({"requirements": [{"key": "app", "operator": "In", "values": ["a", "b"]},
            {"key": "old", "operator": "DoesNotExist"}]});
        assert_eq!(label_selector(&requirements), "app in (a,b),!old");
    }
}
