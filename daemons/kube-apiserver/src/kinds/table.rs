//! Columns of the tables that `kubectl get` prints, and how their cells are made.

use jiff::Timestamp;
use machinery::selector::LabelSelector;
use machinery::{meta, time};
use serde_json::{Value, json};

use super::value::{count, entries, has, int, items, text};

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`…
    pub kind: &'static str,
    /// `name` for the column that identifies the object, else empty.
    pub format: &'static str,
    pub(super) description: Description,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
    pub(super) cell: Cell,
}

/// What a column says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Description {
    Text(&'static str),
    /// What the schema says of this field of this type.
    Field(&'static str, &'static str),
}

type Cell = fn(&Row<'_>) -> Value;

const OBJECT_META: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta";

pub(super) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: Description::Field(OBJECT_META, "name"),
    priority: 0,
    cell: |row| row.text("/metadata/name"),
};

pub(super) const AGE: Column = column("Age", |row| row.age()).of(OBJECT_META, "creationTimestamp");

/// What a kind without columns of its own shows.
pub(super) const GENERIC: &[Column] = &[
    NAME,
    Column { kind: "date", ..column("Created At", |row| row.text("/metadata/creationTimestamp")) }
        .of(OBJECT_META, "creationTimestamp"),
];

/// What a kind shows whose objects differ in nothing that fits a column.
pub(super) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) const fn column(name: &'static str, cell: Cell) -> Column {
    Column { name, kind: "string", format: "", description: Description::Text(""), priority: 0, cell }
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

/// The names of a template's containers.
pub(super) const fn containers(cell: Cell) -> Column {
    wide("Containers", cell).says("Names of each container in the template.")
}

/// Their images.
pub(super) const fn images(cell: Cell) -> Column {
    wide("Images", cell).says("Images referenced by each container in the template.")
}

impl Column {
    /// The column, described so.
    pub(super) const fn says(self, text: &'static str) -> Self {
        Self { description: Description::Text(text), ..self }
    }

    /// The column, described as this field of this type of the schema.
    pub(super) const fn of(self, ty: &'static str, field: &'static str) -> Self {
        Self { description: Description::Field(ty, field), ..self }
    }

    /// The column as the head of a table has it.
    pub fn definition(&self) -> Value {
        let description = match self.description {
            Description::Text(text) => text.into(),
            Description::Field(ty, field) => schema::docs::of_field(ty, field).unwrap_or_default(),
        };
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": description,
            "priority": self.priority,
        })
    }
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
