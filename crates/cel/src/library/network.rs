//! `ip` and `cidr` (k8s.io/apiserver/pkg/cel/library/ip.go, cidr.go).

use std::fmt;
use std::net::IpAddr;

use crate::error::EvalError;
use crate::function::Functions;
use crate::value::{Opaque, Value};

/// A network: an address with the length of its prefix; bits after the prefix may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// The prefix's length.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self {
            address,
            prefix: self.prefix,
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Cidr {
                address,
                prefix: self.prefix,
            }
            .masked()
                == self.masked()
    }
}

/// As Go's `netip.ParseAddr`, without zones and without IPv4 in IPv6.
fn parse_ip(raw: &str) -> Result<IpAddr, EvalError> {
    if let Some((address, zone)) = raw.split_once('%')
        && address.parse::<std::net::Ipv6Addr>().is_ok()
        && !zone.is_empty()
    {
        return Err(EvalError::new(format!(
            "IP address {raw:?} with zone value is not allowed"
        )));
    }
    let Ok(address) = raw.parse::<IpAddr>() else {
        let reason = match raw.find(":::") {
            Some(at) => {
                format!(
                    "each colon-separated field must have at least one digit (at {:?})",
                    &raw[at + 2..]
                )
            }
            None => parse_reason(raw).to_owned(),
        };
        return Err(EvalError::new(format!(
            "IP Address {raw:?} parse error during conversion from string: ParseAddr({raw:?}): {reason}"
        )));
    };
    if in_ipv6(address) {
        return Err(EvalError::new(format!(
            "IPv4-mapped IPv6 address {raw:?} is not allowed"
        )));
    }
    Ok(address)
}

fn parse_reason(raw: &str) -> &'static str {
    match raw.find(['.', ':', '%']) {
        None => "unable to parse IP",
        Some(index) if raw.as_bytes()[index] == b'%' => "missing IPv6 address",
        Some(index) if raw.as_bytes()[index] == b'.' => {
            let parts: Vec<&str> = raw.split('.').collect();
            if parts.iter().any(|part| part.len() > 1 && part.starts_with('0')) {
                "IPv4 field has octet with leading zero"
            } else if parts
                .iter()
                .any(|part| part.parse::<u32>().is_ok_and(|number| number > 255))
            {
                "IPv4 field has value >255"
            } else if parts.len() < 4 {
                "IPv4 address too short"
            } else if parts.len() > 4 {
                "IPv4 address too long"
            } else {
                "unexpected character"
            }
        }
        Some(_) => "unexpected character",
    }
}

