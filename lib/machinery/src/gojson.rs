//! Where Go's reader stops in text that is no JSON, in its words: clients show them, and scripts look for them.

use crate::gotext::quote;

/// What Go's `encoding/json` says of the text; none when it is one JSON value.
pub fn syntax_error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0, depth: 0 };
    scanner.document().err().map(|wrong| match wrong {
        Wrong::End => "unexpected end of JSON input".to_owned(),
        Wrong::Byte(byte, context) => format!("invalid character {} {context}", character(byte)),
        Wrong::Deep => "exceeded max depth".to_owned(),
    })
}

/// Nesting that Go reads.
const DEPTH_MAX: usize = 10_000;

enum Wrong {
    End,
    Byte(u8, &'static str),
    Deep,
}

/// A character as Go quotes it.
fn character(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        0..0x80 => {
            let quoted = quote(&char::from(byte).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
        _ => format!("'\\x{byte:02x}'"),
    }
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    depth: usize,
}

const VALUE: &str = "looking for beginning of value";
const KEY: &str = "looking for beginning of object key string";

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), Wrong> {
        self.value(VALUE)?;
        match self.token() {
            Err(_) => Ok(()),
            Ok(byte) => Err(Wrong::Byte(byte, "after top-level value")),
        }
    }

    fn next(&mut self) -> Result<u8, Wrong> {
        let byte = *self.text.get(self.at).ok_or(Wrong::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next byte that is no space.
    fn token(&mut self) -> Result<u8, Wrong> {
        loop {
            match self.next()? {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                byte => return Ok(byte),
            }
        }
    }

    fn value(&mut self, context: &'static str) -> Result<(), Wrong> {
        let byte = self.token()?;
        self.value_from(byte, context)
    }

    fn value_from(&mut self, byte: u8, context: &'static str) -> Result<(), Wrong> {
        match byte {
            b'{' => self.nested(Self::object),
            b'[' => self.nested(Self::array),
            b'"' => self.string(),
            b't' => self.word([
                (b'r', "in literal true (expecting 'r')"),
                (b'u', "in literal true (expecting 'u')"),
                (b'e', "in literal true (expecting 'e')"),
            ]),
            b'f' => self.word([
                (b'a', "in literal false (expecting 'a')"),
                (b'l', "in literal false (expecting 'l')"),
                (b's', "in literal false (expecting 's')"),
                (b'e', "in literal false (expecting 'e')"),
            ]),
            b'n' => self.word([
                (b'u', "in literal null (expecting 'u')"),
                (b'l', "in literal null (expecting 'l')"),
                (b'l', "in literal null (expecting 'l')"),
            ]),
            b'-' | b'0'..=b'9' => self.number(byte),
            other => Err(Wrong::Byte(other, context)),
        }
    }

    fn nested(&mut self, inside: fn(&mut Self) -> Result<(), Wrong>) -> Result<(), Wrong> {
        self.depth += 1;
        // Deeper than this crate reads: what is wrong there does not matter, and the stack is spared.
        if self.depth > DEPTH_MAX.min(crate::json::DEPTH_MAX) {
            return Err(Wrong::Deep);
        }
        inside(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn object(&mut self) -> Result<(), Wrong> {
        let mut first = true;
        loop {
            match self.token()? {
                b'"' => self.string()?,
                b'}' if first => return Ok(()),
                other => return Err(Wrong::Byte(other, KEY)),
            }
            first = false;
            match self.token()? {
                b':' => {}
                other => return Err(Wrong::Byte(other, "after object key")),
            }
            self.value(VALUE)?;
            match self.token()? {
                b',' => {}
                b'}' => return Ok(()),
                other => return Err(Wrong::Byte(other, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<(), Wrong> {
        let mut byte = self.token()?;
        if byte == b']' {
            return Ok(());
        }
        loop {
            self.value_from(byte, VALUE)?;
            match self.token()? {
                b',' => byte = self.token()?,
                b']' => return Ok(()),
                other => return Err(Wrong::Byte(other, "after array element")),
            }
        }
    }

    fn string(&mut self) -> Result<(), Wrong> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.next()?;
                            if !byte.is_ascii_hexdigit() {
                                return Err(Wrong::Byte(byte, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    other => return Err(Wrong::Byte(other, "in string escape code")),
                },
                other if other < 0x20 => return Err(Wrong::Byte(other, "in string literal")),
                _ => {}
            }
        }
    }

    fn word<const N: usize>(&mut self, rest: [(u8, &'static str); N]) -> Result<(), Wrong> {
        for (want, context) in rest {
            let byte = self.next()?;
            if byte != want {
                return Err(Wrong::Byte(byte, context));
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn digit(&mut self, context: &'static str) -> Result<u8, Wrong> {
        match self.next()? {
            byte @ b'0'..=b'9' => Ok(byte),
            other => Err(Wrong::Byte(other, context)),
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Wrong> {
        let first = if first == b'-' { self.digit("in numeric literal")? } else { first };
        if first != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_words_of_go() {
        for (text, want) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("{\"a\":x}", "invalid character 'x' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("tru", "unexpected end of JSON input"),
            ("trxe", "invalid character 'x' in literal true (expecting 'u')"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u00z0\"", "invalid character 'z' in \\u hexadecimal character escape"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
            ("01", "invalid character '1' after top-level value"),
        ] {
            assert_eq!(syntax_error(text.as_bytes()).as_deref(), Some(want), "{text}");
        }
        assert_eq!(syntax_error(b"\xcf").as_deref(), Some("invalid character '\\xcf' looking for beginning of value"));
        assert_eq!(syntax_error("[".repeat(100_000).as_bytes()).as_deref(), Some("exceeded max depth"));
        for text in [" {\"a\": [1, -0.5e+3, true, false, null, \"\\u00e9\\n\"], \"b\": {}} ", "1", "\"x\"", "[]"] {
            assert_eq!(syntax_error(text.as_bytes()), None, "{text}");
        }
    }
}
