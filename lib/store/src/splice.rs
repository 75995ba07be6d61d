//! Puts `metadata.resourceVersion` into an encoded object without parsing it.
//!
//! Objects are stored without their resourceVersion (the store knows it only after the write). A cache adds it once, when
//! the object arrives, by copying the bytes round it.

use std::ops::Range;

use bytes::Bytes;

/// An encoded object with its resourceVersion, and where its digits are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    pub bytes: Bytes,
    pub digits: Range<usize>,
}

const FIELD: &[u8] = br#""resourceVersion":""#;

/// Inserts the resourceVersion as the first field of `metadata`.
///
/// `None` when `json` is no object with an object `metadata`. The caller must not have one in it already.
pub fn insert(json: &[u8], revision: u64) -> Option<Spliced> {
    let at = metadata_start(json)?;
    let number = revision.to_string();
    let empty = json[at..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'}');
    let mut bytes = Vec::with_capacity(json.len() + FIELD.len() + number.len() + 2);
    bytes.extend_from_slice(&json[..at]);
    bytes.extend_from_slice(FIELD);
    let start = bytes.len();
    bytes.extend_from_slice(number.as_bytes());
    let digits = start..bytes.len();
    bytes.extend_from_slice(if empty { b"\"" } else { b"\"," });
    bytes.extend_from_slice(&json[at..]);
    Some(Spliced { bytes: bytes.into(), digits })
}

/// The same object with another resourceVersion.
pub fn replace(spliced: &[u8], digits: Range<usize>, revision: u64) -> Bytes {
    let number = revision.to_string();
    let mut bytes = Vec::with_capacity(spliced.len() + number.len());
    bytes.extend_from_slice(&spliced[..digits.start]);
    bytes.extend_from_slice(number.as_bytes());
    bytes.extend_from_slice(&spliced[digits.end..]);
    bytes.into()
}

/// The position after the `{` of the top-level field `metadata`.
fn metadata_start(json: &[u8]) -> Option<usize> {
    let mut at = skip_space(json, 0);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(json, at + 1);
    while json.get(at) == Some(&b'"') {
        let key_end = string_end(json, at)?;
        let key = &json[at + 1..key_end - 1];
        at = skip_space(json, key_end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(json, at + 1);
        if key == b"metadata" {
            return (json.get(at) == Some(&b'{')).then_some(at + 1);
        }
        at = skip_space(json, value_end(json, at)?);
        if json.get(at) != Some(&b',') {
            return None;
        }
        at = skip_space(json, at + 1);
    }
    None
}

fn skip_space(json: &[u8], at: usize) -> usize {
    at + json[at.min(json.len())..].iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// The position after the string that starts at `at`.
fn string_end(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += json.get(at..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The position after the value that starts at `at`.
fn value_end(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let mut depth = 0usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at = string_end(json, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                let Some(outer) = depth.checked_sub(1) else { return Some(at) }; // the end of a bare number or word
                depth = outer;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: Option<&str>) {
        let spliced = insert(input.as_bytes(), 42);
        assert_eq!(spliced.as_ref().map(|s| std::str::from_utf8(&s.bytes).unwrap()), expected, "{input}");
        if let Some(Spliced { bytes, digits }) = spliced {
            assert_eq!(&bytes[digits.clone()], b"42");
            let newer = replace(&bytes, digits, 1000);
            assert_eq!(std::str::from_utf8(&newer).unwrap(), expected.unwrap().replace("\"42\"", "\"1000\""));
            serde_json::from_slice::<serde_json::Value>(&newer).unwrap();
        }
    }

    #[test]
    fn finds_the_top_level_metadata() {
        check(
            r#"{"kind":"Pod","metadata":{"name":"a"}}"#,
            Some(r#"{"kind":"Pod","metadata":{"resourceVersion":"42","name":"a"}}"#),
        );
        check(r#"{"metadata":{}}"#, Some(r#"{"metadata":{"resourceVersion":"42"}}"#));
        check(r#"{"metadata":{ }}"#, Some(r#"{"metadata":{"resourceVersion":"42" }}"#));
        check(
            r#"{"a":{"metadata":{"x":[1,"]}"]}},"b":"metadata\":{","n":-1.5e3,"t":true,"metadata":{"name":"a"}}"#,
            Some(
                r#"{"a":{"metadata":{"x":[1,"]}"]}},"b":"metadata\":{","n":-1.5e3,"t":true,"metadata":{"resourceVersion":"42","name":"a"}}"#,
            ),
        );
        check(
            "{ \"data\" : [ ] ,\n \"metadata\" : {\"name\":\"a\"} }",
            Some("{ \"data\" : [ ] ,\n \"metadata\" : {\"resourceVersion\":\"42\",\"name\":\"a\"} }"),
        );
    }

    #[test]
    fn refuses_what_is_no_object_with_metadata() {
        for input in
            ["", "[]", "{}", "{", r#"{"a"#, r#"{"a":1}"#, r#"{"metadata":null}"#, r#"{"metadata""#, "k8s\0x", r#"{"a":"\"#]
        {
            check(input, None);
        }
    }
}
