//! Custom resources: what a CustomResourceDefinition declares, in the form the registry serves.
//!
//! **Limit:** versions convert by their `apiVersion` alone (no conversion webhooks); see `validate.rs` for what of a schema is
//! not enforced.

pub mod definitions;
mod validate;

use std::collections::BTreeMap;
use std::sync::RwLock;

use bytes::Bytes;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::meta;
use schema::TypeRef;
use schema::structural::Structural;
use serde_json::{Value, json};

/// One version of a custom resource.
pub struct CustomType {
    /// The version's entry in the definition.
    version: Value,
    structural: Option<Structural>,
}

/// All definitions that are established.
#[derive(Default)]
pub struct CustomResources {
    documents: RwLock<BTreeMap<String, Bytes>>,
}

impl CustomResources {
    /// The OpenAPI v3 documents of custom groups, by path.
    pub fn openapi_documents(&self) -> Vec<(String, Bytes)> {
        let documents = self.documents.read().unwrap_or_else(|e| e.into_inner());
        documents.iter().map(|(path, document)| (path.clone(), document.clone())).collect()
    }
}

impl CustomType {
    pub fn new(version: Value, kind: &str) -> Self {
        let schema = &version["schema"]["openAPIV3Schema"];
        let structural = schema.is_object().then(|| Structural::compile(schema, kind));
        Self { version, structural }
    }

    /// The structural schema as a type.
    pub fn type_ref(&self) -> Option<TypeRef<'_>> {
        self.structural.as_ref().map(Structural::type_ref)
    }

    /// Its `openAPIV3Schema`.
    pub fn schema(&self) -> &Value {
        &self.version["schema"]["openAPIV3Schema"]
    }

    /// Fills in what the schema has defaults for.
    pub fn default(&self, object: &mut Value) {
        if let Some(structural) = &self.structural {
            structural.default(object);
        }
    }

    /// Everything in the object that the schema refuses.
    pub fn validate(&self, object: &Value) -> FieldErrors {
        validate::validate(self.schema(), object)
    }

    /// The columns of its tables: the declared ones, else the age.
    pub fn columns(&self) -> Value {
        let mut columns = vec![json!({"name": "Name", "type": "string", "format": "name",
            "description": "Name must be unique within a namespace.", "priority": 0})];
        columns.extend(self.printer_columns().iter().map(|column| {
            json!({"name": column["name"], "type": column["type"], "format": column["format"].as_str().unwrap_or_default(),
                "description": column["description"].as_str().unwrap_or_default(), "priority": column["priority"].as_i64().unwrap_or(0)})
        }));
        Value::Array(columns)
    }

    fn printer_columns(&self) -> Vec<Value> {
        let declared = self.version["additionalPrinterColumns"].as_array().filter(|columns| !columns.is_empty());
        declared
            .cloned()
            .unwrap_or_else(|| vec![json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})])
    }

    /// One row, a cell for each column.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![json!(meta::name(object))];
        for column in self.printer_columns() {
            let path = column["jsonPath"].as_str().unwrap_or_default().trim_start_matches('.').to_owned();
            let value = meta::get_dotted(object, &path).cloned().unwrap_or(Value::Null);
            let date = column["type"] == "date";
            cells.push(match value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).filter(|_| date) {
                Some(then) => json!(machinery::time::age(then, now)),
                None => value,
            });
        }
        cells
    }

    /// Where the numbers of its scale are: spec, status, and the selector's text.
    pub fn scale_paths(&self) -> (String, String, Option<String>) {
        let scale = &self.version["subresources"]["scale"];
        let path = |field: &str| scale[field].as_str().map(|path| path.trim_start_matches('.').to_owned());
        (path("specReplicasPath").unwrap_or_default(), path("statusReplicasPath").unwrap_or_default(), path("labelSelectorPath"))
    }
}
