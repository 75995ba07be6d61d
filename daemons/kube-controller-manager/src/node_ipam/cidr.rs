//! A block of addresses cut into equal parts, of which some are given out. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address block such as `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    base: u128,
    prefix: u8,
    ipv6: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address block such as 10.244.0.0/16")]
pub(crate) struct NotACidr(String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let wrong = || NotACidr(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let (bits, ipv6) = match address {
            IpAddr::V4(a) => (u128::from(u32::from(a)), false),
            IpAddr::V6(a) => (u128::from(a), true),
        };
        let width = if ipv6 { 128 } else { 32 };
        if prefix > width {
            return Err(wrong());
        }
        let cidr = Self { base: bits, prefix, ipv6 };
        Ok(Self { base: bits & !(cidr.size() - 1), ..cidr })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ipv6 {
            write!(f, "{}/{}", Ipv6Addr::from(self.base), self.prefix)
        } else {
            // An IPv4 block holds 32 bits.
            write!(f, "{}/{}", Ipv4Addr::from(self.base as u32), self.prefix)
        }
    }
}

impl Cidr {
    pub(crate) fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    fn width(&self) -> u8 {
        if self.ipv6 { 128 } else { 32 }
    }

    /// How many addresses; all of IPv6 counts as one less, which nobody will miss.
    fn size(&self) -> u128 {
        1u128.checked_shl(u32::from(self.width() - self.prefix)).unwrap_or(u128::MAX)
    }

    fn last(&self) -> u128 {
        self.base.saturating_add(self.size() - 1)
    }

    /// Whether all of the other block is within this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.ipv6 == other.ipv6 && self.base <= other.base && other.last() <= self.last()
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (bits, ipv6) = match address {
            IpAddr::V4(a) => (u128::from(u32::from(a)), false),
            IpAddr::V6(a) => (u128::from(a), true),
        };
        ipv6 == self.ipv6 && (self.base..=self.last()).contains(&bits)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.ipv6 == other.ipv6 && self.base <= other.last() && other.base <= self.last()
    }
}

/// Parts of one block.
#[derive(Clone, Debug)]
pub(crate) struct CidrSet {
    block: Cidr,
    part_prefix: u8,
    used: BTreeSet<u64>,
    /// Where to look for a free part next: freed ones are not given out again at once.
    next: u64,
}

/// More parts than this a block is not cut into.
const PARTS_BITS_MAX: u8 = 16;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CidrSetError {
    #[error("a node's block (/{part}) is larger than the cluster's ({block})")]
    PartTooLarge { block: String, part: u8 },
    #[error("{block} in parts of /{part} makes more than 65536 of them")]
    TooManyParts { block: String, part: u8 },
}

impl CidrSet {
    pub(crate) fn new(block: Cidr, part_prefix: u8) -> Result<Self, CidrSetError> {
        let block_text = block.to_string();
        if part_prefix < block.prefix || part_prefix > block.width() {
            return Err(CidrSetError::PartTooLarge { block: block_text, part: part_prefix });
        }
        if part_prefix - block.prefix > PARTS_BITS_MAX {
            return Err(CidrSetError::TooManyParts { block: block_text, part: part_prefix });
        }
        Ok(Self { block, part_prefix, used: BTreeSet::new(), next: 0 })
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.block.ipv6
    }

    fn parts(&self) -> u64 {
        1 << (self.part_prefix - self.block.prefix)
    }

    fn part(&self, index: u64) -> Cidr {
        let size = Cidr { prefix: self.part_prefix, ..self.block }.size();
        Cidr { base: self.block.base + u128::from(index) * size, prefix: self.part_prefix, ipv6: self.block.ipv6 }
    }

    /// The parts that a block lies in.
    fn indexes(&self, cidr: &Cidr) -> Option<std::ops::RangeInclusive<u64>> {
        if !self.block.overlaps(cidr) {
            return None;
        }
        let size = self.part(0).size();
        let index =
            |address: u128| u64::try_from((address.clamp(self.block.base, self.block.last()) - self.block.base) / size).ok();
        Some(index(cidr.base)?..=index(cidr.last())?)
    }

    pub(crate) fn occupy(&mut self, cidr: &Cidr) {
        if let Some(indexes) = self.indexes(cidr) {
            self.used.extend(indexes);
        }
    }

    pub(crate) fn release(&mut self, cidr: &Cidr) {
        for index in self.indexes(cidr).into_iter().flatten() {
            self.used.remove(&index);
        }
    }

    /// A free part, which counts as used from now on. `None`: all are used.
    pub(crate) fn allocate(&mut self) -> Option<Cidr> {
        let parts = self.parts();
        let index = (0..parts).map(|i| (self.next + i) % parts).find(|i| !self.used.contains(i))?;
        self.used.insert(index);
        self.next = (index + 1) % parts;
        Some(self.part(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn set(block: &str, part: u8) -> CidrSet {
        CidrSet::new(cidr(block), part).unwrap()
    }

    #[test]
    fn blocks_are_read_and_printed() {
        for (text, want) in [
            ("10.244.0.0/16", "10.244.0.0/16"),
            ("10.244.3.7/16", "10.244.0.0/16"),
            ("fd00::1/48", "fd00::/48"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(cidr(text).to_string(), want);
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_given_out_once() {
        let mut s = set("10.244.0.0/30", 32);
        let all: Vec<String> = std::iter::from_fn(|| s.allocate()).map(|c| c.to_string()).collect();
        assert_eq!(all, ["10.244.0.0/32", "10.244.0.1/32", "10.244.0.2/32", "10.244.0.3/32"]);
        s.release(&cidr("10.244.0.2/32"));
        assert_eq!(s.allocate(), Some(cidr("10.244.0.2/32")));
        assert_eq!(s.allocate(), None);
    }

    #[test]
    fn used_parts_and_foreign_blocks_are_left_out() {
        let mut s = set("10.96.0.0/14", 24);
        s.occupy(&cidr("10.96.0.0/24"));
        s.occupy(&cidr("192.168.0.0/16"));
        s.occupy(&cidr("fd00::/64"));
        assert_eq!(s.allocate(), Some(cidr("10.96.1.0/24")));
        // The Services' block lies within the pods'.
        s.occupy(&cidr("10.96.0.0/15"));
        assert_eq!(s.allocate(), Some(cidr("10.98.0.0/24")));
        let mut inside = set("10.244.0.0/16", 24);
        inside.occupy(&cidr("10.0.0.0/8"));
        assert_eq!(inside.allocate(), None);
    }

    #[test]
    fn a_freed_part_is_not_given_out_at_once() {
        let mut s = set("10.244.0.0/16", 24);
        let first = s.allocate().unwrap();
        s.release(&first);
        assert_eq!(s.allocate(), Some(cidr("10.244.1.0/24")));
    }

    #[test]
    fn ipv6_and_limits() {
        assert_eq!(set("fd00:1::/48", 64).allocate().unwrap().to_string(), "fd00:1::/64");
        assert!(CidrSet::new(cidr("10.0.0.0/16"), 15).is_err());
        assert!(CidrSet::new(cidr("fd00::/40"), 64).is_err());
        assert!(CidrSet::new(cidr("10.0.0.0/16"), 33).is_err());
    }
}
