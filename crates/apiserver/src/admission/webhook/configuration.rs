//! Webhook configurations as they are obeyed: parsed once a revision, ordered by name
//! (upstream `admission/configuration`, `admission/plugin/webhook/accessors.go`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Value, meta};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::admission::expressions::{Compiler, Conditions};
use crate::admission::matching::{MatchPolicy, Rule, Selectors, strings};

const DEFAULT_SECONDS: u64 = 10;

/// What a failed call means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admission) enum FailurePolicy {
    Fail,
    Ignore,
}

impl FailurePolicy {
    /// Reads the field; absent means `Fail`.
    pub fn read(object: &Value) -> FailurePolicy {
        match object.get("failurePolicy").and_then(Value::as_str) {
            Some("Ignore") => FailurePolicy::Ignore,
            _ => FailurePolicy::Fail,
        }
    }
}

/// Whether calls change anything beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SideEffects {
    Unset,
    /// None, or none for dry runs.
    NoneOnDryRun,
    Some,
}

/// Where a webhook listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Endpoint {
    Url(String),
    Service {
        namespace: String,
        name: String,
        path: String,
        port: u16,
    },
    None,
}

/// One webhook of one configuration.
pub(super) struct Hook {
    /// Unique among all webhooks of its kind.
    pub id: String,
    pub configuration: String,
    pub name: String,
    pub rules: Vec<Rule>,
    pub selectors: Selectors,
    pub match_policy: MatchPolicy,
    pub conditions: Conditions,
    pub failure_policy: FailurePolicy,
    pub side_effects: SideEffects,
    pub timeout: Duration,
    pub review_versions: Vec<String>,
    /// Called again in the second round if the object changed since.
    pub reinvoked: bool,
    pub endpoint: Endpoint,
    /// PEM; empty means the system's authorities.
    pub ca_bundle: Vec<u8>,
}

/// Every webhook of a configuration, in its order.
pub(super) type Hooks = Vec<Arc<Hook>>;

/// Reads a configuration.
pub(super) fn parse(configuration: &Value) -> Hooks {
    let name = meta::name(configuration);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let hooks = configuration.get("webhooks").and_then(Value::as_array);
    hooks
        .into_iter()
        .flatten()
        .map(|hook| {
            let text = |field: &str| hook.get(field).and_then(Value::as_str).unwrap_or("");
            let count = seen.entry(text("name").to_owned()).or_default();
            let id = format!("{name}/{}/{count}", text("name"));
            *count += 1;
            let client = hook.get("clientConfig").unwrap_or(&Value::Null);
            let ca = client.get("caBundle").and_then(Value::as_str).unwrap_or("");
            let seconds = hook.get("timeoutSeconds").and_then(Value::as_u64);
            Arc::new(Hook {
                id,
                configuration: name.to_owned(),
                name: text("name").to_owned(),
                rules: Rule::read_all(hook.get("rules")),
                selectors: Selectors::read(hook),
                match_policy: MatchPolicy::read(hook),
                conditions: Conditions::read(hook, &Compiler::of_webhook()),
                failure_policy: FailurePolicy::read(hook),
                side_effects: match text("sideEffects") {
                    "" => SideEffects::Unset,
                    "None" | "NoneOnDryRun" => SideEffects::NoneOnDryRun,
                    _ => SideEffects::Some,
                },
                timeout: Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS)),
                review_versions: strings(hook, "admissionReviewVersions"),
                reinvoked: text("reinvocationPolicy") == "IfNeeded",
                endpoint: endpoint(client),
                ca_bundle: STANDARD.decode(ca).unwrap_or_default(),
            })
        })
        .collect()
}

fn endpoint(client: &Value) -> Endpoint {
    if let Some(service) = client.get("service").filter(|s| s.is_object()) {
        let text = |field: &str| service.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let port = service.get("port").and_then(Value::as_u64);
        return Endpoint::Service {
            namespace: text("namespace"),
            name: text("name"),
            path: text("path"),
            port: port
                .and_then(|p| u16::try_from(p).ok())
                .filter(|p| *p > 0)
                .unwrap_or(443),
        };
    }
    match client.get("url").and_then(Value::as_str) {
        Some(url) if !url.is_empty() => Endpoint::Url(url.to_owned()),
        _ => Endpoint::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn webhooks_of_a_name_have_ids_of_their_own() {
        let hooks = parse(&json!({"metadata": {"name": "c"}, "webhooks": [
            {"name": "a", "clientConfig": {"service": {"namespace": "ns", "name": "s"}}},
            {"name": "a", "clientConfig": {"url": "https://x"}, "failurePolicy": "Ignore", "timeoutSeconds": 3},
        ]}));
        let ids: Vec<&str> = hooks.iter().map(|h| h.id.as_str()).collect();
        assert_eq!(ids, ["c/a/0", "c/a/1"]);
        assert!(matches!(&hooks[0].endpoint, Endpoint::Service { port: 443, .. }));
        assert_eq!(hooks[0].timeout, Duration::from_secs(10));
        assert_eq!(hooks[1].failure_policy, FailurePolicy::Ignore);
    }
}
