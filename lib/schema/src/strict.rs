//! Strict checking: fields the schema does not know, and values that cannot be of the declared type.

use std::fmt;

use serde_json::{Map, Value};

use crate::TypeRef;
use crate::types::{AnyKind, Node, Scalar};

const JSON_SCHEMA: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// One thing that a strict decoder refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictError {
    /// `spec.containers[0].image`
    pub path: String,
    pub kind: StrictErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrictErrorKind {
    /// The field is not declared. It is dropped with a warning, unless the client asks for strictness.
    Unknown,
    /// The value cannot be of the declared type: always an error.
    WrongType {
        /// The type that declares the field, such as `PodSpec`.
        owner: String,
        /// As Go prints it: `int32`, `[]v1.Container`.
        expected: String,
        /// `string`, `number 1.5`, `object`…
        found: String,
    },
    /// A quantity, time or encoded text that cannot be parsed: always an error.
    BadText(String),
}

impl StrictError {
    /// Whether the object cannot be decoded at all, however lenient the client.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.kind, StrictErrorKind::Unknown)
    }
}

impl fmt::Display for StrictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            StrictErrorKind::Unknown => write!(f, "unknown field \"{}\"", self.path),
            StrictErrorKind::WrongType { owner, expected, found } if owner.is_empty() => {
                write!(f, "json: cannot unmarshal {found} into Go value of type {expected}")
            }
            StrictErrorKind::WrongType { owner, expected, found } => {
                // Positions in lists are not part of the path there.
                let mut path = String::new();
                let mut inside = false;
                for c in self.path.chars() {
                    inside = inside && c != ']' || c == '[';
                    if !inside && c != ']' {
                        path.push(c);
                    }
                }
                write!(f, "json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}")
            }
            StrictErrorKind::BadText(detail) => f.write_str(detail),
        }
    }
}

/// Everything in the value that the type does not allow.
pub fn check(value: &Value, ty: TypeRef<'_>) -> Vec<StrictError> {
    let mut checker = Checker { path: String::new(), owner: String::new(), errors: Vec::new() };
    checker.value(value, ty);
    checker.errors
}

/// Removes the fields that the type does not declare, as a lenient decoder does.
pub fn prune(value: &mut Value, ty: TypeRef<'_>) {
    match (ty.node(), value) {
        (Node::Object(object), Value::Object(map)) => {
            if !object.preserve_unknown {
                map.retain(|name, _| object.position(name).is_some());
            }
            for (name, value) in map {
                if let Some(index) = object.position(name) {
                    prune(value, ty.types.at(object.fields[index].node));
                }
            }
        }
        (Node::Map { value: inner, .. }, Value::Object(map)) => {
            map.values_mut().for_each(|value| prune(value, ty.types.at(*inner)));
        }
        (Node::List { item, .. }, Value::Array(items)) => {
            items.iter_mut().for_each(|value| prune(value, ty.types.at(*item)));
        }
        (Node::Any(kind), value) => each_schema(value, *kind, prune),
        _ => {}
    }
}

