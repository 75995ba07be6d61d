//! What a plain (unquoted) scalar would be read as by a YAML 1.1 reader: a string must be quoted when it would not come
//! back as a string.

/// Whether `s` unquoted would be read as something else than a string, or by some readers might be.
pub(super) fn is_ambiguous(s: &str) -> bool {
    is_word(s) || is_number(s) || is_timestamp(s) || is_base60(s)
}

fn is_word(s: &str) -> bool {
    matches!(
        s,
        "" | "~"
            | "null"
            | "Null"
            | "NULL"
            | "y"
            | "Y"
            | "yes"
            | "Yes"
            | "YES"
            | "true"
            | "True"
            | "TRUE"
            | "on"
            | "On"
            | "ON"
            | "n"
            | "N"
            | "no"
            | "No"
            | "NO"
            | "false"
            | "False"
            | "FALSE"
            | "off"
            | "Off"
            | "OFF"
            | ".nan"
            | ".NaN"
            | ".NAN"
            | ".inf"
            | ".Inf"
            | ".INF"
            | "+.inf"
            | "+.Inf"
            | "+.INF"
            | "-.inf"
            | "-.Inf"
            | "-.INF"
    )
}

fn is_number(s: &str) -> bool {
    match s.as_bytes().first() {
        Some(b'.') => is_float(s),
        Some(b'+' | b'-' | b'0'..=b'9') => {
            let plain = s.replace('_', "");
            is_integer(&plain) || is_float(&plain)
        }
        _ => false,
    }
}

/// A 64-bit integer with Go's prefixes: 0x, 0o, 0b, and a leading 0 for octal.
fn is_integer(s: &str) -> bool {
    let (negative, digits) = match s.as_bytes().first() {
        Some(b'-') => (true, &s[1..]),
        Some(b'+') => (false, &s[1..]),
        _ => (false, s),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(d) = lower.strip_prefix("0x") {
        (16, d)
    } else if let Some(d) = lower.strip_prefix("0b") {
        (2, d)
    } else if let Some(d) = lower.strip_prefix("0o") {
        (8, d)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return false;
    }
    match u64::from_str_radix(digits, radix) {
        // A sign is read only with what fits a signed integer.
        Ok(n) if negative => n <= i64::MIN.unsigned_abs(),
        Ok(n) if s.starts_with('+') => i64::try_from(n).is_ok(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(s: &str) -> bool {
    let s = s.strip_prefix(['+', '-']).unwrap_or(s);
    let (mantissa, exponent) = match s.find(['e', 'E']) {
        Some(i) => (&s[..i], Some(&s[i + 1..])),
        None => (s, None),
    };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        None => !mantissa.is_empty() && digits(mantissa),
        Some(("", fraction)) => !fraction.is_empty() && digits(fraction),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
    };
    let exponent_ok = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    // Out of range is no number to Go.
    mantissa_ok && exponent_ok && s.parse::<f64>().is_ok_and(f64::is_finite)
}

/// `1:30`, `12:30:45.5`: base 60, which some readers still know.
fn is_base60(s: &str) -> bool {
    let s = s.strip_prefix(['+', '-']).unwrap_or(s);
    let mut parts = s.split(':');
    let first = parts.next().unwrap_or_default();
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !first.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return false;
    }
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else {
        return false;
    };
    let sixty = |t: &str| match t.as_bytes() {
        [b] => b.is_ascii_digit(),
        [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
        _ => false,
    };
    let (whole, fraction) = last.split_once('.').unwrap_or((last, ""));
    middle.iter().all(|t| sixty(t)) && sixty(whole) && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

/// `2026-01-02`, with or without a time behind it.
fn is_timestamp(s: &str) -> bool {
    let b = s.as_bytes();
    if b.len() < 8 || b[4] != b'-' || !b[..4].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let mut rest = &s[5..];
    let year: i16 = s[..4].parse().unwrap_or(0);
    let Some(month) = number(&mut rest, 2) else { return false };
    let Some(after) = rest.strip_prefix('-') else { return false };
    rest = after;
    let Some(day) = number(&mut rest, 2) else { return false };
    let date = i8::try_from(month).ok().zip(i8::try_from(day).ok());
    if date.is_none_or(|(m, d)| jiff::civil::Date::new(year, m, d).is_err()) {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    let with_zone = rest.starts_with(['T', 't']);
    if !with_zone && !rest.starts_with(' ') {
        return false;
    }
    rest = &rest[1..];
    for (i, max) in [23, 59, 59].into_iter().enumerate() {
        if i > 0 {
            let Some(after) = rest.strip_prefix(':') else { return false };
            rest = after;
        }
        if number(&mut rest, 2).is_none_or(|n| n > max) {
            return false;
        }
    }
    if let Some(after) = rest.strip_prefix(['.', ',']) {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return false;
        }
        rest = &after[digits..];
    }
    if !with_zone {
        return rest.is_empty();
    }
    match rest.as_bytes() {
        [b'Z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) && rest[1..3] <= *"24" && rest[4..6] < *"60"
        }
        _ => false,
    }
}

fn number(rest: &mut &str, digits_max: usize) -> Option<u8> {
    let n = rest.bytes().take(digits_max).take_while(u8::is_ascii_digit).count();
    let value = rest[..n].parse().ok()?;
    *rest = &rest[n..];
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous() {
        for s in [
            "",
            "~",
            "yes",
            "No",
            "on",
            "y",
            "true",
            "null",
            "1",
            "-1",
            "+1",
            "0644",
            "0o17",
            "0x1F",
            "0b1",
            "1_000",
            "1.5",
            ".5",
            "1e3",
            "1.",
            "089",
            "1:30",
            "12:30:45",
            "2026-01-02",
            "2026-1-2T3:4:5Z",
            "2026-01-02T03:04:05.123456Z",
            "2026-01-02 03:04:05",
            ".inf",
            "18446744073709551615",
            "12e5",
        ] {
            assert!(is_ambiguous(s), "{s:?}");
        }
        for s in [
            "a",
            "yess",
            "1a",
            "1.36.0",
            "0x",
            "--1",
            ".",
            "-",
            "2026-13-01",
            "2026-02-30",
            "10.96.0.1",
            "10Gi",
            "100m",
            "1:60",
            "a:1",
            "1.5.2",
            "e5",
            "99999999999999999999999e999",
            "tRue",
            "2026-01-02T03:04:05",
            "<<",
            "=",
        ] {
            assert!(!is_ambiguous(s), "{s:?}");
        }
    }
}
