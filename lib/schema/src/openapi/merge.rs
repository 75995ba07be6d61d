//! Parts of other servers' v2 documents in this one, as kube-aggregator merges them.
//!
//! Of another server's document counts what lies below its own group and version. A definition that has the name of another one
//! and says something else gets another name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Sink;

const REFERENCE: &str = "#/definitions/";
const PARAMETER: &str = "#/parameters/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// What another server describes of one group and version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    paths: Map<String, Value>,
    definitions: Map<String, Value>,
}

impl Part {
    /// The paths below `prefix`, which ends in a slash, and the definitions that they need.
    pub fn of(document: &Value, prefix: &str) -> Self {
        let mut part = Self::default();
        for (path, item) in document["paths"].as_object().into_iter().flatten().filter(|(path, _)| path.starts_with(prefix)) {
            let mut item = item.clone();
            resolve_parameters(&mut item, &document["parameters"]);
            part.paths.insert(path.clone(), item);
        }
        let mut wanted: Vec<String> = Vec::new();
        part.paths.values().for_each(|item| references(item, &mut wanted));
        while let Some(name) = wanted.pop() {
            let Some(definition) = document["definitions"].get(&name).filter(|_| !part.definitions.contains_key(&name)) else {
                continue;
            };
            references(definition, &mut wanted);
            part.definitions.insert(name, definition.clone());
        }
        part
    }

    /// A part as [`Self::to_value`] made it.
    pub fn read(value: Value) -> Self {
        let Value::Object(mut map) = value else { return Self::default() };
        let mut take = |field: &str| match map.remove(field) {
            Some(Value::Object(inner)) => inner,
            _ => Map::new(),
        };
        Self { paths: take("paths"), definitions: take("definitions") }
    }

    /// To be kept as bytes.
    pub fn to_value(&self) -> Value {
        serde_json::json!({"paths": self.paths, "definitions": self.definitions})
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// The names that parts define, with what the document has under these names already.
pub(super) struct Merger<'p> {
    parts: &'p [Part],
    names: BTreeSet<&'p str>,
    known: BTreeMap<String, Value>,
}

impl<'p> Merger<'p> {
    pub(super) fn new(parts: &'p [Part]) -> Self {
        let names = parts.iter().flat_map(|part| part.definitions.keys()).map(String::as_str).collect();
        Self { parts, names, known: BTreeMap::new() }
    }

    /// Takes note of a definition of the document.
    pub(super) fn note(&mut self, name: &str, definition: &Value) {
        if self.names.contains(name) {
            self.known.insert(name.to_owned(), definition.clone());
        }
    }

    /// Writes what the parts add.
    pub(super) fn write(mut self, path: &mut Sink<'_>, definition: &mut Sink<'_>) {
        let mut written: BTreeSet<&str> = BTreeSet::new();
        for part in self.parts {
            let renamed = self.renamed(part);
            for (name, value) in &part.definitions {
                let name = renamed.get(name).unwrap_or(name);
                if self.known.contains_key(name) {
                    continue;
                }
                let value = with_names(value, &renamed);
                definition(name, &value);
                self.known.insert(name.clone(), value);
            }
            for (name, item) in &part.paths {
                if written.insert(name) {
                    path(name, &with_names(item, &renamed));
                }
            }
        }
    }

    /// The new names of definitions whose own ones mean something else here.
    fn renamed(&self, part: &Part) -> BTreeMap<String, String> {
        let mut renamed: BTreeMap<String, String> = BTreeMap::new();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        // A new name changes what refers to it, which may need one of its own then. Numbers only grow, and a free one fits.
        loop {
            let mut settled = true;
            for (name, value) in &part.definitions {
                while !self.fits(renamed.get(name).unwrap_or(name), value, &renamed) {
                    settled = false;
                    let number = numbers.entry(name).or_insert(1);
                    *number += 1;
                    renamed.insert(name.clone(), format!("{name}_v{number}"));
                }
            }
            if settled {
                return renamed;
            }
        }
    }

