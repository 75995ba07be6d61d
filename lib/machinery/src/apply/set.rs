//! Sets of field paths, and `fieldsV1`, their form on the wire.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use schema::{Shape, TypeRef};

use super::element::Element;

/// A path from the root of an object.
pub type FieldPath = Vec<Element>;

/// Prints a path as conflicts show it: `.spec.containers[name="a"].image`.
pub fn path_text(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A set of fields. That a field is in it says nothing of the fields below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    members: BTreeSet<Element>,
    /// Never empty sets.
    children: BTreeMap<Element, Set>,
}

impl Set {
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of paths of plain field names, one dotted path each: `["status", "metadata.name"]`.
    pub fn of_fields<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: FieldPath = path.split('.').map(Element::field).collect();
            set.insert(&path);
        }
        set
    }

    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|c| c.contains(rest)),
        }
    }

    pub(super) fn has_member(&self, element: &Element) -> bool {
        self.members.contains(element)
    }

    pub(super) fn below(&self, element: &Element) -> Option<&Self> {
        self.children.get(element)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// Puts a set below an element; an empty one is left out.
    fn attach(&mut self, element: Element, child: Self) {
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    pub fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().extend(child);
        }
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.intersection(&other.members).cloned().collect(), ..Self::new() };
        for (element, child) in &self.children {
            if let Some(theirs) = other.children.get(element) {
                out.attach(element.clone(), child.intersection(theirs));
            }
        }
        out
    }

    /// What is in this set and not in the other. A parent in the other set does not take its children away.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.difference(&other.members).cloned().collect(), ..Self::new() };
        for (element, child) in &self.children {
            match other.children.get(element) {
                Some(theirs) => out.attach(element.clone(), child.difference(theirs)),
                None => out.attach(element.clone(), child.clone()),
            }
        }
        out
    }

    /// As [`Self::difference`], but a field in the other set takes everything below it away.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.difference(&other.members).cloned().collect(), ..Self::new() };
        for (element, child) in &self.children {
            if other.members.contains(element) {
                continue;
            }
            match other.children.get(element) {
                Some(theirs) => out.attach(element.clone(), child.recursive_difference(theirs)),
                None => out.attach(element.clone(), child.clone()),
            }
        }
        out
    }

    /// Adds the declared fields on the way to each member: with `spec.labels.a` also `spec.labels` and `spec`.
    #[must_use]
    pub(super) fn with_named_fields(&self, ty: Option<TypeRef<'_>>) -> Self {
        let shape = ty.map(TypeRef::shape);
        let mut out = Self { members: self.members.clone(), ..Self::new() };
        for (element, child) in &self.children {
            let below = match (element, shape) {
                (Element::Field(name), Some(Shape::Object(_))) => {
                    let field = ty.and_then(|t| t.field(name));
                    if field.is_some() {
                        out.members.insert(element.clone());
                    }
                    field.map(|f| f.ty)
                }
                (Element::Field(_), Some(Shape::Map { value, .. })) => Some(value),
                (Element::Key(_), Some(Shape::List { item, .. })) => Some(item),
                _ => None,
            };
            out.attach(element.clone(), child.with_named_fields(below));
        }
        out
    }

    /// Calls `f` with each path in the set.
    pub fn each(&self, f: &mut impl FnMut(&[Element])) {
        fn walk(set: &Set, path: &mut FieldPath, f: &mut impl FnMut(&[Element])) {
            for member in &set.members {
                path.push(member.clone());
                f(path);
                path.pop();
            }
            for (element, child) in &set.children {
                path.push(element.clone());
                walk(child, path, f);
                path.pop();
            }
        }
        walk(self, &mut Vec::new(), f);
    }

    /// The `fieldsV1` object.
    pub fn to_fields_v1(&self) -> Value {
        self.encode(false)
    }

    fn encode(&self, itself: bool) -> Value {
        let mut out = Map::new();
        if itself {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for member in self.members.iter().filter(|m| !self.children.contains_key(*m)) {
            out.insert(member.encode(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            out.insert(element.encode(), child.encode(self.members.contains(element)));
        }
        Value::Object(out)
    }

    /// Reads a `fieldsV1` object. Steps of unknown kinds are left out.
    pub fn from_fields_v1(fields: &Value) -> Self {
        fn read(fields: &Value) -> (Set, bool) {
            let mut set = Set::new();
            let mut itself = false;
            for (key, below) in fields.as_object().into_iter().flatten() {
                if key == "." {
                    itself = true;
                    continue;
                }
                let Some(element) = Element::parse(key) else { continue };
                let (child, member) = read(below);
                if member {
                    set.members.insert(element.clone());
                }
                set.attach(element, child);
            }
            let alone = set.is_empty();
            (set, itself || alone)
        }
        read(fields).0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(paths: &[&str]) -> Set {
        Set::of_fields(paths.iter().copied())
    }

    #[test]
    fn wire_round_trip() {
        let wire = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}},
            "f:finalizers": {"v:\"x\"": {}}
        });
        assert_eq!(Set::from_fields_v1(&wire).to_fields_v1(), wire);
    }

    #[test]
    fn algebra() {
        let a = set(&["a", "a.b", "c.d", "c.e"]);
        let b = set(&["a", "c.d", "f"]);
        assert_eq!(a.union(&b), set(&["a", "a.b", "c.d", "c.e", "f"]));
        assert_eq!(a.intersection(&b), set(&["a", "c.d"]));
        assert_eq!(a.difference(&b), set(&["a.b", "c.e"]));
        assert_eq!(a.recursive_difference(&b), set(&["c.e"]));
        assert!(a.difference(&a).is_empty());
        assert!(a.contains(&[Element::field("c"), Element::field("e")]));
        let mut paths = Vec::new();
        a.each(&mut |p| paths.push(path_text(p)));
        assert_eq!(paths, [".a", ".a.b", ".c.d", ".c.e"]);
    }
}
