//! What must be unlike everything else: uids and the ends of generated names.

use ring::rand::{SecureRandom, SystemRandom};

/// A source of random numbers: the kernel's.
pub struct Random(SystemRandom);

impl Default for Random {
    fn default() -> Self {
        Self(SystemRandom::new())
    }
}

impl Random {
    /// A random version 4 UUID.
    pub fn uid(&self) -> String {
        let mut bytes: [u8; 16] = self.bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        hyphenated(bytes)
    }

    pub fn number(&self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        // getrandom(2) fails only on kernels that cannot run this program.
        self.0.fill(&mut bytes).expect("the kernel gives random bytes");
        bytes
    }
}

/// A UUID's text.
fn hyphenated(bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend([byte >> 4, byte & 0xf].map(|half| char::from(DIGITS[usize::from(half)])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        let bytes = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x46, 0x07, 0x88, 0x09, 0x0a, 0x0b, 0xfc, 0xfd, 0xfe, 0xff];
        assert_eq!(hyphenated(bytes), "00010203-0405-4607-8809-0a0bfcfdfeff");
    }
}
