//! Event, as the core group and as `events.k8s.io` show it: two views of one store.

use machinery::field::{FieldErrors, Path};
use machinery::meta;
use serde_json::Value;

use super::table::{Column, NAME, Row, column, wide};
use super::value::{has, int, text};
use super::{Rules, Selectable};

/// The fields that the two groups name differently.
struct Names {
    object: &'static str,
    message: &'static str,
    source: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
    controller: &'static str,
    /// What field selectors say, and what the store indexes; none where the names are the store's.
    selected: &'static [(&'static str, &'static str)],
}

const CORE: Names = Names {
    object: "/involvedObject",
    message: "/message",
    source: "/source",
    first: "/firstTimestamp",
    last: "/lastTimestamp",
    count: "/count",
    controller: "/reportingComponent",
    selected: &[],
};

const NEW: Names = Names {
    object: "/regarding",
    message: "/note",
    source: "/deprecatedSource",
    first: "/deprecatedFirstTimestamp",
    last: "/deprecatedLastTimestamp",
    count: "/deprecatedCount",
    controller: "/reportingController",
    selected: &[
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("reportingController", "reportingComponent"),
    ],
};

macro_rules! view {
    ($rules:ident, $names:ident) => {
        pub(super) struct $rules;

        impl Rules for $rules {
            fn validate(&self, event: &Value, errors: &mut FieldErrors) {
                namespaces_agree(event, &$names, errors);
            }

            fn stored_field(&self, field: &str) -> Option<&'static str> {
                $names.selected.iter().find(|(name, _)| *name == field).map(|(_, stored)| *stored)
            }

            fn columns(&self) -> &'static [Column] {
                const COLUMNS: &[Column] = &[
                    column("Last Seen", |row| last_seen(row, &$names)).of("api.core.v1.Event", "lastTimestamp"),
                    column("Type", |row| row.text("/type")).of("api.core.v1.Event", "type"),
                    column("Reason", |row| row.text("/reason")).of("api.core.v1.Event", "reason"),
                    column("Object", |row| target(row, &$names).into()).of("api.core.v1.Event", "involvedObject"),
                    wide("Subobject", |row| text(row.object, &format!("{}/fieldPath", $names.object)).into())
                        .of("api.core.v1.ObjectReference", "fieldPath"),
                    wide("Source", |row| source(row, &$names).into()).of("api.core.v1.Event", "source"),
                    column("Message", |row| text(row.object, $names.message).trim().into()).of("api.core.v1.Event", "message"),
                    wide("First Seen", |row| first_seen(row, &$names)).of("api.core.v1.Event", "firstTimestamp"),
                    wide("Count", |row| count(row, &$names).into()).of("api.core.v1.Event", "count"),
                    Column { priority: 1, ..NAME },
                ];
                COLUMNS
            }

            fn selectable(&self) -> &'static [Selectable] {
                &[
                    ("involvedObject.kind", |event| object_field(event, &$names, "kind")),
                    ("involvedObject.namespace", |event| object_field(event, &$names, "namespace")),
                    ("involvedObject.name", |event| object_field(event, &$names, "name")),
                    ("involvedObject.uid", |event| object_field(event, &$names, "uid")),
                    ("involvedObject.apiVersion", |event| object_field(event, &$names, "apiVersion")),
                    ("involvedObject.resourceVersion", |event| object_field(event, &$names, "resourceVersion")),
                    ("involvedObject.fieldPath", |event| object_field(event, &$names, "fieldPath")),
                    ("reason", |event| text(event, "/reason").to_owned()),
                    ("reportingComponent", |event| text(event, $names.controller).to_owned()),
                    ("source", |event| {
                        let component = text(event, &format!("{}/component", $names.source));
                        if component.is_empty() { text(event, $names.controller) } else { component }.to_owned()
                    }),
                    ("type", |event| text(event, "/type").to_owned()),
                ]
            }
        }
    };
}

view!(CoreEvent, CORE);
view!(NewEvent, NEW);

fn object_field(event: &Value, names: &Names, field: &str) -> String {
    text(event, &format!("{}/{field}", names.object)).to_owned()
}

/// An event lies in the namespace of what it is about; those about cluster-scoped objects in `default`.
fn namespaces_agree(event: &Value, names: &Names, errors: &mut FieldErrors) {
    let namespace = meta::namespace(event);
    let object = text(event, &format!("{}/namespace", names.object));
    let agree = if object.is_empty() { matches!(namespace, "" | "default" | "kube-system") } else { object == namespace };
    if !agree {
        let path = Path::new(names.object.trim_start_matches('/')).child("namespace");
        errors.invalid(&path, object, "does not match event.namespace");
    }
}

fn first_seen(row: &Row<'_>, names: &Names) -> Value {
    if row.has(names.first) { row.since(names.first) } else { row.since("/eventTime") }
}

fn last_seen(row: &Row<'_>, names: &Names) -> Value {
    if row.has("/series") {
        row.since("/series/lastObservedTime")
    } else if row.has(names.last) {
        row.since(names.last)
    } else {
        first_seen(row, names)
    }
}

/// An event that happened once carries no count in the newer form.
fn count(row: &Row<'_>, names: &Names) -> i64 {
    if has(row.object, "/series") { int(row.object, "/series/count") } else { int(row.object, names.count).max(1) }
}

fn target(row: &Row<'_>, names: &Names) -> String {
    let kind = text(row.object, &format!("{}/kind", names.object)).to_lowercase();
    match text(row.object, &format!("{}/name", names.object)) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(row: &Row<'_>, names: &Names) -> String {
    let first = |a: &str, b: &str| {
        let a = text(row.object, a);
        if a.is_empty() { text(row.object, b).to_owned() } else { a.to_owned() }
    };
    let component = first(&format!("{}/component", names.source), names.controller);
    let instance = first(&format!("{}/host", names.source), "/reportingInstance");
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}
