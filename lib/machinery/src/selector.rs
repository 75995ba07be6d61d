//! Label and field selectors: what `-l` and `--field-selector` mean, and `metav1.LabelSelector`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::field::{FieldError, Path, aggregate};
use crate::names;

/// Why a selector is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// Anything that labels can be looked up in, so that matching never needs a map built for it.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// `metadata.labels` of an untyped object.
impl Labels for serde_json::Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// Pairs sorted by key, as index records keep them.
impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok().map(|i| self[i].1.as_ref())
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One term of a label selector. Values are sorted and distinct.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
    /// The number compared with, for `>` and `<`.
    number: i64,
}

impl Requirement {
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errors: Vec<FieldError> = Vec::new();
        if let Some(e) = check_key(key, &Path::new("key")) {
            errors.push(e);
        }
        let path = Path::new("values");
        let wrong = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => Some("for 'in', 'notin' operators, values set can't be empty"),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(message) = wrong {
            errors.push(FieldError::invalid(&path, values.clone(), message));
        }
        let mut number = 0;
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (i, v) in values.iter().enumerate() {
                match v.parse() {
                    Ok(n) => number = n,
                    Err(_) => errors.push(FieldError::invalid(
                        &path.index(i),
                        v.as_str(),
                        "for 'Gt', 'Lt' operators, the value must be an integer",
                    )),
                }
            }
        }
        for (i, v) in values.iter().enumerate() {
            let messages = names::label_value(v);
            if !messages.is_empty() {
                errors.push(FieldError::invalid(&path.index(i).key(key), v.as_str(), messages.join("; ")));
            }
        }
        if !errors.is_empty() {
            return Err(SelectorError(aggregate(errors)));
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values, number })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    fn has(&self, value: &str) -> bool {
        self.values.iter().any(|v| v == value)
    }

    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(|v| self.has(v)),
            Operator::NotEquals | Operator::NotIn => value.is_none_or(|v| !self.has(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number(value).is_some_and(|n| n > self.number),
            Operator::LessThan => number(value).is_some_and(|n| n < self.number),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

fn check_key(key: &str, path: &Path) -> Option<FieldError> {
    let messages = names::qualified_name(key);
    (!messages.is_empty()).then(|| FieldError::invalid(path, key, messages.join("; ")))
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A label selector. The empty one matches everything; [`LabelSelector::nothing`] matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// Reads `a=b,c in (d,e),!f`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.is_empty() {
            return Ok(Self::everything());
        }
        Parser { tokens: lex(text), position: 0 }.parse().map(Self::new).map_err(SelectorError)
    }

    /// Labels that must all be there (a Service's or ReplicationController's selector). Keys and values are not checked.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::new(
            labels
                .into_iter()
                .map(|(k, v)| Requirement {
                    key: k.to_owned(),
                    operator: Operator::Equals,
                    values: vec![v.to_owned()],
                    number: 0,
                })
                .collect(),
        )
    }

    /// `metav1.LabelSelector`: null selects nothing, an empty one everything.
    pub fn from_label_selector(selector: &Value) -> Result<Self, SelectorError> {
        let Some(object) = selector.as_object() else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        if let Some(Value::Object(labels)) = object.get("matchLabels") {
            for (k, v) in labels {
                let v = v.as_str().unwrap_or_default().to_owned();
                requirements.push(Requirement::new(k, Operator::Equals, vec![v])?);
            }
        }
        if let Some(Value::Array(expressions)) = object.get("matchExpressions") {
            for e in expressions {
                let text = |name| e.get(name).and_then(Value::as_str).unwrap_or_default();
                let operator = match text("operator") {
                    "In" => Operator::In,
                    "NotIn" => Operator::NotIn,
                    "Exists" => Operator::Exists,
                    "DoesNotExist" => Operator::DoesNotExist,
                    other => {
                        return Err(SelectorError(format!(
                            "{} is not a valid label selector operator",
                            crate::gotext::quote(other)
                        )));
                    }
                };
                let values = match e.get("values") {
                    Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                    _ => Vec::new(),
                };
                requirements.push(Requirement::new(text("key"), operator, values)?);
            }
        }
        Ok(Self::new(requirements))
    }

    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Matches `metadata.labels` of an untyped object.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(&object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object))
    }

    /// The one value the label must have, for use with an index.
    pub fn requires_exact_match(&self, key: &str) -> Option<&str> {
        let r = self.requirements.iter().find(|r| r.key == key)?;
        match (r.operator, r.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            r.fmt(f)?;
        }
        Ok(())
    }
}

impl std::str::FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Error,
    End,
    ClosedPar,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    OpenPar,
}

fn symbol(s: &str) -> Option<Token> {
    Some(match s {
        ")" => Token::ClosedPar,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::DoubleEquals,
        "=" => Token::Equals,
        ">" => Token::GreaterThan,
        "<" => Token::LessThan,
        "!=" => Token::NotEquals,
        "(" => Token::OpenPar,
        _ => return None,
    })
}

fn is_special(b: u8) -> bool {
    b"=!(),><".contains(&b)
}

fn is_space(b: u8) -> bool {
    b" \t\r\n".contains(&b)
}

