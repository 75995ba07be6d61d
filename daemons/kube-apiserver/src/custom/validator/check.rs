//! The walk: each check in upstream's order.

use serde_json::{Map, Value};

use super::{Additional, Bounds, Found, Validator, What, formats, number};

impl Validator {
    /// Checks a value and forgives what was wrong before and is the same.
    pub(super) fn check(&self, value: &Value, old: Option<&Value>, name: &str) -> Found {
        let mut found = self.check_strictly(value, old, name);
        if !found.is_valid() && old == Some(value) {
            found.problems.clear();
        }
        found
    }

    fn check_strictly(&self, value: &Value, old: Option<&Value>, name: &str) -> Found {
        let mut found = Found::default();
        self.check_type(value, name, &mut found);
        if value.is_null() {
            self.check_enum(value, name, &mut found);
            return found;
        }
        found.merge(self.check_combinations(value, old, name));
        match value {
            Value::String(text) => {
                self.check_string(text, name, &mut found);
                if formats::is_string_format(&self.format) {
                    if !formats::fits(&self.format, text) {
                        let message = format!("{name} in body must be of type {}: {}", self.format, quoted(text), name = name);
                        found.add(name, message, What::Type(value.clone()));
                    }
                    found.matches += 1;
                }
                found.matches += 1;
            }
            Value::Number(number) => {
                number::check(self, number, name, &mut found);
                found.matches += 2;
            }
            Value::Array(items) => {
                self.check_items(items, old, name, &mut found);
                found.matches += 2;
            }
            _ => {}
        }
        self.check_enum(value, name, &mut found);
        if let Value::Object(map) = value {
            self.check_object(map, old, name, &mut found);
            found.matches += 1;
        }
        found.matches += 2;
        found
    }

    fn check_type(&self, value: &Value, name: &str, found: &mut Found) {
        if self.types.is_empty() && self.format.is_empty() {
            return;
        }
        match self.wrong_type(value) {
            Some((expected, actual)) => {
                let message = format!("{} in body must be of type {expected}: {}", name, quoted(actual));
                found.add(name, message, What::Type(actual.into()));
            }
            None => found.matches += 1,
        }
        if !value.is_null() {
            found.matches += 1;
        }
    }

    /// What the value should have been, and what it is.
    fn wrong_type(&self, value: &Value) -> Option<(String, &'static str)> {
        let expected = || self.types.join(",");
        let has = |kind: &str| self.types.contains(&kind);
        let (kind, format) = type_of(value);
        if value.is_null() {
            return (!self.types.is_empty() && !self.nullable).then(|| (expected(), "null"));
        }
        let integral = kind == "number" && has("integer") && value.as_f64().is_some_and(number::is_integer);
        let fits = has(kind) || integral || (kind == "integer" && has("number"));
        let is_sequence = value.is_string() || value.is_array();
        if !is_sequence && !self.format.is_empty() && !fits && format != self.format {
            return Some((self.format.clone(), format));
        }
        if is_sequence && !self.format.is_empty() && !has("number") && !has("integer") {
            return None;
        }
        (!fits).then(|| (expected(), kind))
    }

    fn check_combinations(&self, value: &Value, old: Option<&Value>, name: &str) -> Found {
        let mut found = Found::default();
        let check = |schema: &Validator| schema.check_strictly(value, old, name);
        if !self.any_of.is_empty() {
            let (valid, best) = alternatives(self.any_of.iter().map(check), true);
            if valid == 0 {
                found.add("", format!("{} must validate at least one schema (anyOf)", quoted(name)), What::Whole);
            }
            best.into_iter().for_each(|best| found.merge(best));
        }
        if !self.one_of.is_empty() {
            let (valid, best) = alternatives(self.one_of.iter().map(check), false);
            if valid != 1 {
                let count = if valid == 0 { "Found none valid".to_owned() } else { format!("Found {valid} valid alternatives") };
                let message = format!("{} must validate one and only one schema (oneOf). {count}", quoted(name));
                found.add("", message, What::Whole);
            }
            best.into_iter().for_each(|best| found.merge(best));
        }
        if !self.all_of.is_empty() {
            let results: Vec<Found> = self.all_of.iter().map(check).collect();
            let valid = results.iter().filter(|result| result.is_valid()).count();
            let all = results.len();
            results.into_iter().for_each(|result| found.merge(result));
            if valid != all {
                let none = if valid == 0 { ". None validated" } else { "" };
                found.add("", format!("{} must validate all the schemas (allOf){none}", quoted(name)), What::Whole);
            }
        }
        if self.not.as_deref().is_some_and(|schema| check(schema).is_valid()) {
            found.add("", format!("{} must not validate the schema (not)", quoted(name)), What::Whole);
        }
        found.matches += 2;
        found
    }

