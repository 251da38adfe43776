//! The resources that are served, and where their objects are.

mod index;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use api::{GroupResource, Gvr, Status, Value};
use bytes::Bytes;
use parking_lot::Mutex;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::aggregation::Remote;
use crate::cache::{self, Cache, Codec, Entry, stamp_resource_version};
use crate::discovery::Documents;
use crate::kind::{Kind, Scope};
use crate::openapi::OpenApi;
use crate::request::RequestInfo;
use crate::reviews::{self, Review};
use index::Indexer;

/// One served resource: a kind and the cache of its storage.
pub(crate) struct Resource {
    /// The kind.
    pub kind: Kind,
    /// `/registry/<group>/<resource>/`.
    pub prefix: String,
    /// The objects: of built-in kinds in the storage version, shared by all kinds of the same storage; of
    /// custom resources in the version that is served.
    pub cache: Arc<LazyCache>,
    /// Cancelled when the server ends or the kind is no longer served like this: watches end.
    pub ends: CancellationToken,
    /// Objects that every write of something else looks at, decoded once a revision.
    decoded: Mutex<HashMap<Arc<str>, (i64, Arc<Value>)>>,
}

/// So many decoded objects are kept for a resource.
const DECODED: usize = 64;

/// A cache that starts when it is first used: most custom resources, and old versions above all, are
/// never looked at.
pub(crate) struct LazyCache {
    cell: OnceLock<Cache>,
    start: Box<dyn Fn() -> Cache + Send + Sync>,
}

impl LazyCache {
    /// How many objects it holds; none if it has not started, which asking does not change.
    pub fn stored(&self) -> usize {
        self.cell.get().map_or(0, Cache::len)
    }

    fn new(start: impl Fn() -> Cache + Send + Sync + 'static) -> LazyCache {
        LazyCache {
            cell: OnceLock::new(),
            start: Box::new(start),
        }
    }

    /// The cache, if somebody has used it.
    pub fn started(&self) -> Option<&Cache> {
        self.cell.get()
    }
}

impl Deref for LazyCache {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        self.cell.get_or_init(|| (self.start)())
    }
}

/// Every served resource.
pub(crate) struct Registry {
    resources: Vec<Arc<Resource>>,
    by_name: HashMap<Gvr, Arc<Resource>>,
    reviews: Vec<(Kind, Review)>,
    /// Versions that other servers serve.
    remotes: Vec<Arc<Remote>>,
    discovery: OnceLock<Documents>,
    openapi: OnceLock<Arc<OpenApi>>,
    /// The documents of the registry before, of which most stay the same.
    earlier_openapi: Option<Arc<OpenApi>>,
}

impl Registry {
    /// Starts the caches. Must be called inside a tokio runtime.
    pub fn new(kinds: Vec<Kind>, store: &Store, ends: &CancellationToken) -> Registry {
        let mut by_storage: BTreeMap<(String, String), Vec<Kind>> = BTreeMap::new();
        for kind in &kinds {
            let storage = (kind.storage.group.clone(), kind.storage.resource.clone());
            by_storage.entry(storage).or_default().push(kind.clone());
        }
        let caches: HashMap<(String, String), Arc<LazyCache>> = by_storage
            .into_iter()
            .map(|(storage, kinds)| {
                let (store, prefix) = (store.clone(), prefix(&storage.0, &storage.1));
                let cache = LazyCache::new(move || start_cache(&store, &prefix, kinds.clone()));
                let _started: &Cache = &cache;
                (storage, Arc::new(cache))
            })
            .collect();
        let resources: Vec<Arc<Resource>> = kinds
            .into_iter()
            .map(|kind| {
                let storage = (kind.storage.group.clone(), kind.storage.resource.clone());
                let cache = caches[&storage].clone();
                Arc::new(Resource {
                    prefix: prefix(&storage.0, &storage.1),
                    ends: ends.clone(),
                    cache,
                    kind,
                    decoded: Mutex::default(),
                })
            })
            .collect();
        Registry::of(resources)
    }

    /// The same built-in kinds with these resources of custom ones.
    pub fn with_custom(&self, custom: Vec<Arc<Resource>>) -> Registry {
        let built_in = self.resources.iter().filter(|r| r.kind.custom.is_none()).cloned();
        self.followed_by(built_in.chain(custom).collect(), self.remotes.clone())
    }

    /// The same kinds with these versions of other servers.
    pub fn with_remotes(&self, remotes: Vec<Arc<Remote>>) -> Registry {
        self.followed_by(self.resources.clone(), remotes)
    }

    /// The same, whose documents will say what is known now.
    pub fn refreshed(&self) -> Registry {
        self.with_remotes(self.remotes.clone())
    }

    fn followed_by(&self, resources: Vec<Arc<Resource>>, remotes: Vec<Arc<Remote>>) -> Registry {
        let mut registry = Registry::of(resources);
        registry.remotes = remotes;
        registry.earlier_openapi = self.openapi.get().or(self.earlier_openapi.as_ref()).cloned();
        registry
    }

