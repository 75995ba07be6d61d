//! Text to tokens.

use crate::error::{CompileError, Source};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ident,
    /// In backquotes, only after a dot.
    EscapedIdent,
    Int,
    Uint,
    Float,
    String,
    Bytes,
    /// An operator, a bracket, or one of the words `in true false null`: compare the text.
    Symbol,
    End,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'s> {
    pub kind: Kind,
    pub text: &'s str,
    /// In code points.
    pub offset: u32,
}

const WORDS: [&str; 4] = ["in", "true", "false", "null"];
const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*", "/", "%",
];

/// Every token, and every place where none begins.
pub(crate) fn tokens<'s>(text: &'s str, source: &Source) -> (Vec<Token<'s>>, Vec<CompileError>) {
    let (mut tokens, mut errors) = (Vec::new(), Vec::new());
    let (mut at, mut offset) = (0, 0u32);
    while at < text.len() {
        let rest = &text[at..];
        let length = match next(rest) {
            Ok(None) => blank(rest),
            Ok(Some((kind, length))) => {
                tokens.push(Token { kind, text: &rest[..length], offset });
                length
            }
            Err(length) => {
                let shown = rest[..length].replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r");
                errors.push(source.error(offset, format!("Syntax error: token recognition error at: '{shown}'")));
                length
            }
        };
        offset += u32::try_from(rest[..length].chars().count()).unwrap_or(u32::MAX);
        at += length;
    }
    tokens.push(Token { kind: Kind::End, text: "<EOF>", offset });
    (tokens, errors)
}

/// Length of the white space or comment that the text begins with.
fn blank(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    rest.find(|c: char| !is_space(c)).unwrap_or(rest.len())
}

fn is_space(c: char) -> bool {
    matches!(c, '\t' | ' ' | '\r' | '\n' | '\u{c}')
}

/// The token that the text begins with and its length in bytes; nothing for white space; the length of what is no token.
fn next(rest: &str) -> Result<Option<(Kind, usize)>, usize> {
    let bytes = rest.as_bytes();
    let first = bytes[0];
    if is_space(first as char) || rest.starts_with("//") {
        return Ok(None);
    }
    match string(rest) {
        // What begins like a prefix may be a name.
        Some(Err(_)) if first.is_ascii_alphabetic() => {}
        Some(found) => return found.map(Some),
        None => {}
    }
    if first.is_ascii_digit() || (first == b'.' && bytes.get(1).is_some_and(u8::is_ascii_digit)) {
        return Ok(Some(number(bytes)));
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        let length = bytes.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(bytes.len());
        let kind = if WORDS.contains(&&rest[..length]) { Kind::Symbol } else { Kind::Ident };
        return Ok(Some((kind, length)));
    }
    if first == b'`' {
        let inner = rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || "_.-/ ".contains(c))).unwrap_or(rest.len() - 1);
        if inner > 0 && bytes.get(1 + inner) == Some(&b'`') {
            return Ok(Some((Kind::EscapedIdent, inner + 2)));
        }
        return Err(1 + inner);
    }
    match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
        Some(symbol) => Ok(Some((Kind::Symbol, symbol.len()))),
        None => Err(rest.chars().next().map_or(1, char::len_utf8)),
    }
}

fn digits(bytes: &[u8], test: fn(&u8) -> bool) -> usize {
    bytes.iter().position(|b| !test(b)).unwrap_or(bytes.len())
}

fn number(bytes: &[u8]) -> (Kind, usize) {
    if bytes.starts_with(b"0x") {
        let hex = digits(&bytes[2..], u8::is_ascii_hexdigit);
        if hex > 0 {
            let unsigned = matches!(bytes.get(2 + hex), Some(b'u' | b'U'));
            return if unsigned { (Kind::Uint, 3 + hex) } else { (Kind::Int, 2 + hex) };
        }
    }
    let mut at = digits(bytes, u8::is_ascii_digit);
    let mut float = false;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(&bytes[at + 1..], u8::is_ascii_digit);
        if fraction > 0 {
            float = true;
            at += 1 + fraction;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(bytes.get(at + 1 + sign..).unwrap_or_default(), u8::is_ascii_digit);
        if exponent > 0 {
            float = true;
            at += 1 + sign + exponent;
        }
    }
    match bytes.get(at) {
        _ if float => (Kind::Float, at),
        Some(b'u' | b'U') => (Kind::Uint, at + 1),
        _ => (Kind::Int, at),
    }
}

/// A string or bytes literal with its prefix and quotes. `None` when the text does not begin with one.
fn string(rest: &str) -> Option<Result<(Kind, usize), usize>> {
    let bytes = rest.as_bytes();
    let mut at = 0;
    let mut kind = Kind::String;
    if matches!(bytes[at], b'b' | b'B') {
        kind = Kind::Bytes;
        at += 1;
    }
    let raw = matches!(bytes.get(at), Some(b'r' | b'R'));
    at += usize::from(raw);
    let quote = *bytes.get(at).filter(|b| matches!(b, b'"' | b'\''))?;
    let triple = bytes[at..].starts_with(&[quote; 3]);
    at += if triple { 3 } else { 1 };
    loop {
        match bytes.get(at) {
            None => return Some(Err(rest.len())),
            Some(b'\\') if !raw => {
                // Which escapes exist is decided when the literal is read.
                let escaped = rest.get(at + 1..).and_then(|r| r.chars().next()).map_or(0, char::len_utf8);
                if escaped == 0 {
                    return Some(Err(rest.len()));
                }
                at += 1 + escaped;
            }
            Some(b'\n' | b'\r') if !triple => return Some(Err(at)),
            Some(&b) if b == quote && !triple => return Some(Ok((kind, at + 1))),
            Some(&b) if b == quote && bytes[at..].starts_with(&[quote; 3]) => return Some(Ok((kind, at + 3))),
            Some(_) => at += 1,
        }
    }
}
