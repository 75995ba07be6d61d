//! Regular expressions as Go writes them (RE2), for patterns in schemas and rules.
//!
//! Both engines run in linear time and share nearly all of their syntax. What differs is translated: Perl classes are ASCII in
//! Go, a brace that begins no repetition is itself, and a bracket inside a class is itself.

pub use regex::Regex;

/// Compiled programs are no larger than this: patterns come from users.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// Compiles a pattern of Go's syntax.
///
/// # Errors
/// The parser's message, when it is no valid pattern.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(&translate(pattern)).size_limit(PROGRAM_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        other => other.to_string(),
    })
}

/// The same pattern for the engine used here.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    // The length of the output where the innermost class began, while inside one.
    let mut class: Option<usize> = None;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = match (c, class) {
            ('\\', _) => escape(tail, class.is_some(), &mut out),
            ('[', None) => {
                out.push('[');
                let tail = tail.strip_prefix('^').inspect(|_| out.push('^')).unwrap_or(tail);
                class = Some(out.len());
                // A bracket in the first place is itself.
                tail.strip_prefix(']').inspect(|_| out.push_str("\\]")).unwrap_or(tail)
            }
            ('[', Some(_)) if tail.starts_with(':') => {
                let end = tail.find(":]").map_or(0, |end| end + 2);
                out.push('[');
                out.push_str(&tail[..end]);
                &tail[end..]
            }
            ('[' | '&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
                tail
            }
            ('-', Some(start)) if tail.starts_with('-') || out.len() == start => {
                out.push_str("\\-");
                tail
            }
            (']', Some(_)) => {
                class = None;
                out.push(']');
                tail
            }
            ('{', None) if !is_repetition(tail) => {
                out.push_str("\\{");
                tail
            }
            _ => {
                out.push(c);
                tail
            }
        };
    }
    out
}

/// Writes what follows a backslash, and gives what is left.
fn escape<'p>(tail: &'p str, in_class: bool, out: &mut String) -> &'p str {
    let Some(c) = tail.chars().next() else {
        out.push('\\');
        return tail;
    };
    let after = &tail[c.len_utf8()..];
    match c {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' if !in_class => out.push_str("(?-u:\\b)"),
        'Q' if !in_class => {
            let (literal, after) = after.split_once("\\E").unwrap_or((after, ""));
            out.push_str(&regex::escape(literal));
            return after;
        }
        // Punctuation may be escaped whether or not it needs it; the engine here is choosier about letters only.
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    after
}

/// `3}`, `3,}`, `3,5}`
fn is_repetition(tail: &str) -> bool {
    let Some((inner, _)) = tail.split_once('}') else { return false };
    let (from, to) = inner.split_once(',').unwrap_or((inner, ""));
    !from.is_empty() && from.chars().chain(to.chars()).all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        let check = |pattern: &str, text: &str, expected: bool| {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), expected, "{pattern} on {text:?} as {}", translate(pattern));
        };
        check(r"^\d+$", "123", true);
        check(r"^\d+$", "١٢٣", false);
        check(r"^[\w.-]+$", "a.b-c_1", true);
        check(r"^\w$", "é", false);
        check(r"^{x}$", "{x}", true);
        check(r"^a{2,3}$", "aaa", true);
        check(r"^a{,2}$", "a{,2}", true);
        check(r"^[[]$", "[", true);
        check(r"^[]a]$", "]", true);
        check(r"^[^]a]$", "b", true);
        check(r"^[[:alpha:]-]+$", "a-b", true);
        check(r"^[a&&b]+$", "a&b", true);
        check(r"^[-a]+$", "-a", true);
        check(r"\Qa.b\E$", "a.b", true);
        check(r"\Qa.b\E$", "axb", false);
        check(r"^\pL+$", "éa", true);
        check(r"\/path", "/path", true);
        check("b", "abc", true);
    }

    #[test]
    fn what_is_no_pattern() {
        for pattern in ["(", "[a", "*a", r"\8"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
