//! kubectl's JSONPath templates: `{range .items[*]}{.metadata.name}{"\n"}{end}`, filters, slices, unions, `..`.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use serde_json::Value;

use crate::gotext;

/// A template that cannot be read, or that does not fit the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonPathError(String);

/// Values come by reference from the data, or are made by the template.
type Found<'v> = Cow<'v, Value>;

type Result<T> = std::result::Result<T, JsonPathError>;

fn err<T>(message: impl Into<String>) -> Result<T> {
    Err(JsonPathError(message.into()))
}

/// How deep `..` looks, and how deep filters and ranges may nest.
const DEPTH_MAX: usize = 64;

/// How many values a template may come by on its way: each `..` after another one multiplies them.
const VALUES_MAX: usize = 4_000_000;

/// Counts the values of one run.
#[derive(Default)]
struct Meter(Cell<usize>);

impl Meter {
    fn count(&self, values: usize) -> Result<()> {
        self.0.set(self.0.get() + values);
        if self.0.get() > VALUES_MAX { err("the template finds too many values") } else { Ok(()) }
    }
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    parts: Vec<Part>,
    allow_missing: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Action(Vec<Step>),
    Range { over: Vec<Step>, body: Vec<Part> },
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Literal(Value),
    Field(String),
    Wildcard,
    Recursive,
    Slice { from: Option<i64>, to: Bound, step: Option<i64> },
    Filter { left: Vec<Step>, operator: String, right: Vec<Step> },
    Union(Vec<Vec<Step>>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    End,
    At(i64),
    /// One after the start: a plain index.
    Next,
}

impl JsonPath {
    pub fn parse(text: &str) -> Result<Self> {
        let mut flat = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(open) = rest.find('{') else {
                flat.push(Item::Part(Part::Text(rest.to_owned())));
                break;
            };
            if open > 0 {
                flat.push(Item::Part(Part::Text(rest[..open].to_owned())));
            }
            let mut parser = Parser { input: &rest[open + 1..], pos: 0, depth: 0 };
            flat.push(parser.action()?);
            rest = &rest[open + 1 + parser.pos..];
        }
        let mut items = flat.into_iter();
        let parts = nest(&mut items, 0)?;
        Ok(Self { parts, allow_missing: false })
    }

    /// Missing fields give nothing instead of an error.
    #[must_use]
    pub fn allow_missing(mut self, allow: bool) -> Self {
        self.allow_missing = allow;
        self
    }

    /// The results of each part of the template.
    pub fn find<'v>(&'v self, data: &'v Value) -> Result<Vec<Vec<Cow<'v, Value>>>> {
        let mut out = Vec::new();
        self.parts(&self.parts, &Cow::Borrowed(data), &mut out, &Meter::default())?;
        Ok(out)
    }

