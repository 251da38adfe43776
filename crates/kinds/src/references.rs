//! Checks of names and addresses that refer to something else, with upstream's wording.

use std::net::IpAddr;

use api::Value;
use api::field::{Error, Path};
use api::validate;

use crate::{checks, tree};

/// A DNS name of at least three labels (`IsFullyQualifiedName`).
pub fn fully_qualified_name(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let messages = validate::dns1123_subdomain(name);
    if !messages.is_empty() {
        return vec![Error::invalid(path, name, messages.join(","))];
    }
    if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        return vec![Error::invalid(path, name, detail)];
    }
    Vec::new()
}

/// A domain, a slash and a path (`IsDomainPrefixedPath`).
pub fn domain_prefixed_path(value: &str, path: &Path) -> Vec<Error> {
    if value.is_empty() {
        return vec![Error::required(path, "")];
    }
    match value.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            let mut errors: Vec<Error> = checks::invalid_each(path, host, validate::dns1123_subdomain(host));
            if !rest.bytes().all(is_path_byte) {
                let detail = validate::regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
                errors.push(Error::invalid(path, rest, detail));
            }
            errors
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            vec![Error::invalid(path, value, detail)]
        }
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)
}

/// The name of a signer: a domain of two labels at least, a slash, and a path (`ValidateSignerName`).
pub fn signer_name(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, rest] = segments.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![Error::invalid(path, name, detail)];
    };
    let mut errors = Vec::new();
    if domain.len() > 253 {
        errors.push(Error::too_long(path, 253));
    }
    errors.extend(first_bad_label(domain, validate::dns1123_label, path));
    if domain.split('.').count() < 2 {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, *domain, detail));
    }
    errors.extend(first_bad_label(rest, validate::dns1123_subdomain, path));
    let longest = 253 + 63 + 1;
    if rest.len() > longest {
        errors.push(Error::too_long(path, longest));
    }
    errors
}

/// The errors of the first dotted part that has any.
fn first_bad_label(segment: &str, rule: fn(&str) -> Vec<String>, path: &Path) -> Vec<Error> {
    for label in segment.split('.') {
        let messages = rule(label);
        if !messages.is_empty() {
            let quoted = api::field::go_quote(label);
            let errors = messages
                .into_iter()
                .map(|message| Error::invalid(path, segment, format!("validating label {quoted}: {message}")));
            return errors.collect();
        }
    }
    Vec::new()
}

/// The name of a CSI or resource driver: at most 63 bytes, a subdomain in any case
/// (`ValidateCSIDriverName`).
pub fn driver_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if name.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    let messages = validate::dns1123_subdomain(&name.to_lowercase());
    errors.extend(checks::invalid_each(path, name, messages));
    errors
}

