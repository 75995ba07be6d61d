//! Walks over typed values: which fields a value has, what differs between two, merging, and removing fields.
//!
//! A missing type means that the schema says nothing (unknown fields that are kept): then maps are granular and lists
//! atomic.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use schema::{ListKind, Scalar, Shape, TypeRef};

use super::element::Element;
use super::set::{FieldPath, Set, path_text};
use crate::gotext;

/// A value does not fit its type; the message begins with the path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TypeError {
    pub path: String,
    pub message: String,
}

#[derive(Clone, Copy)]
enum Atom<'a> {
    Scalar,
    /// Owned as a whole, whatever it is.
    Atomic,
    List(TypeRef<'a>, ListKind<'a>),
    /// An object or a map; the type tells the fields apart.
    Map,
}

fn atom<'a>(ty: Option<TypeRef<'a>>, value: &Value) -> Atom<'a> {
    match ty.map(TypeRef::shape) {
        Some(Shape::Object(o)) if o.atomic => Atom::Atomic,
        Some(Shape::Map { atomic: true, .. }) => Atom::Atomic,
        Some(Shape::Object(_) | Shape::Map { .. }) => Atom::Map,
        Some(Shape::List { kind: ListKind::Atomic, .. }) => Atom::Atomic,
        Some(Shape::List { item, kind }) => Atom::List(item, kind),
        Some(Shape::Scalar(_)) => Atom::Scalar,
        Some(Shape::Any) | None => match value {
            Value::Object(_) | Value::Null => Atom::Map,
            Value::Array(_) => Atom::Atomic,
            _ => Atom::Scalar,
        },
    }
}

/// The type of a field, and whether the schema declares it.
fn field_type<'a>(ty: Option<TypeRef<'a>>, key: &str) -> (Option<TypeRef<'a>>, bool) {
    match ty.map(TypeRef::shape) {
        Some(Shape::Object(_)) => match ty.and_then(|t| t.field(key)) {
            Some(field) => (Some(field.ty), true),
            None => (None, false),
        },
        Some(Shape::Map { value, .. }) => (Some(value), false),
        _ => (None, false),
    }
}

/// What an item of a list is known by.
fn item_element(item_type: TypeRef<'_>, kind: ListKind<'_>, item: &Value) -> Result<Element, String> {
    match kind {
        ListKind::Map(keys) => {
            let map = match item {
                Value::Object(map) => map,
                Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
                _ => return Err("associative list with keys may not have non-map elements".to_owned()),
            };
            let mut fields: Vec<(String, Value)> = keys
                .iter()
                .filter_map(|key| {
                    let value = map.get(key).cloned().or_else(|| key_default(item_type, key))?;
                    Some((key.clone(), value))
                })
                .collect();
            if fields.is_empty() {
                let keys: Vec<String> = keys.iter().map(|k| gotext::quote(k)).collect();
                return Err(format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                     values for any key fields)",
                    keys.join(" ")
                ));
            }
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Element::Key(fields))
        }
        ListKind::Set | ListKind::Atomic => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(Element::Value(scalar.clone())),
        },
    }
}

/// The default of a key field that was left out.
fn key_default(item_type: TypeRef<'_>, key: &str) -> Option<Value> {
    let field = item_type.field(key)?;
    if key == "protocol" && item_type.name().ends_with("Port") {
        return Some("TCP".into());
    }
    match field.ty.shape() {
        Shape::Scalar(Scalar::String) if field.required => Some("".into()),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64) if field.required => Some(0.into()),
        _ => None,
    }
}

