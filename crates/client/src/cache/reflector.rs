//! The writer of a cache: list, then watch, and again (client-go `tools/cache/reflector.go`).
//!
//! Only what decodes and keeps objects is generic: the rest is compiled once for all kinds, and an object is decoded
//! and trimmed when its turn comes, so that a list takes no more memory than one page and what is kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{CacheOptions, Change, Inner, Key, Trim};
use crate::{ClientError, Handle, ListParams, Object, WatchEvent, WatchParams};

const PAGE: u32 = 500;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A watch that lived this long was healthy: the next attempt starts at once.
const HEALTHY_AFTER: Duration = Duration::from_secs(2);

/// What the reflector does next.
enum Next {
    List,
    /// Watch after this revision.
    Watch(String),
}

/// Objects as they were sent, not yet decoded.
type Raw = Box<RawValue>;

/// Which objects are followed.
struct Selected {
    namespace: String,
    labels: String,
    fields: String,
}

/// Where objects are kept.
trait Sink: Send + Sync {
    /// A list begins.
    fn begin(&self);
    /// An object that was listed.
    fn listed(&self, json: &str) -> Result<(), serde_json::Error>;
    /// The list was that of this revision, and is complete: what it did not have is gone.
    fn complete(&self, revision: &str);
    /// The server does not have such objects: there are none, until there are. Nothing, if some were known before.
    fn unserved(&self);
    /// An object that was added or changed; answers with its revision.
    fn put(&self, json: &str) -> Result<String, serde_json::Error>;
    /// An object that is gone; answers with the revision of that.
    fn gone(&self, json: &str) -> Result<String, serde_json::Error>;
    /// Everything up to this revision has been told.
    fn advance(&self, revision: &str);
}

/// Keeps a cache up to date. Compiled once for all kinds: only its [`Sink`] knows them.
pub(super) struct Reflector {
    handle: Handle<Raw>,
    selected: Selected,
    kept: Box<dyn Sink>,
}

impl Reflector {
    pub fn new<K: Object>(inner: Arc<Inner<K>>, handle: Handle<K>, options: CacheOptions<K>) -> Self {
        let selected = Selected {
            namespace: options.namespace,
            labels: options.label_selector,
            fields: options.field_selector,
        };
        let kept = Kept {
            inner,
            trim: options.trim,
            listed: Mutex::default(),
        };
        Self {
            handle: handle.decoding(),
            selected,
            kept: Box::new(kept),
        }
    }

    pub fn spawn(self, stop: CancellationToken) {
        tokio::spawn(stop.run_until_cancelled_owned(async move { self.run().await }));
    }

    async fn run(&self) {
        let mut backoff = BACKOFF_MIN;
        let mut next = Next::List;
        loop {
            let begun = Instant::now();
            let outcome;
            (next, outcome) = match next {
                Next::List => match self.list().await {
                    Ok(revision) => {
                        next = Next::Watch(revision);
                        continue;
                    }
                    // A server of another version may not serve this: nobody waits for it.
                    Err(error) if error.is_not_found() => {
                        self.kept.unserved();
                        (Next::List, Err(error))
                    }
                    Err(error) => (Next::List, Err(error)),
                },
                Next::Watch(mut last) => match self.watch(&mut last).await {
                    Ok(()) => (Next::Watch(last), Ok(())),
                    Err(error) if error.is_expired() => (Next::List, Ok(())),
                    Err(error @ ClientError::Decode { .. }) => (Next::List, Err(error)),
                    Err(error) => (Next::Watch(last), Err(error)),
                },
            };
            if let Err(error) = &outcome {
                let (resource, cause) = (self.handle.resource(), error.report());
                if error.is_not_found() {
                    tracing::debug!(%resource, cause, "the server does not serve what a cache wants, will retry");
                } else {
                    tracing::warn!(%resource, error = cause, "a cache lost the server, will retry");
                }
            }
            if begun.elapsed() >= HEALTHY_AFTER {
                backoff = BACKOFF_MIN;
                if outcome.is_ok() {
                    continue;
                }
            }
            tokio::time::sleep(backoff.mul_f64(1.0 + rand::random::<f64>())).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn undecodable(&self, source: serde_json::Error) -> ClientError {
        ClientError::Decode {
            what: format!("an object of {}", self.handle.resource()),
            source,
        }
    }

    async fn list(&self) -> Result<String, ClientError> {
        let mut params = ListParams {
            label_selector: self.selected.labels.clone(),
            field_selector: self.selected.fields.clone(),
            limit: PAGE,
            ..ListParams::default()
        };
        // Of a list that failed half way nothing counts.
        self.kept.begin();
        loop {
            let page = self.handle.list(&self.selected.namespace, &params).await?;
            for object in &page.items {
                self.kept
                    .listed(object.get())
                    .map_err(|error| self.undecodable(error))?;
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = token,
                None => {
                    let revision = page.metadata.resource_version.unwrap_or_default();
                    self.kept.complete(&revision);
                    return Ok(revision);
                }
            }
        }
    }

    async fn watch(&self, last: &mut String) -> Result<(), ClientError> {
        let params = WatchParams {
            label_selector: self.selected.labels.clone(),
            field_selector: self.selected.fields.clone(),
            resource_version: last.clone(),
            bookmarks: true,
            timeout_seconds: 300 + (rand::random::<f64>() * 300.0) as u32,
            send_initial_events: false,
        };
        let mut stream = self.handle.watch(&self.selected.namespace, &params).await?;
        while let Some(event) = stream.next().await {
            *last = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.kept.put(object.get()),
                WatchEvent::Deleted(object) => self.kept.gone(object.get()),
                WatchEvent::Bookmark { resource_version, .. } => {
                    self.kept.advance(&resource_version);
                    Ok(resource_version)
                }
                WatchEvent::Error(status) => return Err(ClientError::Api(status)),
            }
            .map_err(|error| self.undecodable(error))?;
        }
        Ok(())
    }
}

/// The objects of one kind, as a cache keeps them.
struct Kept<K> {
    inner: Arc<Inner<K>>,
    trim: Trim<K>,
    /// What the list that is under way has had so far.
    listed: Mutex<Vec<K>>,
}

impl<K: Object> Sink for Kept<K> {
    fn begin(&self) {
        self.listed.lock().clear();
    }

