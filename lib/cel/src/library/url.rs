//! URLs, as Go's `net/url` reads those of requests: absolute, or a path.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("url", "string_to_url", "(string) -> url", Cost::Transform, url),
    row("getScheme", "url_get_scheme", "url.() -> string", Cost::Nominal, scheme),
    row("getHost", "url_get_host", "url.() -> string", Cost::Nominal, host),
    row("getHostname", "url_get_hostname", "url.() -> string", Cost::Nominal, hostname),
    row("getPort", "url_get_port", "url.() -> string", Cost::Nominal, port),
    row("getEscapedPath", "url_get_escaped_path", "url.() -> string", Cost::Nominal, escaped_path),
    row("getQuery", "url_get_query", "url.() -> map(string, list(string))", Cost::Nominal, query),
    row("isURL", "is_url_string", "(string) -> bool", Cost::Unit, is_url),
];

#[derive(Clone, Debug)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A URL of a request, or what Go says of it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|reason| format!("parse {text:?}: {reason}"))
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text.is_empty() {
            return Err("empty url".to_owned());
        }
        let (scheme, rest) = scheme_of(text)?;
        let (rest, _) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self {
            text: text.to_owned(),
            scheme: scheme.to_ascii_lowercase(),
            host: String::new(),
            path: String::new(),
            query: query.to_owned(),
        };
        if !rest.starts_with('/') {
            if scheme.is_empty() {
                return Err("invalid URI for request".to_owned());
            }
            return Ok(url); // opaque, as of mailto:
        }
        let mut path = rest;
        if let Some(after) = rest.strip_prefix("//")
            && (!scheme.is_empty() || !rest.starts_with("///"))
        {
            let end = after.find('/').unwrap_or(after.len());
            url.host = authority(&after[..end])?;
            path = &after[end..];
        }
        check_escapes(path)?;
        url.path = path.to_owned();
        Ok(url)
    }

    fn hostname(&self) -> &str {
        let host = self.split_port().0;
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    fn split_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) => {
                (host, port)
            }
            _ => (&self.host, ""),
        }
    }

    fn escaped_path(&self) -> String {
        let mut out = String::with_capacity(self.path.len());
        for b in self.path.bytes() {
            if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&b) {
                out.push(b as char);
            } else {
                out.push_str(&format!("%{b:02X}"));
            }
        }
        out
    }
}

fn scheme_of(text: &str) -> Result<(&str, &str), String> {
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// The host of an authority, without the user.
fn authority(text: &str) -> Result<String, String> {
    let (user, host) = text.rsplit_once('@').map_or((None, text), |(u, h)| (Some(u), h));
    if let Some(user) = user
        && !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b))
    {
        return Err("net/url: invalid userinfo".to_owned());
    }
    let colon_port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |i| &host[i..])
    };
    let digits = colon_port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !colon_port.is_empty() && !digits {
        return Err(format!("invalid port {colon_port:?} after host"));
    }
    check_escapes(host)?;
    match host.chars().find(|c| c.is_ascii() && !(c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(*c))) {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => Ok(unescape(host, false).unwrap_or_else(|| host.to_owned())),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (i, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(i + 1..i + 3);
        if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = text[i..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let digits = std::str::from_utf8(bytes.get(i + 1..i + 3)?).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                i += 2;
            }
            b'+' if plus => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn of<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match args {
        [Value::Opaque(Opaque::Url(url))] => Ok(url),
        _ => Err(EvalError::no_overload()),
    }
}

fn url<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    match Url::parse(s) {
        Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
        Err(reason) => Err(EvalError::failed(format!("URL parse error during conversion from string: {reason}"))),
    }
}

fn is_url<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::Bool(Url::parse(s).is_ok()))
}

fn scheme<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    of(args).map(|url| Value::string(url.scheme.as_str()))
}

fn host<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    of(args).map(|url| Value::string(url.host.as_str()))
}

fn hostname<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    of(args).map(|url| Value::string(url.hostname()))
}

fn port<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    of(args).map(|url| Value::string(url.split_port().1))
}

fn escaped_path<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    of(args).map(|url| Value::string(url.escaped_path()))
}

fn query<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let url = of(args)?;
    meter.work(url.query.len())?;
    let mut map: BTreeMap<Key, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescape(key, true), unescape(value, true)) {
            map.entry(Key::String(key.into())).or_default().push(Value::string(value));
        }
    }
    Ok(Value::Map(Map::new(map.into_iter().map(|(key, values)| (key, Value::List(List::new(values)))).collect())))
}
