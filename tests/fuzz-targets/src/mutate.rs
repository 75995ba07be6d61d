//! Deterministic mutations of seeds, for ordinary tests.

/// A small generator (xorshift), seeded by the round.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % n.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}

/// What parsers take for more than bytes.
const WORDS: [&[u8]; 16] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"null",
    b"-1",
    b"9223372036854775807",
    b"1e309",
    b"\\u0000",
    b"$patch",
    b"\n\n",
    b"..",
    b"(",
    b"\xff",
    b"k8s\0",
];
const CHANGES_MAX: usize = 6;

/// One of the seeds with some changes; the same for the same round. There must be seeds.
pub fn mutated(seeds: &[Vec<u8>], round: u64) -> Vec<u8> {
    let mut random = Random(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(CHANGES_MAX) {
        let at = random.below(data.len() + 1);
        let end = (at + 1 + random.below(16)).min(data.len());
        match random.below(6) {
            0 if at < data.len() => data[at] = random.byte(),
            1 if at < end => drop(data.drain(at..end)),
            2 => data.insert(at, random.byte()),
            3 => drop(data.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let to = (from + 1 + random.below(64)).min(other.len());
                data.splice(at..at, other[from.min(to)..to].iter().copied());
            }
            _ if at < end => {
                let copy = data[at..end].to_vec();
                data.splice(at..at, copy);
            }
            _ => {}
        }
    }
    data
}
