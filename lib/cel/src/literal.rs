//! The values of string, bytes and number tokens.

use std::sync::Arc;

use crate::ast::Literal;
use crate::lexer::Kind;

/// The value of a literal token, or what is wrong with it.
pub(crate) fn value(kind: Kind, text: &str, negative: bool) -> Result<Literal, &'static str> {
    match kind {
        Kind::Int => int(text, negative).map(Literal::Int).ok_or("invalid int literal"),
        Kind::Uint => {
            let text = &text[..text.len() - 1];
            radix(text).map(Literal::Uint).ok_or("invalid uint literal")
        }
        Kind::Float => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Literal::Double(if negative { -value } else { value })),
            _ => Err("invalid double literal"),
        },
        Kind::Bytes => unescape(&text[1..], true).map(|bytes| Literal::Bytes(bytes.into())),
        Kind::String => {
            let bytes = unescape(text, false)?;
            String::from_utf8(bytes).map(|s| Literal::String(Arc::from(s))).map_err(|_| "unable to unescape string")
        }
        Kind::Ident | Kind::EscapedIdent | Kind::Symbol | Kind::End => Err("not a literal"),
    }
}

fn radix(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn int(text: &str, negative: bool) -> Option<i64> {
    let magnitude = i128::from(radix(text)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

const BAD_ESCAPE: &str = "unable to unescape string";

/// The bytes of a quoted literal (with an `r` prefix or not).
fn unescape(text: &str, is_bytes: bool) -> Result<Vec<u8>, &'static str> {
    let raw = text.starts_with(['r', 'R']);
    let text = if raw { &text[1..] } else { text };
    let quotes = if text.len() >= 6 && (text.starts_with("\"\"\"") || text.starts_with("'''")) { 3 } else { 1 };
    let inner = text.get(quotes..text.len().saturating_sub(quotes)).ok_or(BAD_ESCAPE)?;
    let inner = inner.replace("\r\n", "\n").replace('\r', "\n");
    if raw || !inner.contains('\\') {
        return Ok(inner.into_bytes());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(&mut out, c);
            continue;
        }
        let escape = chars.next().ok_or(BAD_ESCAPE)?;
        let simple = match escape {
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            '\\' | '\'' | '"' | '`' | '?' => Some(escape),
            _ => None,
        };
        if let Some(simple) = simple {
            push(&mut out, simple);
            continue;
        }
        let mut number = |length: usize, radix: u32, start: u32| {
            let mut value = start;
            for _ in 0..length {
                value = value * radix + chars.next().and_then(|c| c.to_digit(radix)).ok_or(BAD_ESCAPE)?;
            }
            Ok::<u32, &'static str>(value)
        };
        let code = match escape {
            'x' | 'X' => number(2, 16, 0)?,
            '0'..='3' => number(2, 8, u32::from(escape) - u32::from('0'))?,
            'u' if !is_bytes => number(4, 16, 0)?,
            'U' if !is_bytes => number(8, 16, 0)?,
            _ => return Err(BAD_ESCAPE),
        };
        match u8::try_from(code) {
            Ok(byte) if is_bytes => out.push(byte),
            _ => push(&mut out, char::from_u32(code).ok_or("invalid unicode code point")?),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        let check = |text: &str, want: &str| {
            assert_eq!(value(Kind::String, text, false), Ok(Literal::String(want.into())), "{text}");
        };
        check("'a'", "a");
        check("\"\"", "");
        check("''", "");
        check("'''a'b'''", "a'b");
        check("\"\"\"a\nb\"\"\"", "a\nb");
        check(r#"r"a\n""#, r"a\n");
        check(r"'\x41\101\u00e9\U0001F600\n\''", "AA\u{e9}\u{1F600}\n'");
        check("'a\r\nb'", "a\nb");
        assert!(value(Kind::String, r"'\ud800'", false).is_err());
        assert!(value(Kind::String, r"'\q'", false).is_err());
    }

    #[test]
    fn others() {
        assert_eq!(value(Kind::Bytes, r"b'\xff\101'", false), Ok(Literal::Bytes([0xff, 0x41].into())));
        assert_eq!(value(Kind::Bytes, "b'\u{e9}'", false), Ok(Literal::Bytes([0xc3, 0xa9].into())));
        assert!(value(Kind::Bytes, r"b'\u0041'", false).is_err());
        assert_eq!(value(Kind::Int, "9223372036854775808", true), Ok(Literal::Int(i64::MIN)));
        assert!(value(Kind::Int, "9223372036854775808", false).is_err());
        assert_eq!(value(Kind::Int, "0xff", true), Ok(Literal::Int(-255)));
        assert_eq!(value(Kind::Uint, "0xFFu", false), Ok(Literal::Uint(255)));
        assert!(value(Kind::Float, "1e400", false).is_err());
    }
}
