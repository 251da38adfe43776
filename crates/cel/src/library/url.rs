//! `url` (k8s.io/apiserver/pkg/cel/library/urls.go), which reads as Go's `net/url`.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::EvalError;
use crate::function::Functions;
use crate::value::{Opaque, Value};

/// A URL that Go's `url.ParseRequestURI` accepts: absolute, or an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: String,
    host: String,
    escaped_path: String,
    query: String,
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Url {
    /// Reads a URL; the error is Go's.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_request_uri(text).map_err(|reason| format!("parse {text:?}: {reason}"))
    }

    fn parse_request_uri(text: &str) -> Result<Self, String> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text.is_empty() {
            return Err("empty url".to_owned());
        }
        if text == "*" {
            return Ok(Self::of(text, "", "", "*", ""));
        }
        let (scheme, rest) = scheme(text)?;
        // url.Parse, unlike ParseRequestURI, takes what follows '#' off as a fragment.
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                return Ok(Self::of(text, &scheme, "", "", query));
            }
            return Err("invalid URI for request".to_owned());
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                let end = rest.find('/').unwrap_or(rest.len());
                (authority(&rest[..end])?, &rest[end..])
            }
            _ => (String::new(), rest),
        };
        unescape(path)?;
        Ok(Self::of(text, &scheme, &host, &escape_path(path), query))
    }

    fn of(text: &str, scheme: &str, host: &str, path: &str, query: &str) -> Self {
        Self {
            text: text.to_owned(),
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            escaped_path: path.to_owned(),
            query: query.to_owned(),
        }
    }

    fn hostname(&self) -> &str {
        let host = self
            .host
            .rsplit_once(':')
            .filter(|(_, port)| valid_port(port))
            .map_or(&*self.host, |(host, _)| host);
        match host.strip_prefix('[') {
            Some(inside) => inside.split_once(']').map_or(inside, |(inside, _)| inside),
            None => host,
        }
    }

    fn port(&self) -> &str {
        let after = self.host.rsplit_once(']').map_or(&*self.host, |(_, after)| after);
        after
            .rsplit_once(':')
            .map(|(_, port)| port)
            .filter(|port| valid_port(port))
            .unwrap_or("")
    }

    /// Values by name, as Go's `url.Values`; parts that do not parse are left out.
    fn query(&self) -> BTreeMap<String, Vec<String>> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in self
            .query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| unescape(&text.replace('+', " ")).ok();
            if let (Some(name), Some(value)) = (decode(name), decode(value)) {
                values.entry(name).or_default().push(value);
            }
        }
        values
    }
}

fn valid_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
}

fn scheme(text: &str) -> Result<(String, &str), String> {
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if index > 0 => {}
            b':' if index == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((text[..index].to_ascii_lowercase(), &text[index + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

/// Checks `user@host:port` and gives the host with its port.
fn authority(text: &str) -> Result<String, String> {
    let host = match text.rsplit_once('@') {
        Some((user, host)) => {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
            if !user.bytes().all(valid) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            unescape(user)?;
            host
        }
        None => text,
    };
    let port_of = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.find(':').map_or("", |index| &host[index..])
    };
    if !(port_of.is_empty() || port_of.starts_with(':') && valid_port(&port_of[1..])) {
        return Err(format!("invalid port {port_of:?} after host"));
    }
    for character in host.chars() {
        if character.is_ascii() && !host_character(character) {
            return Err(format!("invalid character {:?} in host name", character.to_string()));
        }
    }
    unescape(host)
}

fn host_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(character)
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] != b'%' {
            decoded.push(bytes[index]);
            index += 1;
            continue;
        }
        let hex = bytes
            .get(index + 1..index + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(byte) = hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())) else {
            let shown = String::from_utf8_lossy(&bytes[index..bytes.len().min(index + 3)]).into_owned();
            return Err(format!("invalid URL escape {shown:?}"));
        };
        decoded.push(u8::from_str_radix(byte, 16).unwrap_or_default());
        index += 3;
    }
    Ok(String::from_utf8_lossy(&decoded).into_owned())
}

/// Go's `EscapedPath`: the path as written when it is a valid escaping, else escaped.
fn escape_path(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte);
    if path.bytes().all(plain) {
        return path.to_owned();
    }
    let mut escaped = String::with_capacity(path.len());
    for byte in unescape(path).unwrap_or_default().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn text(arguments: &[Value]) -> Result<&str, EvalError> {
    arguments
        .first()
        .and_then(Value::as_str)
        .ok_or_else(EvalError::no_such_overload)
}

fn url(arguments: &[Value]) -> Result<&Url, EvalError> {
    match arguments {
        [Value::Opaque(value)] => match &**value {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Declares `url` and its functions.
pub(super) fn declare(functions: &mut Functions) {
    functions.native("url", "string_to_url", "(string):kubernetes.URL", |a| {
        Url::parse(text(a)?)
            .map(|url| Value::opaque(Opaque::Url(url)))
            .map_err(|error| EvalError::new(format!("URL parse error during conversion from string: {error}")))
    });
    functions.native("isURL", "is_url_string", "(string):bool", |a| {
        Ok(Value::Bool(Url::parse(text(a)?).is_ok()))
    });
    let get = ".(kubernetes.URL):string";
    functions.native("getScheme", "url_get_scheme", get, |a| {
        Ok(Value::string(url(a)?.scheme.as_str()))
    });
    functions.native("getHost", "url_get_host", get, |a| {
        Ok(Value::string(url(a)?.host.as_str()))
    });
    functions.native("getHostname", "url_get_hostname", get, |a| {
        Ok(Value::string(url(a)?.hostname()))
    });
    functions.native("getPort", "url_get_port", get, |a| Ok(Value::string(url(a)?.port())));
    functions.native("getEscapedPath", "url_get_escaped_path", get, |a| {
        Ok(Value::string(url(a)?.escaped_path.as_str()))
    });
    functions.native(
        "getQuery",
        "url_get_query",
        ".(kubernetes.URL):map(string,list(string))",
        |a| {
            let values = url(a)?.query().into_iter();
            Ok(Value::map(values.map(|(name, values)| {
                (name, Value::list(values.into_iter().map(Value::from).collect()))
            })))
        },
    );
}
