//! Strategic merge patch: a merge patch that knows which lists are merged by key, and kubectl's two- and three-way diffs.
//!
//! Directives inside a patch: `$patch: delete|replace`, `$retainKeys`, `$setElementOrder/<list>`,
//! `$deleteFromPrimitiveList/<list>`.

mod conflicts;

use serde_json::{Map, Value, json};

pub use conflicts::conflict;
use schema::{Patch, Shape, TypeRef};

use super::PatchError;
use super::json::kind_of;
use crate::gotext;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_SCALARS: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of a built-in type.
pub fn apply(original: &Value, patch: &Value, ty: TypeRef<'_>) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        let kind = kind_of(patch);
        return Err(bad(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")));
    };
    let original = object(original)?;
    let options = Merge { apply: true };
    Ok(Value::Object(options.map(original.clone(), patch.clone(), Some(ty))?))
}

/// The patch that makes `modified` of `original`.
pub fn create_two_way(original: &Value, modified: &Value, ty: TypeRef<'_>) -> Result<Value, PatchError> {
    let diff = Diff { additions: true, deletions: true, retain_keys: false };
    Ok(Value::Object(diff.maps(object(original)?, object(modified)?, Some(ty))?))
}

/// kubectl's client-side apply: `original` is what was applied last, `modified` what is applied now, `current` what the
/// server has. Removes what was dropped since the last apply, sets what differs from the server.
pub fn create_three_way(original: &Value, modified: &Value, current: &Value, ty: TypeRef<'_>) -> Result<Value, PatchError> {
    let additions = Diff { additions: true, deletions: false, retain_keys: false };
    let delta = additions.maps(object(current)?, object(modified)?, Some(ty))?;
    let deletions = Diff { additions: false, deletions: true, retain_keys: false };
    let gone = deletions.maps(object(original)?, object(modified)?, Some(ty))?;
    Ok(Value::Object(Merge { apply: false }.map(gone, delta, Some(ty))?))
}

fn bad(message: impl Into<String>) -> PatchError {
    PatchError::Malformed(message.into())
}

fn object(v: &Value) -> Result<&Map<String, Value>, PatchError> {
    v.as_object().ok_or_else(|| wrong_kind("object", v))
}

fn wrong_kind(expected: &str, actual: &Value) -> PatchError {
    bad(format!("expected a {expected}, but received a {}", kind_of(actual)))
}

fn no_merge_key(item: &Map<String, Value>, key: &str) -> PatchError {
    let item = gotext::plain(&Value::Object(item.clone()));
    bad(format!("map: {item} does not contain declared merge key: {key}"))
}

/// What the schema says of the field `key`.
struct Sub<'a> {
    ty: Option<TypeRef<'a>>,
    patch: Patch<'a>,
}

impl<'a> Sub<'a> {
    fn of(ty: Option<TypeRef<'a>>, key: &str) -> Self {
        let none = Patch { merge: false, retain_keys: false, merge_key: None };
        match ty.map(TypeRef::shape) {
            Some(Shape::Object(_)) => match ty.and_then(|t| t.field(key)) {
                Some(field) => Self { ty: Some(field.ty), patch: field.patch },
                None => Self { ty: None, patch: none },
            },
            Some(Shape::Map { value, .. }) => Self { ty: Some(value), patch: none },
            _ => Self { ty: None, patch: none },
        }
    }

    fn item(&self) -> Option<TypeRef<'a>> {
        match self.ty.map(TypeRef::shape) {
            Some(Shape::List { item, .. }) => Some(item),
            _ => None,
        }
    }

    fn merge_key(&self) -> &'a str {
        self.patch.merge_key.unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Elements {
    Maps,
    Scalars,
}

/// All elements of the lists must be of one kind, and no lists.
fn elements<'v>(lists: impl IntoIterator<Item = &'v [Value]>) -> Result<Elements, PatchError> {
    let mut first: Option<&str> = None;
    for item in lists.into_iter().flatten() {
        let kind = kind_of(item);
        match first {
            None if kind == "array" => return Err(bad("lists of lists are not supported")),
            None => first = Some(kind),
            Some(known) if known != kind => return Err(bad("list element types are not identical")),
            Some(_) => {}
        }
    }
    match first {
        None => Err(bad("no elements in any of the given slices")),
        Some("object") => Ok(Elements::Maps),
        Some(_) => Ok(Elements::Scalars),
    }
}

