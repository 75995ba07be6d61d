//! AdmissionReview: what a webhook is asked, and which answers count (`admission.k8s.io/v1` and `v1beta1`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machinery::gvk::{Gvk, Gvr};
use machinery::status::Status;
use serde_json::{Map, Value, json};

use crate::admission::Request;
use crate::admission::criteria::Matched;

const GROUP: &str = "admission.k8s.io";

/// The version of the review that is sent: the first of the webhook's that is known here.
pub fn version(accepted: &[String]) -> Option<&'static str> {
    accepted.iter().find_map(|version| match version.as_str() {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    })
}

/// The question.
pub fn question(version: &str, uid: &str, request: &Request<'_>, matched: &Matched, object: Value, old: Value) -> Value {
    let mut asked = attributes(uid, request, matched, &object);
    asked.insert("object".to_owned(), object);
    asked.insert("oldObject".to_owned(), old);
    json!({"kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": asked})
}

/// `AdmissionRequest` without its objects.
pub fn attributes(uid: &str, request: &Request<'_>, matched: &Matched, object: &Value) -> Map<String, Value> {
    let kind = |k: &Gvk| json!({"group": k.group, "version": k.version, "kind": k.kind});
    let resource = |r: &Gvr| json!({"group": r.group, "version": r.version, "resource": r.resource});
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("uid", json!(uid));
    put("kind", kind(&matched.kind));
    put("resource", resource(&matched.resource));
    put("requestKind", kind(&request.object_kind()));
    put("requestResource", resource(&request.requested()));
    let namespace = request.rule_namespace(object);
    for (name, text) in [
        ("subResource", request.subresource),
        ("requestSubResource", request.subresource),
        ("name", request.name),
        ("namespace", namespace),
    ] {
        if !text.is_empty() {
            put(name, json!(text));
        }
    }
    put("operation", json!(request.operation.as_str()));
    put("userInfo", request.user.to_value());
    put("dryRun", json!(request.dry_run));
    put("options", request.options());
    fields
}

/// What of an answer counts.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub allowed: bool,
    pub result: Option<Value>,
    /// JSON patch operations.
    pub patch: Option<Vec<u8>>,
    pub warnings: Vec<String>,
    pub audit: Vec<(String, String)>,
}

/// Reads the answer to the question with that version and uid.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub fn answer(body: &Value, version: &str, uid: &str, mutating: bool) -> Result<Answer, String> {
    let response = &body["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if version == "v1" {
        check_v1(body, response, uid, mutating)?;
    }
    let patch = match response["patch"].as_str().filter(|patch| mutating && !patch.is_empty()) {
        Some(patch) => Some(STANDARD.decode(patch).map_err(|error| format!("response.patch: {error}"))?),
        None => None,
    };
    let strings = |list: &Value| list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let audit = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Answer {
        allowed: response["allowed"] == true,
        result: response.get("status").filter(|status| status.is_object()).cloned(),
        patch,
        warnings: strings(&response["warnings"]),
        audit: audit.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
    })
}

fn check_v1(body: &Value, response: &Value, uid: &str, mutating: bool) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let given = text(&response["uid"]);
    if given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let (api_version, kind) = (text(&body["apiVersion"]), text(&body["kind"]));
    if api_version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
        let api_version = if api_version.is_empty() { "/" } else { &api_version };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
        ));
    }
    let has_patch = response["patch"].as_str().is_some_and(|patch| !patch.is_empty());
    let patch_type = response["patchType"].as_str();
    match (mutating, has_patch, patch_type) {
        (true, true, None) => Err("webhook returned response.patch but not response.patchType".to_owned()),
        (true, false, Some(_)) => Err("webhook returned response.patchType but not response.patch".to_owned()),
        (true, true, Some("JSONPatch")) | (_, false, None) => Ok(()),
        (true, true, Some("")) => Err("webhook returned invalid response.patchType of \"\"".to_owned()),
        (true, true, Some(other)) => Err(format!("unsupported patch type {other:?}")),
        (false, true, _) => Err("validating webhook may not return response.patch".to_owned()),
        (false, false, Some(_)) => Err("validating webhook may not return response.patchType".to_owned()),
    }
}

/// The refusal that the client gets.
pub fn refusal(webhook: &str, result: Option<&Value>) -> Status {
    let mut status: Status = result.and_then(|result| serde_json::from_value(result.clone()).ok()).unwrap_or_default();
    if status.code < 400 {
        status.code = 400;
    }
    if matches!(status.status.as_str(), "" | "Success") {
        status.status = "Failure".to_owned();
    }
    let denied = format!("admission webhook {webhook:?} denied the request");
    let reason = result.and_then(|result| result["reason"].as_str()).unwrap_or_default();
    status.message = match (status.message.as_str(), reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |mutating: bool, response: Value, expected: Result<bool, &str>| {
            let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            let got = answer(&body, "v1", "u", mutating);
            assert_eq!(got.as_ref().map(|a| a.allowed).map_err(String::as_str), expected, "{body}");
        };
        check(false, Value::Null, Err("webhook response was absent"));
        check(false, json!({"uid": "u", "allowed": true}), Ok(true));
        check(false, json!({"uid": "u"}), Ok(false));
        check(false, json!({"uid": "x", "allowed": true}), Err("expected response.uid=\"u\", got \"x\""));
        check(false, json!({"uid": "u", "patch": "W10="}), Err("validating webhook may not return response.patch"));
        check(false, json!({"uid": "u", "patchType": "JSONPatch"}), Err("validating webhook may not return response.patchType"));
        check(true, json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}), Ok(true));
        check(true, json!({"uid": "u", "patch": "W10="}), Err("webhook returned response.patch but not response.patchType"));
        check(true, json!({"uid": "u", "patchType": "x"}), Err("webhook returned response.patchType but not response.patch"));
        check(true, json!({"uid": "u", "patch": "W10=", "patchType": "Merge"}), Err("unsupported patch type \"Merge\""));
        let bare = json!({"response": {"uid": "u", "allowed": true}});
        let why = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
        assert_eq!(answer(&bare, "v1", "u", false), Err(why.to_owned()));
        assert!(answer(&bare, "v1beta1", "other", false).expect("v1beta1 checks nothing").allowed);
    }

    #[test]
    fn refusals() {
        let check = |result: Value, code: u16, message: &str| {
            let status = refusal("w", Some(&result).filter(|result| !result.is_null()));
            assert_eq!((status.code(), status.message.as_str(), status.is_failure()), (code, message, true));
        };
        check(Value::Null, 400, "admission webhook \"w\" denied the request without explanation");
        check(json!({"code": 200, "status": "Success"}), 400, "admission webhook \"w\" denied the request without explanation");
        check(
            json!({"message": "no", "code": 403, "reason": "Forbidden"}),
            403,
            "admission webhook \"w\" denied the request: no",
        );
        check(json!({"reason": "because"}), 400, "admission webhook \"w\" denied the request: because");
    }

    #[test]
    fn versions() {
        let check = |accepted: &[&str], expected: Option<&str>| {
            assert_eq!(version(&accepted.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()), expected);
        };
        check(&["v2", "v1beta1", "v1"], Some("v1beta1"));
        check(&["v1"], Some("v1"));
        check(&["v2"], None);
    }
}
