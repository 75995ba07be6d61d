//! The columns that a version declares for tables (`additionalPrinterColumns`). Pure.

use jiff::Timestamp;
use machinery::jsonpath::{self, JsonPath};
use machinery::meta;
use serde_json::{Value, json};

/// The columns of one version, their paths parsed once.
pub(super) struct Columns {
    declared: Vec<Column>,
}

struct Column {
    definition: Value,
    kind: String,
    /// None when the path cannot be parsed: its cells stay empty.
    path: Option<JsonPath>,
}

impl Columns {
    pub(super) fn new(version: &Value) -> Self {
        let age = [json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": of_metadata("creationTimestamp")})];
        let declared = version["additionalPrinterColumns"].as_array().filter(|columns| !columns.is_empty());
        Self { declared: declared.map_or(&age[..], Vec::as_slice).iter().map(Column::new).collect() }
    }

    pub(super) fn definitions(&self) -> Value {
        let name = json!({"name": "Name", "type": "string", "format": "name", "priority": 0, "description": of_metadata("name")});
        std::iter::once(name).chain(self.declared.iter().map(|column| column.definition.clone())).collect()
    }

    pub(super) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let declared = self.declared.iter().map(|column| column.cell(object, now));
        std::iter::once(json!(meta::name(object))).chain(declared).collect()
    }
}

/// What the schema says of a field of the metadata.
fn of_metadata(field: &str) -> Value {
    schema::docs::of_field("apimachinery.pkg.apis.meta.v1.ObjectMeta", field).unwrap_or_default().into()
}

impl Column {
    fn new(column: &Value) -> Self {
        let text = |field: &str| column[field].as_str().unwrap_or_default();
        let path = text("jsonPath");
        let described = text("description");
        let description = if described.is_empty() {
            format!("Custom resource definition column (in JSONPath format): {path}")
        } else {
            described.to_owned()
        };
        Self {
            definition: json!({"name": text("name"), "type": text("type"), "format": text("format"), "description": description,
                "priority": column["priority"].as_i64().unwrap_or(0)}),
            kind: text("type").to_owned(),
            path: JsonPath::parse(&format!("{{{path}}}")).ok().map(|path| path.allow_missing(true)),
        }
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let results = self.path.as_ref().and_then(|path| path.find(object).ok());
        let first = results.and_then(|results| results.into_iter().next()?.into_iter().next());
        let Some(value) = first.map(std::borrow::Cow::into_owned) else { return Value::Null };
        match self.kind.as_str() {
            "string" => json!(jsonpath::text(&value)),
            "integer" => value.as_i64().or_else(|| value.as_f64().map(|n| n as i64)).map_or(Value::Null, Value::from),
            "number" => value.as_f64().map_or(Value::Null, Value::from),
            "boolean" => Some(value).filter(Value::is_boolean).unwrap_or_default(),
            "date" => match value.as_str().map(str::parse::<Timestamp>) {
                Some(Ok(then)) => json!(machinery::time::age(then, now)),
                Some(Err(_)) => json!("<invalid>"),
                None => Value::Null,
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        let version = json!({"additionalPrinterColumns": [
            {"name": "S", "type": "string", "jsonPath": ".spec.s"},
            {"name": "I", "type": "integer", "jsonPath": ".spec.i"},
            {"name": "L", "type": "string", "jsonPath": ".spec.list[0].name"},
            {"name": "C", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            {"name": "D", "type": "date", "jsonPath": ".spec.d"},
            {"name": "B", "type": "boolean", "jsonPath": ".spec.s", "description": "b"},
        ]});
        let columns = Columns::new(&version);
        let object = json!({"metadata": {"name": "x"}, "spec": {"s": "text", "i": 3, "list": [{"name": "n"}], "d": "no"},
            "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        assert_eq!(
            columns.cells(&object, Timestamp::UNIX_EPOCH),
            [json!("x"), json!("text"), json!(3), json!("n"), json!("True"), json!("<invalid>"), Value::Null]
        );
        assert_eq!(columns.definitions()[1]["description"], "Custom resource definition column (in JSONPath format): .spec.s");
        let age = &Columns::new(&Value::Null).definitions()[1];
        assert_eq!(age["name"], "Age");
        assert!(age["description"].as_str().is_some_and(|text| text.starts_with("CreationTimestamp is")), "{age}");
    }
}