/// Calls `f` with each JSON schema that a value which may be one is or holds.
fn each_schema(value: &mut Value, kind: AnyKind, f: impl Fn(&mut Value, TypeRef<'static>)) {
    let Some(ty) = crate::builtin().types().named(JSON_SCHEMA) else { return };
    match (kind, value) {
        (AnyKind::SchemaOrArray, Value::Array(schemas)) => schemas.iter_mut().for_each(|schema| f(schema, ty)),
        (AnyKind::SchemaOrArray | AnyKind::SchemaOrBool | AnyKind::SchemaOrStrings, schema @ Value::Object(_)) => f(schema, ty),
        _ => {}
    }
}

/// Makes of the value what decoding into the reference types and encoding again makes of it: undeclared fields, nulls, and
/// zeros that say nothing are gone, and so are empty lists and maps that are not required. For built-in types.
pub fn normalise(value: &mut Value, ty: TypeRef<'_>) {
    match (ty.node(), value) {
        (Node::Object(object), Value::Object(map)) => normalise_members(map, object, ty),
        (Node::Map { value: inner, .. }, Value::Object(map)) => {
            let inner = ty.types.at(*inner);
            for value in map.values_mut() {
                replace_null(value, inner);
                normalise(value, inner);
            }
        }
        (Node::List { item, .. }, Value::Array(items)) => {
            let item = ty.types.at(*item);
            for value in items.iter_mut() {
                replace_null(value, item);
                normalise(value, item);
            }
        }
        (Node::Any(kind), value) => each_schema(value, *kind, normalise),
        // Numbers stand for quantities, and `3.0` for 3.
        (Node::Scalar(Scalar::Quantity), value @ Value::Number(_)) => *value = Value::String(value.to_string()),
        (Node::Scalar(Scalar::Int32 | Scalar::Int64), value) if value.is_f64() => {
            if let Some(number) = value.as_f64().filter(|number| number.fract() == 0.0) {
                *value = Value::from(number as i64);
            }
        }
        _ => {}
    }
}

fn normalise_members(map: &mut Map<String, Value>, object: &crate::types::Object, ty: TypeRef<'_>) {
    map.retain(|name, value| {
        let Some(index) = object.position(name) else { return object.preserve_unknown };
        let field = &object.fields[index];
        let keep_zero = field.pointer || field.required;
        let node = ty.types.at(field.node);
        match (node.node(), &*value) {
            (_, Value::Null) => return false,
            (Node::Scalar(Scalar::Quantity | Scalar::IntOrString), _) => {}
            (Node::Scalar(_), Value::Bool(false)) => return keep_zero,
            (Node::Scalar(_), Value::String(text)) if text.is_empty() => return keep_zero,
            (Node::Scalar(_), Value::Number(number)) if number.as_f64() == Some(0.0) => return keep_zero,
            (Node::List { .. }, Value::Array(items)) if items.is_empty() => return keep_zero,
            (Node::Map { .. }, Value::Object(entries)) if entries.is_empty() => return keep_zero,
            _ => {}
        }
        normalise(value, node);
        true
    });
}

/// A null among the items of a list or a map is the zero value.
fn replace_null(value: &mut Value, ty: TypeRef<'_>) {
    if !value.is_null() {
        return;
    }
    *value = match ty.node() {
        Node::Object(_) | Node::Map { .. } => Value::Object(Map::new()),
        Node::List { .. } => Value::Array(Vec::new()),
        Node::Scalar(Scalar::String | Scalar::Bytes) => Value::from(""),
        Node::Scalar(Scalar::Bool) => Value::from(false),
        Node::Scalar(Scalar::Quantity) => Value::from("0"),
        Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float | Scalar::IntOrString) => Value::from(0),
        Node::Scalar(Scalar::Time | Scalar::MicroTime) | Node::Any(_) => Value::Null,
    };
}

struct Checker {
    path: String,
    /// The short name of the innermost object type.
    owner: String,
    errors: Vec<StrictError>,
}

