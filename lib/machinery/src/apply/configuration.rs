//! An apply configuration merged into an object without anybody coming to own its fields, as a MutatingAdmissionPolicy
//! does it (KEP-3962).

use schema::{ListKind, Shape, TypeRef};
use serde_json::Value;

use super::element::Element;
use super::set::{FieldPath, path_text};
use super::walk;

/// The object with the configuration merged in.
///
/// # Errors
/// A configuration that does not fit the type, or that would replace an atomic list, map or struct as a whole: its author
/// rarely means that.
pub fn merge_configuration(object: &Value, configuration: &Value, ty: TypeRef<'_>) -> Result<Value, String> {
    walk::validate(configuration, ty).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("failed to convert patch object to typed object: {}", errors.join(", "))
    })?;
    let mut found = Vec::new();
    atomics(configuration, ty, &mut Vec::new(), &mut found);
    if !found.is_empty() {
        let found = found.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {found}"));
    }
    Ok(walk::merge(object, configuration, ty))
}

/// The paths of everything atomic in a value that is no scalar.
fn atomics(value: &Value, ty: TypeRef<'_>, path: &mut FieldPath, found: &mut Vec<String>) {
    match (ty.shape(), value) {
        (Shape::Object(shape), Value::Object(map)) => {
            if shape.atomic {
                found.push(path_text(path));
            }
            for (key, value) in map {
                let Some(field) = ty.field(key) else { continue };
                path.push(Element::field(key));
                atomics(value, field.ty, path, found);
                path.pop();
            }
        }
        (Shape::Map { atomic: true, .. }, Value::Object(_)) => found.push(path_text(path)),
        (Shape::List { item, kind }, Value::Array(items)) => {
            if matches!(kind, ListKind::Atomic) {
                found.push(path_text(path));
            }
            for (index, value) in items.iter().enumerate() {
                path.push(Element::Index(index as i64));
                atomics(value, item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configurations() {
        let check = |configuration: Value, expected: Result<Value, &str>| {
            let ty = schema::builtin().type_of("apps", "v1", "Deployment").expect("a built-in kind");
            let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1, "template": {"spec": {
                "containers": [{"name": "c", "image": "i"}]}}}});
            let got = merge_configuration(&object, &configuration, ty);
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got["spec"], expected, "{configuration}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{configuration}: {got}"),
                (got, expected) => panic!("{configuration}: {got:?}, not {expected:?}"),
            }
        };
        let spec = |containers: Value| json!({"replicas": 2, "template": {"spec": {"containers": containers}}});
        check(
            json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}}),
            Ok(spec(json!([{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]))),
        );
        check(json!({"spec": {"nothing": 1}}), Err(".spec.nothing: field not declared in schema"));
        let command = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "command": ["x"]}]}}}});
        check(command, Err("may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].command"));
    }
}
