//! Whether an APIService can be used (`kube-aggregator/pkg/controllers/status`).

use std::sync::Arc;

use api::Value;

use super::Remote;
use super::exchange::{self, Verify};
use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::state::State;

/// How often the discovery of a server is tried before it counts as failed.
const ATTEMPTS: usize = 3;

/// The condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict {
            status: "False",
            reason,
            message,
        }
    }

    pub fn is_good(&self) -> bool {
        self.status == "True"
    }
}

/// Looks at the Service, its endpoints, and the server behind it.
pub(super) async fn check(state: &State, remote: &Remote) -> Verdict {
    let (service, namespace) = (&remote.service, api::field::go_quote(&remote.namespace));
    let unknown = |error: String| Verdict {
        status: "Unknown",
        reason: "ServiceAccessError",
        message: format!("service/{service} in {namespace} cannot be checked due to: {error}"),
    };
    let Some(services) = state.resource("", "v1", "services") else {
        return unknown("services are not served".to_owned());
    };
    let object = match services.latest(&remote.namespace, service).await {
        Err(error) => return unknown(error.to_string()),
        Ok(None) => {
            let message = format!("service/{service} in {namespace} is not present");
            return Verdict::no("ServiceNotFound", message);
        }
        Ok(Some(entry)) => services.value(&entry),
    };
    let ty = value_at(&object, "spec.type")
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP");
    if ty == "ClusterIP" {
        let ports = value_at(&object, "spec.ports").and_then(Value::as_array);
        let port = ports
            .into_iter()
            .flatten()
            .find(|p| p["port"].as_u64() == Some(remote.port.into()));
        let Some(port) = port else {
            let message = format!(
                "service/{service} in {namespace} is not listening on port {}",
                remote.port
            );
            return Verdict::no("ServicePortError", message);
        };
        let name = port["name"].as_str().unwrap_or_default();
        if let Some(verdict) = missing_endpoints(state, remote, name).await {
            return verdict;
        }
    }
    let path = remote.root();
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let url = format!(
            "https://{}.{}.svc:{}{path}",
            remote.service, remote.namespace, remote.port
        );
        match exchange::get(state, remote, Verify::Nothing, &path, "application/json").await {
            Ok(answer) if (200..300).contains(&answer.code) => {
                return Verdict {
                    status: "True",
                    reason: "Passed",
                    message: "all checks passed".to_owned(),
                };
            }
            Ok(answer) => last = format!("bad status from {url}: {}", answer.code),
            Err(error) => last = format!("Get {}: {error}", api::field::go_quote(&url)),
        }
        last = format!("failing or missing response from {url}: {last}");
    }
    Verdict::no("FailedDiscoveryCheck", last)
}

async fn missing_endpoints(state: &State, remote: &Remote, port_name: &str) -> Option<Verdict> {
    let (service, namespace) = (&remote.service, api::field::go_quote(&remote.namespace));
    let slices = state.any_version("discovery.k8s.io", "endpointslices")?;
    let params = ListParams {
        at: At::Latest,
        selection: slices_of(remote),
        limit: 0,
        start_after: None,
    };
    let page = match slices.cache.list(params).await {
        Ok(page) => page,
        Err(error) => {
            return Some(Verdict {
                status: "Unknown",
                reason: "EndpointsAccessError",
                message: format!("service/{service} in {namespace} cannot be checked due to: {error}"),
            });
        }
    };
    if page.entries.is_empty() {
        let message = format!("cannot find endpointslices for service/{service} in {namespace}");
        return Some(Verdict::no("EndpointsNotFound", message));
    }
    let works = page.entries.iter().any(|entry| {
        let slice = slices.value(entry);
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let named = ports.any(|p| p["name"].as_str().unwrap_or_default() == port_name);
        let mut endpoints = slice["endpoints"].as_array().into_iter().flatten();
        named && endpoints.any(|e| e["conditions"]["ready"].as_bool().unwrap_or(true))
    });
    (!works).then(|| {
        let port = api::field::go_quote(port_name);
        let message =
            format!("endpointslices for service/{service} in {namespace} have no addresses with port name {port}");
        Verdict::no("MissingEndpoints", message)
    })
}

/// The endpoint slices of a remote's Service.
pub(super) fn slices_of(remote: &Remote) -> Selection {
    let service = remote.service.clone();
    Selection {
        namespace: Some(remote.namespace.clone()),
        matcher: Some(Arc::new(move |entry| {
            entry.labels().get("kubernetes.io/service-name") == Some(&service)
        })),
        ..Selection::default()
    }
}
