//! Errors about one field of an object, worded as upstream words them, and the paths that name the fields.

use std::fmt;

use serde_json::Value;

use crate::gotext;

/// Where a field is: `spec.containers[0].name`, `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(String);

impl Path {
    pub fn new(root: impl Into<String>) -> Self {
        Self(root.into())
    }

    /// The path of the whole object, which prints as nothing until a child is added.
    pub fn root() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        let mut s = String::with_capacity(self.0.len() + 1 + name.len());
        s.push_str(&self.0);
        s.push('.');
        s.push_str(name);
        Self(s)
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Path {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    TypeInvalid,
    Internal,
}

impl Kind {
    /// The cause's `reason` in a Status.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }

    fn shows_value(self) -> bool {
        matches!(
            self,
            Self::Invalid
                | Self::TypeInvalid
                | Self::NotSupported
                | Self::NotFound
                | Self::Duplicate
                | Self::TooMany
                | Self::TooFew
        )
    }
}

/// One error about one field. Prints as `spec.containers[0].name: Required value`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {}", self.body())]
pub struct FieldError {
    pub kind: Kind,
    pub path: String,
    /// `None` prints no value where the kind would show one.
    pub bad_value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    fn new(kind: Kind, path: &Path, bad_value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, path: path.0.clone(), bad_value, detail: detail.into() }
    }

    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Required, path, None, detail)
    }

    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, path, Some(value.into()), detail)
    }

    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Kind::TypeInvalid, path, Some(value.into()), detail)
    }

    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut detail = String::new();
        for (i, v) in supported.iter().enumerate() {
            detail.push_str(if i == 0 { "supported values: " } else { ", " });
            detail.push_str(&gotext::quote(v));
        }
        Self::new(Kind::NotSupported, path, Some(value.into()), detail)
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(Kind::Duplicate, path, Some(value.into()), "")
    }

    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(Kind::NotFound, path, Some(value.into()), "")
    }

    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, path, None, detail)
    }

    pub fn too_long(path: &Path, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::new(Kind::TooLong, path, None, format!("may not be more than {max_bytes} {unit}"))
    }

    pub fn too_long_characters(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "character" } else { "characters" };
        Self::new(Kind::TooLong, path, None, format!("may not be more than {max} {unit}"))
    }

    pub fn too_short(path: &Path, min: usize) -> Self {
        let unit = if min == 1 { "character" } else { "characters" };
        Self::new(Kind::TooShort, path, None, format!("must be at least {min} {unit}"))
    }

    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(Kind::TooMany, path, Some(actual.into()), format!("must have at most {max} {unit}"))
    }

    pub fn too_few(path: &Path, actual: usize, min: usize) -> Self {
        let unit = if min == 1 { "item" } else { "items" };
        Self::new(Kind::TooFew, path, Some(actual.into()), format!("must have at least {min} {unit}"))
    }

    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Kind::Internal, path, None, detail)
    }

    /// The message without the path: what a Status cause carries beside its `field`.
    pub fn body(&self) -> String {
        let mut s = String::from(self.kind.title());
        if self.kind.shows_value()
            && let Some(value) = &self.bad_value
        {
            s.push_str(": ");
            match value {
                Value::String(v) => s.push_str(&gotext::quote(v)),
                other => s.push_str(&gotext::json(other)),
            }
        }
        if !self.detail.is_empty() {
            s.push_str(": ");
            s.push_str(&self.detail);
        }
        s
    }
}

/// Collects errors, so that a validation reports all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    /// One `Invalid` per message, as the functions of [`crate::names`] return them.
    pub fn invalid_each(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.push(FieldError::invalid(path, value, message));
        }
    }

    pub fn not_supported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&str]) {
        self.push(FieldError::not_supported(path, value, supported));
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(FieldError::duplicate(path, value));
    }

    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<T: IntoIterator<Item = FieldError>>(&mut self, iter: T) {
        self.0.extend(iter);
    }
}

impl From<Vec<FieldError>> for FieldErrors {
    fn from(v: Vec<FieldError>) -> Self {
        Self(v)
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&aggregate(self.0.iter()))
    }
}

impl std::error::Error for FieldErrors {}

/// Joins messages as upstream's aggregates do: one alone, several as `[a, b]`, repeated ones once.
pub fn aggregate<T: fmt::Display>(errors: impl IntoIterator<Item = T>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for e in errors {
        let text = e.to_string();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    match seen.len() {
        1 => seen.remove(0),
        _ => format!("[{}]", seen.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wording() {
        let name = Path::new("spec").child("containers").index(0).child("name");
        let check = |e: FieldError, want: &str| assert_eq!(e.to_string(), want);
        check(FieldError::required(&name, ""), "spec.containers[0].name: Required value");
        check(FieldError::required(&name, "say it"), "spec.containers[0].name: Required value: say it");
        check(FieldError::invalid(&"a".into(), "x\"y", "bad"), "a: Invalid value: \"x\\\"y\": bad");
        check(FieldError::invalid(&"a".into(), 3, "bad"), "a: Invalid value: 3: bad");
        check(FieldError::invalid(&"a".into(), json!({"k": "v"}), ""), "a: Invalid value: {\"k\":\"v\"}");
        check(
            FieldError::not_supported(&"p".into(), "TPC", &["TCP", "UDP"]),
            "p: Unsupported value: \"TPC\": supported values: \"TCP\", \"UDP\"",
        );
        check(FieldError::duplicate(&Path::new("l").key("k"), "v"), "l[k]: Duplicate value: \"v\"");
        check(FieldError::forbidden(&"f".into(), "may not"), "f: Forbidden: may not");
        check(FieldError::too_long(&"f".into(), 1), "f: Too long: may not be more than 1 byte");
        check(FieldError::too_many(&"f".into(), 5, 3), "f: Too many: 5: must have at most 3 items");
        check(FieldError::not_found(&"f".into(), "v"), "f: Not found: \"v\"");
    }

    #[test]
    fn aggregates() {
        assert_eq!(aggregate(["a"]), "a");
        assert_eq!(aggregate(["a", "b", "a"]), "[a, b]");
    }
}
