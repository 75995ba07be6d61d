//! A template's text as plain text and actions, and an action as tokens.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    /// What stands between `{{` and `}}`, and the line it begins on.
    Action(Vec<Token>, usize),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Word(String),
    Dot,
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`
    Variable(String, Vec<String>),
    Literal(Value),
    Pipe,
    Open,
    /// With the fields that follow at once: `(…).a.b`.
    Close(Vec<String>),
    Comma,
    Declare,
    Assign,
}

type Result<T> = std::result::Result<T, (usize, String)>;

/// Splits a template. `{{-` and `-}}` take the white space beside them away.
pub fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut trim) = (text, 1, false);
    while let Some(at) = rest.find("{{") {
        let (before, inside) = (&rest[..at], &rest[at + 2..]);
        let trims = inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace);
        let shown = if trim { before.trim_start() } else { before };
        let shown = if trims { shown.trim_end() } else { shown };
        if !shown.is_empty() {
            pieces.push(Piece::Text(shown.to_owned()));
        }
        line += before.matches('\n').count();
        let inside = if trims { &inside[1..] } else { inside };
        let (action, after) = action(inside).ok_or_else(|| (line, "unclosed action".to_owned()))?;
        let stripped = action.strip_suffix('-').filter(|body| body.is_empty() || body.ends_with(char::is_whitespace));
        trim = stripped.is_some();
        let body = stripped.unwrap_or(action);
        if !body.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(tokens(body).map_err(|error| (line, error))?, line));
        }
        line += action.matches('\n').count();
        rest = after;
    }
    let rest = if trim { rest.trim_start() } else { rest };
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// An action and what follows its `}}`: braces in quotes and comments end nothing.
fn action(text: &str) -> Option<(&str, &str)> {
    if text.trim_start().starts_with("/*") {
        let end = text.find("*/")? + 2;
        let close = text[end..].find("}}")? + end;
        return Some((&text[..close], &text[close + 2..]));
    }
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            Some(end) => {
                if escaped {
                    escaped = false;
                } else if c == '\\' && end != '`' {
                    escaped = true;
                } else if c == end {
                    quote = None;
                }
            }
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some((&text[..at], &text[at + 2..])),
            None => {}
        }
    }
    None
}

fn tokens(body: &str) -> std::result::Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = body.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '"' | '\'' => quoted(rest, first)?,
            '`' => {
                let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
                (Token::Literal(rest[1..=end].into()), &rest[end + 2..])
            }
            '|' => (Token::Pipe, &rest[1..]),
            '(' => (Token::Open, &rest[1..]),
            ')' => {
                let (fields, after) = chain(&rest[1..]);
                (Token::Close(fields), after)
            }
            ',' => (Token::Comma, &rest[1..]),
            ':' if rest.starts_with(":=") => (Token::Declare, &rest[2..]),
            '=' => (Token::Assign, &rest[1..]),
            '$' => {
                let (name, after) = word(&rest[1..]);
                let (fields, after) = chain(after);
                (Token::Variable(name.to_owned(), fields), after)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => match chain(rest) {
                (fields, _) if fields.is_empty() => (Token::Dot, &rest[1..]),
                (fields, after) => (Token::Field(fields), after),
            },
            c if c.is_ascii_digit() || matches!(c, '.' | '+' | '-') => number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let (name, after) = word(rest);
                (keyword(name), after)
            }
            c => return Err(format!("unexpected {c:?} in command")),
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn keyword(name: &str) -> Token {
    match name {
        "true" => Token::Literal(Value::Bool(true)),
        "false" => Token::Literal(Value::Bool(false)),
        "nil" => Token::Literal(Value::Null),
        name => Token::Word(name.to_owned()),
    }
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len()))
}

/// `.a.b` at the beginning of a text.
fn chain(mut text: &str) -> (Vec<String>, &str) {
    let mut fields = Vec::new();
    while let Some(after) = text.strip_prefix('.') {
        let (name, rest) = word(after);
        if name.is_empty() {
            break;
        }
        fields.push(name.to_owned());
        text = rest;
    }
    (fields, text)
}

fn number(text: &str) -> std::result::Result<(Token, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '+' | '-' | '_')).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let plain = digits.replace('_', "");
    let whole = match plain.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => plain.parse::<i64>().ok(),
    };
    let value = whole.map(Value::from).or_else(|| plain.parse::<f64>().ok().map(Value::from));
    let value = value.ok_or_else(|| format!("bad number syntax: {digits:?}"))?;
    Ok((Token::Literal(value), rest))
}

/// A string in double quotes, or a character in single ones, which is a number.
fn quoted(text: &str, quote: char) -> std::result::Result<(Token, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                let token = match (quote, value.chars().next()) {
                    ('\'', Some(only)) => Token::Literal(u32::from(only).into()),
                    _ => Token::Literal(value.into()),
                };
                return Ok((token, &text[at + 1..]));
            }
            '\\' => value.push(match chars.next().map(|(_, escape)| escape) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('a') => '\x07',
                Some('b') => '\x08',
                Some('f') => '\x0c',
                Some('v') => '\x0b',
                Some(hex @ ('x' | 'u' | 'U')) => {
                    let count = match hex {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let digits: String = chars.by_ref().take(count).map(|(_, digit)| digit).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    code.ok_or_else(|| format!("invalid syntax: \\{hex}{digits}"))?
                }
                Some(other) => other,
                None => break,
            }),
            c => value.push(c),
        }
    }
    Err("unterminated quoted string".into())
}
