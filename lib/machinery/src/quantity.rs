//! Amounts of resources: `100m`, `1.5Gi`, `12e6`. Parsing, arithmetic and the canonical spelling upstream stores.
//!
//! Held as an integer of nano-units, which is the smallest amount upstream keeps; that reaches to about 1.7e29.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How an amount wants to be spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12M`, `100m`
    #[default]
    DecimalSi,
    /// `12Mi`
    BinarySi,
    /// `12e6`
    DecimalExponent,
}

/// Why a text is no quantity; worded as upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;

/// An amount. Compares by amount alone: `1000m` equals `1`.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
    /// The text as it was parsed, when upstream would print it unchanged.
    text: Option<Box<str>>,
}

impl Quantity {
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSi, text: None };

    pub fn new(value: i64, format: Format) -> Self {
        Self { nano: i128::from(value) * NANO, format, text: None }
    }

    pub fn milli(value: i64, format: Format) -> Self {
        Self { nano: i128::from(value) * (NANO / 1000), format, text: None }
    }

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = split(text)?;
        let (radix, exponent, format) = suffix(parts.suffix)?;
        let digits = parts.whole.len() + parts.fraction.len();
        let mut mantissa: i128 = 0;
        for b in parts.whole.bytes().chain(parts.fraction.bytes()) {
            let grown = mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(b - b'0')));
            mantissa = match grown {
                Some(m) => m,
                None if radix == 2 => i128::MAX,
                None => return Err(QuantityError::Numeric),
            };
        }
        let decimals = i32::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let (nano, format) = if radix == 10 {
            let power = exponent.saturating_sub(decimals).saturating_add(9);
            (scale_up_away(mantissa, power).ok_or(QuantityError::Numeric)?, format)
        } else {
            // Binary amounts are capped at what 64 bits hold.
            let max = i128::from(i64::MAX) * NANO;
            let shifted = mantissa.checked_mul(1i128 << exponent);
            let nano = shifted.and_then(|m| scale_up_away(m, 9 - decimals)).unwrap_or(max).min(max);
            (nano, if nano > 0 && nano < NANO { Format::DecimalSi } else { format })
        };
        let nano = if parts.negative { -nano } else { nano };

        let keep = digits <= 18 && {
            let shifted_ends_000 = ends_000(parts.whole, parts.fraction);
            let leading_zero = parts.whole == "0";
            match format {
                Format::BinarySi => {
                    let precise = parts.whole.len() as i32 + exponent * 3 / 10 < 15;
                    precise && parts.fraction.is_empty() && mantissa & 7 != 0
                }
                _ => {
                    let scale = exponent - decimals;
                    radix == 10 && scale >= -9 && scale % 3 == 0 && !shifted_ends_000 && !leading_zero
                }
            }
        };
        Ok(Self { nano, format, text: keep.then(|| text.into()) })
    }

    /// A JSON string or number, as they stand in objects; null is zero.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, QuantityError> {
        match value {
            serde_json::Value::String(s) => Self::parse(s.trim()),
            serde_json::Value::Number(n) => Self::parse(&n.to_string()),
            serde_json::Value::Null => Ok(Self::ZERO),
            _ => Err(QuantityError::Format),
        }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        clamp(div_away(self.nano, NANO))
    }

    /// Thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        clamp(div_away(self.nano, NANO / 1000))
    }

    /// Whether the amount is a whole number.
    pub fn is_integer(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Rounded up to thousandths, the finest amount a resource may have; spelled as before when nothing is lost.
    #[must_use]
    pub fn round_up_to_milli(self) -> Self {
        const MICRO: i128 = NANO / 1000;
        if self.nano % MICRO == 0 {
            return self;
        }
        Self { nano: div_away(self.nano, MICRO) * MICRO, format: self.format, text: None }
    }

    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Adds; an empty amount takes the other's format. Saturates far beyond what any machine holds.
    pub fn add(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nano = self.nano.saturating_add(other.nano);
        self.text = None;
    }

    pub fn sub(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.nano = self.nano.saturating_sub(other.nano);
        self.text = None;
    }

    #[must_use]
    pub fn neg(&self) -> Self {
        Self { nano: -self.nano, format: self.format, text: None }
    }

    /// The canonical spelling, whatever was parsed.
    pub fn canonical(&self) -> String {
        if self.nano == 0 {
            return "0".to_owned();
        }
        if self.format == Format::BinarySi && self.is_integer() && self.nano.unsigned_abs() >= 1024 * NANO as u128 {
            let mut n = self.nano / NANO;
            let mut i = 0;
            while n % 1024 == 0 && i + 1 < BINARY.len() {
                n /= 1024;
                i += 1;
            }
            return format!("{n}{}", BINARY[i]);
        }
        let (mut n, mut exponent) = (self.nano, -9);
        while n % 10 == 0 {
            n /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 || exponent > 18 {
            n *= 10;
            exponent -= 1;
        }
        match self.format {
            Format::DecimalExponent if exponent == 0 => n.to_string(),
            Format::DecimalExponent => format!("{n}e{exponent}"),
            // The exponent is one of -9, -6 … 18.
            _ => format!("{n}{}", DECIMAL[((exponent + 9) / 3) as usize]),
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

struct Parts<'a> {
    negative: bool,
    /// Without leading zeros, but never empty.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let rest = rest.trim_start_matches('0');
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, mut rest) = rest.split_at(digits(rest));
    let whole = if whole.is_empty() { "0" } else { whole };
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = after.split_at(digits(after));
    }
    let letters = rest.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = rest[letters..].strip_prefix(['+', '-']).unwrap_or(&rest[letters..]);
    if digits(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix: rest })
}

