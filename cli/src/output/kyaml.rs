//! KYAML (KEP-5295): YAML in which nothing depends on indentation and every text is quoted, and which every YAML parser reads.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

const INDENT: &str = "  ";

/// One document with `---` before it and a newline at its end.
pub fn to_string(value: &Value) -> String {
    let mut out = String::from("---\n");
    node(value, 0, &mut out);
    out.push('\n');
    out
}

fn node(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => quoted(text, depth + 1, out),
        Value::Array(items) => list(items, depth, out),
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push_str("{\n");
            for (name, value) in map {
                indent(depth + 1, out);
                key(name, out);
                out.push_str(": ");
                node(value, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push('}');
        }
    }
}

/// Lists of objects or lists begin and end on the lines of what is in them.
fn list(items: &[Value], depth: usize, out: &mut String) {
    if items.iter().all(|item| item.is_array() || item.is_object()) {
        out.push('[');
        for (at, item) in items.iter().enumerate() {
            out.push_str(if at > 0 { ", " } else { "" });
            node(item, depth, out);
        }
        out.push(']');
        return;
    }
    out.push_str("[\n");
    for item in items {
        indent(depth + 1, out);
        node(item, depth + 1, out);
        out.push_str(",\n");
    }
    indent(depth, out);
    out.push(']');
}

fn indent(depth: usize, out: &mut String) {
    (0..depth).for_each(|_| out.push_str(INDENT));
}

/// A key is quoted only when it could be read as something else.
fn key(name: &str, out: &mut String) {
    if needs_no_quotes(name) {
        return out.push_str(name);
    }
    out.push('"');
    for c in name.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => escaped(c, out),
        }
    }
    out.push('"');
}

/// Text of several lines is folded after each, and indented by what a reader drops.
fn quoted(text: &str, depth: usize, out: &mut String) {
    let lines = text.contains('\n');
    out.push_str(if lines { "\"\\\n" } else { "\"" });
    for c in text.chars() {
        if out.ends_with('\n') {
            indent(depth, out);
            // A reader drops the space before a line, unless it is escaped.
            out.push(if c.is_whitespace() && c != '\n' { '\\' } else { ' ' });
        }
        match c {
            '\n' => out.push_str("\\n\\\n"),
            '\t' => out.push('\t'),
            c => escaped(c, out),
        }
    }
    if lines {
        if !out.ends_with('\n') {
            out.push_str("\\\n");
        }
        indent(depth, out);
    }
    out.push('"');
}

fn escaped(c: char, out: &mut String) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0b' => "\\v",
        '\x0c' => "\\f",
        '\r' => "\\r",
        '\0' => "\\0",
        '\x1b' => "\\e",
        '\u{85}' => "\\N",
        '\u{a0}' => "\\_",
        '\u{2028}' => "\\L",
        '\u{2029}' => "\\P",
        _ => "",
    };
    match (short, u32::from(c)) {
        ("", code @ (0..0x20 | 0x7f)) => *out += &format!("\\x{code:02x}"),
        ("", code @ (0x80..0xa0 | 0xfeff)) => *out += &format!("\\u{code:04x}"),
        ("", _) => out.push(c),
        (short, _) => out.push_str(short),
    }
}

fn needs_no_quotes(text: &str) -> bool {
    let last = text.chars().count().saturating_sub(1);
    let plain = |(at, c): (usize, char)| c.is_alphanumeric() || c == '_' || (at > 0 && at < last && "-./".contains(c));
    !text.is_empty() && !is_ambiguous(text) && text.chars().enumerate().all(plain)
}

/// Whether some YAML parser reads the text as something else than text.
fn is_ambiguous(text: &str) -> bool {
    static NUMBER_OR_TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let integer = r"[+-]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)";
        let float = r"[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|0[xX][0-9a-fA-F]*\.?[0-9a-fA-F]*[pP][+-]?[0-9]+|inf|infinity|nan)";
        let sexagesimal = r"[+-]?[1-9][0-9]*(:[0-5]?[0-9])+(\.[0-9]*)?";
        let date = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}";
        let time = r"[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?";
        let zone = r"(Z|[+-][0-9]{2}:[0-9]{2})";
        Regex::new(&format!("^(?i:{integer}|{float}|{sexagesimal}|{date}([t]{time}{zone}| {time})?)$")).ok()
    });
    let lower = text.to_lowercase();
    let words =
        ["", "~", "null", "true", "false", "t", "f", "y", "n", "yes", "no", "on", "off", ".inf", "-.inf", "+.inf", ".nan"];
    words.contains(&lower.as_str()) || NUMBER_OR_TIME.as_ref().is_none_or(|regex| regex.is_match(&text.replace('_', "")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents() {
        let check = |value: Value, want: &str| assert_eq!(to_string(&value), format!("---\n{want}\n"));
        check(json!({}), "{}");
        check(json!({"a": [], "b": {}, "c": null}), "{\n  a: [],\n  b: {},\n  c: null,\n}");
        check(json!({"a": [1, "x"]}), "{\n  a: [\n    1,\n    \"x\",\n  ],\n}");
        check(json!({"a": [{"b": "c"}, {"d": true}]}), "{\n  a: [{\n    b: \"c\",\n  }, {\n    d: true,\n  }],\n}");
        check(json!({"no": "a\n b\nc"}), "{\n  \"no\": \"\\\n     a\\n\\\n    \\ b\\n\\\n     c\\\n    \",\n}");
        check(json!("a\tb\"\u{1}"), "\"a\tb\\\"\\x01\"");
    }

    #[test]
    fn keys_that_are_read_as_text() {
        for key in ["app", "app.kubernetes.io/name", "x_1", "a-b", "2006-1-2-3"] {
            assert!(needs_no_quotes(key), "{key}");
        }
        for key in ["", "y", "No", "1", "0x1f", "1_000", "1.5e3", "-a", "a.", "11:00", "2026-01-02", "nan", "a b", "t"] {
            assert!(!needs_no_quotes(key), "{key}");
        }
    }
}
