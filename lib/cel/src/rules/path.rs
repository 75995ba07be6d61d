//! `fieldPath`: from the place of a rule to the field that its error names.

use machinery::field::Path;
use serde_json::Value as Json;

/// The path as errors spell it; nothing when it names no field of the schema.
pub(super) fn parse(text: &str, schema: &Json) -> Option<String> {
    let (mut rest, mut schema, mut path) = (text, schema, Path::root());
    while !rest.is_empty() {
        let (name, after) = match rest.strip_prefix('.') {
            Some(rest) => {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
            None => quoted(rest.strip_prefix("['")?)?,
        };
        if name.is_empty() {
            return None;
        }
        if schema["properties"].is_object() {
            path = path.child(&name);
            schema = schema["properties"].get(&name)?;
        } else if schema["additionalProperties"].is_object() {
            path = path.key(&name);
            schema = &schema["additionalProperties"];
        } else {
            return None;
        }
        rest = after;
    }
    Some(path.as_str().to_owned())
}

/// The text up to the closing quote, and what follows the bracket.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Some((name, text[at + 1..].strip_prefix(']')?)),
            '\\' => name.push(match chars.next()?.1 {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                other @ ('\'' | '\\') => other,
                _ => return None,
            }),
            c => name.push(c),
        }
    }
    None
}
