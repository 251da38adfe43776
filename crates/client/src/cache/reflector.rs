//! The writer of a cache: list, then watch, and again (client-go `tools/cache/reflector.go`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

pub(super) async fn run<K: Object>(inner: Arc<Inner<K>>, handle: Handle<K>, options: CacheOptions<K>) {
    let reflector = Reflector { inner, handle, options };
    let mut backoff = BACKOFF_MIN;
    let mut next = Next::List;
    loop {
        let begun = Instant::now();
        let outcome;
        (next, outcome) = match next {
            Next::List => match reflector.list().await {
                Ok(revision) => {
                    next = Next::Watch(revision);
                    continue;
                }
                // A server of another version may not have this resource: there are none of it, until there are.
                Err(error) if error.is_not_found() && reflector.inner.revision.borrow().eq(&0) => {
                    reflector.inner.synced.send_replace(true);
                    (Next::List, Err(error))
                }
                Err(error) => (Next::List, Err(error)),
            },
            Next::Watch(mut last) => match reflector.watch(&mut last).await {
                Ok(()) => (Next::Watch(last), Ok(())),
                Err(error) if error.is_expired() => (Next::List, Ok(())),
                Err(error @ ClientError::Decode { .. }) => (Next::List, Err(error)),
                Err(error) => (Next::Watch(last), Err(error)),
            },
        };
        if let Err(error) = &outcome {
            let resource = reflector.handle.resource();
            tracing::warn!(%resource, error = error.report(), "a cache lost the server, will retry");
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

struct Reflector<K> {
    inner: Arc<Inner<K>>,
    handle: Handle<K>,
    options: CacheOptions<K>,
}

impl<K: Object> Reflector<K> {
    async fn list(&self) -> Result<String, ClientError> {
        let params = ListParams {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            limit: PAGE,
            ..ListParams::default()
        };
        let list = self.handle.list_all(&self.options.namespace, &params).await?;
        let revision = list.metadata.resource_version.unwrap_or_default();
        self.replace(list.items, &revision);
        self.inner.synced.send_replace(true);
        Ok(revision)
    }

    async fn watch(&self, last: &mut String) -> Result<(), ClientError> {
        let params = WatchParams {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            resource_version: last.clone(),
            bookmarks: true,
            timeout_seconds: 300 + (rand::random::<f64>() * 300.0) as u32,
            send_initial_events: false,
        };
        let mut stream = self.handle.watch(&self.options.namespace, &params).await?;
        while let Some(event) = stream.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *last = self.put(object);
                }
                WatchEvent::Deleted(object) => {
                    *last = object.metadata().resource_version.clone().unwrap_or_default();
                    let key = Key::of(&object);
                    self.delete(&key);
                    self.advance(last);
                }
                WatchEvent::Bookmark { resource_version, .. } => {
                    *last = resource_version;
                    self.advance(last);
                }
                WatchEvent::Error(status) => return Err(ClientError::Api(status)),
            }
        }
        Ok(())
    }

    fn trim(&self, object: &mut K) {
        match self.options.trim {
            Trim::Nothing => {}
            Trim::ManagedFields => object.metadata_mut().managed_fields = None,
            Trim::With(trim) => trim(object),
        }
    }

    /// Puts one object; answers with its revision.
    fn put(&self, object: K) -> String {
        let revision = object.metadata().resource_version.clone().unwrap_or_default();
        self.store(object);
        self.advance(&revision);
        revision
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

    fn replace(&self, objects: Vec<K>, revision: &str) {
        let listed: HashSet<Key> = objects.iter().map(Key::of).collect();
        let known: Vec<Key> = self.inner.state.read().all().map(|object| Key::of(&**object)).collect();
        for key in known.iter().filter(|key| !listed.contains(key)) {
            self.delete(key);
        }
        for object in objects {
            self.store(object);
        }
        self.inner.revision.send_replace(revision.parse().unwrap_or(0));
    }

    fn advance(&self, revision: &str) {
        if let Ok(revision) = revision.parse() {
            self.inner.revision.send_replace(revision);
        }
    }
}

fn same_version<K: Object>(a: &K, b: &K) -> bool {
    let (a, b) = (a.metadata(), b.metadata());
    a.uid == b.uid && a.resource_version == b.resource_version
}