fn suffix(s: &str) -> Result<(u32, i32, Format), QuantityError> {
    if let Some(i) = DECIMAL.iter().position(|d| *d == s) {
        return Ok((10, i as i32 * 3 - 9, Format::DecimalSi));
    }
    if let Some(i) = BINARY.iter().position(|b| *b == s) {
        return Ok((2, i as i32 * 10, Format::BinarySi));
    }
    match s.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
        Some(Ok(exponent)) => Ok((10, exponent, Format::DecimalExponent)),
        _ => Err(QuantityError::Suffix),
    }
}

fn ends_000(whole: &str, fraction: &str) -> bool {
    let mut all = whole.bytes().chain(fraction.bytes()).rev();
    (0..3).all(|_| all.next() == Some(b'0'))
}

/// `n * 10^power`, rounded away from zero; `None` when it does not fit.
fn scale_up_away(n: i128, power: i32) -> Option<i128> {
    if n == 0 {
        return Some(0);
    }
    match u32::try_from(power) {
        Ok(p) => n.checked_mul(10i128.checked_pow(p)?),
        Err(_) => match 10i128.checked_pow(power.unsigned_abs()) {
            Some(divisor) => Some(div_away(n, divisor)),
            None => Some(n.signum()),
        },
    }
}

fn div_away(n: i128, divisor: i128) -> i128 {
    let q = n / divisor;
    if n % divisor == 0 { q } else { q + n.signum() }
}

fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nano.hash(state);
    }
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(d)?;
        Self::from_value(&value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(s: &str) -> Quantity {
        Quantity::parse(s).unwrap_or_else(|e| panic!("{s}: {e}"))
    }

    #[test]
    fn prints_as_upstream() {
        for (input, want) in [
            ("0", "0"),
            ("0n", "0"),
            ("0Gi", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("0.500", "500m"),
            ("1Gi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("1025Ki", "1025Ki"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("1001", "1001"),
            ("12e6", "12e6"),
            ("12000e3", "12e6"),
            ("12E", "12E"),
            ("0.1Ki", "102400m"),
            ("0.5Ki", "512"),
            ("-1.5Gi", "-1536Mi"),
            ("-100m", "-100m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1.1u", "1100n"),
            ("5000000000000000000000", "5000E"),
            ("100Ei", "9223372036854775807"),
            ("9223372036854775807", "9223372036854775807"),
            ("100k", "100k"),
            ("0.001k", "1"),
            ("05", "05"),
            ("+5", "+5"),
            ("1e-3", "1e-3"),
            ("1e-1", "100e-3"),
            ("1e0", "1e0"),
        ] {
            assert_eq!(q(input).to_string(), want, "{input}");
        }
    }

    #[test]
    fn refuses() {
        for (input, want) in [
            ("", QuantityError::Format),
            ("1 ", QuantityError::Format),
            ("1..5", QuantityError::Format),
            ("a", QuantityError::Format),
            ("1Gb", QuantityError::Format),
            ("1gi", QuantityError::Format),
            ("1K", QuantityError::Suffix),
            ("1iK", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e1000", QuantityError::Numeric),
        ] {
            assert_eq!(Quantity::parse(input).unwrap_err(), want, "{input}");
        }
    }

    #[test]
    fn values_round_up() {
        for (input, value, milli) in [
            ("100m", 1, 100),
            ("1.5", 2, 1500),
            ("1n", 1, 1),
            ("-100m", -1, -100),
            ("2Ki", 2048, 2_048_000),
            ("100E", i64::MAX, i64::MAX),
        ] {
            assert_eq!((q(input).value(), q(input).milli_value()), (value, milli), "{input}");
        }
    }

    #[test]
    fn resources_have_thousandths() {
        for (input, want) in [("0.0005", "1m"), ("1.500", "1.500"), ("1n", "1m"), ("-1n", "-1m"), ("5", "5")] {
            assert_eq!(q(input).round_up_to_milli().to_string(), want, "{input}");
        }
    }

    #[test]
    fn arithmetic_and_order() {
        let mut sum = Quantity::default();
        sum.add(&q("1Gi"));
        sum.add(&q("512Mi"));
        assert_eq!(sum.to_string(), "1536Mi");
        sum.sub(&q("1536Mi"));
        assert_eq!(sum.to_string(), "0");
        assert!(q("1000m") == q("1") && q("1Ki") > q("1k") && q("-1") < q("0"));
        assert_eq!(Quantity::new(2048, Format::BinarySi).to_string(), "2Ki");
        assert_eq!(Quantity::milli(1500, Format::DecimalSi).to_string(), "1500m");
        assert_eq!(serde_json::from_str::<Quantity>("4").unwrap().to_string(), "4");
        assert_eq!(serde_json::to_string(&q("1.5Gi")).unwrap(), "\"1536Mi\"");
    }
}