    /// The versions that other servers serve.
    pub fn remotes(&self) -> &[Arc<Remote>] {
        &self.remotes
    }

    /// The other server's version that a group and version name.
    pub fn remote(&self, group: &str, version: &str) -> Option<&Arc<Remote>> {
        self.remotes.iter().find(|r| r.group == group && r.version == version)
    }

    /// The other server's version that a path is in.
    pub fn remote_of_path(&self, path: &str) -> Option<&Arc<Remote>> {
        if self.remotes.is_empty() {
            return None;
        }
        let mut segments = path.trim_start_matches('/').split('/');
        match (segments.next(), segments.next(), segments.next()) {
            (Some("apis"), Some(group), Some(version)) => self.remote(group, version),
            _ => None,
        }
    }

    fn of(resources: Vec<Arc<Resource>>) -> Registry {
        let by_name = resources.iter().map(|r| (r.gvr(), r.clone())).collect();
        Registry {
            resources,
            by_name,
            reviews: reviews::kinds(),
            remotes: Vec::new(),
            discovery: OnceLock::new(),
            openapi: OnceLock::new(),
            earlier_openapi: None,
        }
    }

    /// The kind of that name that is asked and not stored.
    pub fn review(&self, group: &str, version: &str, plural: &str) -> Option<&(Kind, Review)> {
        self.reviews
            .iter()
            .find(|(kind, _)| kind.gvk.group == group && kind.gvk.version == version && kind.plural == plural)
    }

    /// Whether a path's names are those of something served: what clients make up must not leave
    /// traces such as time series.
    pub fn serves(&self, info: &RequestInfo) -> bool {
        match self.get(&info.group, &info.version, &info.resource) {
            Some(resource) => {
                info.subresource.is_empty() || resource.kind.find_subresource(&info.subresource).is_some()
            }
            None => info.subresource.is_empty() && self.review(&info.group, &info.version, &info.resource).is_some(),
        }
    }

    /// Every served kind, those that are not stored included.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.resources
            .iter()
            .map(|r| &r.kind)
            .chain(self.reviews.iter().map(|(kind, _)| kind))
    }

    /// What discovery says.
    pub fn discovery(&self, address: &str) -> &Documents {
        self.discovery
            .get_or_init(|| Documents::new(self.kinds(), &self.remotes, address))
    }

    /// What OpenAPI says.
    pub fn openapi(&self) -> &OpenApi {
        self.openapi
            .get_or_init(|| Arc::new(OpenApi::new(self.kinds(), self.earlier_openapi.as_deref())))
    }

    /// The resource of that group, version and plural.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_name.get(&Gvr::new(group, version, plural))
    }

    /// The first served version of a group's resource.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources
            .iter()
            .find(|r| r.kind.gvk.group == group && r.kind.plural == plural)
    }

    /// All of them, in the order they were given.
    pub fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }
}

/// What the keys of a resource's objects begin with.
pub(crate) fn prefix(group: &str, resource: &str) -> String {
    if group.is_empty() {
        format!("/registry/{resource}/")
    } else {
        format!("/registry/{group}/{resource}/")
    }
}

fn start_cache(store: &Store, prefix: &str, kinds: Vec<Kind>) -> Cache {
    let namespaced = kinds.iter().any(Kind::is_namespaced);
    let custom = kinds
        .iter()
        .find_map(|kind| Some((kind.gvk.clone(), kind.custom.clone()?)));
    let conversion = custom.map(|(gvk, custom)| crate::custom::on_read(gvk, custom));
    let mut indexed: BTreeSet<String> = BTreeSet::new();
    for kind in &kinds {
        indexed.extend(kind.selectable.iter().map(|f| f.name.clone().into_owned()));
    }
    let indexer = Indexer::new(kinds);
    let codec = Codec {
        index: Arc::new(move |bytes| indexer.index(bytes)),
        stamp: Arc::new(stamp_resource_version),
    };
    let mut config = cache::Config::new(prefix, namespaced, codec);
    config.conversion = conversion;
    config.indexed_fields = indexed.into_iter().collect();
    Cache::start(store.clone(), config)
}

/// Whether cached bytes are served as they are.
pub(crate) fn is_cached_version(kind: &Kind) -> bool {
    kind.custom.is_some()
        || kind.storage.gvk == kind.gvk && kind.conversion.is_none() && kind.strategy.after_read.is_none()
}

/// The object as this version serves it.
pub(crate) fn to_served(kind: &Kind, mut object: Value) -> Value {
    if kind.custom.is_some() {
        return object;
    }
    if kind.storage.gvk != kind.gvk {
        kind.gvk.stamp(&mut object);
    }
    if let Some(conversion) = &kind.conversion {
        (conversion.from_storage)(&mut object);
        schema::normalize(kind.schema.get(kind.root), &mut object);
    }
    if let Some(after_read) = &kind.strategy.after_read {
        after_read(&mut object);
    }
    object
}

