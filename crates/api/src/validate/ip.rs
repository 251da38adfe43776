//! Addresses and prefixes (apimachinery `util/validation/ip.go`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::{Error, Path};

/// Parses an address as Go's old parser did: octets may have leading zeros.
fn parse_sloppy(value: &str) -> Option<IpAddr> {
    if let Ok(address) = value.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(address));
    }
    let mut octets = [0_u8; 4];
    let mut parts = value.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse::<u32>().ok().and_then(|number| u8::try_from(number).ok())?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// An address in a field that predates strict rules; leading zeros and mapped addresses are
/// refused, as since v1.36.
pub fn ip_for_legacy_field(path: &Path, value: &str) -> Vec<Error> {
    let Some(address) = parse_sloppy(value) else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return vec![Error::invalid(path, value, detail)];
    };
    let mut errors = Vec::new();
    if value.parse::<IpAddr>().is_err() {
        errors.push(Error::invalid(path, value, "must not have leading 0s"));
    }
    if let IpAddr::V6(address) = address
        && address.to_ipv4_mapped().is_some()
    {
        errors.push(Error::invalid(path, value, "must not be an IPv4-mapped IPv6 address"));
    }
    errors
}

/// What users are told of an address that [`ip_for_legacy_field`] accepts: IPv6 addresses have one
/// form that others compare with (`GetWarningsForIP`).
pub fn ip_warning(path: &Path, value: &str) -> Option<String> {
    let canonical = value.parse::<Ipv6Addr>().ok()?.to_string();
    (canonical != value).then(|| not_canonical("address", value, &canonical, path))
}

/// The same of a prefix that [`legacy_cidr`] accepts (`GetWarningsForCIDR`).
pub fn cidr_warning(path: &Path, value: &str) -> Option<String> {
    let (address, bits) = value.split_once('/')?;
    let canonical = format!("{}/{bits}", address.parse::<Ipv6Addr>().ok()?);
    (canonical != value).then(|| not_canonical("CIDR value", value, &canonical, path))
}

fn not_canonical(what: &str, value: &str, canonical: &str, path: &Path) -> String {
    format!("{path}: IPv6 {what} \"{value}\" should be in RFC 5952 canonical format (\"{canonical}\")")
}

/// An address in its canonical form.
pub fn ip_address(path: &Path, value: &str) -> Vec<Error> {
    let errors = ip_for_legacy_field(path, value);
    if !errors.is_empty() {
        return errors;
    }
    match value.parse::<IpAddr>() {
        Ok(address) if address.to_string() != value => {
            let detail = format!("must be in canonical form (\"{address}\")");
            vec![Error::invalid(path, value, detail)]
        }
        _ => Vec::new(),
    }
}

/// A prefix in a field that predates strict rules.
pub fn legacy_cidr(path: &Path, value: &str) -> Vec<Error> {
    let refuse = |detail: &str| vec![Error::invalid(path, value, detail)];
    let not_a_cidr = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let Some((address, length)) = value.split_once('/') else {
        return refuse(not_a_cidr);
    };
    let (Some(parsed), true, Ok(bits)) = (
        parse_sloppy(address),
        !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()),
        length.parse::<u32>(),
    ) else {
        return refuse(not_a_cidr);
    };
    let width = if parsed.is_ipv4() { 32 } else { 128 };
    if bits > width {
        return refuse(not_a_cidr);
    }
    if address.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0')) {
        return refuse("must not have leading 0s in IP or prefix length");
    }
    let (number, mapped) = match parsed {
        IpAddr::V4(address) => (u128::from(u32::from(address)), false),
        IpAddr::V6(address) => (u128::from(address), address.to_ipv4_mapped().is_some()),
    };
    if mapped {
        return refuse("must not have an IPv4-mapped IPv6 address");
    }
    let host_bits = width - bits;
    let host_mask = if host_bits == 128 {
        u128::MAX
    } else {
        (1_u128 << host_bits) - 1
    };
    if number & host_mask != 0 {
        return refuse("must not have bits set beyond the prefix length");
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_prefixes() {
        let path = Path::new("ip");
        let first = |errors: Vec<Error>| errors.first().map(|e| e.detail.clone()).unwrap_or_default();
        let cases = [
            ("10.0.0.1", ""),
            ("fd00::1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("1.2.3", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (
                "1.2.3.256",
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        ];
        for (value, want) in cases {
            assert_eq!(first(ip_for_legacy_field(&path, value)), want, "{value}");
        }
        assert_eq!(
            first(ip_address(&path, "fd00:0::1")),
            "must be in canonical form (\"fd00::1\")"
        );
        let cases = [
            ("10.0.0.0/8", ""),
            ("::/0", ""),
            ("0.0.0.0/0", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            (
                "10.0.0.0/33",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                "10.0.0.0",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
        ];
        for (value, want) in cases {
            assert_eq!(first(legacy_cidr(&path, value)), want, "{value}");
        }
    }
}
