//! Lines of a description, aligned when they are done.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value};

use crate::output::{format::plain, table, tabs};

/// Annotations that say nothing to people.
const SKIPPED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ANNOTATION_LENGTH_MAX: usize = 140;

#[derive(Debug, Default)]
pub struct Writer(String);

impl Writer {
    pub fn finish(self) -> String {
        tabs::align(&self.0, tabs::DESCRIBE)
    }

    pub fn unaligned(self) -> String {
        self.0
    }

    pub fn line(&mut self, level: usize, text: impl AsRef<str>) {
        self.raw(&format!("{}{}\n", "  ".repeat(level), escape(text.as_ref())));
    }

    pub fn field(&mut self, level: usize, name: &str, value: impl std::fmt::Display) {
        self.line(level, format!("{name}:\t{value}"));
    }

    /// Only when there is something to show.
    pub fn some(&mut self, level: usize, name: &str, value: &Value) {
        let text = show(value);
        if !text.is_empty() {
            self.field(level, name, text);
        }
    }

    pub fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    pub fn name_and_namespace(&mut self, object: &Value) {
        self.field(0, "Name", machinery::meta::name(object));
        self.field(0, "Namespace", machinery::meta::namespace(object));
    }

    pub fn labels_and_annotations(&mut self, object: &Value) {
        self.labels("Labels", &object["metadata"]["labels"]);
        self.annotations("Annotations", &object["metadata"]["annotations"]);
    }

    /// A map, one `key=value` a line.
    pub fn labels(&mut self, title: &str, map: &Value) {
        let lines = pairs(map).map(|(key, value)| format!("{key}={value}"));
        self.list(title, lines.collect());
    }

    /// One item a line, `<none>` when there are none.
    pub fn list(&mut self, title: &str, lines: Vec<String>) {
        if lines.is_empty() {
            self.raw(&format!("{title}:\t<none>\n"));
        }
        for (at, line) in lines.iter().enumerate() {
            let head = if at == 0 { format!("{title}:") } else { String::new() };
            self.raw(&format!("{head}\t{}\n", escape(line)));
        }
    }

    pub fn annotations(&mut self, title: &str, map: &Value) {
        let mut lines = Vec::new();
        for (key, value) in pairs(map).filter(|(key, _)| *key != SKIPPED) {
            let value = value.trim_end_matches('\n');
            if value.len() + key.len() + 2 <= ANNOTATION_LENGTH_MAX && !value.contains('\n') {
                lines.push(format!("{key}: {value}"));
                continue;
            }
            lines.push(format!("{key}:"));
            for line in value.split('\n') {
                let mut cut = line.len().min(ANNOTATION_LENGTH_MAX - 2);
                while !line.is_char_boundary(cut) {
                    cut -= 1;
                }
                lines.push(format!("  {}{}", &line[..cut], if cut < line.len() { "..." } else { "" }));
            }
        }
        self.list(title, lines);
    }

    /// Conditions in a table.
    pub fn conditions(&mut self, conditions: &Value, columns: &[(&str, &str)]) {
        if items(conditions).is_empty() {
            return;
        }
        self.line(0, "Conditions:");
        let row = |cells: Vec<String>| cells.join("\t");
        self.line(1, row(columns.iter().map(|(title, _)| (*title).to_owned()).collect()));
        self.line(1, row(columns.iter().map(|(title, _)| "-".repeat(title.len())).collect()));
        for condition in items(conditions) {
            let cell = |field: &str| if field.ends_with("Time") { time(&condition[field]) } else { show(&condition[field]) };
            // A space ends the first cell, as kubectl has it.
            let cells = columns.iter().enumerate().map(|(at, (_, field))| cell(field) + if at == 0 { " " } else { "" });
            self.line(1, row(cells.collect()));
        }
    }

    pub fn events(&mut self, events: Option<&[Value]>, now: Timestamp) {
        let Some(events) = events else { return };
        if events.is_empty() {
            self.raw("Events:\t<none>\n");
            return;
        }
        self.raw("Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------\n");
        for event in events {
            let since = |value: &Value| {
                value.as_str().and_then(|text| machinery::time::parse(text).ok()).map(|then| machinery::time::age(then, now))
            };
            let first =
                since(&event["eventTime"]).or_else(|| since(&event["firstTimestamp"])).unwrap_or_else(|| "<unknown>".into());
            let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(0);
            let last = since(&event["series"]["lastObservedTime"])
                .or_else(|| since(&event["lastTimestamp"]))
                .unwrap_or_else(|| "<unknown>".into());
            let age = if event["series"].is_object() || count > 1 { format!("{last} (x{count} over {first})") } else { first };
            let from = [&event["source"]["component"], &event["reportingComponent"]]
                .into_iter()
                .map(show)
                .find(|text| !text.is_empty())
                .unwrap_or_default();
            let message = show(&event["message"]);
            let path = show(&event["involvedObject"]["fieldPath"]);
            let message = if path.is_empty() { message.trim().to_owned() } else { format!("{path}: {}", message.trim()) };
            let [kind, reason] = [&event["type"], &event["reason"]].map(show);
            self.line(1, format!("{kind}\t{reason}\t{age}\t{from}\t{message}"));
        }
    }
}

