//! YAML as Kubernetes reads and prints it: YAML 1.1 booleans and octals in, kubectl's layout out.
//!
//! This module is the only place that knows which YAML crate is used. Numbers beyond what JSON has, repeated keys and
//! alias bombs are errors, with line and column.

mod emit;
mod plain;

use serde_json::Value;

use crate::json::DEPTH_MAX;

pub use emit::to_string;

/// The input is not YAML, or breaks a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("yaml: line {line}: {message}")]
pub struct YamlError {
    pub message: String,
    pub line: u64,
    pub column: u64,
}

/// How many copies of anchored nodes one file may ask for.
const ALIAS_EVENTS_MAX: usize = 100_000;
/// Events of the whole input: about 30 MB of manifests.
const EVENTS_MAX: usize = 8_000_000;

fn options() -> serde_yaml::Options {
    let budget = serde_yaml::budget! {
        max_depth: DEPTH_MAX,
        max_events: EVENTS_MAX,
        max_nodes: EVENTS_MAX,
        max_documents: 100_000,
    };
    let mut limits = serde_yaml::options::AliasLimits::default();
    limits.max_total_replayed_events = ALIAS_EVENTS_MAX;
    serde_yaml::options! {
        budget: budget,
        alias_limits: limits,
        legacy_octal_numbers: true,
        with_snippet: false,
        emit_comments: false,
    }
}

/// Reads all documents of a stream; empty ones are left out. JSON, also several objects one after the other, is read too.
pub fn to_values(input: &str) -> Result<Vec<Value>, YamlError> {
    if input.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(input).into_iter::<Value>();
        if let Ok(values) = stream.collect::<Result<Vec<_>, _>>() {
            return Ok(values);
        }
    }
    serde_yaml::from_multiple_with_options(input, options()).map_err(YamlError::from)
}

/// The same for files of users, in which a key that is repeated has its last value, as kubectl reads them.
pub fn to_values_repeating(input: &str) -> Result<Vec<Value>, YamlError> {
    to_values(input).or_else(|error| {
        let mut options = options();
        options.duplicate_keys = serde_yaml::options::DuplicateKeyPolicy::LastWins;
        serde_yaml::from_multiple_with_options(input, options).map_err(|_| error)
    })
}

/// Reads exactly one document; an empty one is null.
pub fn to_value(input: &str) -> Result<Value, YamlError> {
    one(to_values(input)?)
}

fn one(mut values: Vec<Value>) -> Result<Value, YamlError> {
    match values.len() {
        0 => Ok(Value::Null),
        1 => Ok(values.remove(0)),
        n => Err(YamlError { message: format!("expected one document, found {n}"), line: 1, column: 1 }),
    }
}

/// Reads one document whose keys may be repeated: the last value counts, and the second part is what Go's strict reader says
/// about it.
pub fn to_value_lenient(input: &str) -> Result<(Value, Option<String>), YamlError> {
    if input.trim_start().starts_with('{')
        && let Ok((value, repeated)) = crate::json::parse_strict(input.as_bytes())
        && repeated.is_empty()
    {
        return Ok((value, None));
    }
    let mut options = options();
    let complaint = match serde_yaml::from_multiple_with_options::<Value>(input, options.clone()) {
        Ok(values) => return one(values).map(|value| (value, None)),
        Err(error) => already_set(&error).ok_or_else(|| YamlError::from(error))?,
    };
    options.duplicate_keys = serde_yaml::options::DuplicateKeyPolicy::LastWins;
    let values = serde_yaml::from_multiple_with_options(input, options).map_err(YamlError::from)?;
    one(values).map(|value| (value, Some(complaint)))
}

/// A repeated key, worded as Go's reader does.
fn already_set(error: &serde_yaml::Error) -> Option<String> {
    let serde_yaml::Error::DuplicateMappingKey { key, location } = error.without_snippet() else { return None };
    let key = crate::gotext::quote(key.as_deref().unwrap_or_default());
    Some(format!("yaml: unmarshal errors:\n  line {}: key {key} already set in map", location.line()))
}

/// Reads one document into a type. Unknown fields are the type's affair.
pub fn from_str<T: serde::de::DeserializeOwned>(input: &str) -> Result<T, YamlError> {
    serde_yaml::from_str_with_options(input, options()).map_err(YamlError::from)
}

impl From<serde_yaml::Error> for YamlError {
    fn from(e: serde_yaml::Error) -> Self {
        let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
        let text = e.without_snippet().to_string();
        let (message, at) = go_words(text.split(" at line ").next().unwrap_or_default());
        let line = if at == Place::Token { line } else { line.saturating_sub(1).max(1) };
        Self { message, line, column }
    }
}

