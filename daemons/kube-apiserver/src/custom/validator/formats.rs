//! The formats of strings that are enforced; others are comments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use machinery::names;
use machinery::regexp::Regex;

/// Names without dashes: `date-time` and `datetime` are one.
const STRINGS: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

fn plain(format: &str) -> String {
    format.replace('-', "")
}

pub(super) fn is_string_format(format: &str) -> bool {
    !format.is_empty() && STRINGS.contains(&plain(format).as_str())
}

/// The format, if values of that type are checked for it; else nothing.
pub(super) fn enforced(format: &str, types: &[&str]) -> String {
    let known = match types {
        [] | ["string"] => is_string_format(format),
        ["integer"] => matches!(format, "int32" | "int64"),
        ["number"] => matches!(format, "float" | "double"),
        _ => false,
    };
    if known { format.to_owned() } else { String::new() }
}

/// Whether the schema's format is one that is not enforced.
pub(in crate::custom) fn unrecognized<'s>(format: &'s str, kind: &str) -> Option<&'s str> {
    let types = if kind.is_empty() { vec![] } else { vec![kind] };
    (!format.is_empty() && enforced(format, &types).is_empty()).then_some(format)
}

macro_rules! pattern {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a constant pattern"));
    };
}

pattern!(
    HOSTNAME,
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
);
pattern!(
    CREDIT_CARD,
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$"
);
pattern!(SSN, r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$");
pattern!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(
    RGB_COLOR,
    r"^rgb\([ \t\n\f\r]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[ \t\n\f\r]*,[ \t\n\f\r]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[ \t\n\f\r]*,[ \t\n\f\r]*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])[ \t\n\f\r]*\)$"
);
pattern!(BASE64, r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$");
pattern!(TIME_OF_DAY, r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$");
pattern!(DURATION_PART, r"([0-9]+)[ \t\n\f\r]*([A-Za-zµ]+)");
pattern!(
    GO_DURATION,
    r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$"
);
pattern!(UUID, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
pattern!(UUID3, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
pattern!(UUID4, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
pattern!(UUID5, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
// What Go's mail parser takes, but for comments and quoted names: an address, alone or in angle brackets behind a name.
pattern!(
    EMAIL,
    r#"^(?:[^<>@,;:"]*<)?(?:[^\s<>@,;:"()\[\]\\.]+(?:\.[^\s<>@,;:"()\[\]\\.]+)*|"[^"\\]*")@(?:[^\s<>@,;:"()\[\]\\.]+(?:\.[^\s<>@,;:"()\[\]\\.]+)*|\[[0-9a-fA-F.:]+\])>?$"#
);

/// Whether the text is of the format.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match plain(format).as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uri" => is_request_uri(text),
        "email" => EMAIL.is_match(text) && text.contains('<') == text.ends_with('>'),
        "hostname" => HOSTNAME.is_match(text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63),
        "ipv4" => text.contains('.') && address(text).is_some(),
        "ipv6" => text.contains(':') && address(text).is_some(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID3.is_match(text),
        "uuid4" => UUID4.is_match(text),
        "uuid5" => UUID5.is_match(text),
        "isbn" => is_isbn(text, 10) || is_isbn(text, 13),
        "isbn10" => is_isbn(text, 10),
        "isbn13" => is_isbn(text, 13),
        "creditcard" => is_credit_card(text),
        "ssn" => SSN.is_match(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "byte" => BASE64.is_match(text),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "datetime" => is_date_time(text),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// An absolute URI or an absolute path, as in the first line of a request.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        return false;
    }
    let escapes_are_whole = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.is_char_boundary(2) && rest[..2].bytes().all(|b| b.is_ascii_hexdigit()));
    let has_scheme = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    escapes_are_whole && (text.starts_with('/') || has_scheme)
}

/// An address whose decimal parts may begin with zeros, as older parsers took them.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part.trim_start_matches('0').parse().ok().or_else(|| part.bytes().all(|b| b == b'0').then_some(0))?;
    }
    parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn is_cidr(text: &str) -> bool {
    let Some((ip, bits)) = text.split_once('/') else { return false };
    let max = if ip.contains(':') { 128 } else { 32 };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    digits && address(ip).is_some() && bits.parse::<u16>().is_ok_and(|bits| bits <= max)
}

/// Six, eight or twenty octets in one of three notations.
fn is_mac(text: &str) -> bool {
    let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts = |separator: char, len: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.iter().all(|part| hex(part, len)).then_some(parts.len() * len / 2)
    };
    [parts(':', 2), parts('-', 2), parts('.', 4)].into_iter().flatten().any(|octets| matches!(octets, 6 | 8 | 20))
}

fn is_isbn(text: &str, digits: usize) -> bool {
    let bare: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'-').collect();
    if bare.len() != digits {
        return false;
    }
    let value = |index: usize, b: u8| match b {
        b'0'..=b'9' => Some(u32::from(b - b'0')),
        b'X' if digits == 10 && index == 9 => Some(10),
        _ => None,
    };
    let values: Option<Vec<u32>> = bare.iter().enumerate().map(|(index, b)| value(index, *b)).collect();
    let Some(values) = values else { return false };
    let weighted = |weight: fn(u32) -> u32| (0u32..).zip(&values).map(|(index, value)| weight(index) * value).sum::<u32>();
    if digits == 10 { weighted(|index| 10 - index) % 11 == 0 } else { weighted(|index| 1 + 2 * (index % 2)) % 10 == 0 }
}

/// The pattern of an issuer, and a checksum that holds (Luhn).
fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let values = digits.bytes().rev().map(|b| u32::from(b - b'0')).enumerate();
    let sum: u32 = values.map(|(index, digit)| if index % 2 == 1 { doubled(digit) } else { digit }).sum();
    CREDIT_CARD.is_match(&digits) && sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let Some(parts) = TIME_OF_DAY.captures(time) else { return false };
    is_date(date) && &parts[1] <= "23" && &parts[2] <= "59" && &parts[3] <= "59"
}

/// `1h30m`, or the form with words: `2 days`.
fn is_duration(text: &str) -> bool {
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    if text == "0" || GO_DURATION.is_match(text) {
        return true;
    }
    DURATION_PART.captures_iter(text).any(|part| {
        let unit = part[2].to_lowercase();
        UNITS.iter().any(|names| names.contains(&unit.as_str()) || names.last().is_some_and(|long| unit.starts_with(long)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_format() {
        let check = |format: &str, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|text| assert!(fits(format, text), "{format}: {text:?}"));
            bad.iter().for_each(|text| assert!(!fits(format, text), "{format}: {text:?}"));
        };
        check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f", "507f1f77bcf86cd79943901g"]);
        check("uri", &["http://a.b/c?d#e", "/path", "urn:x"], &["", "a b", "path", "http://a/%zz"]);
        check("email", &["a.b@c.d", "Joe <joe@x.y>"], &["a", "a@", "@b", "<a@b", "a b@c"]);
        check("hostname", &["somewhere.com", "localhost"], &["", "-a.b", "a..b"]);
        check("ipv4", &["192.168.0.1", "010.0.0.1"], &["1.2.3", "1.2.3.256", "::1"]);
        check("ipv6", &["::1", "fe80::1"], &["1.2.3.4", ":::"]);
        check("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33"]);
        check("mac", &["01:02:03:04:05:06", "0102.0304.0506"], &["01:02:03:04:05", "010203040506"]);
        check("uuid", &["a8098c1a-f86e-11da-bd1a-00112444be1e"], &["a8098c1a"]);
        check("uuid4", &["025b0d74-00a2-4048-bf57-227c5111bb34"], &["bcd02e22-68f0-3046-a512-327cca9def8f"]);
        check("isbn10", &["0321751043"], &["0321751044", "032175104"]);
        check("isbn13", &["978-0321751041"], &["978-0321751042"]);
        check("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112", "1"]);
        check("ssn", &["111-11-1111"], &["111-111-111"]);
        check("hexcolor", &["#FFF", "aabbcc"], &["#FF"]);
        check("rgbcolor", &["rgb(1, 2,255)"], &["rgb(1,2,256)"]);
        check("byte", &["aGVsbG8="], &["hello!", "aGVsbG8"]);
        check("password", &["", "anything"], &[]);
        check("date", &["2020-02-29"], &["2021-02-29", "2020-2-9"]);
        check("duration", &["1h30m", "22 ns", "3 weeks", "0"], &["", "h", "x"]);
        check("date-time", &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"], &["2014-12-15", "2014-12-15T24:30:20Z"]);
        check("k8s-short-name", &["a-b"], &["A", "a.b"]);
        check("k8s-long-name", &["a-b.c"], &["A", "-a"]);
    }

    #[test]
    fn formats_by_type() {
        assert_eq!(enforced("date-time", &["string"]), "date-time");
        assert_eq!(enforced("int32", &["integer"]), "int32");
        for (format, types) in [("int32", &["string"][..]), ("int32", &["integer", "string"]), ("date", &["integer"]), ("x", &[])]
        {
            assert_eq!(enforced(format, types), "", "{format}");
        }
    }
}
