//! The few lines of DER that a certificate is made of.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const OCTET_STRING: u8 = 0x04;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

pub(crate) const NULL: &[u8] = &[0x05, 0x00];
pub(crate) const TRUE: &[u8] = &[0x01, 0x01, 0xff];

/// Tag, length, and the parts one after the other.
pub(crate) fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, parts)
}

/// An unsigned number.
pub(crate) fn integer(big_endian: &[u8]) -> Vec<u8> {
    let significant = &big_endian[big_endian.iter().take_while(|b| **b == 0).count().min(big_endian.len() - 1)..];
    let sign: &[u8] = if significant[0] & 0x80 != 0 { &[0] } else { &[] };
    tagged(INTEGER, &[sign, significant])
}

pub(crate) fn bit_string(unused_bits: u8, bytes: &[u8]) -> Vec<u8> {
    tagged(BIT_STRING, &[&[unused_bits], bytes])
}

pub(crate) fn oid(encoded: &[u8]) -> Vec<u8> {
    tagged(OBJECT_IDENTIFIER, &[encoded])
}

/// RFC 5280: two digits of the year until 2049, four from then on.
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let utc = at.to_zoned(TimeZone::UTC);
    if utc.year() < 2050 {
        tagged(UTC_TIME, &[utc.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
    } else {
        tagged(GENERALIZED_TIME, &[utc.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(tagged(SEQUENCE, &[&[0; 3]])[..2], [0x30, 3]);
        assert_eq!(tagged(SEQUENCE, &[&[0; 200]])[..3], [0x30, 0x81, 200]);
        assert_eq!(tagged(SEQUENCE, &[&[0; 300]])[..4], [0x30, 0x82, 1, 44]);
    }

    #[test]
    fn integers_are_minimal_and_positive() {
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn times() {
        let at = |s: &str| String::from_utf8(time(s.parse().unwrap())[2..].to_vec()).unwrap();
        assert_eq!(at("2049-12-31T23:59:59Z"), "491231235959Z");
        assert_eq!(at("2050-01-01T00:00:00Z"), "20500101000000Z");
    }
}
