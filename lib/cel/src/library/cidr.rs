//! Networks: an address and the length of a prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ip;
use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("cidr", "string_to_cidr", "(string) -> cidr", Cost::Parse, cidr),
    row("containsIP", "cidr_contains_ip_string", "cidr.(string) -> bool", Cost::ContainsIp { text: true }, contains_ip),
    row("containsIP", "cidr_contains_ip_ip", "cidr.(ip) -> bool", Cost::ContainsIp { text: false }, contains_ip),
    row("containsCIDR", "cidr_contains_cidr_string", "cidr.(string) -> bool", Cost::ContainsCidr { text: true }, contains_cidr),
    row("containsCIDR", "cidr_contains_cidr", "cidr.(cidr) -> bool", Cost::ContainsCidr { text: false }, contains_cidr),
    row("ip", "cidr_ip", "cidr.() -> ip", Cost::Nominal, ip),
    row("prefixLength", "cidr_prefix_length", "cidr.() -> int", Cost::Nominal, prefix_length),
    row("masked", "cidr_masked", "cidr.() -> cidr", Cost::Nominal, masked),
    row("isCIDR", "is_cidr", "(string) -> bool", Cost::Parse, is_cidr),
    row("string", "cidr_to_string", "(cidr) -> string", Cost::Unit, super::convert::to_string),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    fn parse(text: &str) -> Result<Self, String> {
        let failed = |reason: &str| {
            format!(
                "network address parse error during conversion from string: network address parse error during conversion from \
                 string: netip.ParsePrefix({text:?}): {reason}"
            )
        };
        let (address, length) = text.rsplit_once('/').ok_or_else(|| failed("no '/'"))?;
        let address = match ip::netip(address) {
            _ if address.contains('%') => return Err(failed("IPv6 zones cannot be present in a prefix")),
            Ok(address) => address,
            Err(reason) => return Err(failed(&format!("ParseAddr({address:?}): {reason}"))),
        };
        let plain = length.bytes().all(|b| b.is_ascii_digit()) && (length.len() == 1 || !length.starts_with('0'));
        let length: u8 = match length.parse() {
            Ok(length) if plain => length,
            _ => return Err(failed(&format!("bad bits after slash: {length:?}"))),
        };
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return Err(failed("prefix length out of range"));
        }
        if let IpAddr::V6(v6) = address
            && v6.to_ipv4_mapped().is_some()
        {
            return Err(format!(
                "network address parse error during conversion from string: IPv4-mapped IPv6 address {text:?} is not allowed"
            ));
        }
        Ok(Self { address, length })
    }

    /// What upstream takes for its size: of its prefix, in bytes.
    pub fn size(self) -> u64 {
        u64::from(self.length).div_ceil(8)
    }

    fn masked(self) -> Self {
        let length = u32::from(self.length);
        let address = match self.address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & u32::MAX.checked_shl(32 - length).unwrap_or(0))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & u128::MAX.checked_shl(128 - length).unwrap_or(0))),
        };
        Self { address, length: self.length }
    }

    fn contains(self, address: IpAddr) -> bool {
        let network = Self { address, length: self.length };
        address.is_ipv4() == self.address.is_ipv4() && network.masked() == self.masked()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn network(value: Option<&Value<'_>>) -> Result<Cidr, EvalError> {
    match value {
        Some(Value::Opaque(Opaque::Cidr(cidr))) => Ok(*cidr),
        _ => Err(EvalError::no_overload()),
    }
}

fn cidr<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Cidr::parse(s).map(|cidr| Value::Opaque(Opaque::Cidr(cidr))).map_err(EvalError::Failed)
}

fn is_cidr<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(s)] = args else { return Err(EvalError::no_overload()) };
    Ok(Value::Bool(Cidr::parse(s).is_ok()))
}

fn contains_ip<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let network = network(args.first())?;
    let address = match args.get(1) {
        Some(Value::Opaque(Opaque::Ip(address))) => *address,
        // Upstream hides why the text is no address.
        Some(Value::String(s)) => ip::parse(s).map_err(|_| EvalError::no_overload())?,
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Bool(network.contains(address)))
}

fn contains_cidr<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let network = network(args.first())?;
    let other = match args.get(1) {
        Some(Value::Opaque(Opaque::Cidr(other))) => *other,
        Some(Value::String(s)) => Cidr::parse(s).map_err(EvalError::Failed)?,
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Bool(network.length <= other.length && network.contains(other.address)))
}

pub(super) fn ip<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args.first() {
        Some(Value::String(s)) => ip::parse(s).map(|ip| Value::Opaque(Opaque::Ip(ip))),
        other => network(other).map(|cidr| Value::Opaque(Opaque::Ip(cidr.address))),
    }
}

fn prefix_length<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    network(args.first()).map(|cidr| Value::Int(cidr.length.into()))
}

fn masked<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    network(args.first()).map(|cidr| Value::Opaque(Opaque::Cidr(cidr.masked())))
}
