//! Instances go before their definition does (`controller/finalizer/crd_finalizer.go`).

use std::sync::Arc;

use api::{Status, Value, meta};
use jiff::Timestamp;

use super::controller::{FINALIZER, put};
use super::naming::{is_true, set_condition};
use crate::cache::{At, ListParams, Selection, WatchParams, WatchStart};
use crate::resource::{Resource, cache_status};
use crate::state::State;
use crate::verbs::delete;

/// Deletes every instance, waits until they are gone, and lets go of the definition.
pub(super) async fn finalize(state: &Arc<State>, definition: &Arc<Value>, resource: Option<Arc<Resource>>) {
    if let Err(error) = attempt(state, definition, resource).await {
        // A conflict means that the definition has changed, which begins another attempt.
        if !error.is_conflict() && !error.is_not_found() {
            let name = meta::name(definition);
            tracing::warn!(name, %error, "cannot clean up the instances of a definition; will try again");
            tokio::time::sleep(super::controller::RETRY).await;
        }
    }
}

async fn attempt(state: &Arc<State>, definition: &Arc<Value>, resource: Option<Arc<Resource>>) -> Result<(), Status> {
    let mut definition = Value::clone(definition);
    let say = |status: &str, reason: &str, message: &str, definition: &mut Value| {
        let now = api::time::format(Timestamp::now());
        set_condition(definition, "Terminating", status, reason, message, &now);
    };
    let message = "CustomResource deletion is in progress";
    say("True", "InstanceDeletionInProgress", message, &mut definition);
    definition = put(state, &definition, "/status").await?;
    match resource.filter(|_| is_true(&definition, "Established")) {
        None => say(
            "False",
            "NeverEstablished",
            "resource was never established",
            &mut definition,
        ),
        Some(resource) => {
            if let Err(error) = delete_all(state, &resource).await {
                let message = format!("could not issue all deletes: {error}");
                say("True", "InstanceDeletionFailed", &message, &mut definition);
                put(state, &definition, "/status").await?;
                return Err(error);
            }
            let message = "removed all instances";
            say("False", "InstanceDeletionCompleted", message, &mut definition);
        }
    }
    let kept: Vec<String> = meta::finalizers(&definition)
        .into_iter()
        .filter(|f| *f != FINALIZER)
        .map(str::to_owned)
        .collect();
    meta::set_finalizers(&mut definition, &kept);
    put(state, &definition, "/status").await.map(drop)
}

/// Returns once there is no instance left.
async fn delete_all(state: &Arc<State>, resource: &Arc<Resource>) -> Result<(), Status> {
    let params = WatchParams {
        start: WatchStart::Now,
        selection: Selection::all(),
    };
    let mut watcher = resource.cache.watch(params).await.map_err(cache_status)?;
    loop {
        let page = resource
            .cache
            .list(ListParams {
                at: At::Latest,
                selection: Selection::all(),
                limit: 0,
                start_after: None,
            })
            .await
            .map_err(cache_status)?;
        if page.entries.is_empty() {
            return Ok(());
        }
        for entry in &page.entries {
            delete::remove(state, resource, entry.namespace(), entry.name()).await?;
        }
        // Those with finalizers of their own go when somebody lets go of them.
        watcher.next().await.map_err(cache_status)?;
    }
}
