//! Tables: the rows that `kubectl get` prints, made by the server so that every client shows the same.

use jiff::Timestamp;
use machinery::status::Status;
use serde_json::{Value, json};

use super::partial;
use crate::kinds::Column;
use crate::registry::{Served, TypeSource};

/// What each row carries beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Refuses what is none of the three.
    pub fn check(query: &str) -> Result<(), Status> {
        match crate::request_info::query_value(query, "includeObject").as_deref() {
            None | Some("" | "None" | "Metadata" | "Object") => Ok(()),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be 'Metadata', 'Object', 'None', or empty",
                machinery::gotext::quote(other)
            ))),
        }
    }

    pub fn parse(query: &str) -> Self {
        match crate::request_info::query_value(query, "includeObject").as_deref() {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// A table of these objects; `metadata` is the list's.
pub fn table(served: &Served, objects: Vec<Value>, metadata: Value, include: Include, now: Timestamp, header: bool) -> Value {
    let rows: Vec<Value> = objects.into_iter().map(|object| row(served, object, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": if header { columns(served) } else { Value::Null },
        "rows": rows,
    })
}

fn columns(served: &Served) -> Value {
    if let TypeSource::Custom(custom) = &served.types {
        return custom.columns();
    }
    served.strategy.columns().iter().map(Column::definition).collect()
}

fn row(served: &Served, object: Value, include: Include, now: Timestamp) -> Value {
    let cells = match &served.types {
        TypeSource::Custom(custom) => custom.cells(&object, now),
        TypeSource::Builtin => served.strategy.row(&object, now),
    };
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => partial(&object),
        Include::Object => object,
    };
    json!({"cells": cells, "object": object})
}
