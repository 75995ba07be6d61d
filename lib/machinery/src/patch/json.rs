//! JSON patch (RFC 6902), as lenient as upstream: `replace` may add a missing key, indexes may count from the end.

use serde_json::Value;

use super::PatchError;
use crate::json::{DEPTH_MAX, depth};

/// Operations in one patch.
pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes of text that count as one more node.
const NODE_TEXT_BYTES: usize = 16;
/// Nodes that all `copy` and `move` operations of one patch may carry together.
const CARRIED_NODES_MAX: usize = 1_000_000;

/// Applies the operations in order. On an error the object is left half changed: the caller drops it.
pub fn apply(object: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Some(operations) = patch.as_array() else {
        return Err(PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            kind_of(patch)
        )));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut carried = 0;
    let mut carry = |value: &Value| {
        carried += nodes(value);
        if carried <= CARRIED_NODES_MAX {
            return Ok(());
        }
        let most = CARRIED_NODES_MAX;
        Err(PatchError::TooLarge(format!("The copy and move operations of a JSON patch may carry at most {most} values")))
    };
    for operation in operations {
        let text = |name: &str| operation.get(name).and_then(Value::as_str);
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        let op = text("op").unwrap_or("unknown");
        let path = || text("path").ok_or_else(|| bad(format!("{op} operation failed to decode path: missing value")));
        let from = || text("from").ok_or_else(|| bad(format!("{op} operation failed to decode from: missing value")));
        match op {
            "add" => add(object, op, path()?, value())?,
            "remove" => {
                remove(object, op, path()?)?;
            }
            "replace" => replace(object, path()?, value())?,
            "move" => {
                let moved = remove(object, op, from()?)?;
                carry(&moved)?;
                add(object, op, path()?, moved)?;
            }
            "copy" => {
                let copy = get(object, op, from()?)?.cloned().unwrap_or(Value::Null);
                carry(&copy)?;
                add(object, op, path()?, copy)?;
            }
            "test" => {
                let path = path()?;
                if get(object, op, path)?.unwrap_or(&Value::Null) != &value() {
                    return Err(bad(format!("testing value {path} failed: test failed")));
                }
            }
            other => return Err(bad(format!("Unexpected kind: {other}"))),
        }
    }
    Ok(())
}

fn bad(message: String) -> PatchError {
    PatchError::Unprocessable(message)
}

pub(super) fn kind_of(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn nodes(v: &Value) -> usize {
    match v {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(nodes).sum::<usize>(),
        Value::String(text) => 1 + text.len() / NODE_TEXT_BYTES,
        _ => 1,
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The container that holds the last step of the path, and that step.
fn parent<'o>(object: &'o mut Value, op: &str, path: &str) -> Result<(&'o mut Value, String), PatchError> {
    let missing = || bad(format!("{op} operation does not apply: doc is missing path: \"{path}\": missing value"));
    let mut steps = path.split('/');
    steps.next();
    let mut steps: Vec<&str> = steps.collect();
    let last = steps.pop().ok_or_else(missing)?;
    let mut at = object;
    for step in steps {
        at = match at {
            Value::Object(map) => map.get_mut(&unescape(step)),
            Value::Array(items) => {
                let i = index(step, items.len(), items.len()).map_err(|_| missing())?;
                items.get_mut(i)
            }
            _ => None,
        }
        .ok_or_else(missing)?;
    }
    if at.is_object() || at.is_array() { Ok((at, unescape(last))) } else { Err(missing()) }
}

/// An index up to and without `end`; negative ones count from `len`.
fn index(step: &str, len: usize, end: usize) -> Result<usize, String> {
    let i: i64 = step.parse().map_err(|_| format!("value was not a proper array index: '{step}'"))?;
    let resolved = if i < 0 { i + len as i64 } else { i };
    usize::try_from(resolved)
        .ok()
        .filter(|i| *i < end)
        .ok_or_else(|| format!("Unable to access invalid index: {i}: invalid index referenced"))
}

fn in_path(op: &str, path: &str) -> impl Fn(String) -> PatchError {
    let prefix = format!("error in {op} for path: '{path}': ");
    move |e| bad(format!("{prefix}{e}"))
}

fn get<'o>(object: &'o mut Value, op: &str, path: &str) -> Result<Option<&'o Value>, PatchError> {
    if path.is_empty() {
        return Ok(Some(object));
    }
    let (container, key) = parent(object, op, path)?;
    match container {
        Value::Array(items) => {
            let i = index(&key, items.len(), items.len()).map_err(in_path(op, path))?;
            Ok(items.get(i))
        }
        other => Ok(other.get(&key)),
    }
}

