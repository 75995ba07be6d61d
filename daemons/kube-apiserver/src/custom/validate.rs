//! What a schema refuses: wrong types, missing fields, values out of bounds. Pure.
//!
//! **Limit:** `pattern`, `format`, `allOf`/`anyOf`/`oneOf`/`not` and CEL rules (`x-kubernetes-validations`) are not enforced.

use machinery::field::{FieldError, FieldErrors, Path};
use serde_json::Value;

/// Everything in the value that the schema refuses.
pub(super) fn validate(schema: &Value, value: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check(schema, value, &Path::root(), &mut errors);
    errors
}

fn check(schema: &Value, value: &Value, path: &Path, errors: &mut FieldErrors) {
    if value.is_null() {
        return;
    }
    if let Some(expected) = schema["type"].as_str()
        && schema["x-kubernetes-int-or-string"] != true
        && !is_of_type(expected, value)
    {
        let found = type_of(value);
        errors.invalid(path, found, format!("{path} in body must be of type {expected}: \"{found}\""));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let names: Vec<String> = allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        errors.not_supported(path, value.clone(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
    match value {
        Value::Object(_) => check_object(schema, value, path, errors),
        Value::Array(items) => {
            check_count(schema, items.len(), path, errors);
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &path.index(index), errors);
            }
        }
        Value::String(text) => check_length(schema, text.chars().count(), path, errors),
        Value::Number(number) => check_bounds(schema, number.as_f64().unwrap_or(0.0), value, path, errors),
        _ => {}
    }
}

fn is_of_type(expected: &str, value: &Value) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_object(schema: &Value, value: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            errors.required(&path.child(name), "");
        }
    }
    let properties = schema["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(property, value, &path.child(name), errors);
        }
    }
    let additional = &schema["additionalProperties"];
    if additional.is_object() {
        for (name, value) in value.as_object().into_iter().flatten() {
            if properties.is_none_or(|properties| !properties.contains_key(name)) {
                check(additional, value, &path.key(name), errors);
            }
        }
    }
}

fn bound(schema: &Value, name: &str) -> Option<usize> {
    schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok())
}

fn check_count(schema: &Value, count: usize, path: &Path, errors: &mut FieldErrors) {
    if let Some(max) = bound(schema, "maxItems").filter(|max| count > *max) {
        errors.push(FieldError::too_many(path, count, max));
    }
    if let Some(min) = bound(schema, "minItems").filter(|min| count < *min) {
        errors.invalid(path, count, format!("{path} in body should have at least {min} items"));
    }
}

fn check_length(schema: &Value, length: usize, path: &Path, errors: &mut FieldErrors) {
    if let Some(max) = bound(schema, "maxLength").filter(|max| length > *max) {
        errors.push(FieldError::too_long(path, max));
    }
    if let Some(min) = bound(schema, "minLength").filter(|min| length < *min) {
        errors.invalid(path, length, format!("{path} in body should be at least {min} chars long"));
    }
}

fn check_bounds(schema: &Value, number: f64, value: &Value, path: &Path, errors: &mut FieldErrors) {
    if let Some(min) = schema["minimum"].as_f64() {
        let exclusive = schema["exclusiveMinimum"] == true;
        if number < min || (exclusive && number == min) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            errors.invalid(path, value.clone(), format!("{path} in body should be greater than{or_equal} {min}"));
        }
    }
    if let Some(max) = schema["maximum"].as_f64() {
        let exclusive = schema["exclusiveMaximum"] == true;
        if number > max || (exclusive && number == max) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            errors.invalid(path, value.clone(), format!("{path} in body should be less than{or_equal} {max}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals() {
        let schema = json!({"properties": {"spec": {"type": "object", "required": ["w"], "properties": {
            "w": {"type": "string", "enum": ["a", "b"], "maxLength": 3}, "n": {"type": "integer", "minimum": 1, "maximum": 9},
            "l": {"type": "array", "minItems": 1, "items": {"type": "string"}}}}}});
        let check = |spec: Value, expected: &[&str]| {
            let errors: Vec<String> = validate(&schema, &json!({"spec": spec})).iter().map(ToString::to_string).collect();
            assert_eq!(errors, expected);
        };
        check(json!({"w": "a", "n": 1, "l": ["x"]}), &[]);
        check(json!({}), &["spec.w: Required value"]);
        check(json!({"w": "c"}), &["spec.w: Unsupported value: \"c\": supported values: \"a\", \"b\""]);
        check(json!({"w": 5}), &["spec.w: Invalid value: \"integer\": spec.w in body must be of type string: \"integer\""]);
        check(json!({"w": "a", "n": 0}), &["spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1"]);
        check(json!({"w": "a", "l": []}), &["spec.l: Invalid value: 0: spec.l in body should have at least 1 items"]);
    }
}