/// What Go's reader counts lines to: the line of what is wrong, or the lines before it.
#[derive(PartialEq)]
enum Place {
    Token,
    Before,
}

/// The words of Go's reader for what users meet; others stay as they are.
fn go_words(message: &str) -> (String, Place) {
    const WORDS: [(&str, &str, Place); 10] = [
        ("tabs disallowed", "found character that cannot start any token", Place::Token),
        ("cannot start any token", "found character that cannot start any token", Place::Token),
        ("mapping values are not allowed", "mapping values are not allowed in this context", Place::Token),
        ("invalid indentation in multiline quoted scalar", "found unexpected end of stream", Place::Token),
        ("unexpected end of stream", "found unexpected end of stream", Place::Token),
        ("could not find expected ':'", "could not find expected ':'", Place::Token),
        ("simple key expect", "could not find expected ':'", Place::Token),
        ("unclosed bracket", "did not find expected node content", Place::Token),
        ("did not find expected ',' or '}'", "did not find expected ',' or '}'", Place::Before),
        ("did not find expected ',' or ']'", "did not find expected ',' or ']'", Place::Before),
    ];
    match WORDS.into_iter().find(|(part, _, _)| message.contains(part)) {
        Some((_, words, at)) => (words.to_owned(), at),
        None => match message.rfind("did not find expected") {
            Some(at) => (message[at..].to_owned(), Place::Before),
            None => (message.to_owned(), Place::Token),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_as_kubernetes_does() {
        for (input, want) in [
            ("a: yes\nb: off\nc: 'yes'", json!({"a": true, "b": false, "c": "yes"})),
            ("mode: 0644\nx: 0x10\nv: \"0644\"", json!({"mode": 420, "x": 16, "v": "0644"})),
            ("a: ~\nb: null\nc:\nd: \"\"", json!({"a": null, "b": null, "c": null, "d": ""})),
            ("a: 1.5\nb: 1e3\nc: 1_000", json!({"a": 1.5, "b": 1000.0, "c": 1000})),
            ("a: &x {b: 1}\nc: {<<: *x, d: 2}", json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}})),
            ("a: |\n  x\n  y\nb: >-\n  x\n  y", json!({"a": "x\ny\n", "b": "x y"})),
            ("- a\n- b: c\n  d: e", json!(["a", {"b": "c", "d": "e"}])),
            ("a:\n- b\nc: []", json!({"a": ["b"], "c": []})),
            ("1: a", json!({"1": "a"})),
            ("t: 2026-01-02T03:04:05Z", json!({"t": "2026-01-02T03:04:05Z"})),
            ("v: 1.36.0", json!({"v": "1.36.0"})),
            ("\u{feff}a: b", json!({"a": "b"})),
        ] {
            assert_eq!(to_value(input).unwrap_or_else(|e| panic!("{input}: {e}")), want, "{input}");
        }
    }

    #[test]
    fn streams() {
        let docs = to_values("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap();
        assert_eq!(docs, [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(to_values("{\"a\":1}\n{\"b\":2}").unwrap(), [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(to_values("{a: 1}").unwrap(), [json!({"a": 1})]);
        assert_eq!(to_values("").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn errors_say_where() {
        let e = to_values("a: 1\nb: [").unwrap_err();
        assert!(e.line >= 2, "{e}");
        let e = to_values("a: 1\nb:\n  c: 1\n  c: 2").unwrap_err();
        assert_eq!(e.line, 4, "{e}");
        assert!(to_values("a: b: c").is_err());
        assert!(to_values("a:\n\tb: c").is_err());
    }

    #[test]
    fn repeated_keys() {
        let set = |line: u32| Some(format!("yaml: unmarshal errors:\n  line {line}: key \"c\" already set in map"));
        for (input, want, complaint) in [
            ("a: 1\nb:\n  c: 1\n  c: 2", json!({"a": 1, "b": {"c": 2}}), set(4)),
            ("{\"c\": 1,\n\"c\": 2}", json!({"c": 2}), set(2)),
            ("{\"c\": 1}", json!({"c": 1}), None),
            ("c: 1", json!({"c": 1}), None),
            ("", Value::Null, None),
        ] {
            assert_eq!(to_value_lenient(input).unwrap(), (want, complaint), "{input}");
        }
        assert!(to_value_lenient("a: b: c").is_err());
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f"), ("h", "g")] {
            let all = vec![format!("*{of}"); 10].join(",");
            bomb.push_str(&format!("{name}: &{name} [{all}]\n"));
        }
        assert!(to_values(&bomb).is_err());
        assert!(to_values(&"[".repeat(100_000)).is_err());
        assert!(to_values(&"- ".repeat(10_000)).is_err());
    }
}
