//! OpenAPI schemas as CEL sees them (upstream's `SchemaDeclType`): the type of every place in an object, how its JSON is
//! read, and how large it can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::types::{ObjectTypes, Type};

/// The largest request; what bounds a size that the schema does not bound.
const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
const DURATION_BYTES_MAX: u64 = 32;
const DATETIME_BYTES_MAX: u64 = 32;
const DATE_BYTES: u64 = 12;

/// What a schema declares about one place.
#[derive(Clone, Debug)]
pub struct Decl {
    pub(crate) shape: Shape,
    /// Most elements, entries, code points or bytes.
    pub(crate) elements_max: Option<u64>,
    /// Fewest bytes of its JSON.
    bytes_min: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Dyn,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Timestamp,
    Date,
    Duration,
    List { item: Arc<Decl>, kind: ListKind },
    Map { value: Arc<Decl> },
    Object(ObjectShape),
}

#[derive(Clone, Debug)]
pub struct ObjectShape {
    pub name: Arc<str>,
    /// By the name in CEL.
    pub fields: BTreeMap<Arc<str>, FieldDecl>,
}

#[derive(Clone, Debug)]
pub struct FieldDecl {
    pub json: Arc<str>,
    pub decl: Arc<Decl>,
}

/// `x-kubernetes-list-type`: how two lists are equal and what their sum is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Arc<[String]>),
}

pub(crate) static DYN: Decl = Decl { shape: Shape::Dyn, elements_max: None, bytes_min: 1 };

impl Decl {
    /// A place of which nothing is known.
    pub fn dynamic() -> Self {
        DYN.clone()
    }

    /// What a structural schema declares; nothing where CEL does not see the value. `name` becomes the name of the object's
    /// type; `resource` says that it is the root of a resource, which always has `apiVersion`, `kind` and `metadata`.
    pub fn from_schema(schema: &Json, resource: bool, name: &str) -> Option<Self> {
        if schema["x-kubernetes-int-or-string"] == true {
            let max = schema["maxLength"].as_i64().map_or(REQUEST_BYTES_MAX - 2, |n| non_negative(n).saturating_mul(4));
            return Some(Self { shape: Shape::Dyn, elements_max: Some(max), bytes_min: 1 });
        }
        match schema["type"].as_str().unwrap_or_default() {
            "array" => Self::list(schema, name),
            "object" => match &schema["additionalProperties"] {
                Json::Object(_) => Self::map(schema, name),
                _ => Some(Self::object(schema, resource, name)),
            },
            "string" => Some(Self::string(schema)),
            "boolean" => Some(Self { shape: Shape::Bool, elements_max: None, bytes_min: 4 }),
            "number" => Some(Self { shape: Shape::Double, elements_max: None, bytes_min: 1 }),
            "integer" => Some(Self { shape: Shape::Int, elements_max: None, bytes_min: 1 }),
            _ => None,
        }
    }

    fn list(schema: &Json, name: &str) -> Option<Self> {
        let items = &schema["items"];
        let item = Self::from_schema(items, embedded(items), &format!("{name}.@idx"))?;
        let max = schema["maxItems"].as_i64().map_or((REQUEST_BYTES_MAX - 2) / (item.bytes_min + 1), non_negative);
        let kind = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListKind::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                ListKind::Map(keys.filter_map(Json::as_str).map(str::to_owned).collect())
            }
            _ => ListKind::Atomic,
        };
        Some(Self { shape: Shape::List { item: Arc::new(item), kind }, elements_max: Some(max), bytes_min: 2 })
    }

    fn map(schema: &Json, name: &str) -> Option<Self> {
        let values = &schema["additionalProperties"];
        let value = Self::from_schema(values, embedded(values), &format!("{name}.@elem"))?;
        let max = schema["maxProperties"].as_i64().map_or((REQUEST_BYTES_MAX - 2) / (value.bytes_min + 6), non_negative);
        Some(Self { shape: Shape::Map { value: Arc::new(value) }, elements_max: Some(max), bytes_min: 2 })
    }

    fn object(schema: &Json, resource: bool, name: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut bytes_min = 2;
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        for (json, property) in schema["properties"].as_object().into_iter().flatten() {
            let Some(decl) = Self::from_schema(property, embedded(property), &format!("{name}.{json}")) else { continue };
            if required.contains(&json.as_str()) && property.get("default").is_none() {
                bytes_min += json.len() as u64 + decl.bytes_min + 4;
            }
            if let Some(field) = escape(json) {
                fields.insert(field.into(), FieldDecl { json: json.as_str().into(), decl: Arc::new(decl) });
            }
        }
        if resource {
            add_resource_fields(&mut fields, name);
        }
        let shape = Shape::Object(ObjectShape { name: name.into(), fields });
        Self { shape, elements_max: None, bytes_min }
    }

    fn string(schema: &Json) -> Self {
        let length = schema["maxLength"].as_i64().map(non_negative);
        let longest_choice = || {
            let choices = schema["enum"].as_array().filter(|c| !c.is_empty())?;
            choices.iter().filter_map(Json::as_str).map(|s| s.len() as u64).max().or(Some(0))
        };
        let (shape, max, bytes_min) = match schema["format"].as_str() {
            Some("byte") => (Shape::Bytes, length.unwrap_or(REQUEST_BYTES_MAX - 2), 2),
            Some("duration") => (Shape::Duration, DURATION_BYTES_MAX, 3),
            Some("date") => (Shape::Date, DATE_BYTES, DATE_BYTES),
            Some("date-time") => (Shape::Timestamp, DATETIME_BYTES_MAX, 21),
            _ => {
                let max = length.map(|n| n.saturating_mul(4)).or_else(longest_choice).unwrap_or(REQUEST_BYTES_MAX - 2);
                (Shape::String, max, 2)
            }
        };
        Self { shape, elements_max: Some(max), bytes_min }
    }

    /// The type of the place.
    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::List { item, .. } => Type::list(item.ty()),
            Shape::Map { value } => Type::map(Type::String, value.ty()),
            Shape::Object(object) => Type::Object(object.name.clone()),
        }
    }

    /// Declares every object type within.
    pub fn add_types(&self, types: &mut ObjectTypes) {
        match &self.shape {
            Shape::List { item, .. } => item.add_types(types),
            Shape::Map { value } => value.add_types(types),
            Shape::Object(object) => {
                types.declare(&object.name);
                for (name, field) in &object.fields {
                    types.add(&object.name, name, field.decl.ty());
                    field.decl.add_types(types);
                }
            }
            _ => {}
        }
    }

    /// What lies at a path of the cost estimate: field names, `@items`, `@values`.
    pub(crate) fn at(&self, path: &[Arc<str>]) -> Option<&Decl> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let inner = match (&self.shape, first.as_ref()) {
            (Shape::List { item, .. }, "@items") => item,
            (Shape::Map { value }, "@values") => value,
            (Shape::Map { value }, name) if !name.starts_with('@') => value,
            (Shape::Object(object), name) => &object.fields.get(name)?.decl,
            _ => return None,
        };
        inner.at(rest)
    }

    /// What the elements of a list or the values of a map are.
    pub(crate) fn element(&self) -> Option<&Arc<Decl>> {
        match &self.shape {
            Shape::List { item, .. } => Some(item),
            Shape::Map { value } => Some(value),
            _ => None,
        }
    }

    /// What a property of an object is, by its name in JSON.
    pub(crate) fn property(&self, name: &str) -> Option<&Arc<Decl>> {
        match &self.shape {
            Shape::Object(object) => Some(&object.fields.get(escape(name)?.as_str())?.decl),
            _ => None,
        }
    }

    /// How often such a value can be in the largest request.
    pub(crate) fn occurrences_max(&self) -> u64 {
        REQUEST_BYTES_MAX / (self.bytes_min + 1)
    }

    /// The most entries that a list or a map can have; 1 for anything else.
    pub fn cardinality(&self) -> Option<u64> {
        match self.shape {
            Shape::List { .. } | Shape::Map { .. } => self.elements_max,
            _ => None,
        }
    }
}

