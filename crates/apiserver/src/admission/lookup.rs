//! What plugins look up in the cluster.

use api::{Status, Value};

use crate::cache::{At, ListParams, Selection};
use crate::resource::cache_status;
use crate::state::State;

/// Every object of a resource, in one namespace or in all; nothing if it is not served.
///
/// # Errors
/// If the cache cannot tell.
pub(super) async fn list(
    state: &State,
    group: &str,
    plural: &str,
    namespace: Option<&str>,
) -> Result<Vec<Value>, Status> {
    let Some(resource) = state.any_version(group, plural) else {
        return Ok(Vec::new());
    };
    let params = ListParams {
        at: At::Latest,
        selection: namespace.map_or_else(Selection::all, Selection::namespace),
        limit: 0,
        start_after: None,
    };
    let page = resource.cache.list(params).await.map_err(cache_status)?;
    Ok(page.entries.iter().map(|entry| resource.value(entry)).collect())
}

/// One object, with every acknowledged write seen.
///
/// # Errors
/// If the cache cannot tell.
pub(super) async fn get(
    state: &State,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Status> {
    let Some(resource) = state.any_version(group, plural) else {
        return Ok(None);
    };
    let entry = resource.latest(namespace, name).await?;
    Ok(entry.map(|entry| resource.value(&entry)))
}