/// Cuts the text into tokens; the last one is always `End`.
fn lex(text: &str) -> Vec<(Token, Cow<'_, str>)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < bytes.len() && bytes[i] != 0 {
        if is_space(bytes[i]) {
            i += 1;
            continue;
        }
        let start = i;
        if is_special(bytes[i]) {
            // All symbols are of one byte, or of two with `=` last.
            let two = text.get(i..i + 2).and_then(symbol);
            let (token, len) = match (two, symbol(&text[i..=i])) {
                (Some(t), _) => (t, 2),
                (None, Some(t)) => (t, 1),
                (None, None) => (Token::Error, 1),
            };
            i += len;
            tokens.push((token, Cow::Borrowed(&text[start..i])));
        } else {
            while i < bytes.len() && bytes[i] != 0 && !is_special(bytes[i]) && !is_space(bytes[i]) {
                i += 1;
            }
            let word = &text[start..i];
            let token = match word {
                "in" => Token::In,
                "notin" => Token::NotIn,
                _ => Token::Identifier,
            };
            tokens.push((token, Cow::Borrowed(word)));
        }
    }
    tokens.push((Token::End, Cow::Borrowed("")));
    tokens
}

struct Parser<'a> {
    tokens: Vec<(Token, Cow<'a, str>)>,
    position: usize,
}

impl Parser<'_> {
    /// The token at hand; `in` and `notin` are plain words here.
    fn peek(&self) -> (Token, &str) {
        let (token, text) = self.peek_operator();
        let token = if matches!(token, Token::In | Token::NotIn) { Token::Identifier } else { token };
        (token, text)
    }

    fn peek_operator(&self) -> (Token, &str) {
        // `End` is last and never passed, so the position stays in range.
        let (token, text) = &self.tokens[self.position.min(self.tokens.len() - 1)];
        (*token, text)
    }

    fn next(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let out = (token, text.to_owned());
        self.position += 1;
        out
    }

    fn parse(mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Identifier | Token::Not, _) => {
                    let r = self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
                    requirements.push(r);
                    match self.next() {
                        (Token::End, _) => return Ok(requirements),
                        (Token::Comma, _) => {
                            let (token, text) = self.peek();
                            if !matches!(token, Token::Identifier | Token::Not) {
                                return Err(format!("found '{text}', expected: identifier after ','"));
                            }
                        }
                        (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
                    }
                }
                (Token::End, _) => return Ok(requirements),
                (_, text) => return Err(format!("found '{text}', expected: !, identifier, or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let messages = names::qualified_name(&key);
        if !messages.is_empty() {
            // Upstream has no path here and prints it as `<nil>`.
            return Err(FieldError::invalid(&Path::new("<nil>"), key.as_str(), messages.join("; ")).to_string());
        }
        let made = if negated {
            Requirement::new(&key, Operator::DoesNotExist, Vec::new())
        } else if matches!(self.peek().0, Token::End | Token::Comma) {
            Requirement::new(&key, Operator::Exists, Vec::new())
        } else {
            let operator = self.operator()?;
            let values = match operator {
                Operator::In | Operator::NotIn => self.values()?,
                _ => vec![self.exact_value()?],
            };
            Requirement::new(&key, operator, values)
        };
        made.map_err(|e| e.0)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let (token, text) = self.peek_operator();
        let operator = match token {
            Token::In => Operator::In,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::GreaterThan => Operator::GreaterThan,
            Token::LessThan => Operator::LessThan,
            Token::NotIn => Operator::NotIn,
            Token::NotEquals => Operator::NotEquals,
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        self.position += 1;
        Ok(operator)
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        let (token, text) = self.next();
        if token != Token::OpenPar {
            return Err(format!("found '{text}' expected: '('"));
        }
        let (token, text) = self.peek();
        match token {
            Token::Identifier | Token::Comma => {}
            Token::ClosedPar => {
                self.position += 1;
                return Ok(vec![String::new()]);
            }
            _ => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Identifier, text) => {
                    values.push(text);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::ClosedPar, _) => break,
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek().0 {
                        Token::ClosedPar => {
                            values.push(String::new());
                            break;
                        }
                        Token::Comma => values.push(String::new()),
                        _ => {}
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', or identifier")),
            }
        }
        self.position += 1;
        // An empty value given twice is still one value.
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    pub equal: bool,
}

/// `metadata.name=a,spec.nodeName!=b`: all terms must hold. A missing field compares as the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn new(terms: Vec<FieldTerm>) -> Self {
        Self { terms }
    }

    pub fn equal(field: &str, value: &str) -> Self {
        Self { terms: vec![FieldTerm { field: field.to_owned(), value: value.to_owned(), equal: true }] }
    }

    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts {
            if part.is_empty() {
                continue;
            }
            let Some((field, equal, value)) = split_term(part) else {
                return Err(SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")));
            };
            terms.push(FieldTerm { field: field.to_owned(), value: unescape(value)?, equal });
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    pub fn matches<'a>(&self, mut get: impl FnMut(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|t| (get(&t.field).unwrap_or_default() == t.value) == t.equal)
    }

    pub fn requires_exact_match(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, t) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if t.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", t.field, escape(&t.value))?;
        }
        Ok(())
    }
}

