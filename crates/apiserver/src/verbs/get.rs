//! GET of one object.

use api::Status;

use super::output;
use crate::cache::Entry;
use crate::call::Call;
use crate::resource::{Resource, cache_status};
use crate::respond::Answer;
use std::sync::Arc;

/// Handles the request: the newest object, or, with `resourceVersion`, one at least that new.
pub(crate) async fn handle(call: &Call, resource: &Resource) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    let entry = find(call, resource).await?;
    output::entry(call, resource, output, &entry)
}

/// The object the request names.
///
/// # Errors
/// 404 if it is not there.
pub(crate) async fn find(call: &Call, resource: &Resource) -> Result<Arc<Entry>, Status> {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let found = match super::list::revision(&call.query)? {
        None => resource.latest(namespace, name).await?,
        Some(revision) => {
            if revision > 0 {
                resource.cache.wait_until(revision).await.map_err(cache_status)?;
            } else {
                resource.cache.ready().await.map_err(cache_status)?;
            }
            resource.cache.get(&resource.key(namespace, name))
        }
    };
    found.ok_or_else(|| Status::not_found(&resource.group_resource(), name))
}