impl Checker {
    fn value(&mut self, value: &Value, ty: TypeRef<'_>) {
        // Null is "not there" everywhere.
        if value.is_null() {
            return;
        }
        match (ty.node(), value) {
            (Node::Object(object), Value::Object(map)) => {
                let short = object.name.rsplit('.').next().unwrap_or_default().to_owned();
                let owner = std::mem::replace(&mut self.owner, short);
                for (name, value) in map {
                    match object.position(name) {
                        Some(index) => self.step(name, value, ty.types.at(object.fields[index].node)),
                        None if object.preserve_unknown => {}
                        None => self.unknown(name),
                    }
                }
                self.owner = owner;
            }
            (Node::Map { value: inner, .. }, Value::Object(map)) => {
                let inner = ty.types.at(*inner);
                // Values that cannot fit are reported at the map, as it is there that Go stops.
                let scalar = matches!(inner.node(), Node::Scalar(_));
                for (key, value) in map {
                    if scalar {
                        self.value(value, inner);
                    } else {
                        self.step(key, value, inner);
                    }
                }
            }
            (Node::List { item, .. }, Value::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    self.value(value, ty.types.at(*item));
                    self.path.truncate(length);
                }
            }
            (Node::Scalar(scalar), value) => self.scalar(value, *scalar, ty),
            (Node::Any(kind), value) => match (kind, value) {
                (AnyKind::Raw | AnyKind::Fields, Value::Object(_)) | (AnyKind::Json, _) => {}
                (AnyKind::Raw, _) => {}
                (AnyKind::SchemaOrBool, Value::Bool(_)) => {}
                (AnyKind::SchemaOrArray, Value::Array(items)) => {
                    for (index, value) in items.iter().enumerate() {
                        let length = self.path.len();
                        self.path.push_str(&format!("[{index}]"));
                        self.json_schema(value);
                        self.path.truncate(length);
                    }
                }
                (AnyKind::SchemaOrStrings, Value::Array(items)) if items.iter().all(Value::is_string) => {}
                (AnyKind::SchemaOrBool | AnyKind::SchemaOrArray | AnyKind::SchemaOrStrings, Value::Object(_)) => {
                    self.json_schema(value);
                }
                _ => self.wrong_type(value, ty),
            },
            (Node::Object(_) | Node::Map { .. } | Node::List { .. }, value) => self.wrong_type(value, ty),
        }
    }

    fn json_schema(&mut self, value: &Value) {
        if let Some(ty) = crate::builtin().types().named(JSON_SCHEMA) {
            self.value(value, ty);
        }
    }

    fn step(&mut self, name: &str, value: &Value, ty: TypeRef<'_>) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        self.value(value, ty);
        self.path.truncate(length);
    }

    fn unknown(&mut self, name: &str) {
        let separator = if self.path.is_empty() { "" } else { "." };
        let path = format!("{}{separator}{name}", self.path);
        self.errors.push(StrictError { path, kind: StrictErrorKind::Unknown });
    }

    fn scalar(&mut self, value: &Value, scalar: Scalar, ty: TypeRef<'_>) {
        let fits = match (scalar, value) {
            (Scalar::String, Value::String(_)) | (Scalar::Bool, Value::Bool(_)) | (Scalar::Float, Value::Number(_)) => true,
            (Scalar::Int32, Value::Number(_)) => integer(value).is_some_and(|int| i32::try_from(int).is_ok()),
            (Scalar::Int64, Value::Number(_)) => integer(value).is_some(),
            (Scalar::IntOrString, Value::String(_)) => true,
            (Scalar::IntOrString, Value::Number(_)) => integer(value).is_some_and(|int| i32::try_from(int).is_ok()),
            (Scalar::Quantity, Value::Number(_)) => true,
            (Scalar::Quantity, Value::String(text)) => {
                return self.bad_text(quantity_error(text).map(str::to_owned));
            }
            (Scalar::Bytes, Value::String(text)) => return self.bad_text(base64_error(text)),
            (Scalar::Time | Scalar::MicroTime, Value::String(text)) => return self.bad_text(time_error(text, scalar)),
            _ => false,
        };
        if !fits {
            self.wrong_type(value, ty);
        }
    }

    fn bad_text(&mut self, detail: Option<String>) {
        if let Some(detail) = detail {
            self.errors.push(StrictError { path: self.path.clone(), kind: StrictErrorKind::BadText(detail) });
        }
    }

    fn wrong_type(&mut self, value: &Value, ty: TypeRef<'_>) {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if is_integer_type(ty) => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let kind = StrictErrorKind::WrongType { owner: self.owner.clone(), expected: go_type(ty), found };
        self.errors.push(StrictError { path: self.path.clone(), kind });
    }
}

fn is_integer_type(ty: TypeRef<'_>) -> bool {
    matches!(ty.node(), Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString))
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i64))
}

