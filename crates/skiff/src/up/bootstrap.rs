//! The objects that every cluster has: made when missing, mended when upstream would mend them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::{Gvr, Value, meta};
use apiserver::{ApiServer, Endpoints as Checked};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{CacheOptions, Caches, Client, ListParams, Object, PatchKind, WriteParams};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::bootstrap;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const MANAGER: &str = "kube-apiserver";
/// How long after a failure the Service `kubernetes` is mended again.
const AGAIN: Duration = Duration::from_secs(10);

/// Where the API server is reached.
#[derive(Clone)]
pub struct Endpoint {
    /// The networks of service addresses.
    pub service_cidrs: Vec<String>,
    /// The address of the Service `kubernetes`.
    pub service_ip: IpAddr,
    /// The address of this machine.
    pub address: IpAddr,
    /// The API server's port.
    pub port: u16,
    /// What its certificate is verified with, in PEM.
    pub authority: String,
}

/// Names of upstream's health checks about these objects.
const HOOKS: [&str; 6] = [
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-cluster-authentication-info-controller",
];

/// Adds the health checks, which fail until the answer is cancelled.
pub fn checks(server: &ApiServer) -> CancellationToken {
    let made = CancellationToken::new();
    for hook in HOOKS {
        let made = made.clone();
        server.add_check(hook, Checked::All, move || {
            std::future::ready(if made.is_cancelled() {
                Ok(())
            } else {
                Err("not finished".to_owned())
            })
        });
    }
    made
}

/// Makes and mends all of them, as `client`, a superuser.
pub async fn ensure(client: &Client, endpoint: &Endpoint) -> Result<()> {
    // Namespaces first: the others live in them.
    let objects = bootstrap::objects();
    let (namespaces, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(gvr, _)| gvr.resource == "namespaces");
    ensure_all(client, namespaces).await?;
    ensure_all(client, rest).await?;
    ensure_all(client, maps(endpoint)).await?;
    ensure_all(client, kubernetes(endpoint)).await
}

/// What joining machines learn of the cluster (kubeadm's `cluster-info`), and since when the uses of tokens in Secrets
/// are written down (upstream `pkg/controlplane/controller/legacytokentracking`). Whoever changes them knows why.
fn maps(endpoint: &Endpoint) -> Vec<(Gvr, Value)> {
    let map = |namespace: &str, name: &str, key: &str, value: String| {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name},
            "data": {key: value},
        });
        (Gvr::new("", "v1", "configmaps"), map)
    };
    let authority = STANDARD.encode(&endpoint.authority);
    let server = SocketAddr::new(endpoint.address, endpoint.port);
    let kubeconfig = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: https://{server}\n  \
         name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: null\n"
    );
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    vec![
        map("kube-public", "cluster-info", "kubeconfig", kubeconfig),
        map(
            "kube-system",
            "kube-apiserver-legacy-service-account-token-tracking",
            "since",
            today,
        ),
    ]
}

/// Keeps the Service through which pods reach the API server, and its endpoints, until `shutdown`:
/// whoever deletes or changes them gets them back.
pub async fn keep(client: Client, endpoint: Endpoint, caches: Caches, shutdown: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let services = follow::<Service>(&caches, &changed);
    let endpoints = follow::<Endpoints>(&caches, &changed);
    let slices = follow::<EndpointSlice>(&caches, &changed);
    let wait = async {
        services.synced().await;
        endpoints.synced().await;
        slices.synced().await;
        loop {
            changed.notified().await;
            while let Err(error) = ensure_all(&client, kubernetes(&endpoint)).await {
                tracing::warn!(%error, "the Service kubernetes cannot be mended; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    shutdown.run_until_cancelled(wait).await;
}

/// Follows the object `default/kubernetes` of a kind.
fn follow<K: Object>(caches: &Caches, changed: &Arc<Notify>) -> client::Cache<K> {
    let cache = caches.selected(CacheOptions::<K> {
        namespace: "default".to_owned(),
        field_selector: "metadata.name=kubernetes".to_owned(),
        ..CacheOptions::default()
    });
    let changed = changed.clone();
    cache.on_change(move |change| {
        if change.old.is_some() {
            changed.notify_one();
        }
    });
    cache
}

fn kubernetes(endpoint: &Endpoint) -> Vec<(Gvr, Value)> {
    let address = endpoint.address.to_string();
    vec![
        (
            Gvr::new("networking.k8s.io", "v1", "servicecidrs"),
            bootstrap::kubernetes_service_cidr(&endpoint.service_cidrs),
        ),
        (
            Gvr::new("", "v1", "services"),
            bootstrap::kubernetes_service(&endpoint.service_ip.to_string(), endpoint.port),
        ),
        (
            Gvr::new("", "v1", "endpoints"),
            bootstrap::kubernetes_endpoints(&[&address], endpoint.port),
        ),
        (
            Gvr::new("discovery.k8s.io", "v1", "endpointslices"),
            bootstrap::kubernetes_endpoint_slice(&[&address], endpoint.port),
        ),
    ]
}

/// Asks once for each resource, then writes only what differs, all at a time.
async fn ensure_all(client: &Client, objects: Vec<(Gvr, Value)>) -> Result<()> {
    let mut known: HashMap<Gvr, HashMap<(String, String), Value>> = HashMap::new();
    let mut writes = JoinSet::new();
    for (gvr, object) in objects {
        if !known.contains_key(&gvr) {
            let list = client.dynamic(&gvr).list_all("", &ListParams::default()).await;
            let list = list.with_context(|| format!("list {}", gvr.resource))?;
            let by_name = list.items.into_iter().map(|item| (key(&item), item)).collect();
            known.insert(gvr.clone(), by_name);
        }
        let existing = known[&gvr].get(&key(&object)).cloned();
        let client = client.clone();
        writes.spawn(async move { ensure_one(&client, &gvr, existing, object).await });
    }
    while let Some(result) = writes.join_next().await {
        result??;
    }
    Ok(())
}

fn key(object: &Value) -> (String, String) {
    (meta::namespace(object).to_owned(), meta::name(object).to_owned())
}

async fn ensure_one(client: &Client, gvr: &Gvr, existing: Option<Value>, object: Value) -> Result<()> {
    let handle = client.dynamic(gvr);
    let (namespace, name) = key(&object);
    let params = WriteParams::manager(MANAGER);
    let what = || format!("make {} {name}", gvr.resource);
    let Some(existing) = existing else {
        return match handle.create(&namespace, &object, &params).await {
            Err(error) if error.is_already_exists() => Ok(()),
            result => result.map(drop).with_context(what),
        };
    };
    let mended = match gvr.resource.as_str() {
        "clusterroles" | "roles" => bootstrap::reconcile_role(&existing, &object),
        "clusterrolebindings" | "rolebindings" => bootstrap::reconcile_binding(&existing, &object),
        "endpoints" | "endpointslices" => {
            // The machine's address may have changed.
            let patch: Result<Value, _> = handle
                .patch(&namespace, &name, PatchKind::Merge, &object, &params)
                .await;
            return patch.map(drop).with_context(what);
        }
        _ => None,
    };
    match mended {
        Some(mended) => handle
            .update(&namespace, &name, &mended, &params)
            .await
            .map(drop)
            .with_context(|| format!("mend {} {name}", gvr.resource)),
        None => Ok(()),
    }
}
