//! Descriptions of types and fields.

use std::borrow::Cow;
use std::collections::HashMap;

/// Generated: `T TYPE text` begins a type, `FIELD text` follows for its fields; line breaks and backslashes are escaped.
pub(super) const TEXT: &str = include_str!("../../data/docs.txt");

/// An index into the text: line numbers would not be smaller than the slices.
pub(super) struct Docs {
    /// The text of a type and the lines of its fields.
    types: HashMap<&'static str, (&'static str, &'static str)>,
}

impl Docs {
    pub(super) fn read() -> Self {
        let mut types = HashMap::new();
        for block in TEXT.split("\nT ").skip(1) {
            let (head, fields) = block.split_once('\n').unwrap_or((block, ""));
            let (name, text) = head.split_once(' ').unwrap_or((head, ""));
            types.insert(name, (text, fields));
        }
        Self { types }
    }

    pub(super) fn of_type(&self, name: &str) -> Option<Cow<'static, str>> {
        self.types.get(name).map(|(text, _)| unescape(text)).filter(|text| !text.is_empty())
    }

    pub(super) fn of_field(&self, name: &str, field: &str) -> Option<Cow<'static, str>> {
        let (_, fields) = self.types.get(name)?;
        let line = fields.lines().find(|line| line.split(' ').next() == Some(field))?;
        line.split_once(' ').map(|(_, text)| unescape(text))
    }
}

/// What a field is that means the same in every type that has it; empty when none has it.
pub(super) fn of_any(field: &str) -> Cow<'static, str> {
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
