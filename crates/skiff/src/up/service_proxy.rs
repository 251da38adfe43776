//! Keeps the kernel's rules those of Services and EndpointSlices.

use std::sync::Arc;
use std::time::Duration;

use client::Cache;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use net::ServiceProxy;
use proxy::ProxyConfig;
use tokio_util::sync::CancellationToken;

/// Changes that come this close together are written at once.
const GATHER: Duration = Duration::from_millis(10);

/// Follows the caches until `stop`; the rules stay, so that connections go on working.
pub async fn run(
    proxy: ServiceProxy,
    config: ProxyConfig,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    stop: CancellationToken,
) {
    let work = async {
        services.synced().await;
        slices.synced().await;
        let (mut service_revisions, mut slice_revisions) = (services.revisions(), slices.revisions());
        loop {
            service_revisions.borrow_and_update();
            slice_revisions.borrow_and_update();
            let ruleset = proxy::ruleset(&services.list(), &slices.list(), &config);
            if let Err(error) = proxy.apply(Arc::new(ruleset)).await {
                tracing::warn!(%error, "service rules were refused; they are tried again");
            }
            tokio::select! {
                changed = service_revisions.changed() => if changed.is_err() { return },
                changed = slice_revisions.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(GATHER).await;
        }
    };
    stop.run_until_cancelled(work).await;
    proxy.shutdown();
}