    fn listed(&self, json: &str) -> Result<(), serde_json::Error> {
        let mut object = K::from_json(json.as_bytes())?;
        self.trim(&mut object);
        self.listed.lock().push(object);
        Ok(())
    }

    fn complete(&self, revision: &str) {
        let objects = std::mem::take(&mut *self.listed.lock());
        let listed: HashSet<Key> = objects.iter().map(Key::of).collect();
        let known: Vec<Key> = self.inner.state.read().all().map(|object| Key::of(&**object)).collect();
        for key in known.iter().filter(|key| !listed.contains(key)) {
            self.delete(key);
        }
        for object in objects {
            self.store(object);
        }
        self.inner.revision.send_replace(revision.parse().unwrap_or(0));
        self.inner.synced.send_replace(true);
    }

    fn unserved(&self) {
        if *self.inner.revision.borrow() == 0 {
            self.inner.synced.send_replace(true);
        }
    }

    fn put(&self, json: &str) -> Result<String, serde_json::Error> {
        let object = K::from_json(json.as_bytes())?;
        let revision = object.metadata().resource_version.clone().unwrap_or_default();
        self.store(object);
        self.advance(&revision);
        Ok(revision)
    }

    fn gone(&self, json: &str) -> Result<String, serde_json::Error> {
        let object = K::from_json(json.as_bytes())?;
        let revision = object.metadata().resource_version.clone().unwrap_or_default();
        self.delete(&Key::of(&object));
        self.advance(&revision);
        Ok(revision)
    }

    fn advance(&self, revision: &str) {
        if let Ok(revision) = revision.parse() {
            self.inner.revision.send_replace(revision);
        }
    }
}

impl<K: Object> Kept<K> {
    fn trim(&self, object: &mut K) {
        match self.trim {
            Trim::Nothing => {}
            Trim::ManagedFields => object.metadata_mut().managed_fields = None,
            Trim::With(trim) => trim(object),
        }
    }

    fn store(&self, mut object: K) {
        self.trim(&mut object);
        let key = Key::of(&object);
        let object = Arc::new(object);
        let mut sinks = self.inner.sinks.lock();
        let old = {
            let mut state = self.inner.state.write();
            let known = state.get(&key.namespace, &key.name);
            if known.is_some_and(|known| same_version(&**known, &*object)) {
                return;
            }
            state.insert(&key, object.clone())
        };
        let change = Change { old, new: Some(object) };
        sinks.retain(|sink| sink(&change));
    }

    fn delete(&self, key: &Key) {
        let mut sinks = self.inner.sinks.lock();
        let old = self.inner.state.write().remove(key);
        if let Some(old) = old {
            let change = Change {
                old: Some(old),
                new: None,
            };
            sinks.retain(|sink| sink(&change));
        }
    }
}

fn same_version<K: Object>(a: &K, b: &K) -> bool {
    let (a, b) = (a.metadata(), b.metadata());
    a.uid == b.uid && a.resource_version == b.resource_version
}
