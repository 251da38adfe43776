//! Where a Service's webhook is: a ready endpoint of it, chosen at random
//! (upstream `util/proxy/proxy.go`, `ResolveEndpoint`).
//!
//! The API server does not rely on the service proxy of the machine it runs on.

use api::{Value, meta};

use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::state::State;

/// Host and port to connect to.
///
/// # Errors
/// A message if there is nothing that could be connected to.
pub(super) async fn of_service(state: &State, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
    let quoted = api::field::go_quote(name);
    let services = state.resource("", "v1", "services");
    let service = match &services {
        Some(services) => {
            let found = services
                .latest(namespace, name)
                .await
                .map_err(|status| status.message)?;
            found.map(|entry| services.value(&entry))
        }
        None => None,
    };
    let service = service.ok_or_else(|| format!("service {quoted} not found"))?;
    let text = |path: &str| value_at(&service, path).and_then(Value::as_str).unwrap_or("");
    if text("spec.type") == "ExternalName" {
        return Ok((text("spec.externalName").to_owned(), port));
    }
    let ports = value_at(&service, "spec.ports").and_then(Value::as_array);
    let port = ports
        .into_iter()
        .flatten()
        .find(|p| p.get("port").and_then(Value::as_u64) == Some(port.into()))
        .ok_or_else(|| format!("no service port {port} found for service {quoted}"))?;
    let port_name = port.get("name").and_then(Value::as_str).unwrap_or("");
    let mut targets = endpoints(state, namespace, name, port_name).await?;
    if targets.is_empty() {
        return Err(format!("no endpoints available for service {quoted}"));
    }
    Ok(targets.swap_remove(rand::random_range(0..targets.len())))
}

async fn endpoints(
    state: &State,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Result<Vec<(String, u16)>, String> {
    let Some(slices) = state.any_version("discovery.k8s.io", "endpointslices") else {
        return Ok(Vec::new());
    };
    let params = ListParams {
        at: At::Latest,
        selection: Selection::namespace(namespace),
        limit: 0,
        start_after: None,
    };
    let page = slices.cache.list(params).await.map_err(|error| error.to_string())?;
    let mut targets = Vec::new();
    for entry in &page.entries {
        if entry.labels().get("kubernetes.io/service-name").map(String::as_str) != Some(service) {
            continue;
        }
        let slice = slices.value(entry);
        let ports = slice.get("ports").and_then(Value::as_array).into_iter().flatten();
        let port = ports
            .filter(|p| p.get("name").and_then(Value::as_str).unwrap_or("") == port_name)
            .find_map(|p| u16::try_from(p.get("port")?.as_u64()?).ok());
        let Some(port) = port else {
            tracing::debug!(
                slice = meta::name(&slice),
                "an endpoint slice lacks the port of a webhook"
            );
            continue;
        };
        let endpoints = slice.get("endpoints").and_then(Value::as_array).into_iter().flatten();
        let ready = endpoints.filter(|e| value_at(e, "conditions.ready").and_then(Value::as_bool).unwrap_or(true));
        let addresses = ready.filter_map(|e| e.get("addresses")?.get(0)?.as_str());
        targets.extend(addresses.map(|address| (address.to_owned(), port)));
    }
    Ok(targets)
}
