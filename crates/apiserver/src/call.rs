//! What the handlers know of the request in hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use api::Status;
use http::{HeaderMap, HeaderValue, Method};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::kind::Context;
use crate::negotiate::{self, Offers, Output};
use crate::request::{Query, RequestInfo};
use crate::resource::Resource;
use crate::user::UserInfo;

/// An authenticated, authorized request without its body.
pub(crate) struct Call {
    pub info: RequestInfo,
    pub method: Method,
    pub query: Query,
    pub headers: HeaderMap,
    pub user: UserInfo,
    /// The client's address; none for a component of this process.
    pub peer: Option<SocketAddr>,
    pub now: Timestamp,
    pub warnings: Warnings,
    /// What goes into the request's audit event.
    pub annotations: Annotations,
    /// The client's side of a connection that may be upgraded; taken by whoever upgrades it.
    pub upgrade: Mutex<Option<OnUpgrade>>,
}

impl Call {
    /// The output an ordinary resource can give.
    pub fn output(&self) -> Result<Output, Status> {
        negotiate::output(&self.headers, &self.query, Offers::Transforms)
    }

    /// The output a resource can give: custom ones have no protobuf form, but their metadata has.
    ///
    /// # Errors
    /// 406 if nothing fits.
    pub fn output_of(&self, resource: &Resource) -> Result<Output, Status> {
        let offers = match resource.kind.custom {
            Some(_) => Offers::Custom,
            None => Offers::Transforms,
        };
        negotiate::output(&self.headers, &self.query, offers)
    }

    /// The output where no tables exist.
    pub fn plain_output(&self) -> Result<Output, Status> {
        negotiate::output(&self.headers, &self.query, Offers::Plain)
    }

    /// What strategy functions may know.
    pub fn context(&self, dry_run: bool) -> Context<'_> {
        Context {
            now: self.now,
            user: &self.user,
            dry_run,
        }
    }

    /// The same call about another object: what a subresource does on the side.
    pub fn about(&self, name: &str, subresource: &str) -> Call {
        let mut info = self.info.clone();
        name.clone_into(&mut info.name);
        subresource.clone_into(&mut info.subresource);
        info.named = true;
        Call {
            info,
            method: self.method.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            user: self.user.clone(),
            peer: self.peer,
            now: self.now,
            warnings: self.warnings.clone(),
            annotations: self.annotations.clone(),
            upgrade: Mutex::default(),
        }
    }

    /// The client's program, up to the version: `kubectl` of `kubectl/v1.30.0 (linux/amd64)`.
    pub fn user_agent_prefix(&self) -> &str {
        let agent = self.headers.get(http::header::USER_AGENT);
        let agent = agent.and_then(|v| v.to_str().ok()).unwrap_or("");
        agent.split('/').next().unwrap_or("")
    }
}

/// Audit annotations; the first value of a key stays (`audit.AddAuditAnnotation`).
#[derive(Clone)]
pub(crate) struct Annotations(Option<Arc<Mutex<BTreeMap<String, String>>>>);

impl Annotations {
    /// None yet; where nobody audits, none ever.
    pub fn new(audited: bool) -> Annotations {
        Annotations(audited.then(Arc::default))
    }

    /// Adds one, unless the key is taken.
    pub fn add(&self, key: &str, value: impl Into<String>) {
        let Some(all) = &self.0 else { return };
        let value = value.into();
        let mut all = all.lock();
        match all.get(key) {
            None => drop(all.insert(key.to_owned(), value)),
            Some(old) if *old == value => {}
            Some(old) => tracing::warn!(key, old, value, "an audit annotation is already set"),
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.0.as_ref().map(|all| all.lock().clone()).unwrap_or_default()
    }
}

/// Warnings for the client, each once, limited as upstream limits them
/// (`endpoints/filters/warning.go`).
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

const TRUNCATE_AT_RUNES: usize = 4 * 1024;
const TRUNCATED_ITEM_RUNES: usize = 256;

impl Warnings {
    /// Adds one, unless it is there already.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock();
        if !text.is_empty() && !all.contains(&text) {
            all.push(text);
        }
    }

    /// Adds several.
    pub fn extend(&self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.add(text));
    }

    /// Writes them as `Warning: 299 - "text"` headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        let mut total = 0;
        let all = self.0.lock();
        let long: usize = all.iter().map(|text| text.chars().count()).sum();
        for text in all.iter() {
            let text: String = if long > TRUNCATE_AT_RUNES {
                text.chars().take(TRUNCATED_ITEM_RUNES).collect()
            } else {
                text.clone()
            };
            total += text.chars().count();
            if total > TRUNCATE_AT_RUNES {
                return;
            }
            if let Ok(value) = HeaderValue::from_bytes(warning_value(&text).as_bytes()) {
                headers.append(http::header::WARNING, value);
            }
        }
    }
}

fn warning_value(text: &str) -> String {
    let mut out = String::from("299 - \"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_given_once() {
        let warnings = Warnings::default();
        warnings.add("unknown field \"spec.x\"");
        warnings.add("unknown field \"spec.x\"");
        let mut headers = HeaderMap::new();
        warnings.write(&mut headers);
        let values: Vec<_> = headers.get_all("warning").iter().collect();
        assert_eq!(values, ["299 - \"unknown field \\\"spec.x\\\"\""]);
    }
}
