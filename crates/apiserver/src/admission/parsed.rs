//! Objects that govern admission, as plugins obey them: parsed once a revision.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Status, Value};
use parking_lot::Mutex;

use crate::cache::{At, ListParams, Selection};
use crate::resource::cache_status;
use crate::state::State;

const GROUP: &str = "admissionregistration.k8s.io";

/// The objects of one resource of `admissionregistration.k8s.io`, each made into a `T`.
pub(super) struct Parsed<T> {
    plural: &'static str,
    parse: fn(&Value) -> T,
    kept: Mutex<HashMap<Arc<str>, (i64, Arc<T>)>>,
}

impl<T> Parsed<T> {
    pub fn new(plural: &'static str, parse: fn(&Value) -> T) -> Parsed<T> {
        Parsed {
            plural,
            parse,
            kept: Mutex::default(),
        }
    }

    /// All of them by name, of every object whose write was acknowledged.
    ///
    /// # Errors
    /// If the cache cannot be read.
    pub async fn all(&self, state: &State) -> Result<Vec<Arc<T>>, Status> {
        let Some(resource) = state.any_version(GROUP, self.plural) else {
            return Ok(Vec::new());
        };
        let params = ListParams {
            at: At::Latest,
            selection: Selection::all(),
            limit: 0,
            start_after: None,
        };
        let page = resource.cache.list(params).await.map_err(cache_status)?;
        if page.entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut kept = self.kept.lock();
        if kept.len() > page.entries.len() {
            kept.retain(|key, _| page.entries.iter().any(|entry| entry.key() == key));
        }
        let parsed = page.entries.iter().map(|entry| {
            let known = kept
                .get(entry.key())
                .filter(|(revision, _)| *revision == entry.revision);
            if let Some((_, parsed)) = known {
                return parsed.clone();
            }
            let parsed = Arc::new((self.parse)(&resource.value(entry)));
            kept.insert(entry.key().clone(), (entry.revision, parsed.clone()));
            parsed
        });
        Ok(parsed.collect())
    }
}
