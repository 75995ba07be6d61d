//! Of which requests spans are kept.

use super::context::SpanContext;

pub const MILLION: u32 = 1_000_000;

/// Follows the caller's decision where there is one, else keeps a share of all traces, chosen by their id: every server of a
/// trace that samples at this rate chooses the same ones (OpenTelemetry's ParentBased and TraceIDRatioBased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Of 2^63.
    below: u64,
}

impl Sampler {
    /// `rate` is at most a million.
    pub fn per_million(rate: u32) -> Self {
        let below = u128::from(rate) * (1 << 63) / u128::from(MILLION);
        // At most 2^63.
        Self { below: u64::try_from(below).unwrap_or(1 << 63) }
    }

    pub fn keeps(self, parent: Option<&SpanContext>, trace: &[u8; 16]) -> bool {
        match parent {
            Some(parent) => parent.sampled,
            None => {
                let low = std::array::from_fn(|at| trace[8 + at]);
                u64::from_be_bytes(low) >> 1 < self.below
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_kept() {
        let trace = |high: u8| {
            let mut trace = [0; 16];
            trace[8] = high;
            trace
        };
        let parent = |sampled| SpanContext { trace: trace(1), span: [1; 8], sampled };
        for (rate, parent, high, kept) in [
            (0, None, 0x00, false),
            (MILLION, None, 0xff, true),
            (MILLION / 2, None, 0x7f, true),
            (MILLION / 2, None, 0x80, false),
            (0, Some(parent(true)), 0xff, true),
            (MILLION, Some(parent(false)), 0x00, false),
        ] {
            assert_eq!(Sampler::per_million(rate).keeps(parent.as_ref(), &trace(high)), kept, "{rate} {parent:?} {high:x}");
        }
    }
}
