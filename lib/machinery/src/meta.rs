//! Reads and writes the metadata of untyped objects.

use serde_json::{Map, Value};

/// The text at a path of keys; a missing one is the empty string.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    get_path(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path of keys.
pub fn get_path<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(*key))
}

/// Follows a dotted path (`spec.template.spec`, `spec.containers[0].name`), for field selectors and the like.
pub fn get_dotted<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|s| !s.is_empty()).try_fold(object, |v, step| {
        let (key, rest) = step.split_once('[').map_or((step, ""), |(k, r)| (k, r));
        let mut v = if key.is_empty() { v } else { v.get(key)? };
        for index in rest.split('[').filter(|s| !s.is_empty()) {
            v = v.get(index.strip_suffix(']')?.parse::<usize>().ok()?)?;
        }
        Some(v)
    })
}

/// Sets the value at a path of keys, making objects on the way. What is in the way and no object is replaced.
pub fn set_path(object: &mut Value, path: &[&str], value: Value) {
    let mut at = object;
    for key in path {
        at = as_object_mut(at).entry((*key).to_owned()).or_insert(Value::Null);
    }
    *at = value;
}

/// Removes the value at a path of keys and returns it.
pub fn remove_path(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut at = object;
    for key in parents {
        at = at.get_mut(*key)?;
    }
    at.as_object_mut()?.remove(*last)
}

/// The value as an object, made one if it is not.
pub fn as_object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// `metadata`, made when missing.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    as_object_mut(as_object_mut(object).entry("metadata").or_insert(Value::Null))
}

fn meta_text<'a>(object: &'a Value, key: &str) -> &'a str {
    text(object, &["metadata", key])
}

pub fn name(object: &Value) -> &str {
    meta_text(object, "name")
}

pub fn namespace(object: &Value) -> &str {
    meta_text(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    meta_text(object, "uid")
}

pub fn generate_name(object: &Value) -> &str {
    meta_text(object, "generateName")
}

pub fn kind(object: &Value) -> &str {
    text(object, &["kind"])
}

pub fn api_version(object: &Value) -> &str {
    text(object, &["apiVersion"])
}

/// 0 when missing or no number.
pub fn resource_version(object: &Value) -> u64 {
    meta_text(object, "resourceVersion").parse().unwrap_or(0)
}

pub fn generation(object: &Value) -> i64 {
    get_path(object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0)
}

pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    metadata(object)?.get("deletionTimestamp")?.as_str()
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("labels")?.as_object()
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("annotations")?.as_object()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// Sets an annotation, or removes it.
pub fn set_annotation(object: &mut Value, key: &str, value: Option<&str>) {
    let meta = metadata_mut(object);
    match value {
        Some(v) => {
            as_object_mut(meta.entry("annotations").or_insert(Value::Null)).insert(key.to_owned(), v.into());
        }
        None => {
            if let Some(Value::Object(annotations)) = meta.get_mut("annotations") {
                annotations.remove(key);
                if annotations.is_empty() {
                    meta.remove("annotations");
                }
            }
        }
    }
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

pub fn owner_references(object: &Value) -> &[Value] {
    list(object, "ownerReferences")
}

/// The owner reference marked as the controller.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|r| r.get("controller") == Some(&Value::Bool(true)))
}

fn list<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    metadata(object).and_then(|m| m.get(key)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `namespace/name`, or the name alone.
pub fn key(object: &Value) -> String {
    match namespace(object) {
        "" => name(object).to_owned(),
        ns => format!("{ns}/{}", name(object)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads() {
        let o = json!({"kind": "Pod", "metadata": {"name": "a", "namespace": "n", "resourceVersion": "12",
            "labels": {"x": "y"}, "finalizers": ["f"],
            "ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": true}]},
            "spec": {"c": [{"d": 5}]}});
        assert_eq!((name(&o), namespace(&o), uid(&o), resource_version(&o)), ("a", "n", "", 12));
        assert_eq!(label(&o, "x"), Some("y"));
        assert_eq!(finalizers(&o).collect::<Vec<_>>(), ["f"]);
        assert_eq!(controller_of(&o).unwrap()["uid"], "2");
        assert_eq!(get_dotted(&o, "spec.c[0].d"), Some(&json!(5)));
        assert_eq!(get_dotted(&o, ".spec.c[1].d"), None);
        assert_eq!(key(&o), "n/a");
        assert_eq!(key(&json!(null)), "");
    }

    #[test]
    fn writes() {
        let mut o = json!({"metadata": null});
        set_annotation(&mut o, "a", Some("b"));
        assert_eq!(o, json!({"metadata": {"annotations": {"a": "b"}}}));
        set_annotation(&mut o, "a", None);
        assert_eq!(o, json!({"metadata": {}}));
        set_path(&mut o, &["spec", "x", "y"], json!(1));
        assert_eq!(remove_path(&mut o, &["spec", "x", "y"]), Some(json!(1)));
        assert_eq!(o, json!({"metadata": {}, "spec": {"x": {}}}));
    }
}
