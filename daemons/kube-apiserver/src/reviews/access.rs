//! SubjectAccessReview and its local and self forms: may they?

use machinery::field::{FieldError, Path};
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::user::User;
use crate::authz::{Attributes, ResourceAttributes};
use crate::endpoints::Call;

pub(super) fn review(call: &Call<'_>, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let is_self = call.served.resource.plural == "selfsubjectaccessreviews";
    check(call, review, is_self)?;
    let subject = if is_self { User::clone(&call.cx.user) } else { subject(spec) };
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
    let selector = field_selector(&resource["fieldSelector"]);
    let attributes = Attributes {
        user: Some(&subject),
        verb: &verb,
        resource: resource.is_object().then_some(ResourceAttributes {
            group: &group,
            resource: &plural,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
            field_selector: &selector,
        }),
        path: &path,
    };
    let decision = call.server.authorizer.authorize(&attributes);
    let mut status = json!({"allowed": decision.allowed()});
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

/// The requirements that demand one value, in the form of a query.
fn field_selector(selector: &Value) -> String {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_owned();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let equal = requirements.filter(|r| r["operator"] == "In").filter_map(|r| {
        let values = r["values"].as_array().filter(|values| values.len() == 1)?;
        Some(format!("{}={}", r["key"].as_str()?, values[0].as_str()?))
    });
    equal.collect::<Vec<_>>().join(",")
}

fn check(call: &Call<'_>, review: &Value, is_self: bool) -> Result<(), Status> {
    let spec = &review["spec"];
    let path = Path::new("spec");
    let mut errors = Vec::new();
    match (spec["resourceAttributes"].is_object(), spec["nonResourceAttributes"].is_object()) {
        (true, true) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let nobody = spec["user"].as_str().unwrap_or_default().is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    if !is_self && nobody {
        errors.push(FieldError::invalid(&path.child("user"), "", "at least one of user or group must be specified"));
    }
    if call.served.resource.plural == "localsubjectaccessreviews"
        && spec["resourceAttributes"]["namespace"] != call.path.namespace.as_str()
    {
        let detail = format!("must match metadata.namespace: {}", call.path.namespace);
        errors.push(FieldError::invalid(
            &path.child("resourceAttributes").child("namespace"),
            spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default(),
            detail,
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(call.served.group_kind(), "", errors)) }
}
