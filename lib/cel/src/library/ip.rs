//! IP addresses, as Go's `net/netip` reads them, without zones and without IPv4 in IPv6.

use std::net::{IpAddr, Ipv4Addr};

use super::prelude::*;

pub(crate) const ROWS: &[Row] = &[
    row("ip", "string_to_ip", "(string) -> ip", Cost::Parse, ip),
    row("family", "ip_family", "ip.() -> int", Cost::Nominal, family),
    row("ip.isCanonical", "ip_is_canonical", "(string) -> bool", Cost::Canonical, is_canonical),
    row("isUnspecified", "ip_is_unspecified", "ip.() -> bool", Cost::Nominal, is_unspecified),
    row("isLoopback", "ip_is_loopback", "ip.() -> bool", Cost::Nominal, is_loopback),
    row("isLinkLocalMulticast", "ip_is_link_local_multicast", "ip.() -> bool", Cost::Nominal, is_link_local_multicast),
    row("isLinkLocalUnicast", "ip_is_link_local_unicast", "ip.() -> bool", Cost::Nominal, is_link_local_unicast),
    row("isGlobalUnicast", "ip_is_global_unicast", "ip.() -> bool", Cost::Nominal, is_global_unicast),
    row("isIP", "is_ip", "(string) -> bool", Cost::Parse, is_ip),
    row("string", "ip_to_string", "(ip) -> string", Cost::Unit, super::convert::to_string),
];

/// An address.
///
/// # Errors
/// As upstream words them.
pub(super) fn parse(text: &str) -> Result<IpAddr, EvalError> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(a, z)| (a, Some(z)));
    let ip = netip(address).map_err(|reason| {
        EvalError::failed(format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): {reason}"))
    })?;
    match ip {
        IpAddr::V6(_) if zone.is_some() => Err(EvalError::failed(format!("IP address {text:?} with zone value is not allowed"))),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(EvalError::failed(format!("IPv4-mapped IPv6 address {text:?} is not allowed")))
        }
        ip => Ok(ip),
    }
}

/// An address in Go's syntax, or what Go says is wrong.
pub(super) fn netip(text: &str) -> Result<IpAddr, &'static str> {
    if text.contains(':') {
        return text.parse().map(IpAddr::V6).map_err(|_| "unable to parse IP");
    }
    if !text.contains('.') {
        return Err("unable to parse IP");
    }
    let fields: Vec<&str> = text.split('.').collect();
    let mut octets = [0u8; 4];
    for (i, field) in fields.iter().enumerate() {
        if field.is_empty() {
            return Err("IPv4 field must have at least one digit");
        }
        if !field.bytes().all(|b| b.is_ascii_digit()) {
            return Err("unexpected character");
        }
        if field.len() > 1 && field.starts_with('0') {
            return Err("IPv4 field has octet with leading zero");
        }
        let value = field.parse::<u8>().map_err(|_| "IPv4 field has value >255")?;
        *octets.get_mut(i).ok_or("IPv4 address too long")? = value;
    }
    if fields.len() < 4 { Err("IPv4 address too short") } else { Ok(IpAddr::V4(Ipv4Addr::from(octets))) }
}

fn text<'v>(args: &'v [Value<'_>]) -> Result<&'v str, EvalError> {
    args.first().and_then(Value::as_str).ok_or_else(EvalError::no_overload)
}

fn address(args: &[Value<'_>]) -> Result<IpAddr, EvalError> {
    match args {
        [Value::Opaque(Opaque::Ip(ip))] => Ok(*ip),
        _ => Err(EvalError::no_overload()),
    }
}

fn ip<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Opaque(Opaque::Cidr(_))] => super::cidr::ip(meter, args),
        _ => parse(text(args)?).map(|ip| Value::Opaque(Opaque::Ip(ip))),
    }
}

fn is_ip<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(parse(text(args)?).is_ok()))
}

fn family<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    address(args).map(|ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 }))
}

fn is_canonical<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args)?;
    parse(text).map(|ip| Value::Bool(ip.to_string() == text))
}

fn is_unspecified<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    address(args).map(|ip| Value::Bool(ip.is_unspecified()))
}

fn is_loopback<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    address(args).map(|ip| Value::Bool(ip.is_loopback()))
}

fn is_link_local_multicast<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    address(args).map(|ip| {
        Value::Bool(match ip {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        })
    })
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_local_unicast<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    address(args).map(|ip| Value::Bool(link_local_unicast(ip)))
}

fn is_global_unicast<'a>(_: &mut Meter, args: &[Value<'a>]) -> Outcome<'a> {
    address(args).map(|ip| {
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        let other = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip);
        Value::Bool(!broadcast && !other)
    })
}
