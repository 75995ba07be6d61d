//! Whether two patches of one object want different things of it.

use schema::TypeRef;
use serde_json::{Map, Value};

use super::{Elements, PATCH, RETAIN_KEYS, Sub, bad, elements, object};
use crate::gotext;
use crate::patch::PatchError;

/// Whether the patches set a field differently. Fields that one of them leaves alone are no conflict.
///
/// # Errors
/// A list whose items have not the key that they are merged by.
pub fn conflict(left: &Value, right: &Value, ty: TypeRef<'_>) -> Result<bool, PatchError> {
    maps(object(left)?, object(right)?, Some(ty))
}

fn maps(left: &Map<String, Value>, right: &Map<String, Value>, ty: Option<TypeRef<'_>>) -> Result<bool, PatchError> {
    for (key, value) in left.iter().filter(|(key, _)| key.as_str() != PATCH && key.as_str() != RETAIN_KEYS) {
        if let Some(other) = right.get(key)
            && values(value, other, &Sub::of(ty, key))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn values(left: &Value, right: &Value, sub: &Sub<'_>) -> Result<bool, PatchError> {
    match (left, right) {
        // A directive is about the whole map: one patch has it and the other speaks of single fields, or another one.
        (Value::Object(left), Value::Object(right)) if left.get(PATCH) != right.get(PATCH) => Ok(true),
        (Value::Object(left), Value::Object(right)) => maps(left, right, sub.ty),
        (Value::Array(left), Value::Array(right)) => lists(left, right, sub),
        (left, right) => Ok(left != right),
    }
}

fn lists(left: &[Value], right: &[Value], sub: &Sub<'_>) -> Result<bool, PatchError> {
    let kind = elements([left, right])?;
    if sub.patch.merge {
        // Scalars are added to what is there.
        return if kind == Elements::Maps { items(left, right, sub) } else { Ok(false) };
    }
    if left.len() != right.len() {
        return Ok(true);
    }
    if kind == Elements::Scalars {
        return Ok(sorted(left) != sorted(right));
    }
    let item = Sub { ty: sub.item(), ..Sub::of(None, "") };
    for (left, right) in left.iter().zip(right) {
        if values(left, right, &item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Items with the same key.
fn items(left: &[Value], right: &[Value], sub: &Sub<'_>) -> Result<bool, PatchError> {
    let key = sub.merge_key();
    let item = Sub { ty: sub.item(), ..Sub::of(None, "") };
    for one in left.iter().chain(right) {
        if one.get(key).is_none() {
            let shown = gotext::plain(one);
            return Err(bad(format!("cannot find merge key `{key}` in merging list element:{shown}")));
        }
    }
    for one in left {
        let same = right.iter().rfind(|other| other.get(key) == one.get(key));
        if let Some(other) = same
            && values(one, other, &item)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sorted(list: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = list.iter().map(gotext::plain).collect();
    texts.sort();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_wants_what() {
        let ty = schema::builtin().type_of("", "v1", "Pod").unwrap();
        let check = |left: Value, right: Value, want: bool| {
            assert_eq!(conflict(&left, &right, ty), Ok(want), "{left} {right}");
            assert_eq!(conflict(&right, &left, ty), Ok(want), "{right} {left}");
        };
        let labels = |labels: Value| json!({"metadata": {"labels": labels}});
        check(labels(json!({"a": "1"})), labels(json!({"b": "2"})), false);
        check(labels(json!({"a": "1"})), labels(json!({"a": "1"})), false);
        check(labels(json!({"a": "1"})), labels(json!({"a": "2"})), true);
        check(labels(json!({"a": null})), labels(json!({"a": "2"})), true);
        check(labels(json!({"a": "1"})), labels(Value::Null), true);
        check(labels(json!({"$patch": "replace", "a": "1"})), labels(json!({"b": "2"})), true);
        check(labels(json!({"$patch": "replace"})), labels(json!({"$patch": "replace"})), false);
        let containers = |items: Value| json!({"spec": {"containers": items}});
        check(containers(json!([{"name": "a", "image": "x"}])), containers(json!([{"name": "b", "image": "y"}])), false);
        check(containers(json!([{"name": "a", "image": "x"}])), containers(json!([{"name": "a", "image": "y"}])), true);
        let command = |words: Value| containers(json!([{"name": "a", "command": words}]));
        check(command(json!(["a", "b"])), command(json!(["a"])), true);
        check(command(json!(["a", "b"])), command(json!(["a", "c"])), true);
        check(command(json!(["a", "b"])), command(json!(["b", "a"])), false);
        let finalizers = |names: Value| json!({"metadata": {"finalizers": names}});
        check(finalizers(json!(["a"])), finalizers(json!(["b", "c"])), false);
        assert!(conflict(&containers(json!([{"image": "x"}])), &containers(json!([{"name": "a"}])), ty).is_err());
    }
}
