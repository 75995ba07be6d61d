//! The types of expressions, as cel-go names and prints them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The type of an expression or a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Checked when it is evaluated.
    Dyn,
    /// Of an expression that does not compile; agrees with everything, so that one mistake is one error.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// A type with a name: of a schema (its fields are asked from the [`TypeProvider`]), or one of Kubernetes' own such
    /// as `kubernetes.Quantity`.
    Object(Arc<str>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A type parameter of a declaration, or one that the checker has yet to find.
    #[doc(hidden)]
    Param(Param),
}

#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Param {
    Declared(char),
    Free(u32),
}

impl Type {
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(inner: Type) -> Self {
        Self::Optional(Arc::new(inner))
    }

    pub fn object(name: &str) -> Self {
        Self::Object(name.into())
    }

    /// True for what can be anything when it is evaluated.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The value's type of an optional, and whether it is one.
    pub(crate) fn unwrap_optional(&self) -> (&Type, bool) {
        match self {
            Self::Optional(inner) => (inner, true),
            other => (other, false),
        }
    }

    /// The type named by a word such as `int`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let any = || Arc::new(Self::Dyn);
        Some(match name {
            "dyn" => Self::Dyn,
            "null_type" => Self::Null,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Duration" => Self::Duration,
            "list" => Self::List(any()),
            "map" => Self::Map(any(), any()),
            "optional_type" => Self::Optional(any()),
            "type" => Self::Type(None),
            name if opaque::ALL.contains(&name) => Self::object(name),
            _ => return None,
        })
    }

    /// The name that two values' types are compared by: without parameters.
    pub(crate) fn runtime_name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Error => "error",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(..) => "map",
            Self::Optional(_) => "optional_type",
            Self::Object(name) => name,
            Self::Type(_) => "type",
            Self::Param(_) => "",
        }
    }

    /// How many names it takes to write the type, counted up to a bound.
    pub(crate) fn weight(&self, bound: usize) -> usize {
        match self {
            _ if bound == 0 => 1,
            Self::List(inner) | Self::Optional(inner) | Self::Type(Some(inner)) => 1 + inner.weight(bound - 1),
            Self::Map(key, value) => {
                let key = key.weight(bound - 1);
                if key >= bound { key + 1 } else { 1 + key + value.weight(bound - key) }
            }
            _ => 1,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Type(Some(inner)) => write!(f, "type({inner})"),
            Self::Param(Param::Declared(c)) => write!(f, "{c}"),
            Self::Param(Param::Free(n)) => write!(f, "_var{n}"),
            other => f.write_str(other.runtime_name()),
        }
    }
}

/// Names of the types that Kubernetes adds.
pub(crate) mod opaque {
    pub const QUANTITY: &str = "kubernetes.Quantity";
    pub const URL: &str = "kubernetes.URL";
    pub const IP: &str = "net.IP";
    pub const CIDR: &str = "net.CIDR";
    pub const SEMVER: &str = "kubernetes.Semver";
    pub const FORMAT: &str = "kubernetes.NamedFormat";
    pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
    pub const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
    pub const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
    pub const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
    pub const DECISION: &str = "kubernetes.authorization.Decision";
    pub const ALL: [&str; 11] =
        [QUANTITY, URL, IP, CIDR, SEMVER, FORMAT, AUTHORIZER, PATH_CHECK, GROUP_CHECK, RESOURCE_CHECK, DECISION];
}

/// Tells which object types exist and which fields they have. Types are named rather than nested, so that a schema may
/// refer to itself.
pub trait TypeProvider: Send + Sync {
    /// True when an object type of this name exists.
    fn has_type(&self, name: &str) -> bool;
    /// The type of a field, by the field's name in CEL (escaped).
    fn field(&self, object: &str, field: &str) -> Option<Type>;
}

/// Object types given as data.
#[derive(Clone, Debug, Default)]
pub struct ObjectTypes(BTreeMap<Arc<str>, BTreeMap<Arc<str>, Type>>);

impl ObjectTypes {
    pub fn add(&mut self, object: &str, field: &str, ty: Type) {
        self.0.entry(object.into()).or_default().insert(field.into(), ty);
    }

    pub fn declare(&mut self, object: &str) {
        self.0.entry(object.into()).or_default();
    }
}

impl TypeProvider for ObjectTypes {
    fn has_type(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn field(&self, object: &str, field: &str) -> Option<Type> {
        self.0.get(object)?.get(field).cloned()
    }
}