/// Each operation may put what an earlier one made into something else: without a bound the object is soon deeper than the stack.
fn check_depth(path: &str, value: &Value) -> Result<(), PatchError> {
    if path.matches('/').count() + depth(value) <= DEPTH_MAX {
        return Ok(());
    }
    Err(PatchError::TooLarge(format!("A JSON patch may nest values at most {DEPTH_MAX} levels deep")))
}

fn add(object: &mut Value, op: &str, path: &str, value: Value) -> Result<(), PatchError> {
    check_depth(path, &value)?;
    let (container, key) = parent(object, op, path)?;
    match container {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let i = index(&key, items.len() + 1, items.len() + 1).map_err(in_path(op, path))?;
            items.insert(i, value);
        }
        Value::Object(map) => {
            map.insert(key, value);
        }
        _ => unreachable!("parent returns containers only"),
    }
    Ok(())
}

fn remove(object: &mut Value, op: &str, path: &str) -> Result<Value, PatchError> {
    let (container, key) = parent(object, op, path)?;
    match container {
        Value::Array(items) => {
            let i = index(&key, items.len(), items.len()).map_err(in_path(op, path))?;
            Ok(items.remove(i))
        }
        Value::Object(map) => {
            map.remove(&key).ok_or_else(|| in_path(op, path)(format!("Unable to remove nonexistent key: {key}: missing value")))
        }
        _ => unreachable!("parent returns containers only"),
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    check_depth(path, &value)?;
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err(bad("replace operation value must be object or array".to_owned()));
        }
        *object = value;
        return Ok(());
    }
    let (container, key) = parent(object, "replace", path)?;
    match container {
        Value::Array(items) => {
            let i = index(&key, items.len(), items.len())
                .map_err(|_| bad(format!("replace operation does not apply: doc is missing key: {path}: missing value")))?;
            items[i] = value;
        }
        Value::Object(map) => {
            map.insert(key, value);
        }
        _ => unreachable!("parent returns containers only"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations() {
        let object = json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "m~n": 2});
        for (patch, want) in [
            (json!([{"op": "add", "path": "/a/c", "value": 5}]), Ok(json!({"a": {"b": [1, 2, 3], "c": 5}}))),
            (json!([{"op": "add", "path": "/a/b/1", "value": 9}]), Ok(json!({"a": {"b": [1, 9, 2, 3]}}))),
            (json!([{"op": "add", "path": "/a/b/-", "value": 9}]), Ok(json!({"a": {"b": [1, 2, 3, 9]}}))),
            (json!([{"op": "add", "path": "/a/b/3", "value": 9}]), Ok(json!({"a": {"b": [1, 2, 3, 9]}}))),
            (json!([{"op": "remove", "path": "/a/b/-1"}]), Ok(json!({"a": {"b": [1, 2]}}))),
            (json!([{"op": "remove", "path": "/x~1y"}]), Ok(json!({"x/y": null}))),
            (json!([{"op": "replace", "path": "/m~0n", "value": 3}]), Ok(json!({"m~n": 3}))),
            (json!([{"op": "replace", "path": "/a/new", "value": 3}]), Ok(json!({"a": {"b": [1, 2, 3], "new": 3}}))),
            (json!([{"op": "move", "from": "/a/b", "path": "/b"}]), Ok(json!({"a": {}, "b": [1, 2, 3]}))),
            (json!([{"op": "copy", "from": "/a/b/0", "path": "/z"}]), Ok(json!({"z": 1}))),
            (json!([{"op": "test", "path": "/a/b", "value": [1, 2, 3]}]), Ok(json!({}))),
            (json!([{"op": "test", "path": "/none", "value": null}]), Ok(json!({}))),
            (json!([{"op": "test", "path": "/a/b/0", "value": 2}]), Err("testing value /a/b/0 failed: test failed")),
            (
                json!([{"op": "remove", "path": "/q"}]),
                Err("error in remove for path: '/q': Unable to remove nonexistent key: q: missing value"),
            ),
            (
                json!([{"op": "add", "path": "/q/r", "value": 1}]),
                Err("add operation does not apply: doc is missing path: \"/q/r\": missing value"),
            ),
            (
                json!([{"op": "add", "path": "/a/b/5", "value": 1}]),
                Err("error in add for path: '/a/b/5': Unable to access invalid index: 5: invalid index referenced"),
            ),
            (json!([{"op": "burn", "path": "/a"}]), Err("Unexpected kind: burn")),
            (json!([{"op": "add"}]), Err("add operation failed to decode path: missing value")),
        ] {
            let mut got = object.clone();
            match (apply(&mut got, &patch), want) {
                (Ok(()), Ok(changes)) => {
                    let mut expected = object.clone();
                    super::super::merge::apply(&mut expected, &changes);
                    if patch[0]["op"] == "move" {
                        expected["a"] = json!({});
                    }
                    assert_eq!(got, expected, "{patch}");
                }
                (Err(PatchError::Unprocessable(e)), Err(want)) => assert_eq!(e, want, "{patch}"),
                (got, want) => panic!("{patch}: got {got:?}, want {want:?}"),
            }
        }
    }

    #[test]
    fn limits() {
        let many = Value::Array(vec![json!({"op": "test", "path": "", "value": {}}); OPERATIONS_MAX + 1]);
        assert!(matches!(apply(&mut json!({}), &many), Err(PatchError::TooLarge(_))));
        let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let bomb = Value::Array(vec![double; 64]);
        assert!(matches!(apply(&mut json!({"a": [1]}), &bomb), Err(PatchError::TooLarge(_))));
        assert!(matches!(apply(&mut json!({}), &json!({})), Err(PatchError::Malformed(_))));
        let many = vec![json!({"op": "move", "from": "/a", "path": "/b"}), json!({"op": "move", "from": "/b", "path": "/a"})];
        let heavy = Value::Array(vec![many; 1_000].concat());
        assert!(matches!(apply(&mut json!({"a": vec![0; 10_000]}), &heavy), Err(PatchError::TooLarge(_))));
    }

    /// Two megabytes of this once made an object so deep that the server's stack overflowed when it was dropped.
    #[test]
    fn depth_is_bounded() {
        let nested = (0..100).fold(json!({}), |inner, _| json!({"a": inner}));
        let below = "/a".repeat(100);
        let deepen = [
            json!({"op": "add", "path": "/y", "value": nested}),
            json!({"op": "move", "from": "/x", "path": format!("/y{below}/z")}),
            json!({"op": "move", "from": "/y", "path": "/x"}),
        ];
        let once = Value::Array(deepen.to_vec());
        let mut object = json!({"x": 1});
        apply(&mut object, &once).unwrap();
        assert_eq!(depth(&object), 102);
        assert!(matches!(apply(&mut object, &once), Err(PatchError::TooLarge(_))));
        let mut object = json!({"x": 1});
        assert!(matches!(apply(&mut object, &Value::Array(vec![deepen; 100].concat())), Err(PatchError::TooLarge(_))));
        let deep = json!([{"op": "replace", "path": below, "value": nested}]);
        assert!(matches!(apply(&mut json!({"a": nested}), &deep), Err(PatchError::TooLarge(_))));
    }
}
