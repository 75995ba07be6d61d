//! The server's tables (`meta.k8s.io/v1 Table`) as rows of text.

use serde_json::Value;

pub const ACCEPT: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// A table of the server: columns, and a row for each object.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    /// Shown always, else in the wide form only.
    pub narrow: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Row {
    pub cells: Vec<Value>,
    pub object: Value,
}

#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    pub wide: bool,
    pub no_headers: bool,
    pub show_labels: bool,
    /// Labels shown as columns.
    pub label_columns: Vec<String>,
    pub namespace: bool,
    /// Put before names: `deployment.apps`.
    pub kind: Option<String>,
}

impl Table {
    /// `None` when the server sent something else (it does not know tables, or an event of a watch was no row).
    pub fn parse(mut value: Value) -> Option<Self> {
        if value["kind"] != "Table" {
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let columns = value["columnDefinitions"].as_array().into_iter().flatten().map(|column| Column {
            name: text(&column["name"]),
            kind: text(&column["type"]),
            format: text(&column["format"]),
            narrow: column["priority"].as_i64().unwrap_or(0) == 0,
        });
        let columns = columns.collect();
        let rows = match value["rows"].take() {
            Value::Array(rows) => rows,
            _ => Vec::new(),
        };
        let rows = rows.into_iter().map(|mut row| Row {
            cells: row["cells"].as_array_mut().map(std::mem::take).unwrap_or_default(),
            object: row["object"].take(),
        });
        Some(Self { columns, rows: rows.collect() })
    }

    /// A table of what every object has, for servers that make none.
    pub fn of_objects(objects: Vec<Value>, now: jiff::Timestamp) -> Self {
        let column =
            |name: &str, format: &str| Column { name: name.into(), kind: "string".into(), format: format.into(), narrow: true };
        let rows = objects.into_iter().map(|object| {
            let created = object["metadata"]["creationTimestamp"].as_str().and_then(|text| machinery::time::parse(text).ok());
            let age = created.map_or_else(|| "<unknown>".into(), |created| machinery::time::age(created, now));
            Row { cells: vec![machinery::meta::name(&object).into(), age.into()], object }
        });
        Self { columns: vec![column("Name", "name"), column("Age", "")], rows: rows.collect() }
    }

    /// Tab-separated lines, with a header unless there are no rows.
    pub fn render(&self, options: &TableOptions) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let shown: Vec<usize> = (0..self.columns.len()).filter(|at| options.wide || self.columns[*at].narrow).collect();
        let mut out = String::new();
        if !options.no_headers {
            let mut header: Vec<String> = Vec::new();
            header.extend(options.namespace.then(|| "NAMESPACE".into()));
            header.extend(shown.iter().map(|at| self.columns[*at].name.to_uppercase()));
            header.extend(options.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or(label).to_uppercase()));
            header.extend(options.show_labels.then(|| "LABELS".into()));
            line(&mut out, &header);
        }
        let name = self.columns.iter().position(|column| column.format == "name" && column.kind == "string");
        for row in &self.rows {
            let mut cells: Vec<String> = Vec::new();
            cells.extend(options.namespace.then(|| machinery::meta::namespace(&row.object).to_owned()));
            for at in &shown {
                let text = cell(row.cells.get(*at).unwrap_or(&Value::Null));
                match &options.kind {
                    Some(kind) if Some(*at) == name => cells.push(format!("{kind}/{text}")),
                    _ => cells.push(text),
                }
            }
            let labels = machinery::meta::labels(&row.object);
            let label = |key: &String| labels.and_then(|labels| labels.get(key)?.as_str()).unwrap_or_default().to_owned();
            cells.extend(options.label_columns.iter().map(label));
            cells.extend(options.show_labels.then(|| labels_text(labels)));
            line(&mut out, &cells);
        }
        out
    }
}

/// `a=b,c=d`, or `<none>`.
pub fn labels_text(labels: Option<&serde_json::Map<String, Value>>) -> String {
    let pairs: Vec<String> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

fn line(out: &mut String, cells: &[String]) {
    out.push_str(&cells.join("\t"));
    out.push('\n');
}

/// One line of a cell, harmless to a terminal.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let first = text.split(['\n', '\r', '\x0c']).next().unwrap_or_default();
    let mut shown = escape(first);
    if first.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

/// Text of the cluster must not command the terminal.
pub fn escape(text: &str) -> String {
    text.replace('\x1b', "^[").replace('\r', "\\r").replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::tabs;

    fn table() -> Table {
        Table::parse(json!({
            "kind": "Table",
            "columnDefinitions": [
                {"name": "Name", "type": "string", "format": "name", "priority": 0},
                {"name": "Ready", "type": "string", "priority": 0},
                {"name": "Node", "type": "string", "priority": 1},
                {"name": "Restarts", "type": "integer", "priority": 0},
            ],
            "rows": [
                {"cells": ["a", "1/1", "n1", 3], "object": {"metadata": {"name": "a", "namespace": "x", "labels": {"app": "web", "t/ier": "f"}}}},
                {"cells": ["a-longer-name", "two\nlines", "n2", null], "object": {"metadata": {"name": "b", "namespace": "y"}}},
            ],
        }))
        .unwrap()
    }

    fn check(options: TableOptions, want: &str) {
        let got = tabs::align(&table().render(&options), tabs::TABLE);
        assert_eq!(got.lines().collect::<Vec<_>>(), want.trim_matches('\n').lines().collect::<Vec<_>>());
    }

    #[test]
    fn narrow_and_wide() {
        check(
            TableOptions::default(),
            "
NAME            READY    RESTARTS
a               1/1      3
a-longer-name   two...   ",
        );
        check(
            TableOptions { wide: true, no_headers: true, ..Default::default() },
            "
a               1/1      n1    3
a-longer-name   two...   n2    ",
        );
    }

    #[test]
    fn namespaces_labels_and_kinds() {
        check(
            TableOptions {
                namespace: true,
                kind: Some("pod".into()),
                show_labels: true,
                label_columns: vec!["t/ier".into()],
                ..Default::default()
            },
            "
NAMESPACE   NAME                READY    RESTARTS   IER   LABELS
x           pod/a               1/1      3          f     app=web,t/ier=f
y           pod/a-longer-name   two...                    <none>",
        );
    }

    #[test]
    fn cells_do_not_command_the_terminal() {
        assert_eq!(cell(&json!("a\x1b[31mb")), "a^[[31mb");
    }
}
