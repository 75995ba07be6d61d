//! Reads JSON strictly: repeated keys are reported with their path, errors are worded as Go's, depth is bounded.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The input is not JSON, or is nested deeper than [`DEPTH_MAX`]. Worded as Go's reader does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonError {
    pub message: String,
}

/// Levels of lists and objects that [`parse_strict`] and serde_json read at most.
pub const DEPTH_MAX: usize = 127;
/// Levels that an API object may have. What the server adds (owners of the deepest field, the list around it) must still be
/// readable: an object that cannot be read can be neither changed nor deleted.
pub const OBJECT_DEPTH_MAX: usize = 100;

/// Levels of lists and objects in a value that is not deeper than what can be read.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// How many repeated keys are reported; the rest are only counted as one line by the caller's limit.
const DUPLICATES_MAX: usize = 100;

/// Parses one document. The second part lists the paths of repeated keys (`spec.containers[0].name`); the last value
/// wins, as in upstream.
pub fn parse_strict(input: &[u8]) -> Result<(Value, Vec<String>), JsonError> {
    let state = RefCell::new(State::default());
    let mut deserializer = serde_json::Deserializer::from_slice(input);
    let read = Seed(&state).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let value = read.map_err(|error| {
        // What Go would read and we do not (nesting, surrogates that stand alone) is said in serde_json's words.
        let message = crate::gojson::syntax_error(input).unwrap_or_else(|| error.to_string());
        JsonError { message }
    })?;
    Ok((value, state.into_inner().duplicates))
}

/// Puts complaints about fields (`unknown field "spec.x"`, `duplicate field "spec.x"`) into the order in which a reader of the
/// document comes upon them; a repeated field is one when it comes again.
pub fn in_document_order(input: &[u8], complaints: &mut [String]) {
    let state = RefCell::new(State { keys: Some(Vec::new()), ..State::default() });
    let mut deserializer = serde_json::Deserializer::from_slice(input);
    if Seed(&state).deserialize(&mut deserializer).is_err() {
        return;
    }
    let keys = state.into_inner().keys.unwrap_or_default();
    complaints.sort_by_cached_key(|complaint| {
        let path = complaint.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"')).unwrap_or_default();
        let repeated = usize::from(complaint.starts_with("duplicate"));
        let mut places = keys.iter().enumerate().filter(|(_, key)| *key == path).map(|(at, _)| at);
        places.nth(repeated).unwrap_or(usize::MAX)
    });
}

#[derive(Default)]
struct State {
    path: Vec<Step>,
    duplicates: Vec<String>,
    /// The path of every key in order, when that is asked for.
    keys: Option<Vec<String>>,
}

enum Step {
    Key(String),
    Index(usize),
}

impl State {
    fn report(&mut self, key: &str) {
        if self.duplicates.len() >= DUPLICATES_MAX {
            return;
        }
        let text = self.path_of(key);
        if !self.duplicates.contains(&text) {
            self.duplicates.push(text);
        }
    }

    fn visit(&mut self, key: &str) {
        if self.keys.is_some() {
            let path = self.path_of(key);
            self.keys.iter_mut().for_each(|keys| keys.push(path.clone()));
        }
    }

    fn path_of(&self, key: &str) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Key(k) if text.is_empty() => text.push_str(k),
                Step::Key(k) => {
                    text.push('.');
                    text.push_str(k);
                }
                Step::Index(i) => {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "[{i}]");
                }
            }
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(key);
        text
    }
}

#[derive(Clone, Copy)]
struct Seed<'s>(&'s RefCell<State>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            self.0.borrow_mut().path.push(Step::Index(out.len()));
            let next = access.next_element_seed(self)?;
            self.0.borrow_mut().path.pop();
            match next {
                Some(v) => out.push(v),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if out.contains_key(&key) {
                self.0.borrow_mut().report(&key);
            }
            self.0.borrow_mut().visit(&key);
            self.0.borrow_mut().path.push(Step::Key(key));
            let value = access.next_value_seed(self)?;
            // The step pushed above is on top: nested values pop what they push.
            if let Some(Step::Key(key)) = self.0.borrow_mut().path.pop() {
                out.insert(key, value);
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_and_reports_repeated_keys() {
        let input = br#"{"a":{"b":1,"b":2,"c":[{"d":null,"d":true}]},"a2":-1,"f":1.5,"s":"x\ny","a2":3}"#;
        let (value, repeated) = parse_strict(input).unwrap();
        assert_eq!(value, json!({"a": {"b": 2, "c": [{"d": true}]}, "a2": 3, "f": 1.5, "s": "x\ny"}));
        assert_eq!(repeated, ["a.b", "a.c[0].d", "a2"]);
    }

    #[test]
    fn errors_are_worded_as_go() {
        let error = |input: &str| parse_strict(input.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("{\n  \"a\": nope}"), "invalid character 'o' in literal null (expecting 'u')");
        for bad in ["", "{", "[1,]", "{\"a\":1}x", "\"\\ud800\"", "01", "\u{feff}{}"] {
            assert!(parse_strict(bad.as_bytes()).is_err(), "{bad}");
        }
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let (deepest, _) = parse_strict(nested(DEPTH_MAX).as_bytes()).unwrap();
        assert_eq!(depth(&deepest), DEPTH_MAX);
        assert_eq!(error(&nested(DEPTH_MAX + 1)), "exceeded max depth");
        assert_eq!(error(&"[".repeat(100_000)), "exceeded max depth");
    }

    #[test]
    fn complaints_in_order() {
        let input = br#"{"metadata":{"name":"a","z":1,"a":2,"name":"a"},"z":0,"data":{"a":1,"a":2},"b":[{"y":1}]}"#;
        let mut complaints = [
            "unknown field \"b[0].y\"",
            "unknown field \"metadata.a\"",
            "unknown field \"metadata.z\"",
            "unknown field \"z\"",
            "duplicate field \"data.a\"",
            "duplicate field \"metadata.name\"",
        ]
        .map(str::to_owned);
        in_document_order(input, &mut complaints);
        assert_eq!(
            complaints,
            [
                "unknown field \"metadata.z\"",
                "unknown field \"metadata.a\"",
                "duplicate field \"metadata.name\"",
                "unknown field \"z\"",
                "duplicate field \"data.a\"",
                "unknown field \"b[0].y\"",
            ]
        );
    }
}