fn in_ipv6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// As Go's `netip.ParsePrefix`.
fn parse_cidr(raw: &str) -> Result<Cidr, EvalError> {
    let failed = |reason: &str| {
        let message = "network address parse error during conversion from string";
        EvalError::new(format!("{message}: {message}: netip.ParsePrefix({raw:?}): {reason}"))
    };
    let (address, bits) = raw.rsplit_once('/').ok_or_else(|| failed("no '/'"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| failed(&format!("ParseAddr({address:?}): unable to parse IP")))?;
    let valid =
        !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let prefix: u8 = bits
        .parse()
        .ok()
        .filter(|_| valid)
        .ok_or_else(|| failed(&format!("bad bits after slash: {bits:?}")))?;
    if prefix > if address.is_ipv4() { 32 } else { 128 } {
        return Err(failed("prefix length out of range"));
    }
    if in_ipv6(address) {
        return Err(EvalError::new(format!(
            "network address parse error during conversion from string: IPv4-mapped IPv6 address {raw:?} is not allowed"
        )));
    }
    Ok(Cidr { address, prefix })
}

fn address(value: &Value) -> Option<IpAddr> {
    match value {
        Value::Opaque(value) => match **value {
            Opaque::Ip(address) => Some(address),
            _ => None,
        },
        _ => None,
    }
}

fn network(value: &Value) -> Option<Cidr> {
    match value {
        Value::Opaque(value) => match **value {
            Opaque::Cidr(cidr) => Some(cidr),
            _ => None,
        },
        _ => None,
    }
}

fn on_ip(arguments: &[Value], test: fn(IpAddr) -> bool) -> Result<Value, EvalError> {
    let address = arguments
        .first()
        .and_then(address)
        .ok_or_else(EvalError::no_such_overload)?;
    Ok(Value::Bool(test(address)))
}

fn on_cidr(arguments: &[Value], make: fn(Cidr) -> Value) -> Result<Value, EvalError> {
    arguments
        .first()
        .and_then(network)
        .map(make)
        .ok_or_else(EvalError::no_such_overload)
}

fn text(arguments: &[Value]) -> Result<&str, EvalError> {
    arguments
        .first()
        .and_then(Value::as_str)
        .ok_or_else(EvalError::no_such_overload)
}

fn global_unicast(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

fn link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn contains_ip(arguments: &[Value]) -> Result<Value, EvalError> {
    let [cidr, other] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let cidr = network(cidr).ok_or_else(EvalError::no_such_overload)?;
    let address = match other {
        Value::String(text) => parse_ip(text)?,
        other => address(other).ok_or_else(EvalError::no_such_overload)?,
    };
    Ok(Value::Bool(cidr.contains(address)))
}

fn contains_cidr(arguments: &[Value]) -> Result<Value, EvalError> {
    let [cidr, other] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let cidr = network(cidr).ok_or_else(EvalError::no_such_overload)?;
    let other = match other {
        Value::String(text) => parse_cidr(text)?,
        other => network(other).ok_or_else(EvalError::no_such_overload)?,
    };
    Ok(Value::Bool(cidr.prefix <= other.prefix && cidr.contains(other.address)))
}

fn ip(address: IpAddr) -> Value {
    Value::opaque(Opaque::Ip(address))
}

/// Declares `ip` and its functions.
pub(super) fn declare_ip(functions: &mut Functions) {
    functions.native("ip", "string_to_ip", "(string):net.IP", |a| parse_ip(text(a)?).map(ip));
    functions.native("isIP", "is_ip", "(string):bool", |a| {
        Ok(Value::Bool(parse_ip(text(a)?).is_ok()))
    });
    functions.native("ip.isCanonical", "ip_is_canonical", "(string):bool", |a| {
        let text = text(a)?;
        Ok(Value::Bool(parse_ip(text)?.to_string() == text))
    });
    functions.native("string", "ip_to_string", "(net.IP):string", |a| {
        a.first()
            .and_then(address)
            .map(|it| Value::string(it.to_string()))
            .ok_or_else(EvalError::no_such_overload)
    });
    functions.native("family", "ip_family", ".(net.IP):int", |a| {
        let address = a.first().and_then(address).ok_or_else(EvalError::no_such_overload)?;
        Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 }))
    });
    functions.native("isUnspecified", "ip_is_unspecified", ".(net.IP):bool", |a| {
        on_ip(a, |it| it.is_unspecified())
    });
    functions.native("isLoopback", "ip_is_loopback", ".(net.IP):bool", |a| {
        on_ip(a, |it| it.is_loopback())
    });
    functions.native(
        "isLinkLocalMulticast",
        "ip_is_link_local_multicast",
        ".(net.IP):bool",
        |a| on_ip(a, link_local_multicast),
    );
    functions.native(
        "isLinkLocalUnicast",
        "ip_is_link_local_unicast",
        ".(net.IP):bool",
        |a| on_ip(a, link_local_unicast),
    );
    functions.native("isGlobalUnicast", "ip_is_global_unicast", ".(net.IP):bool", |a| {
        on_ip(a, global_unicast)
    });
}

/// Declares `cidr` and its functions.
pub(super) fn declare_cidr(functions: &mut Functions) {
    functions.native("cidr", "string_to_cidr", "(string):net.CIDR", |a| {
        parse_cidr(text(a)?).map(|cidr| Value::opaque(Opaque::Cidr(cidr)))
    });
    functions.native("isCIDR", "is_cidr", "(string):bool", |a| {
        Ok(Value::Bool(parse_cidr(text(a)?).is_ok()))
    });
    functions.native(
        "containsIP",
        "cidr_contains_ip_string",
        ".(net.CIDR,string):bool",
        contains_ip,
    );
    functions.native(
        "containsIP",
        "cidr_contains_ip_ip",
        ".(net.CIDR,net.IP):bool",
        contains_ip,
    );
    functions.native(
        "containsCIDR",
        "cidr_contains_cidr_string",
        ".(net.CIDR,string):bool",
        contains_cidr,
    );
    functions.native(
        "containsCIDR",
        "cidr_contains_cidr",
        ".(net.CIDR,net.CIDR):bool",
        contains_cidr,
    );
    functions.native("ip", "cidr_ip", ".(net.CIDR):net.IP", |a| {
        on_cidr(a, |cidr| ip(cidr.address))
    });
    functions.native("prefixLength", "cidr_prefix_length", ".(net.CIDR):int", |a| {
        on_cidr(a, |cidr| Value::Int(cidr.prefix.into()))
    });
    functions.native("masked", "cidr_masked", ".(net.CIDR):net.CIDR", |a| {
        on_cidr(a, |cidr| Value::opaque(Opaque::Cidr(cidr.masked())))
    });
    functions.native("string", "cidr_to_string", "(net.CIDR):string", |a| {
        on_cidr(a, |cidr| Value::string(cidr.to_string()))
    });
}