    fn check_string(&self, text: &str, name: &str, found: &mut Found) {
        let length = text.chars().count();
        let place = name;
        if let Some(max) = self.length.max.filter(|max| length > *max) {
            let message = format!("{place} in body should be at most {max} chars long");
            return found.add(name, message, What::TooLong(max));
        }
        if let Some(min) = self.length.min.filter(|min| length < *min) {
            let message = format!("{place} in body should be at least {min} chars long");
            return found.add(name, message, What::Invalid(text.into()));
        }
        let Some((pattern, regex)) = &self.pattern else { return };
        let wanted = match regex {
            Ok(regex) if regex.is_match(text) => return,
            Ok(_) => pattern.clone(),
            Err(why) => format!("{pattern}, but pattern is invalid: {why}"),
        };
        found.add(name, format!("{place} in body should match '{wanted}'"), What::Invalid(text.into()));
    }

    fn check_items(&self, items: &[Value], old: Option<&Value>, name: &str, found: &mut Found) {
        if let Some(schema) = &self.items {
            for (index, item) in items.iter().enumerate() {
                let before = old.and_then(|old| self.corresponding(item, old));
                found.merge(schema.check(item, before, &format!("{name}[{index}]")));
            }
        }
        let (count, place) = (items.len(), name);
        let Bounds { min, max } = self.items_count;
        if let Some(min) = min.filter(|min| count < *min) {
            found.add(name, format!("{place} in body should have at least {min} items"), What::Invalid(count.into()));
        }
        if let Some(max) = max.filter(|max| count > *max) {
            found.add(name, format!("{place} in body should have at most {max} items"), What::TooMany(count, max));
        }
        if self.unique_items && (1..count).any(|index| items[..index].contains(&items[index])) {
            found.add(name, format!("{place} in body shouldn't contain duplicates"), What::Invalid("".into()));
        }
    }

    /// The item with the same keys in the old list; lists that are no maps have none.
    fn corresponding<'v>(&self, item: &Value, old: &'v Value) -> Option<&'v Value> {
        if self.list_keys.is_empty() {
            return None;
        }
        let same = |other: &&Value| other.is_object() && self.list_keys.iter().all(|key| other.get(key) == item.get(key));
        old.as_array()?.iter().find(same)
    }

    fn check_enum(&self, value: &Value, name: &str, found: &mut Found) {
        if self.allowed.is_empty() || self.allowed.iter().any(|allowed| !allowed.is_null() && same(allowed, value)) {
            return;
        }
        let names: Vec<String> = self.allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        let message = format!("{} in body should be one of [{}]", name, names.join(" "));
        found.add(name, message, What::NotSupported(value.clone(), names));
    }

    fn check_object(&self, map: &Map<String, Value>, old: Option<&Value>, name: &str, found: &mut Found) {
        let (count, place) = (map.len(), name);
        let Bounds { min, max } = self.properties_count;
        if let Some(min) = min.filter(|min| count < *min) {
            found.add(name, format!("{place} in body should have at least {min} properties"), What::Invalid(count.into()));
        }
        if let Some(max) = max.filter(|max| count > *max) {
            found.add(name, format!("{place} in body should have at most {max} properties"), What::TooMany(count, max));
        }
        // What the type of an object is called does not come from its writer alone: it is never forgiven.
        let before = |field: &str| old.and_then(|old| old.get(field)).filter(|_| !(name.is_empty() && is_type_field(field)));
        for (field, value) in map {
            if self.properties.contains_key(field) {
                continue;
            }
            match &self.additional {
                Additional::Any => {}
                Additional::None => {
                    found.add(
                        name,
                        format!("{place}.{field} in body is a forbidden property"),
                        What::Invalid(field.as_str().into()),
                    );
                }
                Additional::Schema(schema) => found.merge(schema.check(value, before(field), &format!("{name}.{field}"))),
            }
        }
        for (field, schema) in &self.properties {
            if let Some(value) = map.get(field) {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                found.merge(schema.check(value, before(field), &name));
            }
        }
        for field in self.required.iter().filter(|field| !map.contains_key(*field)) {
            found.add(&format!("{name}.{field}"), format!("{name}.{field} in body is required"), What::Required);
        }
    }
}

fn is_type_field(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind")
}

/// How many alternatives accept the value, and what to report: the first that does, else the one that fits best.
fn alternatives(results: impl Iterator<Item = Found>, one_is_enough: bool) -> (usize, Option<Found>) {
    let mut valid = 0;
    let (mut success, mut failure): (Option<Found>, Option<Found>) = (None, None);
    for result in results {
        if result.is_valid() {
            valid += 1;
            success.get_or_insert(result);
            if one_is_enough {
                break;
            }
        } else if failure.as_ref().is_none_or(|best| result.matches > best.matches) {
            failure = Some(result);
        }
    }
    let best = match valid {
        0 => failure,
        1 => success,
        _ if one_is_enough => success,
        _ => None,
    };
    (valid, best)
}

/// The type and format that upstream sees in a decoded value.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "float64"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// Equal, also when one number is written as an integer and the other is not.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a, b), (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64())
}

fn quoted(text: &str) -> String {
    machinery::gotext::quote(text)
}
