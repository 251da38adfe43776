//! Follows the APIServices: remote versions get a place in the registry and a watchdog, versions of
//! custom resources get an APIService; and tells other servers whom they may believe.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{GroupVersion, Status, Value, meta};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::task::AbortHandle;

use super::{GROUP, PLURAL, Remote, watchdog};
use crate::cache::{At, CacheError, ListParams, Selection, WatchParams, WatchStart, Watcher};
use crate::codec;
use crate::custom::request;
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::state::State;

/// Says that the server made an APIService, and for how long it cares.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const RETRY: Duration = Duration::from_secs(1);
/// Where other servers read whom they may believe.
const TRUST: (&str, &str) = ("kube-system", "extension-apiserver-authentication");
/// Priorities of versions of custom resources (`crdregistration_controller.go`).
const CUSTOM_PRIORITIES: (i64, i64) = (1000, 100);

/// Follows APIServices until the server ends. Does nothing if they are not among the kinds.
pub(crate) fn start(server: &ApiServer) {
    let state = &server.state;
    if state.any_version(GROUP, PLURAL).is_none() {
        return;
    }
    let (weak, shutdown) = (Arc::downgrade(state), state.shutdown.clone());
    tokio::spawn(async move {
        let controller = Controller {
            state: weak,
            known: HashMap::new(),
            built_in: Arc::new(Remote::built_in()),
            serves_built_in: false,
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = controller.run() => {}
        }
    });
}

struct Known {
    uid: String,
    spec: Value,
    /// Whether there was a front-proxy certificate to show.
    identified: bool,
    remote: Arc<Remote>,
    watchdog: AbortHandle,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

struct Controller {
    state: Weak<State>,
    /// Remote versions by the name of their APIService.
    known: HashMap<String, Known>,
    /// Served as long as no APIService has its name.
    built_in: Arc<Remote>,
    serves_built_in: bool,
}

impl Controller {
    async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(()) | Err(CacheError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot follow the APIServices; starting anew");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn follow(&mut self) -> Result<(), CacheError> {
        let Some(state) = self.state.upgrade() else {
            return Ok(());
        };
        let Some(resource) = state.any_version(GROUP, PLURAL) else {
            return Ok(());
        };
        let changed = state.kinds_changed.clone();
        let mut services = watch(&resource, Selection::all()).await?;
        let named = Selection {
            namespace: Some(TRUST.0.to_owned()),
            name: Some(TRUST.1.to_owned()),
            ..Selection::default()
        };
        let mut trust = match state.resource("", "v1", "configmaps") {
            Some(maps) => Some(watch(&maps, named).await?),
            None => None,
        };
        let mut namespace = match state.resource("", "v1", "namespaces") {
            Some(namespaces) => {
                let named = Selection {
                    name: Some(TRUST.0.to_owned()),
                    ..Selection::default()
                };
                Some(watch(&namespaces, named).await?)
            }
            None => None,
        };
        drop(state);
        loop {
            let settled = {
                let Some(state) = self.state.upgrade() else {
                    return Ok(());
                };
                // What comes of kinds after the look is not missed: a notification waits.
                self.look(&state, &resource).await?
            };
            tokio::select! {
                events = services.next() => drop(events?),
                events = next(&mut trust) => drop(events?),
                events = next(&mut namespace) => drop(events?),
                () = changed.notified() => {}
                () = tokio::time::sleep(RETRY), if !settled => {}
            }
        }
    }

    /// Brings everything in line; whether all of it worked.
    async fn look(&mut self, state: &Arc<State>, resource: &Resource) -> Result<bool, CacheError> {
        let page = resource
            .cache
            .list(ListParams {
                at: At::Any,
                selection: Selection::all(),
                limit: 0,
                start_after: None,
            })
            .await?;
        let objects: BTreeMap<String, Value> = page
            .entries
            .iter()
            .map(|entry| (entry.name().to_owned(), resource.value(entry)))
            .collect();
        self.remotes(state, &objects);
        let mut settled = true;
        for result in register(state, &objects).await {
            settled &= tell(&result);
        }
        settled &= tell(&publish_trust(state).await);
        Ok(settled)
    }