/// An address in its canonical form: the messages against it (`IsValidIP`).
pub fn canonical_ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(address) if address.to_string() != text => {
            let canonical = api::field::go_quote(&address.to_string());
            vec![format!("must be in canonical form ({canonical})")]
        }
        Ok(_) => Vec::new(),
        Err(_) if has_leading_zeros(text) => vec!["must not have leading 0s".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// Whether only leading zeros keep a dotted address from being one.
fn has_leading_zeros(text: &str) -> bool {
    let parts = text
        .split('.')
        .map(|part| part.parse::<u16>().ok().filter(|n| *n <= 255));
    let parts: Option<Vec<u16>> = parts.collect();
    parts.is_some_and(|parts| parts.len() == 4)
}

/// A network in its canonical form, without host bits (`IsValidCIDR`).
pub fn canonical_cidr(text: &str, path: &Path) -> Vec<Error> {
    let refuse = |detail: String| vec![Error::invalid(path, text, detail)];
    let Some((address, bits)) = parse_cidr(text) else {
        if text
            .split_once('/')
            .is_some_and(|(address, _)| has_leading_zeros(address))
        {
            return refuse("must not have leading 0s in IP or prefix length".to_owned());
        }
        return refuse("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned());
    };
    let masked = mask(address, bits);
    if address != masked {
        return refuse("must not have bits set beyond the prefix length".to_owned());
    }
    if format!("{masked}/{bits}") != text {
        let canonical = api::field::go_quote(&format!("{masked}/{bits}"));
        return refuse(format!("must be in canonical form ({canonical})"));
    }
    Vec::new()
}

/// Address and prefix length.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = bits.parse().ok().filter(|_| digits)?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// Where a webhook is: exactly one of a URL and a service.
pub fn webhook_client_config(config: &Value, path: &Path) -> Vec<Error> {
    match (tree::text_opt(config, "url"), tree::at(config, "service")) {
        (Some(url), None) => webhook_url(url, &path.child("url")),
        (None, Some(service)) => webhook_service(service, &path.child("service")),
        _ => vec![Error::required(path, "exactly one of url or service is required")],
    }
}

/// An https URL without user, query and fragment (`webhook.ValidateWebhookURL`).
pub fn webhook_url(url: &str, path: &Path) -> Vec<Error> {
    const FORM: &str = "; desired format: https://host[/path]";
    let shown = |value: &str, detail: String| Error::invalid(path, value, detail);
    if url.bytes().any(|b| b < 0x20 || b == 0x7f) {
        let quoted = api::field::go_quote(url);
        let detail =
            format!("url must be a valid URL: parse {quoted}: net/url: invalid control character in URL{FORM}");
        return vec![Error::required(path, detail)];
    }
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", url),
    };
    let (rest, fragment) = rest.split_once('#').map_or((rest, ""), |(rest, part)| (rest, part));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, part)| (rest, part));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or("")
    };
    let (user, host) = authority
        .rsplit_once('@')
        .map_or(("", authority), |(user, host)| (user, host));
    let mut errors = Vec::new();
    if scheme != "https" {
        errors.push(shown(scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if host.is_empty() {
        errors.push(shown(host, format!("host must be specified{FORM}")));
    }
    if !user.is_empty() {
        errors.push(shown(user, "user information is not permitted in the URL".to_owned()));
    }
    if !fragment.is_empty() {
        errors.push(shown(fragment, "fragments are not permitted in the URL".to_owned()));
    }
    if !query.is_empty() {
        errors.push(shown(query, "query parameters are not permitted in the URL".to_owned()));
    }
    errors
}

/// A reference to a service (`webhook.ValidateWebhookService`, which is given name and namespace in the wrong order:
/// it tells each at the other's place).
fn webhook_service(service: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, told_at) in [("namespace", "name"), ("name", "namespace")] {
        if tree::text(service, field).is_empty() {
            errors.push(Error::required(&path.child(told_at), ""));
        }
    }
    let port = tree::count(service, "port");
    let messages = validate::port_number(port);
    if !messages.is_empty() {
        let detail = format!("port is not valid: {}", messages.join(", "));
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    let Some(target) = tree::text_opt(service, "path") else {
        return errors;
    };
    let path = path.child("path");
    match target {
        "" | "/" => return errors,
        "//" => {
            errors.push(Error::invalid(&path, target, "segment[0] may not be empty"));
            return errors;
        }
        _ => {}
    }
    if !target.starts_with('/') {
        errors.push(Error::invalid(&path, target, "must start with a '/'"));
    }
    let mut rest = target.chars();
    rest.next();
    let inner = rest.as_str();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, step) in inner.split('/').enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(
                &path,
                target,
                format!("segment[{index}] may not be empty"),
            ));
            continue;
        }
        for message in validate::dns1123_subdomain(step) {
            errors.push(Error::invalid(&path, target, format!("segment[{index}]: {message}")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_that_refer() {
        let path = Path::new("n");
        for (name, good) in [("a.b.c", true), ("a.b", false), ("", false), ("A.b.c", false)] {
            assert_eq!(fully_qualified_name(name, &path).is_empty(), good, "{name}");
        }
        for (name, good) in [
            ("example.com/x", true),
            ("kubernetes.io/kube-apiserver-client", true),
            ("example.com/a.b", true),
            ("com/x", false),
            ("example.com", false),
            ("example.com/a/b", false),
            ("", false),
        ] {
            assert_eq!(signer_name(name, &path).is_empty(), good, "{name}");
        }
        for (name, good) in [
            ("acme.io/foo/bar", true),
            ("acme.io", false),
            ("acme.io/", false),
            ("A/x", false),
        ] {
            assert_eq!(domain_prefixed_path(name, &path).is_empty(), good, "{name}");
        }
    }

    #[test]
    fn addresses_are_canonical() {
        for (text, good) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("fd00:0::1", false),
            ("010.0.0.1", false),
            ("x", false),
        ] {
            assert_eq!(canonical_ip(text).is_empty(), good, "{text}");
        }
        let path = Path::new("c");
        for (text, good) in [
            ("10.0.0.0/8", true),
            ("0.0.0.0/0", true),
            ("fd00::/64", true),
            ("10.0.0.1/8", false),
            ("10.0.0.0/33", false),
            ("fd00:0::/64", false),
            ("10.0.0.0", false),
        ] {
            assert_eq!(canonical_cidr(text, &path).is_empty(), good, "{text}");
        }
    }

    #[test]
    fn webhooks_are_somewhere() {
        let path = Path::new("clientConfig");
        let fields = |config: Value| -> Vec<String> {
            webhook_client_config(&config, &path)
                .into_iter()
                .map(|e| e.field)
                .collect()
        };
        assert_eq!(fields(json!({})), ["clientConfig"]);
        assert_eq!(fields(json!({"url": "https://example.com/x"})), Vec::<String>::new());
        assert_eq!(fields(json!({"url": "http://u@/x?a=b#c"})).len(), 5);
        let service = json!({"service": {"name": "s", "namespace": "n", "port": 443, "path": "/a//b"}});
        assert_eq!(fields(service), ["clientConfig.service.path"]);
        assert_eq!(fields(json!({"service": {"port": 0}})).len(), 3);
    }
}