/// Refuses what the schema does not declare, wrong shapes, and items that cannot be told apart.
pub(super) fn validate(value: &Value, ty: TypeRef<'_>) -> Result<(), Vec<TypeError>> {
    let mut errors = Vec::new();
    check(value, Some(ty), &mut Vec::new(), &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn check(value: &Value, ty: Option<TypeRef<'_>>, path: &mut FieldPath, errors: &mut Vec<TypeError>) {
    let Some(ty) = ty else { return };
    let wrong = |path: &FieldPath, message: String| TypeError { path: path_text(path), message };
    match (ty.shape(), value) {
        (_, Value::Null) | (Shape::Any, _) => {}
        (Shape::Object(shape), Value::Object(map)) => {
            for (key, value) in map {
                path.push(Element::field(key));
                match ty.field(key) {
                    Some(field) => check(value, Some(field.ty), path, errors),
                    None if shape.preserve_unknown => {}
                    None => errors.push(wrong(path, "field not declared in schema".to_owned())),
                }
                path.pop();
            }
        }
        (Shape::Map { value: ty, .. }, Value::Object(map)) => {
            for (key, value) in map {
                path.push(Element::field(key));
                check(value, Some(ty), path, errors);
                path.pop();
            }
        }
        (Shape::Object(_) | Shape::Map { .. }, other) => {
            errors.push(wrong(path, format!("expected map, got &{{{}}}", gotext::plain(other))));
        }
        (Shape::List { item, kind }, Value::Array(items)) => {
            let mut seen = Vec::new();
            for (i, value) in items.iter().enumerate() {
                let mut element = Element::Index(i as i64);
                if !matches!(kind, ListKind::Atomic) {
                    match item_element(item, kind, value) {
                        Ok(e) if seen.contains(&e) => {
                            errors.push(wrong(path, format!("duplicate entries for key {e}")));
                            continue;
                        }
                        Ok(e) => {
                            seen.push(e.clone());
                            element = e;
                        }
                        Err(e) => {
                            errors.push(wrong(path, format!("element {i}: {e}")));
                            continue;
                        }
                    }
                }
                path.push(element);
                check(value, Some(item), path, errors);
                path.pop();
            }
        }
        (Shape::List { .. }, other) => errors.push(wrong(path, format!("expected list, got &{{{}}}", gotext::plain(other)))),
        (Shape::Scalar(scalar), value) => {
            let message = match scalar {
                Scalar::Int32 | Scalar::Int64 | Scalar::Float if !value.is_number() => {
                    format!("expected numeric (int or float), got {}", gotext::type_name(value))
                }
                Scalar::Bool if !value.is_boolean() => format!("expected boolean, got &{{{}}}", gotext::plain(value)),
                Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime if !value.is_string() => {
                    format!("expected string, got &value.valueUnstructured{{Value:{value}}}")
                }
                _ if value.is_object() || value.is_array() => {
                    format!("expected any scalar, got &{{{}}}", gotext::plain(value))
                }
                _ => return,
            };
            errors.push(wrong(path, message));
        }
    }
}

/// The fields an applied configuration owns.
pub(super) fn field_set(value: &Value, ty: TypeRef<'_>) -> Set {
    let mut set = Set::new();
    collect(value, Some(ty), &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, ty: Option<TypeRef<'_>>, path: &mut FieldPath, set: &mut Set) {
    match atom(ty, value) {
        Atom::Scalar | Atom::Atomic => set.insert(path),
        Atom::List(item_type, kind) => {
            let Value::Array(items) = value else { return };
            let elements: Vec<Option<Element>> = items.iter().map(|i| item_element(item_type, kind, i).ok()).collect();
            for (element, item) in elements.iter().zip(items) {
                let Some(e) = element else { continue };
                let repeated = elements.iter().filter(|o| o.as_ref() == Some(e)).count() > 1;
                path.push(e.clone());
                if !repeated {
                    collect(item, Some(item_type), path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        Atom::Map => {
            let Value::Object(map) = value else { return };
            for (key, value) in map {
                let (below, declared) = field_type(ty, key);
                path.push(Element::field(key));
                collect(value, below, path, set);
                if value.is_null() || value.as_object().is_some_and(Map::is_empty) || !declared {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

/// What differs between two objects. No path is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) removed: Set,
    pub(super) modified: Set,
    pub(super) added: Set,
}

impl Comparison {
    pub(super) fn without(self, ignored: Option<&Set>) -> Self {
        match ignored {
            None => self,
            Some(i) => Self {
                removed: self.removed.recursive_difference(i),
                modified: self.modified.recursive_difference(i),
                added: self.added.recursive_difference(i),
            },
        }
    }
}

pub(super) fn compare(old: &Value, new: &Value, ty: TypeRef<'_>) -> Comparison {
    let mut c = Comparison::default();
    compare_at(Some(old), Some(new), Some(ty), &mut Vec::new(), &mut c);
    c
}

fn map_of(v: Option<&Value>) -> Option<&Map<String, Value>> {
    v.and_then(Value::as_object).filter(|m| !m.is_empty())
}

fn list_of(v: Option<&Value>) -> Option<&[Value]> {
    v.and_then(Value::as_array).filter(|l| !l.is_empty()).map(Vec::as_slice)
}

fn compare_at(old: Option<&Value>, new: Option<&Value>, ty: Option<TypeRef<'_>>, path: &mut FieldPath, c: &mut Comparison) {
    if let (Some(o), Some(n)) = (old, new) {
        if o == n {
            return;
        }
        // Without a schema the two may be of different kinds: the one goes, the other comes.
        let kinds_differ =
            ty.is_none_or(|t| matches!(t.shape(), Shape::Any)) && !o.is_null() && !n.is_null() && o.is_object() != n.is_object();
        if kinds_differ {
            if let Some(map) = o.as_object() {
                compare_maps(Some(map), None, ty, path, c);
                c.modified.insert(path);
            } else {
                c.modified.insert(path);
                compare_maps(None, n.as_object(), ty, path, c);
            }
            return;
        }
    }
    let Some(present) = new.filter(|n| !n.is_null()).or(old).or(new) else { return };
    let leaf = match atom(ty, present) {
        Atom::Scalar | Atom::Atomic => true,
        Atom::Map => map_of(old).is_none() && map_of(new).is_none(),
        Atom::List(..) => list_of(old).is_none() && list_of(new).is_none(),
    };
    match (leaf, old, new) {
        (false, None, Some(_)) if always_present(path, ty) => {}
        (_, None, Some(_)) => c.added.insert(path),
        (_, Some(_), None) => c.removed.insert(path),
        // They are not equal: checked above.
        (true, Some(_), Some(_)) => c.modified.insert(path),
        _ => {}
    }
    if leaf {
        return;
    }
    match atom(ty, present) {
        Atom::Map => compare_maps(map_of(old), map_of(new), ty, path, c),
        Atom::List(item_type, kind) => compare_lists(list_of(old), list_of(new), item_type, kind, path, c),
        Atom::Scalar | Atom::Atomic => {}
    }
}

/// Upstream's Go structures hold these even when an object is empty, so nobody ever adds them.
fn always_present(path: &[Element], ty: Option<TypeRef<'_>>) -> bool {
    const STRUCTS: [&str; 9] =
        ["daemonEndpoints", "jobTemplate", "metadata", "nodeInfo", "spec", "status", "strategy", "template", "updateStrategy"];
    let Some((last, parents)) = path.split_last() else { return true };
    let is_struct = |e: &Element| matches!(e, Element::Field(name) if STRUCTS.contains(&name.as_str()));
    parents.iter().all(is_struct)
        && match ty.map(TypeRef::shape) {
            Some(Shape::Object(_)) => is_struct(last),
            Some(Shape::List { .. }) => *last == Element::field("containers"),
            _ => false,
        }
}

fn compare_maps(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    ty: Option<TypeRef<'_>>,
    path: &mut FieldPath,
    c: &mut Comparison,
) {
    for (key, o) in old.into_iter().flatten() {
        path.push(Element::field(key));
        compare_at(Some(o), new.and_then(|n| n.get(key)), field_type(ty, key).0, path, c);
        path.pop();
    }
    for (key, n) in new.into_iter().flatten() {
        if old.is_none_or(|o| !o.contains_key(key)) {
            path.push(Element::field(key));
            compare_at(None, Some(n), field_type(ty, key).0, path, c);
            path.pop();
        }
    }
}

fn group<'v>(list: Option<&'v [Value]>, item_type: TypeRef<'_>, kind: ListKind<'_>) -> BTreeMap<Element, Vec<&'v Value>> {
    let mut out: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in list.unwrap_or_default() {
        if let Ok(element) = item_element(item_type, kind, item) {
            out.entry(element).or_default().push(item);
        }
    }
    out
}

fn compare_lists(
    old: Option<&[Value]>,
    new: Option<&[Value]>,
    item_type: TypeRef<'_>,
    kind: ListKind<'_>,
    path: &mut FieldPath,
    c: &mut Comparison,
) {
    let (old, new) = (group(old, item_type, kind), group(new, item_type, kind));
    let added = new.keys().filter(|k| !old.contains_key(k));
    for element in old.keys().chain(added) {
        let o = old.get(element).map_or(&[][..], Vec::as_slice);
        let n = new.get(element).map_or(&[][..], Vec::as_slice);
        path.push(element.clone());
        // Items with the same key are owned as one.
        match (o, n) {
            ([] | [_], [] | [_]) => compare_at(o.first().copied(), n.first().copied(), Some(item_type), path, c),
            ([_, _, ..], [_, _, ..]) => {
                if o != n {
                    c.modified.insert(path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(n) = n.first() {
                    compare_at(None, Some(n), Some(item_type), path, c);
                }
                c.removed.insert(path);
            }
            (_, [_, _, ..]) => {
                if let Some(o) = o.first() {
                    compare_at(Some(o), None, Some(item_type), path, c);
                }
                c.added.insert(path);
            }
        }
        path.pop();
    }
}

/// The live object with the applied configuration merged in.
pub(super) fn merge(live: &Value, applied: &Value, ty: TypeRef<'_>) -> Value {
    merge_at(Some(live), Some(applied), Some(ty)).unwrap_or_else(|| Value::Object(Map::new()))
}

fn merge_at(live: Option<&Value>, applied: Option<&Value>, ty: Option<TypeRef<'_>>) -> Option<Value> {
    let (live, applied) = match (live, applied) {
        (None, None) => return None,
        (Some(l), None) => return Some(l.clone()),
        (None, Some(a)) => return without_nulls(a, ty),
        (Some(l), Some(a)) => (l, a),
    };
    let present = if applied.is_null() { live } else { applied };
    match atom(ty, present) {
        // An explicit null clears a field that is owned as a whole.
        Atom::Scalar | Atom::Atomic => (!applied.is_null()).then(|| applied.clone()),
        Atom::Map => match (map_of(Some(live)), map_of(Some(applied))) {
            (None, None) => without_nulls(applied, ty),
            (None, Some(_)) => without_nulls(applied, ty),
            (Some(_), None) => Some(live.clone()),
            (Some(l), Some(a)) => {
                let mut out = Map::new();
                for (key, value) in l {
                    if let Some(v) = merge_at(Some(value), a.get(key), field_type(ty, key).0) {
                        out.insert(key.clone(), v);
                    }
                }
                for (key, value) in a.iter().filter(|(k, _)| !l.contains_key(*k)) {
                    if let Some(v) = merge_at(None, Some(value), field_type(ty, key).0) {
                        out.insert(key.clone(), v);
                    }
                }
                Some(Value::Object(out))
            }
        },
        Atom::List(item_type, kind) => match (list_of(Some(live)), list_of(Some(applied))) {
            (None, _) => without_nulls(applied, ty),
            (Some(_), None) => Some(live.clone()),
            (Some(l), Some(a)) => Some(Value::Array(merge_lists(l, a, item_type, kind))),
        },
    }
}

/// Typed objects have no nulls: a null field is a missing one.
fn without_nulls(value: &Value, ty: Option<TypeRef<'_>>) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) if ty.is_some_and(|t| matches!(t.shape(), Shape::Object(_))) => Some(Value::Object(
            map.iter()
                .filter_map(|(k, v)| match field_type(ty, k) {
                    (Some(below), _) => without_nulls(v, Some(below)).map(|v| (k.clone(), v)),
                    (None, _) => Some((k.clone(), v.clone())),
                })
                .collect(),
        )),
        Value::Array(items) => {
            let item_type = ty.and_then(|t| match t.shape() {
                Shape::List { item, .. } => Some(item),
                _ => None,
            });
            Some(Value::Array(items.iter().filter_map(|i| without_nulls(i, item_type)).collect()))
        }
        other => Some(other.clone()),
    }
}

/// Keeps the order of the applied items, and the live ones between them where they stood.
fn merge_lists(live: &[Value], applied: &[Value], item_type: TypeRef<'_>, kind: ListKind<'_>) -> Vec<Value> {
    let index = |list: &[Value]| -> Vec<(Element, usize)> {
        list.iter().enumerate().filter_map(|(i, v)| item_element(item_type, kind, v).ok().map(|e| (e, i))).collect()
    };
    let (left, right) = (index(live), index(applied));
    let find = |side: &[(Element, usize)], e: &Element| {
        let mut hits = side.iter().filter(|(o, _)| o == e).map(|(_, i)| *i);
        // A repeated item is not merged with.
        match (hits.next(), hits.next()) {
            (Some(i), None) => Some(i),
            _ => None,
        }
    };
    let in_side = |side: &[(Element, usize)], e: &Element| side.iter().any(|(o, _)| o == e);
    let mut shared = right.iter().map(|(e, _)| e).filter(|e| in_side(&left, e)).peekable();
    let mut done: Vec<&Element> = Vec::new();
    let mut out = Vec::new();
    let merged = |e: &Element| {
        let l = find(&left, e).map(|i| &live[i]);
        let r = find(&right, e).map(|i| &applied[i]);
        merge_at(l, r, Some(item_type))
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            let (le, re) = (&left[l].0, &right[r].0);
            if le == re {
                out.extend(merged(le));
                done.push(le);
                l += 1;
                r += 1;
                shared.next();
                continue;
            }
            if in_side(&right, le) && shared.peek().is_some_and(|s| *s != le) {
                // Applied too, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            let le = &left[l].0;
            if !in_side(&right, le) {
                out.push(live[left[l].1].clone());
                l += 1;
                continue;
            }
            if done.contains(&le) {
                l += 1;
            }
        }
        if r < right.len() {
            let re = &right[r].0;
            out.extend(merged(re));
            done.push(re);
            if shared.peek().is_some_and(|s| *s == re) {
                shared.next();
            }
            r += 1;
        }
    }
    out
}

/// The value without the fields of the set. Containers that lose all they held stay, empty.
pub(super) fn remove(value: &Value, set: &Set, ty: TypeRef<'_>) -> Value {
    remove_at(value, set, Some(ty))
}

fn remove_at(value: &Value, set: &Set, ty: Option<TypeRef<'_>>) -> Value {
    match (atom(ty, value), value) {
        (Atom::Map, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, value) in map {
                let element = Element::field(key);
                if set.has_member(&element) {
                    continue;
                }
                let kept = match set.below(&element) {
                    Some(below) => remove_at(value, below, field_type(ty, key).0),
                    None => value.clone(),
                };
                out.insert(key.clone(), kept);
            }
            Value::Object(out)
        }
        (Atom::List(item_type, kind), Value::Array(items)) => {
            let mut out = Vec::new();
            for item in items {
                let Ok(element) = item_element(item_type, kind, item) else {
                    out.push(item.clone());
                    continue;
                };
                if set.has_member(&element) {
                    continue;
                }
                out.push(match set.below(&element) {
                    Some(below) => remove_at(item, below, Some(item_type)),
                    None => item.clone(),
                });
            }
            Value::Array(out)
        }
        // What is owned as a whole has nothing below it to remove.
        (_, other) => other.clone(),
    }
}