    fn remotes(&mut self, state: &Arc<State>, objects: &BTreeMap<String, Value>) {
        let built_in = state.kubelet_tls.is_some() && !objects.contains_key(&self.built_in.name);
        let mut changed = self.serves_built_in != built_in;
        self.serves_built_in = built_in;
        self.known.retain(|name, _| {
            let stays = objects.get(name).is_some_and(|o| o["spec"]["service"].is_object());
            changed |= !stays;
            stays
        });
        for (name, object) in objects {
            let known = self.known.get(name);
            let identified = state.front_proxy.get().is_some();
            let same = |k: &Known| k.uid == meta::uid(object) && k.spec == object["spec"] && k.identified == identified;
            if known.is_some_and(same) {
                continue;
            }
            let Some(remote) = Remote::of(object, state.front_proxy.get()).map(Arc::new) else {
                continue;
            };
            changed = true;
            let task = tokio::spawn(watchdog::run(self.state.clone(), remote.clone()));
            let known = Known {
                uid: meta::uid(object).to_owned(),
                spec: object["spec"].clone(),
                identified,
                remote,
                watchdog: task.abort_handle(),
            };
            self.known.insert(name.clone(), known);
        }
        if changed {
            let mut remotes: Vec<Arc<Remote>> = self.known.values().map(|k| k.remote.clone()).collect();
            remotes.extend(built_in.then(|| self.built_in.clone()));
            remotes.sort_by(|a, b| a.name.cmp(&b.name));
            state.registry.rcu(|registry| registry.with_remotes(remotes.clone()));
        }
    }
}

async fn watch(resource: &Resource, selection: Selection) -> Result<Watcher, CacheError> {
    let start = WatchStart::Now;
    resource.cache.watch(WatchParams { start, selection }).await
}

async fn next(watcher: &mut Option<Watcher>) -> Result<Vec<crate::cache::WatchEvent>, CacheError> {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

fn tell(result: &Result<(), Status>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.is_conflict() || error.is_not_found() || error.is_already_exists() => true,
        Err(error) => {
            tracing::warn!(%error, "cannot bring the APIServices in line; will try again");
            false
        }
    }
}

/// APIServices for the versions of custom resources, made and removed as those come and go.
async fn register(state: &Arc<State>, objects: &BTreeMap<String, Value>) -> Vec<Result<(), Status>> {
    let registry = state.registry.load_full();
    let wanted: BTreeSet<GroupVersion> = registry
        .kinds()
        .filter(|kind| kind.custom.is_some())
        .map(|kind| kind.gvk.group_version())
        .collect();
    let root = format!("/apis/{GROUP}/v1/{PLURAL}");
    let mut results = Vec::new();
    let names: BTreeSet<String> = wanted.iter().map(|gv| format!("{}.{}", gv.version, gv.group)).collect();
    for gv in &wanted {
        let name = format!("{}.{}", gv.version, gv.group);
        if objects.contains_key(&name) {
            continue;
        }
        let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "APIService",
            "metadata": {"name": name, "labels": {MANAGED: "true"}},
            "spec": {"group": gv.group, "version": gv.version,
                "groupPriorityMinimum": CUSTOM_PRIORITIES.0, "versionPriority": CUSTOM_PRIORITIES.1}});
        results.push(
            request(state, Method::POST, &root, codec::to_json(&object))
                .await
                .map(drop),
        );
    }
    for (name, object) in objects {
        let managed = meta::label(object, MANAGED) == Some("true") && !object["spec"]["service"].is_object();
        if managed && !names.contains(name) && !meta::is_deleting(object) {
            let path = format!("{root}/{name}");
            results.push(request(state, Method::DELETE, &path, Bytes::new()).await.map(drop));
        }
    }
    results
}

/// What extension API servers have to know to believe us: our authorities and header names
/// (`clusterauthenticationtrust`).
async fn publish_trust(state: &Arc<State>) -> Result<(), Status> {
    let Some(own) = state.front_proxy.get() else {
        return Ok(());
    };
    let (Some(maps), Some(namespaces)) = (
        state.resource("", "v1", "configmaps"),
        state.resource("", "v1", "namespaces"),
    ) else {
        return Ok(());
    };
    // Until the namespace is there, its coming wakes us.
    if namespaces.cached("", TRUST.0).is_none() {
        return Ok(());
    }
    let list = |names: &[&str]| json!(names).to_string();
    let allowed: Vec<&str> = own.allowed_names.iter().map(String::as_str).collect();
    let data = json!({
        "client-ca-file": own.client_ca_pem,
        "requestheader-allowed-names": list(&allowed),
        "requestheader-client-ca-file": own.ca_pem,
        "requestheader-extra-headers-prefix": list(&["X-Remote-Extra-"]),
        "requestheader-group-headers": list(&["X-Remote-Group"]),
        "requestheader-uid-headers": list(&["X-Remote-Uid"]),
        "requestheader-username-headers": list(&["X-Remote-User"]),
    });
    let root = format!("/api/v1/namespaces/{}/configmaps", TRUST.0);
    match maps.cached(TRUST.0, TRUST.1) {
        Some(mut object) => {
            if object["data"] == data {
                return Ok(());
            }
            object["data"] = data;
            let path = format!("{root}/{}", TRUST.1);
            request(state, Method::PUT, &path, codec::to_json(&object))
                .await
                .map(drop)
        }
        None => {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
                "metadata": {"name": TRUST.1, "namespace": TRUST.0}});
            request(state, Method::POST, &root, codec::to_json(&object))
                .await
                .map(drop)
        }
    }
}
