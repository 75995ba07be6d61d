//! The values of expressions: scalars, and views of JSON that nothing copies.

pub(crate) mod equal;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod time;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::error::EvalError;
use crate::library::authz::Check;
use crate::library::cidr::Cidr;
use crate::library::format::NamedFormat;
use crate::library::semver::Semver;
use crate::library::url::Url;
use crate::schema::{DYN, Decl, Shape};
use crate::types::{Type, opaque};
pub use list::List;
pub(crate) use map::Key;
pub use map::{Map, Object};
pub use time::Moment;

/// A string that borrows from what is evaluated, or is shared.
#[derive(Clone)]
pub enum Str<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(s) => s,
            Self::Shared(s) => s,
        }
    }
}

impl From<String> for Str<'_> {
    fn from(s: String) -> Self {
        Self::Shared(s.into())
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(s: &'a str) -> Self {
        Self::Borrowed(s)
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The value of an expression. Views of JSON live as long as the JSON that was bound.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Str<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Moment),
    /// In nanoseconds, as Go's `time.Duration`.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    /// Of a schema, or built by `Name{…}`.
    Object(Object<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    /// One of Kubernetes' own types.
    Opaque(Opaque<'a>),
}

/// A value of one of Kubernetes' own types.
#[derive(Clone, Debug)]
pub enum Opaque<'a> {
    Quantity(Arc<machinery::quantity::Quantity>),
    Url(Arc<Url>),
    Ip(std::net::IpAddr),
    Cidr(Cidr),
    Semver(Arc<Semver>),
    Format(&'static NamedFormat),
    Check(Arc<Check<'a>>),
    /// The name of the type of a policy's variables; the values stand in the bindings.
    Variables(Arc<str>),
}

impl<'a> Value<'a> {
    /// JSON without a schema: numbers without a fraction are `int`, objects are maps.
    pub fn from_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(i) => Self::Int(i),
                None => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Self::String(Str::Borrowed(s)),
            Json::Array(items) => Self::List(List::json(items, &DYN)),
            Json::Object(map) => Self::Map(Map::Json { map, value: &DYN }),
        }
    }

    /// JSON as its schema declares it.
    ///
    /// # Errors
    /// When a date, a duration or bytes do not read.
    pub fn from_schema(json: &'a Json, decl: &'a Decl) -> Result<Self, EvalError> {
        Ok(match (&decl.shape, json) {
            (Shape::Int, Json::Number(n)) => match (n.as_i64(), n.as_f64()) {
                (Some(i), _) => Self::Int(i),
                #[allow(clippy::cast_possible_truncation)] // Checked: it has no fraction and lies within the range.
                (None, Some(f)) if f.fract() == 0.0 && f.abs() < 9.2e18 => Self::Int(f as i64),
                _ => return Err(EvalError::failed(format!("invalid data, expected int, got {n}"))),
            },
            (Shape::Double, Json::Number(n)) => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            (Shape::Bytes, Json::String(s)) => Self::Bytes(time::base64(s)?),
            (Shape::Timestamp, Json::String(s)) => Self::Timestamp(time::timestamp(s)?),
            (Shape::Date, Json::String(s)) => Self::Timestamp(time::date(s)?),
            (Shape::Duration, Json::String(s)) => Self::Duration(time::schema_duration(s)?),
            (Shape::List { .. }, Json::Array(items)) => Self::List(List::json(items, decl)),
            (Shape::Map { value }, Json::Object(map)) => Self::Map(Map::Json { map, value }),
            (Shape::Object(shape), Json::Object(map)) => Self::Object(Object::Json { map, shape }),
            _ => Self::from_json(json),
        })
    }

    pub(crate) fn string(s: impl Into<String>) -> Self {
        Self::String(Str::from(s.into()))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(object) => object.name(),
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Opaque(opaque) => opaque.type_name(),
        }
    }

    /// The value's type, as `type(x)` gives it.
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Type(_) => Type::Type(None),
            other => Type::named(other.type_name()).unwrap_or_else(|| Type::object(other.type_name())),
        }
    }

    /// What `size()` answers, where it answers something.
    pub(crate) fn size(&self) -> Option<u64> {
        let size = match self {
            Self::String(s) => s.chars().count(),
            Self::Bytes(b) => b.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Optional(Some(inner)) => return inner.size(),
            Self::Opaque(Opaque::Ip(ip)) => return Some(if ip.is_ipv4() { 4 } else { 16 }),
            Self::Opaque(Opaque::Cidr(cidr)) => return Some(cidr.size()),
            _ => return None,
        };
        Some(size as u64)
    }

    /// The zero value of its type, which `optional.ofNonZeroValue` takes for nothing.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Optional(None) => true,
            Self::Bool(b) => !b,
            Self::Int(i) => *i == 0,
            Self::Uint(u) => *u == 0,
            Self::Double(d) => *d == 0.0,
            Self::String(s) => s.is_empty(),
            Self::Bytes(b) => b.is_empty(),
            Self::Timestamp(_) | Self::Optional(Some(_)) | Self::Type(_) | Self::Opaque(_) => false,
            Self::Duration(d) => *d == 0,
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Object(object) => object.is_empty(),
        }
    }
}

impl Opaque<'_> {
    pub(crate) fn type_name(&self) -> &str {
        match self {
            Self::Quantity(_) => opaque::QUANTITY,
            Self::Url(_) => opaque::URL,
            Self::Ip(_) => opaque::IP,
            Self::Cidr(_) => opaque::CIDR,
            Self::Semver(_) => opaque::SEMVER,
            Self::Format(_) => opaque::FORMAT,
            Self::Check(check) => check.type_name(),
            Self::Variables(name) => name,
        }
    }
}
