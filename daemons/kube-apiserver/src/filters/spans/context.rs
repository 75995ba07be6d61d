//! W3C trace context: which trace a request belongs to, as the header `traceparent` says.

use std::fmt;

use http::HeaderMap;

pub const HEADER: &str = "traceparent";
const SAMPLED: u8 = 1;

/// The span of whoever sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub sampled: bool,
}

impl SpanContext {
    /// None when there is no such header, or it is not what the standard says.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(HEADER).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() { None } else { Self::parse(value) }
    }

    /// `00-TRACE-SPAN-FLAGS`; a later version may append more.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let [version] = hex(parts.next()?)?;
        let (trace, span, [flags]) = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?);
        let more = parts.next().is_some();
        let known = version != 0xff && !(version == 0 && more);
        (known && trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.sampled))
    }
}

/// Lower-case digits of exactly that many bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_a_context() {
        let context = SpanContext::parse(GOOD).unwrap();
        assert_eq!((context.trace[0], context.span[7], context.sampled), (0x0a, 0x31, true));
        assert_eq!(context.to_string(), GOOD);
        for (text, sampled) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false)),
            // Unknown flags are passed over, and so is what a later version adds.
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fd", Some(true)),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", Some(true)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", None),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
            ("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", None),
            ("00-é0af7651916cd43dd8448eb211c803-b7ad6b7169203331-01", None),
            ("", None),
        ] {
            assert_eq!(SpanContext::parse(text).map(|context| context.sampled), sampled, "{text}");
        }
    }

    #[test]
    fn two_headers_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(SpanContext::of(&headers), None);
        headers.append(HEADER, GOOD.parse().unwrap());
        assert_eq!(SpanContext::of(&headers).unwrap().to_string(), GOOD);
        headers.append(HEADER, GOOD.parse().unwrap());
        assert_eq!(SpanContext::of(&headers), None);
    }
}
