//! The keys that end a session with a container and leave its process as it is. Pure.

use crate::kube::{Error, Result};

/// Docker's, and kubectl's.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Bytes that a terminal sends for a sequence of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`: single characters, `DEL`, and `ctrl-` with a letter or one of `@[\\]^_`.
    ///
    /// # Errors
    /// A key that is none of these.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            (&[byte], _) => Ok(byte),
            (b"DEL", _) => Ok(127),
            (_, Some(&[letter @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Ok(letter & 0x1f),
            _ => Err(Error::message(format!("could not bind detach keys: Unknown character: '{key}'"))),
        };
        text.split(',').map(key).collect::<Result<_>>().map(Self)
    }

    pub fn watch(self) -> Watch {
        Watch { keys: self.0, matched: 0 }
    }
}

/// Looks for the keys in what is typed, and holds back what may be their beginning.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    /// Passes on what is typed; true once all keys were seen, which are not passed on.
    pub fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            while self.matched > 0 && byte != self.keys[self.matched] {
                // The shortest part of what was held back that cannot begin the keys goes out.
                let held = &self.keys[..self.matched];
                let kept = (0..self.matched).rev().find(|&kept| held.ends_with(&self.keys[..kept])).unwrap_or(0);
                out.extend_from_slice(&held[..self.matched - kept]);
                self.matched = kept;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
            } else {
                out.push(byte);
            }
            if self.matched == self.keys.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, want: &[u8]| assert_eq!(DetachKeys::parse(text).unwrap().0, want, "{text}");
        check(DEFAULT, &[16, 17]);
        check("", &[16, 17]);
        check("a,ctrl-@,DEL,ctrl-[", &[b'a', 0, 127, 27]);
        for wrong in ["ctrl-", "ctrl-A", "pq", "ctrl-pp", "a,,b"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_typed() {
        let check = |keys: &str, typed: &[&str], want: &str, ends: bool| {
            let (mut watch, mut out) = (DetachKeys::parse(keys).unwrap().watch(), Vec::new());
            let ended = typed.iter().any(|part| watch.pass(part.as_bytes(), &mut out));
            assert_eq!((String::from_utf8(out).unwrap().as_str(), ended), (want, ends), "{keys} {typed:?}");
        };
        check("x,y", &["abxy", "later"], "ab", true);
        check("x,y", &["abx", "y"], "ab", true);
        check("x,y", &["x", "z", "x"], "xz", false);
        check("x,y", &["xxy"], "x", true);
        check("x,x,y", &["xxxy"], "x", true);
        check("x,y,x,z", &["xyxyxz"], "xy", true);
        check("q", &["abcq"], "abc", true);
    }
}