/// What an item is known by: the value of its merge key, or itself.
fn identity<'v>(item: &'v Value, merge_key: &str) -> Option<&'v Value> {
    if merge_key.is_empty() { Some(item) } else { item.get(merge_key) }
}

fn position(list: &[Value], item: &Value, merge_key: &str) -> Option<usize> {
    let id = identity(item, merge_key);
    list.iter().position(|i| identity(i, merge_key) == id)
}

fn is_delete(item: &Value) -> bool {
    item.get(PATCH).is_some_and(|d| d == "delete")
}

/// Sorts items as they stand in `order`; items that delete go last.
fn sort_by_order(list: Vec<Value>, order: &[Value], merge_key: &str) -> Vec<Value> {
    let (deletes, mut rest): (Vec<Value>, Vec<Value>) = list.into_iter().partition(is_delete);
    rest.sort_by_key(|item| position(order, item, merge_key).unwrap_or(usize::MAX));
    rest.extend(deletes);
    rest
}

/// Brings the patch's items into the patch's order, the server's own into the server's, and interleaves them by the
/// server's order.
fn interleave(
    patch: Vec<Value>,
    server_only: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: &str,
) -> Vec<Value> {
    let mut right = sort_by_order(patch, patch_order, merge_key).into_iter().peekable();
    let mut left = sort_by_order(server_only, server_order, merge_key).into_iter().peekable();
    let mut out = Vec::new();
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => match (position(server_order, l, merge_key), position(server_order, r, merge_key)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}

fn partition_by_presence(list: Vec<Value>, by: &[Value], merge_key: &str) -> (Vec<Value>, Vec<Value>) {
    list.into_iter().partition(|item| position(by, item, merge_key).is_some())
}

fn dedup(list: Vec<Value>) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::with_capacity(list.len());
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

fn require_merge_key(list: &[Value], merge_key: &str) -> Result<(), PatchError> {
    for item in list {
        let map = object(item)?;
        if !map.contains_key(merge_key) {
            return Err(no_merge_key(map, merge_key));
        }
    }
    Ok(())
}

/// Applies a patch to an object, or (with `apply` off) puts two patches together.
struct Merge {
    apply: bool,
}

impl Merge {
    fn map(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        ty: Option<TypeRef<'_>>,
    ) -> Result<Map<String, Value>, PatchError> {
        match patch.get(PATCH) {
            None => {}
            Some(d) if d == "replace" => {
                patch.remove(PATCH);
                return Ok(patch);
            }
            Some(d) if d == "delete" => return Ok(Map::new()),
            Some(d) => {
                let map = gotext::plain(&Value::Object(patch.clone()));
                return Err(bad(format!("unknown patch type: {} in map: {map}", gotext::plain(d))));
            }
        }
        self.retain_keys(&mut original, &mut patch)?;
        self.ordered_lists(&mut original, &mut patch, ty)?;
        for (key, value) in patch {
            if let Some(list) = key.strip_prefix(DELETE_SCALARS) {
                if self.apply {
                    self.delete_scalars(&mut original, list, &value)?;
                } else {
                    original.insert(key, value);
                }
                continue;
            }
            if value.is_null() {
                original.remove(&key);
                if self.apply {
                    continue;
                }
            }
            let merged = match (original.remove(&key), value) {
                (Some(Value::Object(from)), Value::Object(changes)) => {
                    let sub = Sub::of(ty, &key);
                    Some(Value::Object(self.map(from, changes, sub.ty)?))
                }
                (Some(Value::Array(from)), Value::Array(changes)) => {
                    Some(Value::Array(self.list(from, changes, &Sub::of(ty, &key))?))
                }
                (had, mut value) => {
                    let replaces_same_kind = had.is_some_and(|h| kind_of(&h) == kind_of(&value));
                    if self.apply && !replaces_same_kind {
                        discard_nulls(&mut value);
                    }
                    if self.apply { without_directives(value) } else { Some(value) }
                }
            };
            if let Some(merged) = merged {
                original.insert(key, merged);
            }
        }
        Ok(original)
    }

    fn retain_keys(&self, original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
        let Some(directive) = patch.remove(RETAIN_KEYS) else {
            return Ok(());
        };
        if !self.apply {
            match original.get(RETAIN_KEYS) {
                Some(other) if *other != directive => {
                    return Err(bad(format!(
                        "{other} and {directive} are not deep equal: this may happen when calculating the 3-way diff patch"
                    )));
                }
                Some(_) => {}
                None => {
                    original.insert(RETAIN_KEYS.to_owned(), directive);
                }
            }
            return Ok(());
        }
        let wrong = || bad("invalid patch format of retainKeys");
        let keys = directive.as_array().ok_or_else(wrong)?;
        let listed = |key: &str| keys.iter().any(|k| k == key);
        let stray =
            patch.iter().any(|(k, v)| !v.is_null() && !k.starts_with(DELETE_SCALARS) && !k.starts_with(SET_ORDER) && !listed(k));
        if stray {
            return Err(wrong());
        }
        original.retain(|k, _| listed(k));
        Ok(())
    }

    /// Merges the lists whose order the patch gives.
    fn ordered_lists(
        &self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        ty: Option<TypeRef<'_>>,
    ) -> Result<(), PatchError> {
        let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
        for directive in directives {
            let Some(order) = patch.remove(&directive) else { continue };
            if !self.apply {
                match original.get(&directive) {
                    Some(other) if *other != order => return Err(bad_order()),
                    Some(_) => {}
                    None => {
                        original.insert(directive.clone(), order.clone());
                    }
                }
            }
            let Value::Array(order) = order else {
                return Err(wrong_kind("array", &order));
            };
            let key = &directive[SET_ORDER.len()..];
            let list = |m: &Map<String, Value>| match m.get(key) {
                None => Ok(None),
                Some(Value::Array(items)) => Ok(Some(items.clone())),
                Some(other) => Err(wrong_kind("array", other)),
            };
            let (server, changes) = (list(original)?, list(patch)?);
            let sub = Sub::of(ty, key);
            let merge_key = sub.merge_key();
            check_order(changes.as_deref().unwrap_or_default(), &order, merge_key)?;
            let server_order = server.clone().unwrap_or_default();
            let all = [server_order.clone(), changes.clone().unwrap_or_default()];
            let merged = match (server, changes) {
                (None, None) => continue,
                (Some(server), None) => server,
                (None, Some(changes)) => match without_directives(Value::Array(changes)) {
                    Some(Value::Array(items)) => items,
                    _ => continue,
                },
                (Some(server), Some(changes)) => self.list(server, changes, &sub)?,
            };
            if !merge_key.is_empty() {
                require_merge_key(&merged, merge_key)?;
                require_merge_key(&order, merge_key)?;
            }
            let (from_patch, server_only) = partition_by_presence(merged, &order, merge_key);
            elements(all.iter().map(Vec::as_slice))?;
            let both = interleave(from_patch, server_only, &order, &server_order, merge_key);
            original.insert(key.to_owned(), Value::Array(both));
            patch.remove(key);
        }
        Ok(())
    }

    fn delete_scalars(&self, original: &mut Map<String, Value>, key: &str, doomed: &Value) -> Result<(), PatchError> {
        let Value::Array(doomed) = doomed else {
            return Err(bad("invalid patch format of primitive list"));
        };
        if let Some(Value::Array(items)) = original.get_mut(key) {
            items.retain(|i| !doomed.contains(i));
        }
        Ok(())
    }

    fn list(&self, mut original: Vec<Value>, patch: Vec<Value>, sub: &Sub<'_>) -> Result<Vec<Value>, PatchError> {
        if !sub.patch.merge {
            return Ok(patch);
        }
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        let server_order = original.clone();
        let patch_order = patch.clone();
        let merge_key = match elements([original.as_slice(), patch.as_slice()])? {
            Elements::Scalars => {
                original.extend(patch);
                let merged = dedup(original);
                let (from_patch, server_only) = partition_by_presence(merged, &patch_order, "");
                return Ok(interleave(from_patch, server_only, &patch_order, &server_order, ""));
            }
            Elements::Maps => sub.merge_key(),
        };
        if merge_key.is_empty() {
            let name = sub.item().map_or("", TypeRef::name);
            return Err(bad(format!("cannot merge lists without merge key for {name}")));
        }
        let mut changes = Vec::new();
        let mut replace = false;
        for item in patch {
            let map = object(&item)?;
            match map.get(PATCH) {
                None => changes.push(item),
                Some(d) if d == "delete" => {
                    let id = map.get(merge_key).ok_or_else(|| no_merge_key(map, merge_key))?;
                    original.retain(|i| i.get(merge_key) != Some(id));
                }
                Some(d) if d == "replace" => replace = true,
                Some(d) if d == "merge" => {
                    return Err(bad("merging lists cannot yet be specified in the patch"));
                }
                Some(d) => return Err(bad(format!("unknown patch type: {} in map: {}", gotext::plain(d), gotext::plain(&item)))),
            }
        }
        if replace {
            return Ok(changes);
        }
        require_merge_key(&changes, merge_key)?;
        let order = changes.clone();
        for item in changes {
            match position(&original, &item, merge_key) {
                Some(i) => {
                    let (Value::Object(from), Value::Object(change)) = (original[i].take(), item) else {
                        return Err(bad(format!("value for key {i} is not a map")));
                    };
                    original[i] = Value::Object(self.map(from, change, sub.item())?);
                }
                None => original.push(item),
            }
        }
        let (from_patch, server_only) = partition_by_presence(original, &order, merge_key);
        require_merge_key(&server_only, merge_key)?;
        Ok(interleave(from_patch, server_only, &order, &server_order, merge_key))
    }
}

fn bad_order() -> PatchError {
    bad("invalid patch format of setElementOrder list")
}

/// The items of a patch must stand in the order the patch asks for.
fn check_order(patch: &[Value], order: &[Value], merge_key: &str) -> Result<(), PatchError> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|i| i.get(PATCH).is_none()) {
        if !merge_key.is_empty() {
            require_merge_key(std::slice::from_ref(item), merge_key)?;
        }
        if !wanted.any(|w| identity(w, merge_key) == identity(item, merge_key)) {
            return Err(bad(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                gotext::plain(&Value::Array(patch.to_vec())),
                gotext::plain(&Value::Array(order.to_vec()))
            )));
        }
    }
    Ok(())
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What is new cannot be deleted from or replaced: parts with a `$patch` vanish, other directives are meaningless.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(
            map.into_iter()
                .filter(|(k, _)| k != RETAIN_KEYS && !k.starts_with(SET_ORDER) && !k.starts_with(DELETE_SCALARS))
                .filter_map(|(k, v)| without_directives(v).map(|v| (k, v)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

/// Makes patches. `additions` also means changes.
#[derive(Clone, Copy)]
struct Diff {
    additions: bool,
    deletions: bool,
    retain_keys: bool,
}

/// Text by which upstream orders values.
fn sort_text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned)
}

impl Diff {
    fn maps(
        self,
        original: &Map<String, Value>,
        modified: &Map<String, Value>,
        ty: Option<TypeRef<'_>>,
    ) -> Result<Map<String, Value>, PatchError> {
        let mut patch = Map::new();
        for (key, new) in modified {
            let old = match original.get(key) {
                Some(old) if kind_of(old) == kind_of(new) => old,
                _ => {
                    if self.additions {
                        patch.insert(key.clone(), new.clone());
                    }
                    continue;
                }
            };
            let sub = Sub::of(ty, key);
            match (old, new) {
                (Value::Object(old), Value::Object(new)) => {
                    let inner = Self { retain_keys: sub.patch.retain_keys, ..self }.maps(old, new, sub.ty)?;
                    if !inner.is_empty() {
                        patch.insert(key.clone(), Value::Object(inner));
                    }
                }
                (Value::Array(old), Value::Array(new)) if sub.patch.merge => {
                    Self { retain_keys: sub.patch.retain_keys, ..self }.lists(key, old, new, &sub, &mut patch)?;
                }
                _ => {
                    if self.additions && old != new {
                        patch.insert(key.clone(), new.clone());
                    }
                }
            }
        }
        if self.deletions {
            for key in original.keys().filter(|k| !modified.contains_key(*k)) {
                patch.insert(key.clone(), Value::Null);
            }
        }
        if self.retain_keys {
            let mut keys: Vec<&str> = modified.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str()).collect();
            let dropped = original.iter().any(|(k, v)| !v.is_null() && !modified.contains_key(k));
            if !keys.is_empty() && (!patch.is_empty() || dropped) {
                keys.sort_unstable();
                patch.insert(RETAIN_KEYS.to_owned(), json!(keys));
            }
        }
        Ok(patch)
    }

    fn lists(
        self,
        key: &str,
        original: &[Value],
        modified: &[Value],
        sub: &Sub<'_>,
        patch: &mut Map<String, Value>,
    ) -> Result<(), PatchError> {
        if original.is_empty() {
            if self.additions && !modified.is_empty() {
                patch.insert(key.to_owned(), Value::Array(modified.to_vec()));
            }
            return Ok(());
        }
        let (changes, doomed, order) = match elements([original, modified])? {
            Elements::Maps => {
                let merge_key = sub.merge_key();
                require_merge_key(original, merge_key)?;
                require_merge_key(modified, merge_key)?;
                let changes = self.lists_of_maps(original, modified, sub.item(), merge_key)?;
                let same_order = original.len() == modified.len()
                    && original.iter().zip(modified).all(|(a, b)| a.get(merge_key) == b.get(merge_key));
                let order = if (self.additions && (!changes.is_empty() || !same_order)) || (self.deletions && !changes.is_empty())
                {
                    modified.iter().map(|m| json!({ merge_key: m.get(merge_key) })).collect()
                } else {
                    Vec::new()
                };
                (changes, Vec::new(), order)
            }
            Elements::Scalars => {
                let mut doomed = Vec::new();
                let mut changes = Vec::new();
                if self.deletions {
                    doomed = original.iter().filter(|o| !modified.contains(o)).cloned().collect();
                    doomed.sort_by_key(sort_text);
                    doomed.dedup();
                }
                if self.additions {
                    changes = modified.iter().filter(|m| !original.contains(m)).cloned().collect();
                }
                let order = if (self.deletions && !doomed.is_empty()) || (self.additions && original != modified) {
                    modified.to_vec()
                } else {
                    Vec::new()
                };
                (changes, doomed, order)
            }
        };
        for (key, list) in
            [(key.to_owned(), changes), (format!("{DELETE_SCALARS}{key}"), doomed), (format!("{SET_ORDER}{key}"), order)]
        {
            if !list.is_empty() {
                patch.insert(key, Value::Array(list));
            }
        }
        Ok(())
    }

    /// Changed and new items in the order of `modified`, then deletions.
    fn lists_of_maps(
        self,
        original: &[Value],
        modified: &[Value],
        item: Option<TypeRef<'_>>,
        merge_key: &str,
    ) -> Result<Vec<Value>, PatchError> {
        let mut out = Vec::new();
        for new in modified {
            match position(original, new, merge_key) {
                Some(i) => {
                    let mut inner = self.maps(object(&original[i])?, object(new)?, item)?;
                    if !inner.is_empty() {
                        inner.insert(merge_key.to_owned(), new[merge_key].clone());
                        out.push(Value::Object(inner));
                    }
                }
                None if self.additions => out.push(new.clone()),
                None => {}
            }
        }
        if self.deletions {
            let mut gone: Vec<&Value> =
                original.iter().filter(|o| position(modified, o, merge_key).is_none()).map(|o| &o[merge_key]).collect();
            gone.sort_by_key(|v| sort_text(v));
            out.extend(gone.into_iter().map(|id| json!({ merge_key: id, PATCH: "delete" })));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(group: &str, kind: &str) -> TypeRef<'static> {
        schema::builtin().type_of(group, "v1", kind).expect("a built-in type")
    }

    fn check_apply(original: Value, patch: Value, want: Value) {
        assert_eq!(apply(&original, &patch, ty("", "Pod")).unwrap(), want, "{original} with {patch}");
    }

    fn containers(items: Value) -> Value {
        json!({"spec": {"containers": items}})
    }

    #[test]
    fn merges_by_key() {
        check_apply(
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
            containers(json!([{"name": "b", "image": "2"}])),
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
        );
        // What is new goes before what the server has, as upstream does.
        check_apply(
            containers(json!([{"name": "a", "image": "1"}])),
            containers(json!([{"name": "c", "image": "2"}])),
            containers(json!([{"name": "c", "image": "2"}, {"name": "a", "image": "1"}])),
        );
        check_apply(
            containers(json!([{"name": "a", "args": ["x"], "env": [{"name": "E", "value": "1"}]}])),
            containers(json!([{"name": "a", "args": ["y"], "env": [{"name": "F", "value": "2"}]}])),
            containers(json!([{"name": "a", "args": ["y"], "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]}])),
        );
    }

    #[test]
    fn directives() {
        check_apply(
            containers(json!([{"name": "a"}, {"name": "b"}])),
            containers(json!([{"name": "a", "$patch": "delete"}])),
            containers(json!([{"name": "b"}])),
        );
        check_apply(
            containers(json!([{"name": "a"}, {"name": "b"}])),
            containers(json!([{"name": "c"}, {"$patch": "replace"}])),
            containers(json!([{"name": "c"}])),
        );
        check_apply(
            json!({"metadata": {"labels": {"a": "1"}, "name": "n"}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}, "name": "n"}}),
        );
        check_apply(
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
            json!({"metadata": {"finalizers": ["a", "c"]}}),
        );
        check_apply(
            json!({"metadata": {"finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"], "$setElementOrder/finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["a", "b"]}}),
        );
        check_apply(
            containers(json!([{"name": "a"}, {"name": "b"}, {"name": "s"}])),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            containers(json!([{"name": "b"}, {"name": "a"}, {"name": "s"}])),
        );
        check_apply(
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        );
        check_apply(json!({"metadata": {"labels": {"a": "1"}}}), json!({"metadata": {"labels": null}}), json!({"metadata": {}}));
        check_apply(
            json!({}),
            json!({"metadata": {"labels": {"a": null, "b": "1"}}}),
            json!({"metadata": {"labels": {"b": "1"}}}),
        );
        check_apply(
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        );
    }

    #[test]
    fn refuses() {
        for (patch, want) in [
            (containers(json!([{"image": "x"}])), "does not contain declared merge key: name"),
            (json!({"metadata": {"$patch": "burn"}}), "unknown patch type: burn in map: map[$patch:burn]"),
            (json!([]), "json: cannot unmarshal array into Go value of type map[string]interface {}"),
            (
                json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}],
                    "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}}),
                "doesn't match $setElementOrder list",
            ),
        ] {
            let original = containers(json!([{"name": "a"}]));
            let mut original = original;
            original["metadata"] = json!({});
            let e = apply(&original, &patch, ty("", "Pod")).unwrap_err().to_string();
            assert!(e.contains(want), "{e}");
        }
    }

    fn deployment(containers: Value) -> Value {
        json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": containers}}}})
    }

    #[test]
    fn two_way() {
        let from = deployment(json!([{"name": "a", "image": "1", "ports": [{"containerPort": 1}]}, {"name": "b"}]));
        let to = deployment(json!([{"name": "a", "image": "2", "ports": [{"containerPort": 1}]}, {"name": "c"}]));
        let patch = create_two_way(&from, &to, ty("apps", "Deployment")).unwrap();
        assert_eq!(
            patch,
            json!({"spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}],
                "containers": [{"name": "a", "image": "2"}, {"name": "c"}, {"name": "b", "$patch": "delete"}]}}}})
        );
        assert_eq!(apply(&from, &patch, ty("apps", "Deployment")).unwrap(), to);
        assert_eq!(create_two_way(&from, &from, ty("apps", "Deployment")).unwrap(), json!({}));
    }

    #[test]
    fn two_way_with_retained_keys() {
        let from = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let to = json!({"spec": {"strategy": {"type": "Recreate"}}});
        let patch = create_two_way(&from, &to, ty("apps", "Deployment")).unwrap();
        assert_eq!(patch, json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}}}));
        assert_eq!(apply(&from, &patch, ty("apps", "Deployment")).unwrap(), to);
    }

    #[test]
    fn three_way() {
        let last = deployment(json!([{"name": "a", "image": "1"}, {"name": "gone"}]));
        let now = deployment(json!([{"name": "a", "image": "2"}]));
        let server = json!({"metadata": {"name": "d", "uid": "u"}, "spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "a", "image": "1", "imagePullPolicy": "Always"}, {"name": "gone"}, {"name": "sidecar"}]}}}});
        let patch = create_three_way(&last, &now, &server, ty("apps", "Deployment")).unwrap();
        assert_eq!(
            patch,
            json!({"spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "a"}],
                "containers": [{"name": "a", "image": "2"}, {"name": "gone", "$patch": "delete"}]}}}})
        );
        let got = apply(&server, &patch, ty("apps", "Deployment")).unwrap();
        assert_eq!(
            got["spec"]["template"]["spec"]["containers"],
            json!([{"name": "a", "image": "2", "imagePullPolicy": "Always"}, {"name": "sidecar"}])
        );
        assert_eq!(got["spec"]["replicas"], 1);
        // Nothing to do but to say again what order is wanted, as the server has one container more.
        assert_eq!(
            create_three_way(&now, &now, &got, ty("apps", "Deployment")).unwrap(),
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "a"}]}}}})
        );
        assert_eq!(create_three_way(&now, &now, &now, ty("apps", "Deployment")).unwrap(), json!({}));
    }
}
