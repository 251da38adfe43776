//! ConfigMaps and Secrets that pods refer to, each followed by a watch of its own while somebody uses it
//! (pkg/kubelet/util/manager/watch_based_manager.go).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::{Cache, CacheOptions, Client, Object};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Called with the UID of a pod one of whose sources changed.
type Changed = Arc<dyn Fn(&str) + Send + Sync>;

/// What pods refer to. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    client: Client,
    stop: CancellationToken,
    changed: Changed,
    config_maps: Followed<ConfigMap>,
    secrets: Followed<Secret>,
}

type Users = Arc<Mutex<BTreeSet<String>>>;
type Followed<K> = Arc<Mutex<HashMap<(String, String), (Cache<K>, Users)>>>;

/// Names that a pod refers to, in its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Secrets.
    pub secrets: BTreeSet<String>,
}

/// Everything that a pod refers to.
pub fn references(pod: &Pod) -> References {
    let mut out = References::default();
    let Some(spec) = pod.spec.as_ref() else { return out };
    for (_, container) in podlife::spec::containers(spec) {
        let names = podlife::env::references(&container);
        out.config_maps.extend(names.config_maps);
        out.secrets.extend(names.secrets);
    }
    out.secrets
        .extend(spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    for volume in spec.volumes.iter().flatten() {
        out.config_maps
            .extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        out.secrets
            .extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        let projected = volume.projected.as_ref().and_then(|v| v.sources.as_ref());
        for source in projected.into_iter().flatten() {
            out.config_maps
                .extend(source.config_map.as_ref().map(|v| v.name.clone()));
            out.secrets.extend(source.secret.as_ref().map(|v| v.name.clone()));
        }
    }
    out.config_maps.retain(|name| !name.is_empty());
    out.secrets.retain(|name| !name.is_empty());
    out
}

impl Sources {
    /// None followed yet; watches end with `stop`.
    pub fn new(client: Client, stop: CancellationToken, changed: impl Fn(&str) + Send + Sync + 'static) -> Sources {
        Sources {
            client,
            stop,
            changed: Arc::new(changed),
            config_maps: Arc::default(),
            secrets: Arc::default(),
        }
    }

    /// Follows what the pod refers to, and nothing that it does not any more.
    pub fn follow(&self, pod: &Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = references(pod);
        self.update(&self.config_maps, &uid, namespace, &names.config_maps);
        self.update(&self.secrets, &uid, namespace, &names.secrets);
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &str) {
        let none = BTreeSet::new();
        self.update(&self.config_maps, uid, "", &none);
        self.update(&self.secrets, uid, "", &none);
    }

    fn update<K: Object>(&self, all: &Followed<K>, uid: &str, namespace: &str, names: &BTreeSet<String>) {
        let mut all = all.lock();
        for name in names {
            let key = (namespace.to_string(), name.clone());
            let (_, users) = all.entry(key).or_insert_with(|| self.start(namespace, name));
            users.lock().insert(uid.to_string());
        }
        all.retain(|(home, name), (_, users)| {
            let mut users = users.lock();
            if home != namespace || !names.contains(name) {
                users.remove(uid);
            }
            !users.is_empty()
        });
    }

    fn start<K: Object>(&self, namespace: &str, name: &str) -> (Cache<K>, Users) {
        let users = Users::default();
        let options = CacheOptions {
            namespace: namespace.to_string(),
            field_selector: format!("metadata.name={name}"),
            ..CacheOptions::default()
        };
        let cache = Cache::start(self.client.of::<K>(), options, &self.stop);
        let (changed, told) = (self.changed.clone(), users.clone());
        cache.on_change(move |_| {
            let users: Vec<String> = told.lock().iter().cloned().collect();
            users.iter().for_each(|uid| changed(uid));
        });
        (cache, users)
    }

    /// Those of these ConfigMaps that are there.
    pub async fn config_maps(&self, namespace: &str, names: &[String]) -> BTreeMap<String, ConfigMap> {
        self.found(&self.config_maps, namespace, names).await
    }

    /// Those of these Secrets that are there.
    pub async fn secrets(&self, namespace: &str, names: &[String]) -> BTreeMap<String, Secret> {
        self.found(&self.secrets, namespace, names).await
    }

    async fn found<K: Object>(&self, all: &Followed<K>, namespace: &str, names: &[String]) -> BTreeMap<String, K> {
        let mut out = BTreeMap::new();
        for name in names {
            let key = (namespace.to_string(), name.clone());
            let cache = all.lock().get(&key).map(|(cache, _)| cache.clone());
            let Some(cache) = cache else { continue };
            cache.synced().await;
            if let Some(object) = cache.get(namespace, name) {
                out.insert(name.clone(), (*object).clone());
            }
        }
        out
    }
}