    fn parts<'v>(&'v self, parts: &'v [Part], at: &Found<'v>, out: &mut Vec<Vec<Found<'v>>>, meter: &Meter) -> Result<()> {
        for part in parts {
            meter.count(1)?;
            match part {
                Part::Text(text) => out.push(vec![Cow::Owned(Value::String(text.clone()))]),
                Part::Action(steps) => out.push(self.walk(steps, vec![at.clone()], meter)?),
                Part::Range { over, body } => {
                    for item in self.walk(over, vec![at.clone()], meter)? {
                        self.parts(body, &item, out, meter)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The text kubectl prints.
    pub fn render(&self, data: &Value) -> Result<String> {
        let mut out = String::new();
        for results in self.find(data)? {
            for (i, value) in results.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(&text(value));
            }
        }
        Ok(out)
    }

    /// `-o jsonpath-as-json`: each part as an indented list.
    pub fn render_json(&self, data: &Value) -> Result<String> {
        let mut out = String::new();
        for results in self.find(data)? {
            let list = Value::Array(results.into_iter().map(Cow::into_owned).collect());
            out.push_str(&indent(&list));
            out.push('\n');
        }
        Ok(out)
    }

    fn walk<'v>(&'v self, steps: &'v [Step], mut at: Vec<Found<'v>>, meter: &Meter) -> Result<Vec<Found<'v>>> {
        for step in steps {
            at = self.step(step, at, meter)?;
            meter.count(at.len())?;
        }
        Ok(at)
    }

    fn step<'v>(&'v self, step: &'v Step, at: Vec<Found<'v>>, meter: &Meter) -> Result<Vec<Found<'v>>> {
        match step {
            Step::Literal(value @ Value::String(_)) => Ok(vec![Cow::Borrowed(value)]),
            Step::Literal(value) => Ok(at.iter().map(|_| Cow::Borrowed(value)).collect()),
            Step::Field(name) => {
                let none_at_all = at.is_empty();
                let found: Vec<_> = at.into_iter().filter_map(|v| child(v, |v| v.get(name.as_str()))).collect();
                if found.is_empty() && !none_at_all && !self.allow_missing {
                    return err(format!("{name} is not found"));
                }
                Ok(found)
            }
            Step::Wildcard => Ok(at.iter().flat_map(children).collect()),
            Step::Recursive => {
                let mut out = Vec::new();
                for v in at {
                    descend(v, &mut out, 0, meter)?;
                }
                Ok(out)
            }
            Step::Slice { from, to, step } => {
                let mut out = Vec::new();
                for v in at.iter().filter(|v| !v.is_null()) {
                    slice(v, *from, *to, *step, &mut out)?;
                }
                Ok(out)
            }
            Step::Union(paths) => {
                let mut out = Vec::new();
                for path in paths {
                    out.extend(self.walk(path, at.clone(), meter)?);
                }
                Ok(out)
            }
            Step::Filter { left, operator, right } => {
                let mut out = Vec::new();
                for list in &at {
                    if !list.is_array() {
                        return err(format!("{} is not array or slice and cannot be filtered", text(list)));
                    }
                    for item in children(list) {
                        if self.passes(left, operator, right, &item, meter)? {
                            out.push(item);
                        }
                    }
                }
                Ok(out)
            }
        }
    }

    fn passes<'v>(
        &'v self,
        left: &'v [Step],
        operator: &str,
        right: &'v [Step],
        item: &Found<'v>,
        meter: &Meter,
    ) -> Result<bool> {
        meter.count(1)?;
        let lefts = self.walk(left, vec![item.clone()], meter);
        if operator == "exists" {
            return Ok(lefts.is_ok_and(|l| !l.is_empty()));
        }
        let lefts = lefts?;
        let rights = self.walk(right, vec![item.clone()], meter)?;
        let (l, r) = match (lefts.as_slice(), rights.as_slice()) {
            ([], _) | (_, []) => return Ok(false),
            ([l], [r]) => (l, r),
            _ => return err("can only compare one element at a time"),
        };
        let order = compare(l, r)?;
        Ok(match operator {
            "==" => order == Ordering::Equal,
            "!=" => order != Ordering::Equal,
            "<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            ">" => order == Ordering::Greater,
            ">=" => order != Ordering::Less,
            other => return err(format!("unrecognized filter operator {other}")),
        })
    }
}

/// Completes a path as custom columns and `--sort-by` allow it: `metadata.name`, `.metadata.name`, `{.metadata.name}`.
pub fn relaxed(path: &str) -> Result<String> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let inner = match (path.strip_prefix('{'), path.strip_suffix('}')) {
        (Some(_), Some(_)) => path[1..path.len() - 1].trim(),
        (None, None) => path,
        _ => "",
    };
    let inner = inner.strip_prefix('.').unwrap_or(inner);
    if inner.is_empty() || inner.contains(['{', '}']) {
        return err("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'");
    }
    Ok(format!("{{.{inner}}}"))
}

fn child<'v>(value: Cow<'v, Value>, get: impl Fn(&Value) -> Option<&Value>) -> Option<Cow<'v, Value>> {
    match value {
        Cow::Borrowed(v) => get(v).map(Cow::Borrowed),
        Cow::Owned(v) => get(&v).cloned().map(Cow::Owned),
    }
}

