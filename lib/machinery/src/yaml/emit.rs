//! Prints a value as kubectl does (`sigs.k8s.io/yaml`): keys in natural order, two spaces, lists at their key's column,
//! block scalars for text of several lines, long lines folded at 80 columns.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

use super::plain::is_ambiguous;

const WIDTH: usize = 80;
const INDENT: usize = 2;
/// A longer key is written as `? key` with its value on the next line.
const SIMPLE_KEY_MAX: usize = 128;

/// One document, with a newline at its end and without `---`.
pub fn to_string(value: &Value) -> String {
    let mut e = Emitter { out: String::with_capacity(1024), column: 0, spaced: true, fresh: true };
    e.node(value, None, Context::Root);
    if !e.out.ends_with('\n') {
        e.out.push('\n');
    }
    e.out
}

#[derive(Clone, Copy, PartialEq)]
enum Context {
    Root,
    Item,
    Value,
    Key,
}

struct Emitter {
    out: String,
    column: usize,
    /// The last thing written leaves room: nothing more is needed before the next token.
    spaced: bool,
    /// Only indentation (or `-`, `?`) has been written on this line.
    fresh: bool,
}

impl Emitter {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// Goes to the given column, on a new line unless only indentation precedes it on this one.
    fn indent(&mut self, indent: usize) {
        if !self.fresh || self.column > indent || (self.column == indent && !self.spaced) {
            self.line_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.spaced = true;
        self.fresh = true;
    }

    fn indicator(&mut self, text: &str) {
        if !self.spaced {
            self.put(' ');
        }
        for c in text.chars() {
            self.put(c);
        }
        self.spaced = false;
        self.fresh = false;
    }

    /// `-` or `?`: what follows may start on the same line.
    fn leader(&mut self, c: char) {
        let fresh = self.fresh;
        if !self.spaced {
            self.put(' ');
        }
        self.put(c);
        self.spaced = false;
        self.fresh = fresh;
    }

    fn node(&mut self, value: &Value, indent: Option<usize>, context: Context) {
        match value {
            Value::Null => self.indicator("null"),
            Value::Bool(b) => self.indicator(if *b { "true" } else { "false" }),
            Value::Number(n) => self.indicator(&number(n)),
            Value::String(s) => self.scalar(s, indent, context),
            Value::Array(items) if items.is_empty() => self.indicator("[]"),
            Value::Object(map) if map.is_empty() => self.indicator("{}"),
            Value::Array(items) => self.sequence(items, indent, context),
            Value::Object(map) => self.mapping(map, indent),
        }
    }

    fn sequence(&mut self, items: &[Value], indent: Option<usize>, context: Context) {
        let indent = match indent {
            None => 0,
            Some(parent) if context == Context::Value && !self.fresh => parent,
            Some(parent) => parent + INDENT,
        };
        for item in items {
            self.indent(indent);
            self.leader('-');
            self.node(item, Some(indent), Context::Item);
        }
    }

    fn mapping(&mut self, map: &Map<String, Value>, indent: Option<usize>) {
        let indent = indent.map_or(0, |parent| parent + INDENT);
        let mut entries: Vec<(&String, &Value)> = map.iter().collect();
        sort_keys(&mut entries);
        for (key, value) in entries {
            self.indent(indent);
            if key.len() <= SIMPLE_KEY_MAX && !key.contains(is_break) {
                self.scalar(key, Some(indent), Context::Key);
                self.put(':');
                self.spaced = false;
                self.fresh = false;
            } else {
                self.leader('?');
                self.scalar(key, Some(indent), Context::Value);
                self.indent(indent);
                self.leader(':');
            }
            self.node(value, Some(indent), Context::Value);
        }
    }

    fn scalar(&mut self, s: &str, parent: Option<usize>, context: Context) {
        let indent = parent.map_or(INDENT, |p| p + INDENT);
        let look = analyze(s);
        let key = context == Context::Key;
        if s.contains('\n') && look.block && !key {
            self.literal(s, indent);
        } else if s.contains('\n') || look.special || is_ambiguous(s) {
            self.double_quoted(s, indent, !key);
        } else if look.plain {
            self.plain(s, indent, !key);
        } else if look.single_quoted {
            self.single_quoted(s, indent, !key);
        } else {
            self.double_quoted(s, indent, !key);
        }
    }

    fn folds(&self, breaks: bool, after_space: bool, rest: &str) -> bool {
        breaks && !after_space && self.column > WIDTH && !rest.starts_with(' ')
    }

    fn plain(&mut self, s: &str, indent: usize, breaks: bool) {
        if !self.spaced {
            self.put(' ');
        }
        let mut after_space = false;
        for (i, c) in s.char_indices() {
            if c == ' ' && self.folds(breaks, after_space, &s[i + 1..]) {
                self.fresh = false;
                self.indent(indent);
            } else {
                self.put(c);
            }
            after_space = c == ' ';
        }
        self.spaced = false;
        self.fresh = false;
    }

    fn single_quoted(&mut self, s: &str, indent: usize, breaks: bool) {
        self.indicator("'");
        let mut after_space = false;
        for (i, c) in s.char_indices() {
            let inside = i > 0 && i + 1 < s.len();
            if c == ' ' && inside && self.folds(breaks, after_space, &s[i + 1..]) {
                self.fresh = false;
                self.indent(indent);
            } else {
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
            }
            after_space = c == ' ';
        }
        self.put('\'');
        self.spaced = false;
        self.fresh = false;
    }

    fn double_quoted(&mut self, s: &str, indent: usize, breaks: bool) {
        self.indicator("\"");
        let mut after_space = false;
        // As upstream: in text that begins with a byte order mark everything is escaped.
        let marked = s.starts_with('\u{feff}');
        for (i, c) in s.char_indices() {
            if marked || !is_printable(c) || is_break(c) || c == '"' || c == '\\' {
                self.escape(c);
                after_space = false;
            } else if c == ' ' {
                let inside = i > 0 && i + 1 < s.len();
                if breaks && !after_space && self.column > WIDTH && inside {
                    self.fresh = false;
                    self.indent(indent);
                    if s[i + 1..].starts_with(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else {
                self.put(c);
                after_space = false;
            }
        }
        self.put('"');
        self.spaced = false;
        self.fresh = false;
    }

    fn escape(&mut self, c: char) {
        let short = match c {
            '\0' => "0",
            '\x07' => "a",
            '\x08' => "b",
            '\t' => "t",
            '\n' => "n",
            '\x0b' => "v",
            '\x0c' => "f",
            '\r' => "r",
            '\x1b' => "e",
            '"' => "\"",
            '\\' => "\\",
            '\u{85}' => "N",
            '\u{a0}' => "_",
            '\u{2028}' => "L",
            '\u{2029}' => "P",
            _ => "",
        };
        let before = self.out.len();
        self.out.push('\\');
        let code = c as u32;
        // Writing to a String cannot fail.
        let _ = match (short, code) {
            ("", 0..=0xff) => write!(self.out, "x{code:02X}"),
            ("", 0x100..=0xffff) => write!(self.out, "u{code:04X}"),
            ("", _) => write!(self.out, "U{code:08X}"),
            (short, _) => self.out.write_str(short),
        };
        self.column += self.out.len() - before;
    }

    fn literal(&mut self, s: &str, indent: usize) {
        self.indicator("|");
        if s.starts_with([' ', '\n']) {
            self.put('2');
        }
        let mut tail = s.chars().rev();
        match (tail.next().map(is_break), tail.next().map(is_break)) {
            (Some(true), None | Some(true)) => self.put('+'),
            (Some(true), Some(false)) => {}
            _ => self.put('-'),
        }
        self.line_break();
        let mut at_start = true;
        for c in s.chars() {
            if is_break(c) {
                // Only `\n` reaches here: other breaks are not allowed in a block.
                self.line_break();
                at_start = true;
            } else {
                if at_start {
                    while self.column < indent {
                        self.put(' ');
                    }
                }
                self.put(c);
                at_start = false;
            }
        }
        // After a final newline the next token starts where it stands; else it needs its own line.
        self.spaced = true;
        self.fresh = at_start;
    }
}

struct Look {
    plain: bool,
    single_quoted: bool,
    block: bool,
    special: bool,
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// As libyaml sees it: characters beyond the basic plane are not printable.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// Which styles can hold the text.
fn analyze(s: &str) -> Look {
    let mut look = Look { plain: true, single_quoted: true, block: true, special: false };
    if s.is_empty() {
        return Look { block: false, ..look };
    }
    if s.starts_with("---") || s.starts_with("...") {
        look.plain = false;
    }
    let (mut after_space, mut after_break, mut after_blank) = (false, false, true);
    let mut chars = s.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        let before_blank = next.is_none_or(|n| n == ' ' || n == '\t');
        let indicator = match c {
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => first,
            '#' => first || after_blank,
            '-' | '?' => first && before_blank,
            ':' => before_blank,
            _ => false,
        };
        if indicator {
            look.plain = false;
        }
        if !is_printable(c) {
            look.special = true;
        }
        if c == ' ' {
            if first || next.is_none() {
                look.plain = false;
            }
            if next.is_none() {
                look.block = false;
            }
            if after_break {
                look.plain = false;
                look.single_quoted = false;
            }
        } else if is_break(c) {
            look.plain = false;
            // A line separator is a break for readers of YAML 1.1, and none for those of 1.2: it is escaped, unlike upstream, whose
            // own reader is the only one that gets the same text back.
            look.block &= c == '\n';
            if after_space {
                look.special = true;
            }
        }
        (after_space, after_break) = (c == ' ', is_break(c));
        after_blank = c == ' ' || c == '\t' || is_break(c);
        first = false;
    }
    if look.special {
        look = Look { plain: false, single_quoted: false, block: false, special: true };
    }
    look
}

/// Merge sort by hand: upstream's order of keys is no order at all for some (`0a` < `9` < `010-` < `0a`), and the standard
/// library may panic at that.
fn sort_keys<V: Copy>(entries: &mut [(&String, V)]) {
    if entries.len() < 2 {
        return;
    }
    let (left, right) = entries.split_at_mut(entries.len() / 2);
    sort_keys(left);
    sort_keys(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(a), Some(b)) = (l.peek(), r.peek()) {
        let next = if natural(b.0, a.0) == Ordering::Less { &mut r } else { &mut l };
        merged.extend(next.next().copied());
    }
    merged.extend(l.chain(r).copied());
    entries.copy_from_slice(&merged);
}

/// Letters by code, digits by number, letters after everything else: `a2` before `a10`, `_a` before `aa`.
fn natural(a: &str, b: &str) -> Ordering {
    let (ar, br): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    for i in 0..ar.len().min(br.len()) {
        if ar[i] == br[i] {
            continue;
        }
        match (ar[i].is_alphabetic(), br[i].is_alphabetic()) {
            (true, true) => return ar[i].cmp(&br[i]),
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        // Zeros in the middle of a longer number do not make it shorter.
        let mut start = 0i64;
        if ar[i] == '0' || br[i] == '0' {
            let digits_before = ar[..i].iter().rev().take_while(|c| c.is_ascii_digit());
            if digits_before.into_iter().any(|c| *c != '0') {
                start = 1;
            }
        }
        let run = |r: &[char]| {
            let mut n = start;
            let mut end = i;
            while let Some(d) = r.get(end).and_then(|c| c.to_digit(10)) {
                n = n.wrapping_mul(10).wrapping_add(i64::from(d));
                end += 1;
            }
            (n, end)
        };
        let (an, bn) = (run(&ar), run(&br));
        return an.0.cmp(&bn.0).then(an.1.cmp(&bn.1)).then(ar[i].cmp(&br[i]));
    }
    ar.len().cmp(&br.len())
}

fn number(n: &Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() => float(f),
        _ => n.to_string(),
    }
}

/// Whole numbers as integers, others in the shortest form, with an exponent below 1e-4 and from 1e6 on.
fn float(f: f64) -> String {
    if f.fract() == 0.0 && f.abs() < 9e18 {
        return format!("{f:.0}");
    }
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return f.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: Value, want: &str) {
        let got = to_string(&value);
        assert_eq!(got, want);
        assert_eq!(super::super::to_value(&got).unwrap(), value, "read back from:\n{got}");
    }

    #[test]
    fn layout() {
        check(
            json!({"b": {"x": [1, {"y": 2, "z": [3]}], "e": [], "m": {}}, "a": null, "l": [[1, 2], ["c"]]}),
            "a: null\nb:\n  e: []\n  m: {}\n  x:\n  - 1\n  - \"y\": 2\n    z:\n    - 3\nl:\n- - 1\n  - 2\n- - c\n",
        );
        check(json!([]), "[]\n");
        check(json!("x"), "x\n");
        check(json!([{"a": [{"b": 1}]}]), "- a:\n  - b: 1\n");
    }

    #[test]
    fn scalars() {
        for (value, want) in [
            (json!("true"), "\"true\""),
            (json!("yes"), "\"yes\""),
            (json!("1"), "\"1\""),
            (json!("0644"), "\"0644\""),
            (json!("1:30"), "\"1:30\""),
            (json!("2026-01-02T03:04:05Z"), "\"2026-01-02T03:04:05Z\""),
            (json!(""), "\"\""),
            (json!("a: b"), "'a: b'"),
            (json!("a:b"), "a:b"),
            (json!("a #b"), "'a #b'"),
            (json!("a#b"), "a#b"),
            (json!("*"), "'*'"),
            (json!("-"), "'-'"),
            (json!("-a"), "-a"),
            (json!("it's"), "it's"),
            (json!("'a'"), "'''a'''"),
            (json!(" a"), "' a'"),
            (json!("a\tb"), "\"a\\tb\""),
            (json!("é"), "é"),
            (json!("😀"), "\"\\U0001F600\""),
            (json!("{a}"), "'{a}'"),
            (json!("a{b}"), "a{b}"),
            (json!("%"), "'%'"),
            (json!("1.36.0"), "1.36.0"),
            (json!("10.96.0.10"), "10.96.0.10"),
            (json!(1.5), "1.5"),
            (json!(0.00001), "1e-05"),
            (json!(-3), "-3"),
            (json!(true), "true"),
        ] {
            check(json!({"k": value}), &format!("k: {want}\n"));
        }
    }

    #[test]
    fn blocks() {
        check(json!({"k": "a\nb\n"}), "k: |\n  a\n  b\n");
        check(json!({"k": "a\nb"}), "k: |-\n  a\n  b\n");
        check(json!({"k": "a\n\n"}), "k: |+\n  a\n\n");
        check(json!({"k": "  a\nb\n", "l": 1}), "k: |2\n    a\n  b\nl: 1\n");
        check(json!({"k": "a\n\nb\n", "l": "x"}), "k: |\n  a\n\n  b\nl: x\n");
        check(json!({"k": "a \nb"}), "k: \"a \\nb\"\n");
        check(json!({"k": "a\nb\u{2028}c\u{2029}\n"}), "k: \"a\\nb\\Lc\\P\\n\"\n");
        check(json!(["a\nb", "c"]), "- |-\n  a\n  b\n- c\n");
        check(json!({"k": {"x": "a\nb\n"}, "l": 1}), "k:\n  x: |\n    a\n    b\nl: 1\n");
    }

    #[test]
    fn folding() {
        let words = ["word"; 30].join(" ");
        let want = format!("k: {}\n  {}\n", ["word"; 16].join(" "), ["word"; 14].join(" "));
        check(json!({"k": words}), &want);
        let quoted = format!("x: {}", ["word"; 20].join(" "));
        let want = format!("k: 'x: {}\n  {}'\n", ["word"; 15].join(" "), ["word"; 5].join(" "));
        check(json!({"k": quoted}), &want);
    }

    #[test]
    fn key_order() {
        check(
            json!({"a10": 1, "a2": 1, "B": 1, "_x": 1, "b": 1, "app.kubernetes.io/name": 1, "app": 1}),
            "B: 1\n_x: 1\na2: 1\na10: 1\napp: 1\napp.kubernetes.io/name: 1\nb: 1\n"
                .replace("B: 1\n_x: 1\n", "_x: 1\nB: 1\n")
                .as_str(),
        );
    }

    #[test]
    fn keys_without_an_order_do_not_panic() {
        let keys = (0..200).map(|i| match i % 4 {
            0 => format!("{i}"),
            1 => format!("0{i}a"),
            2 => format!("0{i}0-"),
            _ => format!("_{i}"),
        });
        let map: Map<String, Value> = keys.map(|k| (k, Value::Null)).collect();
        assert_eq!(to_string(&Value::Object(map)).lines().count(), 200);
    }

    #[test]
    fn long_keys() {
        let key = "k".repeat(130);
        check(json!({key.clone(): 1}), &format!("? {key}\n: 1\n"));
    }
}