    /// Whether the name is free, or the name of the same.
    fn fits(&self, name: &str, value: &Value, renamed: &BTreeMap<String, String>) -> bool {
        self.known.get(name).is_none_or(|known| same(known, &with_names(value, renamed)))
    }
}

/// Whether two definitions say the same, whichever kinds they are known as.
fn same(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    fn fields(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
        map.iter().filter(|(name, _)| *name != KINDS)
    }
    fields(a).count() == fields(b).count() && fields(a).all(|(name, value)| b.get(name) == Some(value))
}

/// Every definition that a value refers to. Parsed documents are nested no deeper than their parser allows.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(REFERENCE)) {
                found.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn with_names(value: &Value, renamed: &BTreeMap<String, String>) -> Value {
    let mut value = value.clone();
    if !renamed.is_empty() {
        rename(&mut value, renamed);
    }
    value
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(new) = reference.strip_prefix(REFERENCE).and_then(|name| renamed.get(name))
            {
                *reference = format!("{REFERENCE}{new}");
            }
            map.values_mut().for_each(|value| rename(value, renamed));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, renamed)),
        _ => {}
    }
}

/// Parameters that operations share, put where they are used: this document has none to share.
fn resolve_parameters(item: &mut Value, shared: &Value) {
    match item {
        Value::Object(map) => {
            for value in map.values_mut() {
                resolve_parameters(value, shared);
            }
        }
        Value::Array(items) => {
            for value in items {
                let found = value["$ref"].as_str().and_then(|text| shared.get(text.strip_prefix(PARAMETER)?));
                match found {
                    Some(parameter) => *value = parameter.clone(),
                    None => resolve_parameters(value, shared),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reference(name: &str) -> Value {
        json!({"$ref": format!("{REFERENCE}{name}")})
    }

    fn document() -> Value {
        json!({
            "paths": {
                "/apis/g.io/v1/things": {"get": {"parameters": [{"$ref": "#/parameters/limit"}, {"name": "own", "in": "query"}],
                    "responses": {"200": {"schema": reference("Thing")}}}},
                "/apis/g.io/v2/things": {"get": {"responses": {"200": {"schema": reference("Other")}}}},
                "/healthz": {},
            },
            "parameters": {"limit": {"name": "limit", "in": "query", "type": "integer"}},
            "definitions": {
                "Thing": {"properties": {"meta": reference("Meta"), "self": reference("Thing")}},
                "Meta": {"type": "object", KINDS: [{"kind": "X"}]}, "Other": {"type": "object"},
            },
        })
    }

    #[test]
    fn what_counts_of_a_document() {
        let part = Part::of(&document(), "/apis/g.io/v1/");
        assert_eq!(part.paths.keys().collect::<Vec<_>>(), ["/apis/g.io/v1/things"]);
        assert_eq!(part.definitions.keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["Meta", "Thing"]));
        let parameters = &part.paths["/apis/g.io/v1/things"]["get"]["parameters"];
        assert_eq!((&parameters[0]["name"], &parameters[1]["name"]), (&json!("limit"), &json!("own")));
        assert_eq!(Part::read(part.to_value()), part);
        assert!(Part::of(&json!([]), "/apis/g.io/v1/").is_empty());
    }

    fn merged(own: &[(&str, Value)], parts: &[Part]) -> (Map<String, Value>, Map<String, Value>) {
        let mut merger = Merger::new(parts);
        own.iter().for_each(|(name, value)| merger.note(name, value));
        let (mut paths, mut definitions) = (Map::new(), Map::new());
        let add = |map: &mut Map<String, Value>, name: &str, value: &Value| {
            assert_eq!(map.insert(name.to_owned(), value.clone()), None, "{name} is written once");
        };
        merger.write(&mut |name, value| add(&mut paths, name, value), &mut |name, value| add(&mut definitions, name, value));
        (paths, definitions)
    }

    #[test]
    fn definitions_that_differ_are_renamed() {
        let part = Part::of(&document(), "/apis/g.io/v1/");
        let names = |map: &Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
        // The same, known as another kind: there is one.
        let (_, definitions) = merged(&[("Meta", json!({"type": "object"}))], std::slice::from_ref(&part));
        assert_eq!(names(&definitions), BTreeSet::from(["Thing".to_owned()]));
        // Another one of that name.
        let (paths, definitions) = merged(&[("Thing", json!({"type": "string"}))], &[part.clone(), part]);
        assert_eq!(names(&definitions), BTreeSet::from(["Meta".to_owned(), "Thing_v2".to_owned()]));
        assert_eq!(definitions["Thing_v2"]["properties"]["self"], reference("Thing_v2"));
        assert_eq!(paths["/apis/g.io/v1/things"]["get"]["responses"]["200"]["schema"], reference("Thing_v2"));
    }
}
