//! Ranges of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

/// A range that is not written as one.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a range of addresses such as 10.96.0.0/12")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (base, bits) = text.trim().split_once('/')?;
            let base: IpAddr = base.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            (bits <= if base.is_ipv4() { 32 } else { 128 }).then(|| Self { base, bits }.masked())
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl Cidr {
    fn host_bits(self) -> u32 {
        (if self.base.is_ipv4() { 32 } else { 128 }) - u32::from(self.bits)
    }

    fn number(self) -> u128 {
        match self.base {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    fn masked(self) -> Self {
        let kept = if self.host_bits() >= 128 { 0 } else { (self.number() >> self.host_bits()) << self.host_bits() };
        Self { base: self.address(kept), ..self }
    }

    fn address(self, number: u128) -> IpAddr {
        match self.base {
            // Numbers of this family came from 32 bits.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }

    /// How many addresses can be given: not the first, and in IPv4 not the last.
    pub(super) fn usable(self) -> u128 {
        let all = if self.host_bits() >= 64 { 1 << 64 } else { 1u128 << self.host_bits() };
        all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 })
    }

    /// The n-th address that can be given, from 0. The server itself has number 0.
    pub fn nth(self, n: u128) -> IpAddr {
        self.address(self.number() + 1 + n)
    }

    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && Self { base: address, bits: self.bits }.masked().base == self.base
    }

    pub fn family(self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}
