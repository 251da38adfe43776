//! Who asks, and whether they may: client certificates, else tokens by TokenReview; rights by SubjectAccessReview
//! (pkg/kubelet/server/auth.go).

use std::collections::HashMap;
use std::time::Duration;

use client::{Client, WriteParams};
use http::{HeaderMap, Method, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use parking_lot::Mutex;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refusal;

/// How long answers of the API are believed (upstream's defaults).
const TOKEN: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Answers remembered at most.
const MEMORY: usize = 1000;
/// The API server's own client certificate has this name.
const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct User {
    name: String,
    groups: Vec<String>,
}

impl User {
    /// The subject of a certificate that TLS has verified: name and organizations.
    pub fn of_certificate(der: &[u8]) -> Option<User> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
        let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok());
        let groups = organizations
            .chain(["system:authenticated"])
            .map(String::from)
            .collect();
        Some(User { name, groups })
    }
}

/// Asks the API, and remembers.
pub(super) struct Auth {
    client: Client,
    node: String,
    tokens: Mutex<HashMap<String, (Instant, User)>>,
    verdicts: Mutex<HashMap<(User, &'static str, &'static str), (Instant, bool)>>,
}

impl Auth {
    pub fn new(client: Client, node: String) -> Auth {
        Auth {
            client,
            node,
            tokens: Mutex::default(),
            verdicts: Mutex::default(),
        }
    }

    /// The user of a request's bearer token.
    pub async fn of_token(&self, headers: &HeaderMap) -> Result<User, Refusal> {
        let unauthorized = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::trim)
            .filter(|t| !t.is_empty());
        let token = token.ok_or_else(unauthorized)?;
        if let Some((until, user)) = self.tokens.lock().get(token)
            && *until > Instant::now()
        {
            return Ok(user.clone());
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_string(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let answer = self
            .client
            .create("", &review, &WriteParams::default())
            .await
            .map_err(|error| Refusal::internal(format!("cannot review the token: {}", error.report())))?;
        let status = answer
            .status
            .filter(|status| status.authenticated == Some(true))
            .ok_or_else(unauthorized)?;
        let found = status.user.unwrap_or_default();
        let user = User {
            name: found
                .username
                .filter(|name| !name.is_empty())
                .ok_or_else(unauthorized)?,
            groups: found.groups.unwrap_or_default(),
        };
        remember(
            &mut self.tokens.lock(),
            token.to_string(),
            (Instant::now() + TOKEN, user.clone()),
        );
        Ok(user)
    }

    /// Whether the user may do this.
    pub async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<(), Refusal> {
        if user.name == API_SERVER || user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let verb = verb(method, path);
        let mut tried = Vec::new();
        for sub in subresources(path) {
            if self.is_allowed(user, verb, sub).await? {
                return Ok(());
            }
            tried.push(*sub);
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource={tried:?})",
                user.name
            ),
        ))
    }

    async fn is_allowed(&self, user: &User, verb: &'static str, sub: &'static str) -> Result<bool, Refusal> {
        let key = (user.clone(), verb, sub);
        if let Some((until, allowed)) = self.verdicts.lock().get(&key)
            && *until > Instant::now()
        {
            return Ok(*allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.into()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(sub.into()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = self
            .client
            .create("", &review, &WriteParams::default())
            .await
            .map_err(|error| Refusal::internal(format!("cannot review the access: {}", error.report())))?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let until = Instant::now() + if allowed { ALLOWED } else { DENIED };
        remember(&mut self.verdicts.lock(), key, (until, allowed));
        Ok(allowed)
    }
}

fn remember<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, (Instant, V)>, key: K, value: (Instant, V)) {
    if map.len() >= MEMORY {
        let now = Instant::now();
        map.retain(|_, (until, _)| *until > now);
        if map.len() >= MEMORY {
            map.clear();
        }
    }
    map.insert(key, value);
}

/// Whoever runs something in a container changes it, whatever the method.
fn verb(method: &Method, path: &str) -> &'static str {
    let first = path.split('/').nth(1).unwrap_or_default();
    if matches!(first, "exec" | "attach" | "run" | "portForward") {
        return "create";
    }
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Subresources of nodes any of which gives the right to a path (KEP-2862 for the narrow ones).
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').nth(1).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_by_path() {
        for (method, path, expected_verb, expected_sub) in [
            (Method::GET, "/exec/ns/p/c", "create", &["proxy"][..]),
            (Method::POST, "/run/ns/p/c", "create", &["proxy"]),
            (Method::GET, "/containerLogs/ns/p/c", "get", &["proxy"]),
            (Method::GET, "/metrics/resource", "get", &["metrics"]),
            (Method::GET, "/stats/summary", "get", &["stats"]),
            (Method::GET, "/pods", "get", &["pods", "proxy"]),
        ] {
            assert_eq!(
                (verb(&method, path), subresources(path)),
                (expected_verb, expected_sub),
                "{path}"
            );
        }
    }
}
