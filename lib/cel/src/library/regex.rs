//! `matches`, `find`, `findAll`: RE2's syntax and semantics, on an automaton of bounded size.

use regex::{Regex, RegexBuilder};

use super::prelude::*;

/// Most bytes of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 64 * 1024;
/// RE2's limit of `{n}`.
const REPEAT_MAX: u32 = 1000;

pub(crate) const ROWS: &[Row] = &[
    row("matches", "matches", "(string, string) -> bool", Cost::Matches, never),
    row("matches", "matches_string", "string.(string) -> bool", Cost::Matches, never),
];

pub(crate) const KUBERNETES: &[Row] = &[
    row("find", "string_find_string", "string.(string) -> string", Cost::Find, never),
    row("findAll", "string_find_all_string", "string.(string) -> list(string)", Cost::Find, never),
    row("findAll", "string_find_all_string_int", "string.(string, int) -> list(string)", Cost::Find, never),
];

/// A pattern in RE2's syntax.
///
/// # Errors
/// When it does not read, or is larger than any that is of use.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    let failed = |reason: &str| EvalError::failed(format!("error parsing regexp: {reason}: `{pattern}`"));
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(EvalError::failed("error parsing regexp: expression too large"));
    }
    let translated = translate(pattern).ok_or_else(|| failed("invalid repeat count"))?;
    RegexBuilder::new(&translated)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(100)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => failed("expression too large"),
            _ => failed("invalid syntax"),
        })
}

/// RE2's pattern in this engine's syntax: `\d`, `\w`, `\s`, `\b` are ASCII's, a brace that counts nothing is a brace, and
/// classes have no operators.
fn translate(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.char_indices().peekable();
    let mut class = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, 'd')) => out.push_str(if class { "0-9" } else { "[0-9]" }),
                Some((_, 'D')) => out.push_str("[^0-9]"),
                Some((_, 'w')) => out.push_str(if class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some((_, 'W')) => out.push_str("[^0-9A-Za-z_]"),
                Some((_, 's')) => out.push_str(if class { "\\t\\n\\f\\r " } else { "[\\t\\n\\f\\r ]" }),
                Some((_, 'S')) => out.push_str("[^\\t\\n\\f\\r ]"),
                Some((_, 'b')) if !class => out.push_str("(?-u:\\b)"),
                Some((_, 'B')) if !class => out.push_str("(?-u:\\B)"),
                Some((_, 'Q')) if !class => {
                    let rest = &pattern[at + 2..];
                    let literal = rest.split("\\E").next().unwrap_or(rest);
                    out.push_str(&regex::escape(literal));
                    let end = at + 2 + literal.len() + if literal.len() < rest.len() { 2 } else { 0 };
                    while chars.peek().is_some_and(|(i, _)| *i < end) {
                        chars.next();
                    }
                }
                Some((_, e @ ('<' | '>'))) => out.push(e),
                Some((_, e)) => {
                    out.push('\\');
                    out.push(e);
                }
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.next_if(|(_, c)| *c == '^').is_some() {
                    out.push('^');
                }
                if chars.next_if(|(_, c)| *c == ']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if pattern[at..].starts_with("[:") => out.push('['),
            ']' if class && pattern[..at].ends_with(':') && pattern[..at].rfind("[:").is_some_and(|i| i + 2 < at) => {
                let name = &pattern[pattern[..at].rfind("[:").unwrap_or(at)..at];
                out.push(']');
                class = name[2..name.len() - 1].chars().all(|c| c.is_ascii_lowercase() || c == '^');
            }
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            '{' if !class => match counted(&pattern[at..]) {
                Some(largest) if largest > REPEAT_MAX => return None,
                Some(_) => out.push('{'),
                None => out.push_str("\\{"),
            },
            c => out.push(c),
        }
    }
    Some(out)
}

/// The largest number of a repetition `{n}`, `{n,}`, `{n,m}` that the text begins with.
fn counted(text: &str) -> Option<u32> {
    let inner = &text[1..text.find('}')?];
    let (low, high) = inner.split_once(',').unwrap_or((inner, ""));
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u32>().unwrap_or(u32::MAX));
    if low.is_empty() {
        return None;
    }
    let low = number(low)?;
    Some(if high.is_empty() { low } else { low.max(number(high)?) })
}

/// One of the functions with its pattern compiled; the first value is the text.
pub(crate) fn run<'a>(function: &str, pattern: &Regex, values: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let Some(Value::String(text)) = values.first() else { return Err(EvalError::no_overload()) };
    match (function, values.get(2)) {
        ("matches", None) => Ok(Value::Bool(pattern.is_match(text))),
        ("find", None) => Ok(Value::string(pattern.find(text).map_or("", |m| m.as_str()))),
        ("findAll", None) => Ok(all(pattern, text, usize::MAX)),
        ("findAll", Some(Value::Int(limit))) => Ok(all(pattern, text, usize::try_from(*limit).unwrap_or(usize::MAX))),
        _ => Err(EvalError::no_overload()),
    }
}

fn all<'a>(pattern: &Regex, text: &str, limit: usize) -> Value<'a> {
    Value::List(List::new(pattern.find_iter(text).take(limit).map(|m| Value::string(m.as_str())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re2() {
        let check = |pattern: &str, text: &str, want: bool| {
            let regex = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(regex.is_match(text), want, "{pattern} on {text}");
        };
        check(r"^\d+$", "123", true);
        check(r"^\d+$", "\u{663}", false);
        check(r"^[\d]+$", "\u{663}", false);
        check(r"^\w$", "\u{e9}", false);
        check(r"^[^\W]$", "a", true);
        check(r"^{a}$", "{a}", true);
        check(r"^a{2}$", "aa", true);
        check(r"^[a&&b]+$", "a&b", true);
        check(r"^[[:alpha:]_]+$", "a_b", true);
        check(r"^[]a]+$", "]a", true);
        check(r"^[[a]+$", "[a", true);
        check(r"\Qa.b\E+", "a.bbb", true);
        check(r"\Qa.b\E", "axb", false);
        check(r"^\_$", "_", true);
        check(r"\bfoo\b", "a foo b", true);
        check(r"(?i)ABC", "abc", true);
        assert!(compile("[a-").is_err());
        assert!(compile("a{1001}").is_err());
        assert!(compile("(?=a)").is_err());
    }

    #[test]
    fn bombs() {
        assert!(compile("((((a{1000}){1000}){1000}){1000})").is_err());
        assert!(compile(&"(".repeat(10_000)).is_err());
        assert!(compile(&"a".repeat(100_000)).is_err());
    }
}
