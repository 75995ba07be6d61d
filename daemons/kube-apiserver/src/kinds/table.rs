//! Columns of the tables that `kubectl get` prints, and how their cells are made.

use jiff::Timestamp;
use machinery::selector::LabelSelector;
use machinery::{meta, time};
use serde_json::Value;

use super::value::{count, entries, has, int, items, text};

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`…
    pub kind: &'static str,
    /// `name` for the column that identifies the object, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
    pub(super) cell: Cell,
}

type Cell = fn(&Row<'_>) -> Value;

pub(super) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name must be unique within a namespace.",
    priority: 0,
    cell: |row| row.text("/metadata/name"),
};

pub(super) const AGE: Column =
    Column { description: "CreationTimestamp is the time at which the object was created.", ..column("Age", |row| row.age()) };

/// What a kind without columns of its own shows.
pub(super) const GENERIC: &[Column] =
    &[NAME, Column { kind: "date", ..column("Created At", |row| row.text("/metadata/creationTimestamp")) }];

/// What a kind shows whose objects differ in nothing that fits a column.
pub(super) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) const fn column(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", description: "", priority: 0, cell }
}

pub(super) const fn integer(name: &'static str, cell: Cell) -> Column {
    Column { kind: "integer", ..column(name, cell) }
}

pub(super) const fn boolean(name: &'static str, cell: Cell) -> Column {
    Column { kind: "boolean", ..column(name, cell) }
}

/// A column that is shown with `-o wide` only.
pub(super) const fn wide(name: &'static str, cell: Cell) -> Column {
    Column { priority: 1, ..column(name, cell) }
}

/// The object of one row, and the time that ages are counted from.
pub(super) struct Row<'a> {
    pub(super) object: &'a Value,
    pub(super) now: Timestamp,
}

impl Row<'_> {
    pub(super) fn text(&self, pointer: &str) -> Value {
        Value::from(text(self.object, pointer))
    }

    /// The text there, or that other one.
    pub(super) fn text_or(&self, pointer: &str, other: &str) -> Value {
        match text(self.object, pointer) {
            "" => Value::from(other),
            text => Value::from(text),
        }
    }

    pub(super) fn int(&self, pointer: &str) -> Value {
        Value::from(int(self.object, pointer))
    }

    pub(super) fn truth(&self, pointer: &str) -> Value {
        Value::from(super::value::truth(self.object, pointer))
    }

    pub(super) fn count(&self, pointer: &str) -> Value {
        Value::from(count(self.object, pointer))
    }

    pub(super) fn age(&self) -> Value {
        self.since("/metadata/creationTimestamp")
    }

    /// How long ago the time there is.
    pub(super) fn since(&self, pointer: &str) -> Value {
        Value::from(since(text(self.object, pointer), self.now))
    }

    /// Whether there is anything.
    pub(super) fn has(&self, pointer: &str) -> bool {
        has(self.object, pointer)
    }

    /// The names of containers.
    pub(super) fn containers(&self, pointer: &str) -> Value {
        let names: Vec<&str> = items(self.object, pointer).iter().map(|c| text(c, "/name")).collect();
        Value::from(names.join(","))
    }

    pub(super) fn images(&self, pointer: &str) -> Value {
        let images: Vec<&str> = items(self.object, pointer).iter().map(|c| text(c, "/image")).collect();
        Value::from(images.join(","))
    }

    /// A label selector as its text form.
    pub(super) fn selector(&self, pointer: &str) -> Value {
        let Some(selector) = self.object.pointer(pointer) else { return Value::from("<none>") };
        Value::from(match LabelSelector::from_label_selector(selector) {
            Ok(selector) if selector.is_empty() => "<none>".to_owned(),
            Ok(selector) => selector.to_string(),
            Err(_) => "<error>".to_owned(),
        })
    }

    /// A plain map as `a=b,c=d`.
    pub(super) fn labels(&self, pointer: &str) -> Value {
        let pairs: Vec<String> =
            entries(self.object, pointer).map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        Value::from(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") })
    }

    pub(super) fn is_deleted(&self) -> bool {
        meta::deletion_timestamp(self.object).is_some()
    }
}

/// How long ago, as tables show it.
pub(super) fn since(timestamp: &str, now: Timestamp) -> String {
    match time::parse(timestamp) {
        Ok(then) => time::age(then, now),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Up to `max` items, and how many more there are.
pub(super) fn list_with_more(all: &[String], max: usize) -> String {
    if all.len() > max {
        return format!("{} + {} more...", all[..max].join(","), all.len() - max);
    }
    if all.is_empty() { "<unset>".to_owned() } else { all.join(",") }
}