fn children<'v>(value: &Cow<'v, Value>) -> Vec<Cow<'v, Value>> {
    match value {
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        Cow::Owned(Value::Array(items)) => items.iter().cloned().map(Cow::Owned).collect(),
        Cow::Owned(Value::Object(map)) => map.values().cloned().map(Cow::Owned).collect(),
        _ => Vec::new(),
    }
}

fn descend<'v>(value: Found<'v>, out: &mut Vec<Found<'v>>, depth: usize, meter: &Meter) -> Result<()> {
    let below = children(&value);
    meter.count(1)?;
    if below.is_empty() || depth > DEPTH_MAX {
        return Ok(());
    }
    out.push(value);
    for v in below {
        descend(v, out, depth + 1, meter)?;
    }
    Ok(())
}

fn slice<'v>(value: &Found<'v>, from: Option<i64>, to: Bound, step: Option<i64>, out: &mut Vec<Cow<'v, Value>>) -> Result<()> {
    if !value.is_array() {
        return err(format!("{} is not array or slice", text(value)));
    }
    let items = children(value);
    let len = items.len() as i64;
    let mut start = from.unwrap_or(0);
    let mut end = match to {
        Bound::End => len,
        Bound::At(n) => n,
        Bound::Next => start.saturating_add(1),
    };
    if start < 0 {
        start += len;
    }
    if end < 0 || (end == 0 && to == Bound::Next) {
        end += len;
    }
    if start == end && to != Bound::Next {
        return Ok(());
    }
    if start < 0 || start >= len {
        return err(format!("array index out of bounds: index {start}, length {len}"));
    }
    if end < 0 || end > len {
        return err(format!("array index out of bounds: index {}, length {len}", end - 1));
    }
    if start > end {
        return err(format!("starting index {start} is greater than ending index {end}"));
    }
    let step = step.unwrap_or(1);
    if step <= 0 {
        return err("step must be > 0");
    }
    // Both ends lie within the list.
    let range = items.into_iter().skip(start as usize).take((end - start) as usize);
    out.extend(range.step_by(step as usize));
    Ok(())
}

fn compare(a: &Value, b: &Value) -> Result<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => Ok(match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or(0.0).total_cmp(&y.as_f64().unwrap_or(0.0)),
        }),
        _ => err("incompatible types for comparison"),
    }
}

/// A value as kubectl prints it: text plain, the rest as compact JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => gotext::json(other),
    }
}

fn indent(value: &Value) -> String {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
    // A Value always serialises into memory, and as UTF-8.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

enum Item {
    Part(Part),
    Range(Vec<Step>),
    End,
}

/// Puts what stands between a `range` and its `end` into it; `depth` ranges are open.
fn nest(items: &mut impl Iterator<Item = Item>, depth: usize) -> Result<Vec<Part>> {
    if depth > DEPTH_MAX {
        return err("the template is nested too deeply");
    }
    let mut out = Vec::new();
    while let Some(item) = items.next() {
        match item {
            Item::Part(part) => out.push(part),
            Item::Range(over) => out.push(Part::Range { over, body: nest(items, depth + 1)? }),
            Item::End if depth > 0 => return Ok(out),
            Item::End => return err("not in range, nothing to end"),
        }
    }
    Ok(out)
}

struct Parser<'a> {
    /// What follows the opening brace.
    input: &'a str,
    pos: usize,
    depth: usize,
}

