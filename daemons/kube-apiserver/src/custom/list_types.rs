//! Lists that are sets or maps (`x-kubernetes-list-type`): no item twice.

use machinery::field::{FieldErrors, Path};
use serde_json::{Map, Value};

/// Items that are in their list twice.
pub(super) fn validate(schema: &Value, value: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    walk(schema, value, &Path::root(), &mut errors);
    errors
}

/// Whether the schema declares any such list.
pub(super) fn is_in(schema: &Value) -> bool {
    let below = |name: &str| schema[name].is_object() && is_in(&schema[name]);
    matches!(schema["x-kubernetes-list-type"].as_str(), Some("set" | "map"))
        || below("items")
        || below("additionalProperties")
        || schema["properties"].as_object().into_iter().flatten().any(|(_, property)| is_in(property))
}

fn walk(schema: &Value, value: &Value, path: &Path, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match schema["properties"].get(name) {
                    Some(property) => walk(property, value, &path.child(name), errors),
                    None if schema["additionalProperties"].is_object() => {
                        walk(&schema["additionalProperties"], value, &path.key(name), errors);
                    }
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => repeated(items).into_iter().for_each(|index| {
                    errors.duplicate(&path.index(index), items[index].clone());
                }),
                Some("map") => check_map(schema, items, path, errors),
                _ => {}
            }
            if schema["items"].is_object() {
                for (index, item) in items.iter().enumerate() {
                    walk(&schema["items"], item, &path.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

fn check_map(schema: &Value, items: &[Value], path: &Path, errors: &mut FieldErrors) {
    if let Some(index) = items.iter().position(|item| !item.is_null() && !item.is_object()) {
        let detail = "must be an object for an array of list-type map";
        return errors.invalid(&path.index(index), items[index].clone(), detail);
    }
    let names: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let key = |item: &Value| {
        let fields = names.iter().filter_map(|name| Some(((*name).to_owned(), item.get(name)?.clone())));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    for index in repeated(&keys) {
        errors.duplicate(&path.index(index), keys[index].clone());
    }
}

/// The second places of values that are there more than once.
fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen = std::collections::HashMap::new();
    let mut again = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(item.to_string()).or_insert(0_usize);
        *times += 1;
        if *times == 2 {
            again.push(index);
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_twice() {
        let check = |schema: Value, list: Value, expected: &[&str]| {
            let schema = json!({"properties": {"l": schema}});
            assert!(is_in(&schema));
            let errors: Vec<String> = validate(&schema, &json!({"l": list})).iter().map(ToString::to_string).collect();
            assert_eq!(errors, expected);
        };
        let set = json!({"x-kubernetes-list-type": "set", "items": {"type": "string"}});
        check(set.clone(), json!(["a", "b"]), &[]);
        check(set, json!(["a", "b", "a", "a"]), &["l[2]: Duplicate value: \"a\""]);
        let map = json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object"}});
        check(map.clone(), json!([{"n": 1}, {"n": 2}]), &[]);
        check(map.clone(), json!([{"n": 1, "x": 1}, {"n": 1}]), &["l[1]: Duplicate value: {\"n\":1}"]);
        check(map.clone(), json!([{}, {}]), &["l[1]: Duplicate value: {}"]);
        check(map, json!([1]), &["l[0]: Invalid value: 1: must be an object for an array of list-type map"]);
    }
}
