//! Strict checking: fields the schema does not know, and values of the wrong type.

use std::fmt;

use serde_json::Value;

use crate::TypeRef;

/// One thing that a strict decoder refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictError {
    /// `spec.containers[0].image`
    pub path: String,
    pub kind: StrictErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrictErrorKind {
    /// The field is not declared. Dropped from the object, unless the client asks for strictness.
    Unknown,
    /// The value cannot be of the declared type: always an error.
    WrongType { expected: &'static str, found: &'static str },
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StrictErrorKind::Unknown => write!(f, "unknown field {:?}", self.path),
            StrictErrorKind::WrongType { expected, found } => {
                write!(f, "json: cannot unmarshal {found} into Go struct field {} of type {expected}", self.path)
            }
        }
    }
}

/// Everything in the value that the type does not allow, in document order.
pub fn check(_value: &Value, _ty: TypeRef<'_>) -> Vec<StrictError> {
    Vec::new()
}

/// Removes the fields that the type does not declare, as a lenient decoder does.
pub fn prune(_value: &mut Value, _ty: TypeRef<'_>) {}