/// The bytes of an object as it is stored, without its resourceVersion.
///
/// # Errors
/// What a conversion webhook says.
pub(crate) async fn stored_bytes(kind: &Kind, object: &Value) -> Result<Bytes, Status> {
    if kind.custom.is_none() && kind.storage.gvk == kind.gvk && kind.conversion.is_none() {
        return Ok(crate::codec::to_stored_json(object));
    }
    let stored = to_stored(kind, object.clone()).await?;
    Ok(crate::codec::to_object_json(&stored))
}

/// The object as it is stored, without its resourceVersion; errors as [`stored_bytes`].
pub(crate) async fn to_stored(kind: &Kind, mut object: Value) -> Result<Value, Status> {
    if let Some(custom) = &kind.custom {
        object = custom.to_storage(&kind.gvk, &kind.storage.gvk, object).await?;
        api::meta::remove(&mut object, "resourceVersion");
        return Ok(object);
    }
    if kind.storage.gvk != kind.gvk {
        kind.storage.gvk.stamp(&mut object);
    }
    if let Some(conversion) = &kind.conversion {
        (conversion.to_storage)(&mut object);
        if let Some(root) = kind.schema.root(&kind.storage.gvk) {
            schema::normalize(kind.schema.get(root), &mut object);
        }
    }
    api::meta::remove(&mut object, "resourceVersion");
    Ok(object)
}

impl Resource {
    /// The resource of a custom kind; its cache starts when it is used.
    pub fn custom(kind: Kind, store: &Store, ends: CancellationToken) -> Resource {
        let prefix = prefix(&kind.storage.group, &kind.storage.resource);
        let (store, key_prefix, cached) = (store.clone(), prefix.clone(), kind.clone());
        Resource {
            cache: Arc::new(LazyCache::new(move || {
                start_cache(&store, &key_prefix, vec![cached.clone()])
            })),
            prefix,
            ends,
            kind,
            decoded: Mutex::default(),
        }
    }

    /// Group, version and plural.
    pub fn gvr(&self) -> Gvr {
        Gvr::new(&*self.kind.gvk.group, &*self.kind.gvk.version, &*self.kind.plural)
    }

    /// Group and plural, for messages.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&*self.kind.gvk.group, &*self.kind.plural)
    }

    /// The store's key of an object. Names have been checked to hold no slash.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        match self.kind.scope {
            Scope::Namespaced => format!("{}{namespace}/{name}", self.prefix),
            Scope::Cluster => format!("{}{name}", self.prefix),
        }
    }

    /// The object as the cache has it now, as this version serves it.
    pub fn cached(&self, namespace: &str, name: &str) -> Option<Value> {
        self.cache
            .get(&self.key(namespace, name))
            .map(|entry| self.value(&entry))
    }

    /// The object with every acknowledged write seen.
    pub async fn latest(&self, namespace: &str, name: &str) -> Result<Option<Arc<Entry>>, Status> {
        self.cache
            .get_latest(&self.key(namespace, name))
            .await
            .map_err(cache_status)
    }

    /// As [`Resource::value`], remembered: for the few objects of a kind that are looked at again and again.
    pub fn remembered(&self, entry: &Entry) -> Arc<Value> {
        let known = |(revision, value): &(i64, Arc<Value>)| (*revision == entry.revision).then(|| value.clone());
        if let Some(value) = self.decoded.lock().get(entry.key()).and_then(known) {
            return value;
        }
        let value = Arc::new(self.value(entry));
        let mut decoded = self.decoded.lock();
        if decoded.len() >= DECODED {
            decoded.clear();
        }
        decoded.insert(entry.key().clone(), (entry.revision, value.clone()));
        value
    }

    /// A cached object as this version serves it.
    pub fn value(&self, entry: &Entry) -> Value {
        let object = serde_json::from_slice(&entry.json).unwrap_or(Value::Null);
        to_served(&self.kind, object)
    }

    /// A cached object's JSON as this version serves it; shared where that is the stored version.
    pub fn json(&self, entry: &Entry) -> Bytes {
        if is_cached_version(&self.kind) {
            return entry.json.clone();
        }
        crate::codec::to_object_json(&self.value(entry))
    }
}

/// What a client sees of a cache's failure.
pub(crate) fn cache_status(error: cache::CacheError) -> Status {
    use cache::CacheError;
    match error {
        CacheError::Expired { .. } => Status::expired(error.to_string()),
        CacheError::TooLarge { requested, current } => Status::timeout(
            format!("Too large resource version: {requested}, current: {current}"),
            1,
        )
        .with_cause("ResourceVersionTooLarge", "Too large resource version", ""),
        CacheError::Lagged { .. } => Status::expired(error.to_string()),
        CacheError::Closed => Status::service_unavailable("the server is shutting down"),
        CacheError::Store(source) => store_status(source),
        CacheError::Conversion(status) => status,
    }
}

/// What a client sees of a store's failure.
pub(crate) fn store_status(error: store::Error) -> Status {
    match error {
        store::Error::Compacted(_) => Status::expired(error.to_string()),
        store::Error::Closed => Status::service_unavailable("the server is shutting down"),
        store::Error::Full { .. } | store::Error::ReadOnly { .. } => Status::service_unavailable(error.to_string()),
        error => Status::internal(error),
    }
}
