//! Descriptions of types and fields.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Generated: `T TYPE text` begins a type, `FIELD text` follows for its fields; line breaks and backslashes are escaped.
pub(crate) const TEXT: &str = include_str!("../data/docs.txt");

/// An index into the text: the text of each type and the lines of its fields.
static TYPES: LazyLock<HashMap<&str, (&str, &str)>> = LazyLock::new(|| {
    let block = |block: &'static str| {
        let (head, fields) = block.split_once('\n').unwrap_or((block, ""));
        let (name, text) = head.split_once(' ').unwrap_or((head, ""));
        (name, (text, fields))
    };
    TEXT.split("\nT ").skip(1).map(block).collect()
});

/// What a type is, by its name in the table (`api.core.v1.Pod`).
pub(crate) fn of_type(name: &str) -> Option<Cow<'static, str>> {
    TYPES.get(name).map(|(text, _)| unescape(text)).filter(|text| !text.is_empty())
}

/// What a field of a type is, in the words of upstream's API documentation.
pub fn of_field(ty: &str, field: &str) -> Option<Cow<'static, str>> {
    let (_, fields) = TYPES.get(ty)?;
    let line = fields.lines().find(|line| line.split(' ').next() == Some(field))?;
    line.split_once(' ').map(|(_, text)| unescape(text))
}

/// What a field is that means the same in every type that has it; empty when none has it.
pub(crate) fn of_any(field: &str) -> Cow<'static, str> {
    let mut lines = TEXT.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == field).map(|(_, text)| unescape(text)).unwrap_or_default()
}

fn unescape(text: &'static str) -> Cow<'static, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some(other)) => out.push(other),
            (c, _) => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
    Cow::Owned(out)
}
