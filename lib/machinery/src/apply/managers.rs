//! `metadata.managedFields`: who owns which fields, since when.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::set::Set;
use crate::gotext::quote;
use crate::{meta, time};

/// Update entries kept; older ones are put together.
const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    pub time: Option<String>,
    pub fields: Set,
}

impl Manager {
    /// Whether this entry is the one that a request of that manager continues. An applier is the same in all versions.
    pub(super) fn is(&self, name: &str, operation: Operation, api_version: &str, subresource: &str) -> bool {
        self.name == name
            && self.operation == operation
            && self.subresource == subresource
            && (operation == Operation::Apply || self.api_version == api_version)
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.is(&other.name, other.operation, &other.api_version, &other.subresource)
    }

    /// `"kubectl-client-side-apply" using apps/v1`
    pub(super) fn described(&self) -> String {
        let mut s = quote(&self.name);
        if !self.subresource.is_empty() {
            s.push_str(&format!(" with subresource {}", quote(&self.subresource)));
        }
        if self.operation == Operation::Update {
            s.push_str(&format!(" using {}", self.api_version));
        }
        s
    }

    fn encode(&self) -> Value {
        let mut out = Map::new();
        let mut text = |key: &str, value: &str| {
            if !value.is_empty() {
                out.insert(key.to_owned(), value.into());
            }
        };
        text("manager", &self.name);
        text("operation", self.operation.as_str());
        text("apiVersion", &self.api_version);
        text("time", self.time.as_deref().unwrap_or_default());
        text("fieldsType", "FieldsV1");
        text("subresource", &self.subresource);
        out.insert("fieldsV1".to_owned(), self.fields.to_fields_v1());
        Value::Object(out)
    }

    fn decode(entry: &Value) -> Option<Self> {
        let text = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        Some(Self {
            name: text("manager").to_owned(),
            operation,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            fields: Set::from_fields_v1(entry.get("fieldsV1").unwrap_or(&json!({}))),
        })
    }
}

/// Reads `metadata.managedFields`. A list with an entry that cannot be read counts as none at all.
pub fn decode(object: &Value) -> Vec<Manager> {
    let Some(Value::Array(entries)) = meta::metadata(object).and_then(|m| m.get("managedFields")) else {
        return Vec::new();
    };
    entries.iter().map(Manager::decode).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Whether the client asks to forget all owners: an empty list, or one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    match meta::metadata(object).and_then(|m| m.get("managedFields")) {
        Some(Value::Array(entries)) => match entries.as_slice() {
            [] => true,
            [one] => one.as_object().is_some_and(Map::is_empty),
            _ => false,
        },
        _ => false,
    }
}

/// Writes `metadata.managedFields`, in upstream's order.
pub fn encode(object: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|m| !m.fields.is_empty());
    let seconds = |m: &Manager| m.time.as_deref().and_then(|t| time::parse(t).ok()).map_or(0, Timestamp::as_second);
    managers.sort_by(|a, b| {
        (a.operation, seconds(a), &a.name, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            seconds(b),
            &b.name,
            &b.api_version,
            &b.subresource,
        ))
    });
    let metadata = meta::metadata_mut(object);
    if managers.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), managers.iter().map(Manager::encode).collect());
    }
}

/// Puts the oldest update entries of a version together until few enough are left.
pub(super) fn cap(managers: &mut Vec<Manager>) {
    let mut updates = managers.iter().filter(|m| m.operation == Operation::Update).count();
    if updates <= UPDATE_MANAGERS_MAX {
        return;
    }
    managers.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.name.cmp(&b.name)));
    let mut out: Vec<Manager> = Vec::with_capacity(managers.len());
    for m in managers.drain(..) {
        if m.operation == Operation::Update && updates > UPDATE_MANAGERS_MAX {
            let older = out.iter_mut().find(|o| o.operation == Operation::Update && o.api_version == m.api_version);
            if let Some(bucket) = older {
                bucket.fields.extend(&m.fields);
                bucket.time = m.time;
                ANCIENT.clone_into(&mut bucket.name);
                bucket.subresource.clear();
                updates -= 1;
                continue;
            }
        }
        out.push(m);
    }
    *managers = out;
}
