//! From a Service to somebody who answers for it (`apiserver/pkg/util/proxy`): one of its ready
//! endpoints, so that it works wherever the server runs.

use std::sync::Arc;

use api::Value;
use tokio::net::TcpStream;

use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::state::State;

/// Connects to a ready endpoint of a Service's port; another one if the first does not answer.
///
/// # Errors
/// Why there is none, in upstream's words.
pub(crate) async fn connect(state: &State, namespace: &str, name: &str, port: u16) -> Result<TcpStream, String> {
    let mut targets = resolve(state, namespace, name, port).await?;
    let mut last = String::new();
    while !targets.is_empty() {
        let (host, port) = targets.swap_remove(rand::random_range(0..targets.len()));
        match TcpStream::connect((host.as_str(), port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("dial tcp {host}:{port}: {error}"),
        }
    }
    Err(last)
}

/// Every address and port behind a Service's port.
///
/// # Errors
/// As [`connect`].
pub(crate) async fn resolve(
    state: &State,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<(String, u16)>, String> {
    let quote = |text: &str| api::field::go_quote(text);
    let services = state.resource("", "v1", "services").ok_or("services are not served")?;
    let service = services.latest(namespace, name).await.map_err(|e| e.to_string())?;
    let service = service.ok_or_else(|| format!("service {} not found", quote(name)))?;
    let service = services.value(&service);
    if value_at(&service, "spec.type").and_then(Value::as_str) == Some("ExternalName") {
        let host = value_at(&service, "spec.externalName").and_then(Value::as_str);
        return Ok(vec![(host.unwrap_or_default().to_owned(), port)]);
    }
    let ports = value_at(&service, "spec.ports").and_then(Value::as_array);
    let wanted = ports
        .into_iter()
        .flatten()
        .find(|p| p["port"].as_u64() == Some(port.into()))
        .ok_or_else(|| format!("no service port {port} found for service {}", quote(name)))?;
    let wanted = wanted["name"].as_str().unwrap_or_default().to_owned();
    let slices = state.any_version("discovery.k8s.io", "endpointslices");
    let none = || format!("no endpoints available for service {}", quote(name));
    let slices = slices.ok_or_else(none)?;
    let of = name.to_owned();
    let params = ListParams {
        at: At::Latest,
        selection: Selection {
            namespace: Some(namespace.to_owned()),
            matcher: Some(Arc::new(move |entry| {
                entry.labels().get("kubernetes.io/service-name") == Some(&of)
            })),
            ..Selection::default()
        },
        limit: 0,
        start_after: None,
    };
    let page = slices.cache.list(params).await.map_err(|e| e.to_string())?;
    let mut targets = Vec::new();
    for entry in &page.entries {
        let slice = slices.value(entry);
        let ports = slice["ports"].as_array().into_iter().flatten();
        let port = ports
            .filter(|p| p["name"].as_str().unwrap_or_default() == wanted)
            .find_map(|p| u16::try_from(p["port"].as_u64()?).ok());
        let Some(port) = port else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"].as_bool().unwrap_or(true)
                && let Some(address) = endpoint["addresses"][0].as_str()
            {
                targets.push((address.to_owned(), port));
            }
        }
    }
    if targets.is_empty() { Err(none()) } else { Ok(targets) }
}
