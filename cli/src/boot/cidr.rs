//! Networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The address at this distance from the network's own; None outside of the network.
    pub(crate) fn nth(&self, distance: u32) -> Option<IpAddr> {
        let address = match self.address {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(base).checked_add(distance)?)),
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from(u128::from(base).checked_add(distance.into())?)),
        };
        self.contains(address).then_some(address)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(base), IpAddr::V4(other)) => masked4(other, self.prefix) == base,
            (IpAddr::V6(base), IpAddr::V6(other)) => masked6(other, self.prefix) == base,
            _ => false,
        }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

fn masked4(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

fn masked6(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(address) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0))
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network such as 10.244.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (address, prefix): (IpAddr, u8) = (address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        let cidr = Self { address, prefix };
        if !cidr.contains(address) {
            return Err(format!("{text:?} has bits set behind its prefix"));
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_refuses() {
        for good in ["10.244.0.0/16", "0.0.0.0/0", "10.0.0.1/32", "fd00::/64"] {
            assert_eq!(good.parse::<Cidr>().unwrap().to_string(), good);
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.1/24", "a/8", "10.0.0.0/x"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn members() {
        let services: Cidr = "10.96.0.0/12".parse().unwrap();
        assert_eq!(services.nth(10).unwrap().to_string(), "10.96.0.10");
        assert_eq!("10.0.0.0/31".parse::<Cidr>().unwrap().nth(2), None);
        assert!(services.overlaps(&"10.96.1.0/24".parse().unwrap()));
        assert!(!services.overlaps(&"10.244.0.0/16".parse().unwrap()));
    }
}
