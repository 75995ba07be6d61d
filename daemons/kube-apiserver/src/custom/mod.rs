//! Custom resources: what a CustomResourceDefinition declares, in the form the registry serves.

pub mod cleanup;
mod columns;
mod conditions;
mod controller;
pub mod conversion;
pub mod definition;
pub mod definitions;
mod embedded;
mod list_types;
pub mod naming;
mod rules;
mod scale;
mod validator;

use std::hash::{DefaultHasher, Hasher};

use cel::rules::{Rules, Verdict};
use jiff::Timestamp;
use machinery::field::Path;
use machinery::jsonpath::{self, JsonPath};
use schema::openapi::CustomVersion;
use schema::structural::Structural;
use schema::{Resource, TypeRef, strict};
use serde_json::Value;

use columns::Columns;
use scale::Scale;
use validator::Validator;

pub use definitions::start;

/// One version of a custom resource.
pub struct CustomType {
    /// The version's entry in the definition.
    version: Value,
    structural: Option<Structural>,
    validator: Validator,
    rules: Option<Rules>,
    columns: Columns,
    scale: Option<Scale>,
    selectable: Vec<Selectable>,
    has_list_types: bool,
    has_embedded: bool,
    /// Stored objects may differ from what the schema makes of them: it has defaults, or was another one before.
    rewrites: bool,
    terminating: bool,
    fingerprint: u64,
    /// What clients of a deprecated version are told.
    deprecation: Option<String>,
}

/// A field that selectors may name, with the path to its value.
#[derive(Clone, Debug)]
pub struct Selectable {
    pub name: String,
    path: Option<JsonPath>,
}

impl Selectable {
    /// The fields that a version declares.
    pub fn of(version: &Value) -> Vec<Self> {
        let fields = version["selectableFields"].as_array().into_iter().flatten();
        let paths = fields.filter_map(|field| field["jsonPath"].as_str());
        let new = |path: &str| Self {
            name: path.trim_start_matches('.').to_owned(),
            path: JsonPath::parse(&format!("{{{path}}}")).ok().map(|path| path.allow_missing(true)),
        };
        paths.map(new).collect()
    }

    pub fn value(&self, object: &Value) -> String {
        let found = self.path.as_ref().and_then(|path| path.find(object).ok());
        let value = found.and_then(|results| results.into_iter().next()?.into_iter().next());
        value.filter(|value| !value.is_null()).map(|value| jsonpath::text(&value)).unwrap_or_default()
    }
}

impl CustomType {
    /// What one version of a definition declares.
    pub fn new(definition: &Value, version: &Value) -> Self {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let schema = &version["schema"]["openAPIV3Schema"];
        let structural = schema.is_object().then(|| Structural::compile(schema, kind));
        let changed = definition["metadata"]["generation"].as_i64().unwrap_or(1) > 1;
        Self {
            validator: Validator::compile(schema),
            rules: Rules::compile(schema),
            columns: Columns::new(version),
            scale: Scale::new(version),
            selectable: Selectable::of(version),
            has_list_types: list_types::is_in(schema),
            has_embedded: embedded::is_in(schema),
            rewrites: changed || structural.as_ref().is_some_and(Structural::has_defaults),
            terminating: naming::is_true(definition, "Terminating"),
            fingerprint: fingerprint(version),
            deprecation: deprecation(definition, version),
            version: version.clone(),
            structural,
        }
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

    /// Whether [`Self::complete`] may change an object that is stored.
    pub fn rewrites(&self) -> bool {
        self.rewrites
    }

    /// What a stored object is under today's schema: pruned and with today's defaults.
    pub fn complete(&self, object: &mut Value) {
        if let Some(structural) = &self.structural {
            strict::prune(object, structural.type_ref());
            structural.default(object);
        }
    }

    /// Takes away what the schema does not know.
    pub fn prune(&self, object: &mut Value) {
        if let Some(structural) = &self.structural {
            strict::prune(object, structural.type_ref());
        }
    }

    /// Everything in the object that the schema refuses. What is not new is forgiven (KEP-4008); an update of the `status`
    /// subresource answers for the status alone.
    pub fn validate(&self, object: &Value, old: Option<&Value>, subresource: &str) -> Verdict {
        let mut verdict = Verdict::default();
        let errors = &mut verdict.errors;
        if subresource == "status" {
            if let (Some(status), Some(validator)) = (object.get("status"), self.validator.property("status")) {
                let old = old.and_then(|old| old.get("status"));
                errors.extend(validator.validate(status, old, &Path::new("status")));
            }
        } else {
            errors.extend(self.validator.validate(object, old, &Path::root()));
        }
        if let Some(scale) = &self.scale {
            if subresource != "status" {
                scale.validate_spec(object, errors);
            }
            scale.validate_status(object, errors);
        }
        if self.has_embedded && subresource != "status" {
            errors.extend(embedded::validate(self.schema(), object, &Path::root()));
        }
        if self.has_list_types && old.is_none_or(|old| list_types::validate(self.schema(), old).is_empty()) {
            errors.extend(list_types::validate(self.schema(), object));
        }
        rules::check(self.rules.as_ref(), object, old, &mut verdict);
        verdict
    }

    /// The columns of its tables: the declared ones, else the age.
    pub fn columns(&self) -> Value {
        self.columns.definitions()
    }

    /// One row, a cell for each column.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.columns.cells(object, now)
    }

    /// Where the numbers of its scale are: spec, status, and the selector's text.
    pub fn scale_paths(&self) -> (String, String, Option<String>) {
        self.scale.as_ref().map(Scale::paths).unwrap_or_default()
    }

    /// Whether selectors may name the field, beside those of metadata.
    pub fn is_selectable(&self, field: &str) -> bool {
        self.selectable.iter().any(|selectable| selectable.name == field)
    }

    /// The fields that selectors may name.
    pub fn selectable(&self) -> &[Selectable] {
        &self.selectable
    }

    /// The version as OpenAPI documents show it.
    pub fn described<'c>(&'c self, resource: &'c Resource) -> CustomVersion<'c> {
        let selectable = self.selectable.iter().map(|field| field.name.as_str()).collect();
        CustomVersion { resource, schema: self.schema(), selectable }
    }

    /// Changes with the version's declaration.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Whether the definition is going: its objects go first, and none may come.
    pub fn is_terminating(&self) -> bool {
        self.terminating
    }

    pub fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }
}

fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, name) = (text(&definition["spec"]["group"]), text(&version["name"]));
    let kind = text(&definition["spec"]["names"]["kind"]);
    Some(version["deprecationWarning"].as_str().map_or_else(|| format!("{group}/{name} {kind} is deprecated"), str::to_owned))
}

fn fingerprint(version: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(version.to_string().as_bytes());
    hasher.finish()
}
