//! Semantic versions.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("semver", "string_to_semver", "(string) -> semver", Cost::Parse, semver),
    row("semver", "string_bool_to_semver", "(string, bool) -> semver", Cost::Parse, semver),
    row("isSemver", "is_semver_string", "(string) -> bool", Cost::Parse, is_semver),
    row("isSemver", "is_semver_string_bool", "(string, bool) -> bool", Cost::Parse, is_semver),
    row("isGreaterThan", "semver_is_greater_than", "semver.(semver) -> bool", Cost::Nominal, is_greater),
    row("isLessThan", "semver_is_less_than", "semver.(semver) -> bool", Cost::Nominal, is_less),
    row("compareTo", "semver_compare_to", "semver.(semver) -> int", Cost::Nominal, compare_to),
    row("major", "semver_major", "semver.() -> int", Cost::Nominal, major),
    row("minor", "semver_minor", "semver.() -> int", Cost::Nominal, minor),
    row("patch", "semver_patch", "semver.() -> int", Cost::Nominal, patch),
];

#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Part>,
    build: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(s) => s.fmt(f),
        }
    }
}

fn is_word(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_number(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit())
}

fn number(name: &str, shown: &str, text: &str) -> Result<u64, String> {
    if !is_number(text) || text.is_empty() {
        return Err(format!("Invalid character(s) found in {shown} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let major = number("Major", "major", major)?;
        let minor = number("Minor", "minor", minor)?;
        let (rest, build) = rest.split_once('+').map_or((*rest, None), |(r, b)| (r, Some(b)));
        let (patch, pre) = rest.split_once('-').map_or((rest, None), |(p, r)| (p, Some(r)));
        let patch = number("Patch", "patch", patch)?;
        let pre = pre.map(|pre| pre.split('.').map(pre_release).collect()).transpose()?.unwrap_or_default();
        let build = build.map(|build| build.split('.').map(metadata).collect()).transpose()?.unwrap_or_default();
        Ok(Self { numbers: [major, minor, patch], pre, build })
    }

    /// The same of a sloppy text: a `v` before it, missing parts, leading zeros.
    fn normalized(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let trimmed = part.trim_start_matches('0');
                let begins = trimmed.starts_with(|c: char| c.is_ascii_digit());
                *part = if begins { trimmed.to_owned() } else { format!("0{trimmed}") };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("Short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Self::parse(&parts.join("."))
    }

    /// The order of versions: build metadata does not count, a pre-release comes before its release.
    pub fn order(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        })
    }
}

fn pre_release(part: &str) -> Result<Part, String> {
    if part.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if is_number(part) {
        if part.len() > 1 && part.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
        }
        return part.parse().map(Part::Number).map_err(|e| e.to_string());
    }
    if is_word(part) {
        Ok(Part::Text(part.to_owned()))
    } else {
        Err(format!("Invalid character(s) found in prerelease {part:?}"))
    }
}

fn metadata(part: &str) -> Result<String, String> {
    if part.is_empty() {
        return Err("Build meta data is empty".to_owned());
    }
    if is_word(part) { Ok(part.to_owned()) } else { Err(format!("Invalid character(s) found in build meta data {part:?}")) }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (i, part) in self.pre.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { '-' } else { '.' })?;
        }
        for (i, part) in self.build.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { '+' } else { '.' })?;
        }
        Ok(())
    }
}

fn parsed(args: &[Value<'_>]) -> Result<Result<Semver, String>, EvalError> {
    match args {
        [Value::String(s)] | [Value::String(s), Value::Bool(false)] => Ok(Semver::parse(s)),
        [Value::String(s), Value::Bool(true)] => Ok(Semver::normalized(s)),
        _ => Err(EvalError::no_overload()),
    }
}

fn one<'v>(args: &'v [Value<'_>]) -> Result<&'v Semver, EvalError> {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => Ok(version),
        _ => Err(EvalError::no_overload()),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match args {
        [Value::Opaque(Opaque::Semver(x)), Value::Opaque(Opaque::Semver(y))] => Ok(x.order(y)),
        _ => Err(EvalError::no_overload()),
    }
}

fn semver<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    parsed(args)?.map(|v| Value::Opaque(Opaque::Semver(Arc::new(v)))).map_err(EvalError::Failed)
}

fn is_semver<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(parsed(args)?.is_ok()))
}

fn is_greater<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|o| Value::Bool(o.is_gt()))
}

fn is_less<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|o| Value::Bool(o.is_lt()))
}

fn compare_to<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|o| Value::Int(o as i64))
}

fn part<'a>(args: &[Value<'a>], index: usize) -> Outcome<'a> {
    one(args).map(|v| Value::Int(i64::try_from(v.numbers[index]).unwrap_or(i64::MAX)))
}

fn major<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, 0)
}

fn minor<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, 1)
}

fn patch<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, 2)
}
