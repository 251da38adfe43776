//! Front proxies: servers that authenticate users for each other, and say so in headers
//! (`authentication/request/headerrequest`, `client-go/transport` auth proxy headers).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;

use crate::user::{ALL_AUTHENTICATED, UserInfo};

const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";

/// What makes this server a front proxy, and whom it believes to be one.
pub struct FrontProxy {
    /// The certificate shown to servers that requests are passed on to, with its key.
    pub identity: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// Tells whether a client's certificate is that of a front proxy.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// The common names that front proxies have; empty for any.
    pub allowed_names: Vec<String>,
    /// The authority of front proxies, in PEM, which other servers are told.
    pub ca_pem: String,
    /// The authority of clients, in PEM, which other servers are told.
    pub client_ca_pem: String,
}

/// The user that headers name.
pub(crate) fn user(headers: &HeaderMap) -> Option<UserInfo> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.filter_map(|v| v.to_str().ok().map(str::to_owned)).collect()
    };
    let name = all(USER).into_iter().next().filter(|name| !name.is_empty())?;
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = crate::request::percent_decode(key).to_lowercase();
            extra.insert(key, all(name.as_str()));
        }
    }
    let mut groups = all(GROUP);
    if !groups.iter().any(|group| group == ALL_AUTHENTICATED) && name != crate::user::ANONYMOUS {
        groups.push(ALL_AUTHENTICATED.to_owned());
    }
    Some(UserInfo {
        name,
        uid: all(UID).into_iter().next().unwrap_or_default(),
        groups,
        extra,
    })
}

/// Removes every header that names a user.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            matches!(name, USER | UID | GROUP) || name.starts_with(EXTRA)
        })
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Names the user in headers, in place of whatever was there.
pub(crate) fn name_user(headers: &mut HeaderMap, user: &UserInfo) {
    strip(headers);
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    for group in &user.groups {
        add(GROUP, group);
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("{EXTRA}{}", escape(key)), value);
        }
    }
}

/// Percent-encodes what cannot stand in a header's name.
fn escape(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        let token = byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
        if token {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_survive_the_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_static("somebody-else"));
        let mut user_info = UserInfo::new("jane", &["dev", "system:masters"]);
        user_info.uid = "7".into();
        user_info
            .extra
            .insert("example.com/scopes".into(), vec!["a".into(), "b".into()]);
        name_user(&mut headers, &user_info);
        assert!(headers.contains_key("x-remote-extra-example.com%2fscopes"));
        assert_eq!(user(&headers), Some(user_info));
        strip(&mut headers);
        assert!(headers.is_empty());
        assert_eq!(user(&headers), None);
    }
}