/// The type as the reference implementation's messages print it.
fn go_type(ty: TypeRef<'_>) -> String {
    match ty.node() {
        Node::Object(object) => {
            let mut parts = object.name.rsplit('.');
            let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if package.is_empty() { name.to_owned() } else { format!("{package}.{name}") }
        }
        Node::Map { value, .. } => format!("map[string]{}", go_type(ty.types.at(*value))),
        Node::List { item, .. } => format!("[]{}", go_type(ty.types.at(*item))),
        Node::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Quantity => "string",
            Scalar::Int32 | Scalar::IntOrString => "int32",
            Scalar::Int64 => "int64",
            Scalar::Float => "float64",
            Scalar::Bool => "bool",
            Scalar::Bytes => "[]uint8",
            Scalar::Time => "v1.Time",
            Scalar::MicroTime => "v1.MicroTime",
        }
        .to_owned(),
        Node::Any(kind) => match kind {
            AnyKind::Raw => "runtime.RawExtension",
            AnyKind::Fields => "v1.FieldsV1",
            AnyKind::Json => "v1.JSON",
            AnyKind::SchemaOrArray => "v1.JSONSchemaPropsOrArray",
            AnyKind::SchemaOrBool => "v1.JSONSchemaPropsOrBool",
            AnyKind::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray",
        }
        .to_owned(),
    }
}

const QUANTITY_FORMAT: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const QUANTITY_SUFFIX: &str = "unable to parse quantity's suffix";
const QUANTITY_NUMBER: &str = "unable to parse numeric part of quantity";

/// Why the text is no quantity.
fn quantity_error(text: &str) -> Option<&'static str> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = unsigned.split_at(digits);
    if number.is_empty() {
        return Some(QUANTITY_FORMAT);
    }
    if number.bytes().filter(|b| *b == b'.').count() > 1 || number == "." {
        return Some(if number == "." { QUANTITY_NUMBER } else { QUANTITY_FORMAT });
    }
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && exponent.bytes().all(|b| b.is_ascii_digit())
    });
    let known =
        matches!(suffix, "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei");
    if exponent || known {
        return None;
    }
    let shaped = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c)).trim_start_matches(['+', '-']);
    Some(if shaped.bytes().all(|b| b.is_ascii_digit()) { QUANTITY_SUFFIX } else { QUANTITY_FORMAT })
}

