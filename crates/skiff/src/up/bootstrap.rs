//! The objects that every cluster has: made when missing, mended when upstream would mend them.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use api::{Gvr, Value, meta};
use client::{Client, ListParams, PatchKind, WriteParams};
use kinds::bootstrap;
use tokio::task::JoinSet;

const MANAGER: &str = "kube-apiserver";

/// Where the API server is reached.
pub struct Endpoint {
    /// The address of the Service `kubernetes`.
    pub service_ip: IpAddr,
    /// The address of this machine.
    pub address: IpAddr,
    /// The API server's port.
    pub port: u16,
}

/// Makes and mends all of them, as `client`, a superuser.
pub async fn ensure(client: &Client, endpoint: &Endpoint) -> Result<()> {
    // Namespaces first: the others live in them.
    let objects = bootstrap::objects();
    let (namespaces, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(|(gvr, _)| gvr.resource == "namespaces");
    ensure_all(client, namespaces).await?;
    ensure_all(client, rest).await?;
    ensure_all(client, kubernetes(endpoint)).await
}

fn kubernetes(endpoint: &Endpoint) -> Vec<(Gvr, Value)> {
    let address = endpoint.address.to_string();
    vec![
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
