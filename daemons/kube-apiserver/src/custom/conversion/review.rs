//! `ConversionReview`: the question that goes out, and what an answer must be. Pure.

use machinery::field::{FieldErrors, Path, aggregate};
use machinery::{gotext, meta};
use serde_json::{Map, Value};

use crate::registry::metadata;

const GROUP: &str = "apiextensions.k8s.io";

/// The first version of the review that both sides know.
pub fn version(accepted: &[String]) -> Option<&'static str> {
    accepted.iter().find_map(|version| ["v1", "v1beta1"].into_iter().find(|known| known == version))
}

/// A question about objects that are encoded already.
pub fn question(version: &str, uid: &str, desired: &str, objects: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(objects.iter().map(|object| object.len() + 1).sum::<usize>() + 256);
    let head = format!(
        r#"{{"kind":"ConversionReview","apiVersion":"{GROUP}/{version}","request":{{"uid":"{uid}","desiredAPIVersion":"{desired}","objects":["#
    );
    body.extend_from_slice(head.as_bytes());
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(object);
    }
    body.extend_from_slice(b"]}}");
    body
}

/// The objects of an answer that says it succeeded.
///
/// # Errors
/// What is wrong with it, or what it says is wrong, as upstream words it.
pub fn answer(body: &mut Value, version: &str, uid: &str) -> Result<Vec<Value>, String> {
    if version == "v1" {
        let (api_version, kind) = (meta::api_version(body), meta::kind(body));
        if api_version != format!("{GROUP}/v1") || kind != "ConversionReview" {
            let api_version = if api_version.is_empty() { "/" } else { api_version };
            return Err(format!(
                "expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {api_version}, Kind={kind}"
            ));
        }
    }
    let response = &mut body["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    let given = response["uid"].as_str().unwrap_or_default();
    if version == "v1" && given != uid {
        return Err(format!("expected response.uid={}, got {}", gotext::quote(uid), gotext::quote(given)));
    }
    let result = &response["result"];
    match (result["status"].as_str().unwrap_or_default(), result["message"].as_str().unwrap_or_default()) {
        ("Success", _) => {}
        (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// What is wrong with a converted object.
#[derive(Debug, PartialEq)]
pub enum Wrong {
    /// It is another object, or no object.
    Object(String),
    /// It is of another group, version or kind.
    Kind(String),
    Metadata(String),
}

impl Wrong {
    /// After `conversion webhook for KIND `. Upstream words one object otherwise than the objects of a list.
    pub fn describe(&self, index: usize, of_list: bool) -> String {
        match (self, of_list) {
            (Self::Object(why), false) => format!("returned invalid object: {why}"),
            (Self::Kind(why), false) => format!("returned invalid object at index {index}: {why}"),
            (Self::Metadata(why), false) => format!("returned invalid metadata: {why}"),
            (Self::Object(why) | Self::Kind(why), true) => format!("returned invalid converted object at index {index}: {why}"),
            (Self::Metadata(why), true) => format!("returned invalid metadata in object at index {index}: {why}"),
        }
    }
}

/// The converted object, if it is the same one in the desired version. Of its metadata labels and annotations count; the
/// rest stays the original's.
pub fn settled(original: &Value, mut converted: Value, desired: &str) -> Result<Value, Wrong> {
    if !converted.is_object() || meta::kind(&converted).is_empty() {
        return Err(Wrong::Object(format!("Object 'Kind' is missing in '{converted}'")));
    }
    let (expected, received) = (desired, meta::api_version(&converted));
    if expected != received {
        return Err(Wrong::Kind(format!("invalid groupVersion (expected {expected}, received {received})")));
    }
    let (expected, received) = (meta::kind(original), meta::kind(&converted));
    if expected != received {
        return Err(Wrong::Kind(format!("invalid kind (expected {expected}, received {received})")));
    }
    for (what, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (expected, received) = (meta::text(original, &["metadata", field]), meta::text(&converted, &["metadata", field]));
        if expected != received {
            return Err(Wrong::Object(format!("must have the same {what}: {expected} != {received}")));
        }
    }
    let metadata = restored(original, &mut converted).map_err(Wrong::Metadata)?;
    meta::as_object_mut(&mut converted).insert("metadata".to_owned(), Value::Object(metadata));
    Ok(converted)
}

/// The original's metadata with the labels and annotations of the converted object.
fn restored(original: &Value, converted: &mut Value) -> Result<Map<String, Value>, String> {
    let Some(given) = converted.get_mut("metadata") else { return Err("missing metadata in converted object".to_owned()) };
    if !given.is_object() {
        return Err(format!("invalid metadata of type {} in converted object", gotext::type_name(given)));
    }
    let mut metadata = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let new = match given[field].take() {
            Value::Null => {
                metadata.remove(field);
                continue;
            }
            Value::Object(new) => new,
            other => return Err(format!("invalid metadata.{field} of type {} in converted object", gotext::type_name(&other))),
        };
        if let Some((key, value)) = new.iter().find(|(_, value)| !value.is_string()) {
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {} in converted object",
                gotext::type_name(value)
            ));
        }
        let new = Value::Object(new);
        if metadata.get(field) != Some(&new) {
            let errors = errors_of(field, &new);
            if !errors.is_empty() {
                return Err(aggregate(errors.into_vec()));
            }
        }
        metadata.insert(field.to_owned(), new);
    }
    Ok(metadata)
}

fn errors_of(field: &str, values: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let object = serde_json::json!({"metadata": {field: values}});
    match field {
        "labels" => metadata::validate_labels(&object, &Path::new("metadata").child("labels"), &mut errors),
        // Upstream's path.
        _ => metadata::validate_annotations(&object, &Path::new("metadata").child("annotation"), &mut errors),
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions() {
        let check = |accepted: &[&str], expected: Option<&str>| {
            assert_eq!(version(&accepted.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()), expected);
        };
        check(&["v2", "v1beta1", "v1"], Some("v1beta1"));
        check(&["v1"], Some("v1"));
        check(&["v2"], None);
    }

    #[test]
    fn questions() {
        let body = question("v1", "u", "g.io/v2", &[br#"{"a":1}"#.to_vec(), b"{}".to_vec()]);
        let expected = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": "u", "desiredAPIVersion": "g.io/v2", "objects": [{"a": 1}, {}]}});
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }

    #[test]
    fn answers() {
        let check = |version: &str, response: Value, expected: Result<usize, &str>| {
            let mut body = json!({"apiVersion": format!("{GROUP}/{version}"), "kind": "ConversionReview", "response": response});
            let got = answer(&mut body, version, "u").map(|objects| objects.len());
            assert_eq!(got.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e), "{response}");
        };
        let success = json!({"status": "Success"});
        check("v1", json!({"uid": "u", "result": success, "convertedObjects": [{}, {}]}), Ok(2));
        check("v1", json!({"uid": "u", "result": success}), Ok(0));
        check("v1", Value::Null, Err("no response provided"));
        check("v1", json!({"uid": "x", "result": success}), Err("expected response.uid=\"u\", got \"x\""));
        check("v1beta1", json!({"result": success, "convertedObjects": [{}]}), Ok(1));
        check("v1", json!({"uid": "u", "result": {"status": "Failure", "message": "no way"}}), Err("no way"));
        check("v1", json!({"uid": "u", "result": {}}), Err("response.result.status was '', not 'Success'"));
        let why = "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind=";
        assert_eq!(answer(&mut json!({"response": {"uid": "u"}}), "v1", "u"), Err(why.to_owned()));
    }

    fn object() -> Value {
        json!({"apiVersion": "g.io/v1", "kind": "K", "spec": 1, "metadata": {"name": "n", "namespace": "ns", "uid": "u",
            "generation": 3, "labels": {"a": "b"}, "annotations": {"x": "y"}}})
    }

    #[test]
    fn what_a_conversion_may_change() {
        let mut converted = object();
        converted["apiVersion"] = json!("g.io/v2");
        converted["spec"] = json!(2);
        converted["metadata"]["generation"] = json!(9);
        converted["metadata"]["finalizers"] = json!(["f"]);
        converted["metadata"]["labels"] = json!({"c": "d"});
        converted["metadata"].as_object_mut().unwrap().remove("annotations");
        let mut expected = object();
        expected["apiVersion"] = json!("g.io/v2");
        expected["spec"] = json!(2);
        expected["metadata"]["labels"] = json!({"c": "d"});
        expected["metadata"].as_object_mut().unwrap().remove("annotations");
        assert_eq!(settled(&object(), converted, "g.io/v2"), Ok(expected));
    }

    #[test]
    fn what_a_conversion_may_not_change() {
        let check = |pointer: &str, value: Value, expected: &str| {
            let mut converted = object();
            converted["apiVersion"] = json!("g.io/v2");
            *converted.pointer_mut(pointer).unwrap() = value;
            let wrong = settled(&object(), converted, "g.io/v2").unwrap_err();
            assert_eq!(wrong.describe(0, false), expected);
        };
        check("/metadata/uid", json!("v"), "returned invalid object: must have the same UID: u != v");
        check("/metadata/name", json!("m"), "returned invalid object: must have the same name: n != m");
        check("/metadata/namespace", json!("x"), "returned invalid object: must have the same namespace: ns != x");
        check("/kind", json!("L"), "returned invalid object at index 0: invalid kind (expected K, received L)");
        let version = "returned invalid object at index 0: invalid groupVersion (expected g.io/v2, received g.io/v1)";
        check("/apiVersion", json!("g.io/v1"), version);
        let labels = "returned invalid metadata: invalid metadata.labels of type string in converted object";
        check("/metadata/labels", json!("x"), labels);
        let label = "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object";
        check("/metadata/labels/a", json!(1), label);
        let mut converted = object();
        converted["apiVersion"] = json!("g.io/v2");
        converted["metadata"]["annotations"] = json!({"not a key": ""});
        let wrong = settled(&object(), converted, "g.io/v2").unwrap_err().describe(4, true);
        assert!(
            wrong.starts_with("returned invalid metadata in object at index 4: metadata.annotation: Invalid value"),
            "{wrong}"
        );
    }
}