/// Nothing that a cluster's text could do to a terminal; its tabs stay tabs of the table.
fn escape(text: &str) -> String {
    if text.contains(['\x1b', '\r']) {
        text.split('\t').map(table::escape).collect::<Vec<_>>().join("\t")
    } else {
        text.to_owned()
    }
}

pub fn pairs(map: &Value) -> impl Iterator<Item = (&str, &str)> {
    map.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

pub fn labels_text(map: &Value) -> String {
    table::labels_text(map.as_object())
}

pub fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A scalar as people write it; nothing for null.
pub fn show(value: &Value) -> String {
    if value.is_null() { String::new() } else { plain(value) }
}

/// `True`, `False`.
pub fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

pub fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".into() } else { text }
}

/// A time in RFC 1123 with the zone in numbers.
pub fn time(value: &Value) -> String {
    let parsed = value.as_str().and_then(|text| machinery::time::parse(text).ok());
    match parsed {
        Some(time) => machinery::time::format_rfc1123z(time, TimeZone::system()),
        None => "Mon, 01 Jan 0001 00:00:00 +0000".into(),
    }
}

pub fn age(value: &Value, now: Timestamp) -> String {
    let parsed = value.as_str().and_then(|text| machinery::time::parse(text).ok());
    parsed.map_or_else(|| "<unknown>".into(), |then| machinery::time::age(then, now))
}

/// `Kind/name` of the controller.
pub fn controller(object: &Value) -> String {
    machinery::meta::controller_of(object)
        .map(|owner| format!("{}/{}", show(&owner["kind"]), show(&owner["name"])))
        .unwrap_or_default()
}

/// A whole object, field by field, for kinds without a description of their own.
pub fn everything(out: &mut Writer, level: usize, map: &Map<String, Value>, path: &str, skip: &[&str]) {
    for (name, value) in map {
        let path = format!("{path}.{name}");
        if skip.contains(&path.as_str()) {
            continue;
        }
        match value {
            Value::Object(inner) => {
                out.line(level, format!("{}:", title(name)));
                everything(out, level + 1, inner, &path, skip);
            }
            Value::Array(list) => {
                out.line(level, format!("{}:", title(name)));
                for item in list {
                    match item {
                        Value::Object(inner) => everything(out, level + 1, inner, &path, skip),
                        other => out.line(level + 1, plain(other)),
                    }
                }
            }
            other => out.field(level, &title(name), plain(other)),
        }
    }
}

/// `creationTimestamp` as `Creation Timestamp`, `clusterIPs` as `Cluster I Ps`, for which nobody is to blame.
fn title(name: &str) -> String {
    if name.contains(|c: char| !c.is_alphabetic() && c != '-') {
        return name.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = name.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let starts = at == 0
            || c.is_uppercase() && (!chars[at - 1].is_uppercase() || chars.get(at + 1).is_some_and(|next| next.is_lowercase()))
            || (*c == '-') != (chars[at - 1] == '-');
        match words.last_mut() {
            Some(word) if !starts => word.push(*c),
            _ => words.push(c.to_string()),
        }
    }
    let mut merged: Vec<String> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(mut word) = words.next() {
        let upper = word.len() >= 2 && word.chars().all(|c| !c.is_lowercase());
        if upper && words.peek().is_some_and(|next| next.starts_with(char::is_uppercase)) {
            word += &words.next().unwrap_or_default();
        }
        if ["API", "URL", "UID", "GUID"].contains(&word.to_uppercase().as_str()) {
            word = word.to_uppercase();
        } else if word == word.to_lowercase() {
            word = word[..1].to_uppercase() + &word[1..];
        }
        merged.push(word);
    }
    merged.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn titles() {
        for (name, want) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("uid", "UID"),
            ("apiVersion", "API Version"),
            ("a.b/c", "a.b/c"),
            ("podIP", "Pod IP"),
        ] {
            assert_eq!(title(name), want);
        }
    }

    #[test]
    fn annotations_are_shortened() {
        let mut out = Writer::default();
        out.annotations("Annotations", &json!({"a": "b", "long": "x".repeat(200), SKIPPED: "{}"}));
        assert_eq!(out.finish(), format!("Annotations:  a: b\n              long:\n                {}...\n", "x".repeat(138)));
    }
}
