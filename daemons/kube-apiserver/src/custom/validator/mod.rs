//! What a schema refuses: a version's `openAPIV3Schema`, compiled once, asked at every write. Pure.
//!
//! Rules, order and words are those of upstream's validator (kube-openapi's `validate`), with its one exception for updates:
//! what was wrong before and did not change is not held against the writer (CRDValidationRatcheting, KEP-4008).

mod check;
mod formats;
mod number;

use std::collections::BTreeMap;

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::regexp::{self, Regex};
use serde_json::Value;

pub(super) use formats::unrecognized;

/// Schemas nest no deeper than this: what lies below is not checked.
const DEPTH_MAX: usize = 64;
/// How upstream names the whole object where an error is about nothing smaller.
const WHOLE: &str = "<nil>";

/// A schema, ready to check values.
#[derive(Debug, Default)]
pub struct Validator {
    types: Vec<&'static str>,
    nullable: bool,
    /// The format, when it is one that is enforced.
    format: String,
    allowed: Vec<Value>,
    pattern: Option<(String, Result<Regex, String>)>,
    length: Bounds,
    items_count: Bounds,
    properties_count: Bounds,
    minimum: Option<number::Bound>,
    maximum: Option<number::Bound>,
    multiple_of: Option<f64>,
    unique_items: bool,
    required: Vec<String>,
    properties: BTreeMap<String, Validator>,
    additional: Additional,
    items: Option<Box<Validator>>,
    /// The keys of a list that is a map, by which items of two states of it correspond.
    list_keys: Vec<String>,
    all_of: Vec<Validator>,
    any_of: Vec<Validator>,
    one_of: Vec<Validator>,
    not: Option<Box<Validator>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    min: Option<usize>,
    max: Option<usize>,
}

/// What a schema says of members that it does not name.
#[derive(Debug, Default)]
enum Additional {
    #[default]
    Any,
    None,
    Schema(Box<Validator>),
}

impl Validator {
    pub fn compile(schema: &Value) -> Self {
        Self::at(schema, 0)
    }

    fn at(schema: &Value, depth: usize) -> Self {
        if depth > DEPTH_MAX || !schema.is_object() {
            return Self::default();
        }
        let below = |schema: &Value| Self::at(schema, depth + 1);
        let list = |name: &str| schema[name].as_array().into_iter().flatten().map(below).collect::<Vec<_>>();
        let texts = |name: &str| schema[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let bounds = |min: &str, max: &str| Bounds { min: count(&schema[min]), max: count(&schema[max]) };
        let types = types(schema);
        let bound = |limit: &str, exclusive: &str| {
            schema[limit].as_f64().map(|limit| number::Bound { limit, exclusive: schema[exclusive] == true })
        };
        Self {
            nullable: schema["nullable"] == true,
            format: formats::enforced(schema["format"].as_str().unwrap_or_default(), &types),
            types,
            allowed: schema["enum"].as_array().cloned().unwrap_or_default(),
            pattern: schema["pattern"].as_str().filter(|p| !p.is_empty()).map(|p| (p.to_owned(), regexp::compile(p))),
            length: bounds("minLength", "maxLength"),
            items_count: bounds("minItems", "maxItems"),
            properties_count: bounds("minProperties", "maxProperties"),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: schema["multipleOf"].as_f64(),
            unique_items: schema["uniqueItems"] == true,
            required: texts("required").collect(),
            properties: schema["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, property)| (name.clone(), below(property)))
                .collect(),
            additional: match &schema["additionalProperties"] {
                Value::Bool(false) => Additional::None,
                schema @ Value::Object(_) => Additional::Schema(Box::new(below(schema))),
                _ => Additional::Any,
            },
            items: schema["items"].is_object().then(|| Box::new(below(&schema["items"]))),
            list_keys: match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => texts("x-kubernetes-list-map-keys").collect(),
                _ => Vec::new(),
            },
            all_of: list("allOf"),
            any_of: list("anyOf"),
            one_of: list("oneOf"),
            not: schema["not"].is_object().then(|| Box::new(below(&schema["not"]))),
        }
    }

    /// The schema of a property, if it has one of its own.
    pub fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name)
    }

    /// Everything in the value that the schema refuses. `at` is where the value is in its object; with its `old` state, what did
    /// not change passes.
    pub fn validate(&self, value: &Value, old: Option<&Value>, at: &Path) -> FieldErrors {
        let found = self.check(value, old, "");
        let place = |name: &str| match (name.trim_start_matches('.'), at.as_str()) {
            ("", "") => Path::new(WHOLE),
            ("", _) => at.clone(),
            (name, _) => at.child(name),
        };
        let errors = found.problems.into_iter().map(|problem| problem.into_error(place));
        FieldErrors::from(errors.collect::<Vec<_>>())
    }
}

fn types(schema: &Value) -> Vec<&'static str> {
    if schema["x-kubernetes-int-or-string"] == true {
        return vec!["integer", "string"];
    }
    const KNOWN: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    KNOWN.into_iter().filter(|known| schema["type"] == *known).collect()
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok())
}

/// What checking one value found.
#[derive(Debug, Default)]
struct Found {
    problems: Vec<Problem>,
    /// How many checks applied and passed: of several alternatives that all fail, the one that fits best is reported.
    matches: usize,
}

/// One error, before its place in the object is known.
#[derive(Clone, Debug)]
struct Problem {
    /// `.spec.size`: relative to the value that is checked. Empty is the value itself.
    name: String,
    message: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Required,
    NotSupported(Value, Vec<String>),
    TooLong(usize),
    TooMany(usize, usize),
    Type(Value),
    Invalid(Value),
    /// About the combination of schemas rather than about a field.
    Whole,
}

impl Found {
    fn add(&mut self, name: &str, message: String, what: What) {
        self.push(Problem { name: name.to_owned(), message, what });
    }

    fn push(&mut self, problem: Problem) {
        if !self.problems.iter().any(|known| known.message == problem.message) {
            self.problems.push(problem);
        }
    }

    fn merge(&mut self, other: Found) {
        other.problems.into_iter().for_each(|problem| self.push(problem));
        self.matches += other.matches;
    }

    fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Problem {
    fn into_error(self, place: impl Fn(&str) -> Path) -> FieldError {
        let path = place(&self.name);
        match self.what {
            What::Required => FieldError::required(&path, ""),
            What::NotSupported(value, allowed) => {
                FieldError::not_supported(&path, value, &allowed.iter().map(String::as_str).collect::<Vec<_>>())
            }
            What::TooLong(max) => FieldError::too_long(&path, max),
            What::TooMany(actual, max) => FieldError::too_many(&path, actual, max),
            What::Type(value) => FieldError::type_invalid(&path, value, self.message),
            What::Invalid(value) => FieldError::invalid(&path, value, self.message),
            What::Whole => FieldError::invalid(&place(""), "", self.message),
        }
    }
}

#[cfg(test)]
mod tests;