fn add_resource_fields(fields: &mut BTreeMap<Arc<str>, FieldDecl>, name: &str) {
    let text = Arc::new(Decl { shape: Shape::String, elements_max: Some(REQUEST_BYTES_MAX - 2), bytes_min: 2 });
    for field in ["apiVersion", "kind"] {
        fields.entry(field.into()).or_insert_with(|| FieldDecl { json: field.into(), decl: text.clone() });
    }
    let mut metadata = match fields.get("metadata").map(|f| &f.decl.shape) {
        Some(Shape::Object(object)) => object.clone(),
        _ => ObjectShape { name: format!("{name}.metadata").into(), fields: BTreeMap::new() },
    };
    for field in ["name", "generateName"] {
        metadata.fields.entry(field.into()).or_insert_with(|| FieldDecl { json: field.into(), decl: text.clone() });
    }
    let decl = Decl { shape: Shape::Object(metadata), elements_max: None, bytes_min: 2 };
    fields.insert("metadata".into(), FieldDecl { json: "metadata".into(), decl: Arc::new(decl) });
}

fn embedded(schema: &Json) -> bool {
    schema["x-kubernetes-embedded-resource"] == true
}

fn non_negative(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Words that are no identifiers: literals and `in`, then those the language reserves.
pub const KEYWORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name by which CEL knows a property (upstream's `Escape`): `foo-bar` is `foo__dash__bar`, `namespace` is
/// `__namespace__`. Nothing when no identifier stands for it.
pub fn escape(property: &str) -> Option<String> {
    if property.is_empty() || property.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if KEYWORDS.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let mut name = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            name.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => name.push_str("__dot__"),
            '-' => name.push_str("__dash__"),
            '/' => name.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => name.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let check = |property: &str, want: Option<&str>| assert_eq!(escape(property).as_deref(), want, "{property}");
        check("spec", Some("spec"));
        check("namespace", Some("__namespace__"));
        check("foo-bar.a/b", Some("foo__dash__bar__dot__a__slash__b"));
        check("a__b", Some("a__underscores__b"));
        check("a_b", Some("a_b"));
        check("1a", None);
        check("a b", None);
        check("", None);
    }

    #[test]
    fn sizes() {
        let decl = |schema: Json| Decl::from_schema(&schema, false, "t").expect("a declaration");
        assert_eq!(decl(json!({"type": "string", "maxLength": 10})).elements_max, Some(40));
        assert_eq!(decl(json!({"type": "string", "enum": ["a", "abc"]})).elements_max, Some(3));
        assert_eq!(decl(json!({"type": "array", "items": {"type": "integer"}})).elements_max, Some((3 * 1024 * 1024 - 2) / 2));
        assert_eq!(decl(json!({"type": "array", "maxItems": 5, "items": {"type": "integer"}})).cardinality(), Some(5));
        let object = json!({"type": "object", "required": ["abc"], "properties": {"abc": {"type": "integer"}}});
        assert_eq!(decl(object).bytes_min, 2 + 3 + 1 + 4);
        assert!(Decl::from_schema(&json!({"x-kubernetes-preserve-unknown-fields": true}), false, "t").is_none());
    }
}