fn base64_error(text: &str) -> Option<String> {
    use base64::Engine as _;
    // Line breaks are allowed inside.
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match base64::engine::general_purpose::STANDARD.decode(&clean) {
        Ok(_) => None,
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Some(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Some(format!("illegal base64 data at input byte {}", clean.len() / 4 * 4)),
    }
}

fn time_error(text: &str, scalar: Scalar) -> Option<String> {
    let (layout, fraction) = match scalar {
        Scalar::MicroTime => ("2006-01-02T15:04:05.000000Z07:00", ".000000"),
        _ => ("2006-01-02T15:04:05Z07:00", ""),
    };
    let cannot = |rest: &str, part: &str| Some(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}"));
    let shaped = text.len() >= 20 && text.as_bytes()[10] == b'T' && text.parse::<jiff::Timestamp>().is_ok();
    if !shaped {
        return cannot(text, "2006");
    }
    // A micro time has exactly six digits after the point.
    let rest = &text[19..];
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if !fraction.is_empty() && digits != 6 {
        return cannot(rest, fraction);
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::builtin;

    fn check_errors(kind: &str, value: Value, expected: &[&str]) {
        let ty = builtin().type_of_api_version(if kind == "Deployment" { "apps/v1" } else { "v1" }, kind).unwrap();
        let errors: Vec<String> = check(&value, ty).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected, "{value}");
    }

    #[test]
    fn unknown_fields_are_named_by_their_path() {
        check_errors("Pod", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"any": "thing"}}}), &[]);
        check_errors("Pod", json!({"foo": 1, "spec": {"foo": 2}}), &["unknown field \"foo\"", "unknown field \"spec.foo\""]);
        check_errors(
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "bar": 1}]}}),
            &["unknown field \"spec.containers[0].bar\""],
        );
        check_errors("Pod", json!({"spec": {"Containers": []}}), &["unknown field \"spec.Containers\""]);
    }

    #[test]
    fn wrong_types_are_worded_as_go_words_them() {
        let field = "json: cannot unmarshal string into Go struct field";
        check_errors(
            "Deployment",
            json!({"spec": {"replicas": "x"}}),
            &[&format!("{field} DeploymentSpec.spec.replicas of type int32")],
        );
        check_errors(
            "Pod",
            json!({"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}),
            &[&format!("{field} ContainerPort.spec.containers.ports.containerPort of type int32")],
        );
        check_errors(
            "Pod",
            json!({"metadata": {"labels": {"a": 1}}}),
            &["json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"],
        );
        check_errors(
            "Pod",
            json!({"spec": {"containers": {}}}),
            &["json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"],
        );
        check_errors("Pod", json!([]), &["json: cannot unmarshal array into Go value of type v1.Pod"]);
        check_errors(
            "Pod",
            json!({"spec": {"priority": 1.5}}),
            &["json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32"],
        );
    }

    #[test]
    fn texts_are_parsed() {
        for good in ["1", "100m", "1.5Gi", "1e3", "-1", ".5", "5.", "0.1k", "12E-3"] {
            assert_eq!(quantity_error(good), None, "{good}");
        }
        for (bad, error) in [("", QUANTITY_FORMAT), ("x", QUANTITY_FORMAT), ("1 Gi", QUANTITY_FORMAT), ("1mm", QUANTITY_SUFFIX)] {
            assert_eq!(quantity_error(bad), Some(error), "{bad}");
        }
        check_errors("Secret", json!({"data": {"a": "%"}}), &["illegal base64 data at input byte 0"]);
        check_errors("Secret", json!({"data": {"a": "YWJj\n"}}), &[]);
        check_errors("Pod", json!({"metadata": {"creationTimestamp": null}}), &[]);
        check_errors("Pod", json!({"metadata": {"creationTimestamp": "2026-01-02T03:04:05+01:00"}}), &[]);
        assert_eq!(check(&json!({"metadata": {"creationTimestamp": "x"}}), builtin().type_of("", "v1", "Pod").unwrap()).len(), 1);
    }

    #[test]
    fn normalising_leaves_what_says_something() {
        let mut pod = json!({
            "metadata": {"creationTimestamp": null, "labels": {}, "name": "a", "annotations": {"a": null}},
            "bogus": 1,
            "spec": {
                "hostNetwork": false, "enableServiceLinks": false, "tolerations": [], "nodeName": "",
                "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": 1}}, "stdin": false}],
                "volumes": [{"name": "v", "emptyDir": {}}],
                "priority": 3.0,
            },
            "status": {},
        });
        normalise(&mut pod, builtin().type_of("", "v1", "Pod").unwrap());
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a", "annotations": {"a": ""}},
                "spec": {
                    "enableServiceLinks": false,
                    "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "priority": 3,
                },
                "status": {},
            })
        );
    }

    /// A fuzzer found that schemas which may also be something else kept their undeclared fields.
    #[test]
    fn schemas_inside_schemas_are_of_a_type_too() {
        let ty = builtin().type_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        let definition = |inner: &Value| {
            let schema = json!({"items": inner, "additionalProperties": inner, "dependencies": {"a": inner, "b": ["c"]}});
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}})
        };
        let undeclared = definition(&json!({"type": "string", "nope": 1, "format": null, "items": [{"nope": 1}]}));
        let declared = definition(&json!({"type": "string", "items": [{}]}));
        let schema = |value: &Value| value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let mut normalised = undeclared.clone();
        normalise(&mut normalised, ty);
        assert_eq!(schema(&normalised), schema(&declared));
        let mut pruned = undeclared;
        prune(&mut pruned, ty);
        assert!(check(&pruned, ty).is_empty() && !pruned.to_string().contains("nope"), "{pruned}");
    }
}