impl std::str::FromStr for FieldSelector {
    type Err = SelectorError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[i..].strip_prefix(operator) {
                return Some((&term[..i], equal, value));
            }
        }
    }
    None
}

fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ',', '=']) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\="))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let invalid = |s: String| SelectorError(format!("invalid field selector: invalid escape sequence: {s}"));
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(invalid(format!("\\{c}"))),
                None => return Err(invalid("\\".to_owned())),
            },
            ',' | '=' => {
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {}", c as u32)));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn label_matching() {
        for (selector, set, want) in [
            ("", "a=b", true),
            ("a=b", "a=b", true),
            ("a==b", "a=b", true),
            ("a=b", "a=c", false),
            ("a=b", "", false),
            ("a!=b", "", true),
            ("a!=b", "a=b", false),
            ("a in (b,c)", "a=c", true),
            ("a in (b,c)", "a=d", false),
            ("a notin (b,c)", "a=d", true),
            ("a notin (b,c)", "x=y", true),
            ("a", "a=1", true),
            ("!a", "a=1", false),
            ("!a", "b=1", true),
            ("a>5", "a=6", true),
            ("a>5", "a=5", false),
            ("a<5", "a=x", false),
            ("a<5", "a=-1", true),
            ("x in (foo,,baz),y,z notin ()", "x=,y=1", true),
            ("x in (foo,,baz),y,z notin ()", "x=,y=1,z=", false),
            ("in in (in)", "in=in", true),
            ("a = b , c", "a=b,c=1", true),
            ("a=", "a=", true),
            ("a=,b=1", "a=,b=1", true),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
            assert_eq!(parsed.matches(&labels(set)), want, "{selector} on {set}");
        }
    }

    #[test]
    fn label_display() {
        for (input, want) in [
            ("b=1,a=2", "a=2,b=1"),
            ("a in (c,b)", "a in (b,c)"),
            ("a notin (b)", "a notin (b)"),
            ("!a,b", "!a,b"),
            ("a==b,c!=d,e>1,f<2", "a==b,c!=d,e>1,f<2"),
            ("a in (,)", "a in ()"),
        ] {
            let s = LabelSelector::parse(input).unwrap();
            assert_eq!(s.to_string(), want);
            assert_eq!(LabelSelector::parse(want).unwrap(), s);
        }
    }

    #[test]
    fn label_errors() {
        for (input, want) in [
            ("a=b,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must \
                 be an integer",
            ),
        ] {
            assert_eq!(LabelSelector::parse(input).unwrap_err().to_string(), want, "{input}");
        }
        let e = LabelSelector::parse("a=b$").unwrap_err().to_string();
        assert!(e.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"b$\": a valid label"), "{e}");
        let e = LabelSelector::parse("-a=b").unwrap_err().to_string();
        assert!(e.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist"), "{e}");
    }

    #[test]
    fn typed_label_selector() {
        let s = LabelSelector::from_label_selector(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db", "cache"]}]
        }))
        .unwrap();
        assert_eq!(s.to_string(), "app=web,tier notin (cache,db)");
        assert!(LabelSelector::from_label_selector(&json!(null)).unwrap().is_nothing());
        assert!(LabelSelector::from_label_selector(&json!({})).unwrap().is_empty());
        let e = LabelSelector::from_label_selector(&json!({"matchExpressions": [{"key": "a", "operator": "Has"}]}));
        assert_eq!(e.unwrap_err().to_string(), "\"Has\" is not a valid label selector operator");
        assert!(s.matches_object(&json!({"metadata": {"labels": {"app": "web"}}})));
        assert!(!s.matches_object(&json!({"metadata": {}})));
        assert_eq!(s.requires_exact_match("app"), Some("web"));
    }

    #[test]
    fn sorted_pairs() {
        let pairs = [("a", "1"), ("b", "2")];
        assert!(LabelSelector::parse("b=2").unwrap().matches(&pairs[..]));
    }

    #[test]
    fn fields() {
        let get = |f: &str| match f {
            "metadata.name" => Some("a,b"),
            "spec.nodeName" => Some("n1"),
            _ => None,
        };
        for (text, want) in [
            ("", true),
            ("metadata.name=a\\,b", true),
            ("spec.nodeName==n1", true),
            ("spec.nodeName!=n1", false),
            ("spec.nodeName=n1,metadata.name!=x", true),
            ("missing=", true),
            ("missing!=", false),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(get), want, "{text}");
        }
        let s = FieldSelector::parse("metadata.name=a\\,b,x!=y").unwrap();
        assert_eq!(s.to_string(), "metadata.name=a\\,b,x!=y");
        assert_eq!(s.requires_exact_match("metadata.name"), Some("a,b"));
        assert_eq!(s.requires_exact_match("x"), None);
        assert_eq!(FieldSelector::parse("a").unwrap_err().to_string(), "invalid selector: 'a'; can't understand 'a'");
        assert!(FieldSelector::parse("a=b=c").is_err());
        assert!(FieldSelector::parse("a=\\x").is_err());
    }
}