fn is_terminator(c: Option<char>) -> bool {
    matches!(c, None | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'))
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// One action, up to and with its closing brace.
    fn action(&mut self) -> Result<Item> {
        let mut steps = Vec::new();
        let mut word = None;
        loop {
            let rest = self.rest();
            if rest.starts_with('}') {
                self.pos += 1;
                return Ok(match word {
                    Some("range") => Item::Range(steps),
                    Some(_) => Item::End,
                    None => Item::Part(Part::Action(steps)),
                });
            }
            if rest.starts_with("[?(") {
                steps.push(self.filter()?);
                continue;
            }
            if rest.starts_with("..") {
                if steps.last() == Some(&Step::Recursive) {
                    return err("invalid multiple recursive descent");
                }
                self.pos += 2;
                steps.push(Step::Recursive);
                if self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
                    steps.push(self.field());
                }
                continue;
            }
            match self.peek() {
                None | Some('\r' | '\n') => return err("unclosed action"),
                Some(' ' | '@' | '$') => self.pos += 1,
                Some('[') => self.array(&mut steps)?,
                Some(quote @ ('"' | '\'')) => steps.push(Step::Literal(Value::String(self.quoted(quote)?))),
                Some('.') => {
                    self.pos += 1;
                    steps.push(self.field());
                }
                Some(c) if c == '+' || c == '-' || c.is_ascii_digit() => steps.push(self.number()?),
                Some(c) if c == '_' || c.is_alphanumeric() => {
                    let start = self.pos;
                    while !is_terminator(self.peek()) {
                        self.bump();
                    }
                    match &self.input[start..self.pos] {
                        "true" => steps.push(Step::Literal(true.into())),
                        "false" => steps.push(Step::Literal(false.into())),
                        w @ ("range" | "end") => word = Some(w),
                        other => return err(format!("unrecognized identifier {other}")),
                    }
                }
                Some(c) => return err(format!("unrecognized character in action: U+{:04X} '{c}'", c as u32)),
            }
        }
    }

    /// A nested expression: the inside of a filter or union.
    fn nested(&self, text: &str) -> Result<Vec<Step>> {
        if self.depth >= DEPTH_MAX {
            return err("the template is nested too deeply");
        }
        let text = format!("{text}}}");
        let mut parser = Parser { input: &text, pos: 0, depth: self.depth + 1 };
        match parser.action()? {
            Item::Part(Part::Action(steps)) => Ok(steps),
            _ => err("a range cannot stand inside an expression"),
        }
    }

    /// A field's name; a backslash takes the next character as it is.
    fn field(&mut self) -> Step {
        let mut name = String::new();
        while let c = self.peek()
            && !is_terminator(c)
        {
            match self.bump() {
                Some('\\') => name.extend(self.bump()),
                Some(c) => name.push(c),
                None => break,
            }
        }
        if name == "*" { Step::Wildcard } else { Step::Field(name) }
    }

    fn number(&mut self) -> Result<Step> {
        let start = self.pos;
        self.bump();
        while self.peek().is_some_and(|c| c == '.' || c.is_ascii_digit()) {
            self.bump();
        }
        let text = &self.input[start..self.pos];
        if let Ok(n) = text.parse::<i64>() {
            return Ok(Step::Literal(n.into()));
        }
        match text.parse::<f64>() {
            Ok(f) => Ok(Step::Literal(f.into())),
            Err(_) => err(format!("cannot parse number {text}")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        self.bump();
        let mut out = String::new();
        loop {
            match self.bump() {
                None | Some('\n') => return err("unterminated quoted string"),
                Some(c) if c == quote => return Ok(out),
                Some('\\') => match self.bump() {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c @ ('\\' | '"' | '\'' | '/')) => out.push(c),
                    Some('u') => {
                        let digits = self.rest().get(..4).unwrap_or_default();
                        let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                        let Some(c) = c else { return err("invalid syntax") };
                        self.pos += 4;
                        out.push(c);
                    }
                    _ => return err("invalid syntax"),
                },
                Some(c) => out.push(c),
            }
        }
    }

    fn array(&mut self, steps: &mut Vec<Step>) -> Result<()> {
        let rest = self.rest();
        let close = rest.find([']', '\n']).filter(|i| rest.as_bytes()[*i] == b']');
        let Some(close) = close else { return err("unterminated array") };
        self.pos += close + 1;
        let text = &rest[1..close];
        if text.contains(',') {
            let paths = text.split(',').map(|t| self.nested(&format!("[{}]", t.trim_matches(' '))));
            steps.push(Step::Union(paths.collect::<Result<_>>()?));
            return Ok(());
        }
        if let Some(key) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
            steps.extend(self.nested(&format!(".{key}"))?);
            return Ok(());
        }
        let text = if text == "*" { ":" } else { text };
        let bad = || JsonPathError(format!("invalid array index {text}"));
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() > 3 {
            return Err(bad());
        }
        let number = |i: usize| -> Result<Option<i64>> {
            match parts.get(i) {
                None | Some(&"") => Ok(None),
                Some(t) => t.parse().map(Some).map_err(|_| bad()),
            }
        };
        let (from, to, step) = (number(0)?, number(1)?, number(2)?);
        let to = match to {
            Some(n) => Bound::At(n),
            None if parts.len() > 1 => Bound::End,
            None => Bound::Next,
        };
        steps.push(Step::Slice { from, to, step });
        Ok(())
    }

    fn filter(&mut self) -> Result<Step> {
        self.pos += "[?(".len();
        let start = self.pos;
        let mut quote = None;
        loop {
            match self.bump() {
                None | Some('\n') => return err("unterminated filter"),
                Some('\\') if quote.is_some() => {
                    self.bump();
                }
                Some(c @ ('"' | '\'')) => match quote {
                    None => quote = Some(c),
                    Some(q) if q == c => quote = None,
                    Some(_) => {}
                },
                Some(')') if quote.is_none() => break,
                Some(_) => {}
            }
        }
        let text = &self.input[start..self.pos - 1];
        if self.bump() != Some(']') {
            return err("unclosed array expect ]");
        }
        let is_operator = |c: char| "!<>=".contains(c);
        let Some(at) = text.find(is_operator).filter(|i| *i > 0) else {
            return Ok(Step::Filter { left: self.nested(text)?, operator: "exists".to_owned(), right: Vec::new() });
        };
        let right = text[at..].trim_start_matches(is_operator);
        let operator = text[at..text.len() - right.len()].to_owned();
        Ok(Step::Filter { left: self.nested(&text[..at])?, operator, right: self.nested(right)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data() -> Value {
        json!({
            "kind": "List",
            "items": [
                {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"kubernetes.io/hostname": "127.0.0.1"}},
                 "status": {"capacity": {"cpu": "4"}, "addresses": [{"type": "LegacyHostIP", "address": "127.0.0.1"}]}},
                {"kind": "None", "metadata": {"name": "127.0.0.2"},
                 "status": {"capacity": {"cpu": "8"}, "addresses": [
                    {"type": "LegacyHostIP", "address": "127.0.0.2"}, {"type": "another", "address": "127.0.0.3"}]}}
            ],
            "users": [
                {"name": "myself", "user": {}},
                {"name": "e2e", "user": {"username": "admin", "password": "secret"}}
            ],
            "n": [1, 2, 3, 4, 5]
        })
    }

    #[test]
    fn templates() {
        for (template, want) in [
            ("kind is {.kind}", "kind is List"),
            ("{.kind}", "List"),
            ("{$.kind}", "List"),
            ("{@.kind}", "List"),
            ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
            ("{.items[*]['metadata.name', 'status.capacity']}", "127.0.0.1 127.0.0.2 {\"cpu\":\"4\"} {\"cpu\":\"8\"}"),
            (
                "{range .items[*]}[{.metadata.name}, {.status.capacity}] {end}",
                "[127.0.0.1, {\"cpu\":\"4\"}] [127.0.0.2, {\"cpu\":\"8\"}] ",
            ),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{end}", "127.0.0.1\t127.0.0.2\t"),
            ("{.items[*].status.addresses[*].address}", "127.0.0.1 127.0.0.2 127.0.0.3"),
            ("{range .items[*]}{range .status.addresses[*]}{.address}, {end}{end}", "127.0.0.1, 127.0.0.2, 127.0.0.3, "),
            ("{.items[0].metadata.name}", "127.0.0.1"),
            ("{.items[-1].metadata.name}", "127.0.0.2"),
            ("{.n[1:3]}", "2 3"),
            ("{.n[-2:]}", "4 5"),
            ("{.n[::2]}", "1 3 5"),
            ("{.n[0,2]}", "1 3"),
            ("{.n[:2]}", "1 2"),
            ("{.users[?(@.name==\"e2e\")].user.password}", "secret"),
            ("{.users[?(@.name=='e2e')].user}", "{\"password\":\"secret\",\"username\":\"admin\"}"),
            ("{.users[?(@.user.username)].name}", "e2e"),
            ("{.users[?(@.name!=\"e2e\")].name}", "myself"),
            ("{.items[?(@.metadata.name==\"127.0.0.2\")].status.addresses[?(@.type==\"another\")].address}", "127.0.0.3"),
            ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
            ("{.items[0].metadata.labels.kubernetes\\.io/hostname}", "127.0.0.1"),
            ("{.items[0].metadata.labels['kubernetes\\.io/hostname']}", "127.0.0.1"),
            ("{.users[1].user.*}", "secret admin"),
            ("{.n[?(@>3)]}", "4 5"),
            ("{\"quoted\"}{'x'}{5}{true}", "quotedx5true"),
            ("", ""),
        ] {
            let path = JsonPath::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
            assert_eq!(path.render(&data()).unwrap_or_else(|e| panic!("{template}: {e}")), want, "{template}");
        }
    }

    #[test]
    fn errors() {
        for (template, want) in [
            ("{.hello", "unclosed action"),
            ("{.n[0", "unterminated array"),
            ("{.n[?(@.a}", "unterminated filter"),
            ("{foo}", "unrecognized identifier foo"),
            ("{end}", "not in range, nothing to end"),
            ("{\"a}", "unterminated quoted string"),
            ("{.n[a]}", "invalid array index a"),
            ("{....a}", "invalid multiple recursive descent"),
        ] {
            assert_eq!(JsonPath::parse(template).unwrap_err().to_string(), want, "{template}");
        }
        for (template, want) in [
            ("{.missing}", "missing is not found"),
            ("{.n[9]}", "array index out of bounds: index 9, length 5"),
            ("{.kind[0]}", "List is not array or slice"),
        ] {
            assert_eq!(JsonPath::parse(template).unwrap().render(&data()).unwrap_err().to_string(), want);
        }
        assert_eq!(JsonPath::parse("{.missing}").unwrap().allow_missing(true).render(&data()).unwrap(), "");
        let deep = format!("{{.a{}", "[?(@.a".repeat(1000));
        assert!(JsonPath::parse(&deep).is_err());
    }

    #[test]
    fn as_json() {
        assert_eq!(JsonPath::parse("{.n[0:2]}").unwrap().render_json(&data()).unwrap(), "[\n    1,\n    2\n]\n");
    }

    #[test]
    fn relaxed_paths() {
        for ok in ["a.b", ".a.b", "{a.b}", "{.a.b}"] {
            assert_eq!(relaxed(ok).unwrap(), "{.a.b}");
        }
        for bad in ["{a", "a}", "{}", "."] {
            assert!(relaxed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds() {
        let deep = format!("{}{}", "{range .a[*]}".repeat(100_000), "{end}".repeat(100_000));
        assert_eq!(JsonPath::parse(&deep), err("the template is nested too deeply"));
        let filters = format!("{{{}x{}}}", "[?(@".repeat(100_000), ")]".repeat(100_000));
        assert!(JsonPath::parse(&filters).is_err());
        let many = json!({"a": vec![json!({"b": [1, 2]}); 200]});
        assert!(JsonPath::parse("{..b}").unwrap().render(&many).is_ok());
        // Each union doubles what there is.
        let doubled = format!("{{{}}}", "[*,*]".repeat(40));
        let nested = (0..60).fold(json!(1), |inner, _| json!([inner]));
        let error = JsonPath::parse(&doubled).unwrap().render(&nested).unwrap_err();
        assert_eq!(error.to_string(), "the template finds too many values");
        let last = JsonPath::parse("{.n[9223372036854775807]}").unwrap().render(&data());
        assert!(last.unwrap_err().to_string().contains("array index out of bounds"));
    }
}
