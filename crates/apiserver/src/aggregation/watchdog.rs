//! One task a remote version: it looks again when the Service or its endpoints change, and from time to
//! time, since a server can end without a trace in the API.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{Status, Value, meta};
use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::check::{self, Verdict};
use super::{GROUP, PLURAL, Remote, discovery};
use crate::cache::{Selection, WatchParams, WatchStart, Watcher};
use crate::codec;
use crate::custom::request;
use crate::state::State;

/// As upstream's informers are resynchronised.
const AGAIN: Duration = Duration::from_secs(30);
const SOONEST: Duration = Duration::from_millis(250);

/// Watches over a remote version until the task is aborted or the server is gone.
pub(super) async fn run(state: Weak<State>, remote: Arc<Remote>) {
    let mut pause = SOONEST;
    loop {
        let (mut changes, wait) = {
            let Some(state) = state.upgrade() else { return };
            // Subscribed before looking, so that no change is lost.
            let changes = Changes::of(&state, &remote).await;
            let good = look(&state, &remote).await.is_good();
            pause = if good { SOONEST } else { (pause * 2).min(AGAIN) };
            (changes, if good { AGAIN } else { pause })
        };
        // Whether something changed or the time has passed, it looks again.
        let _ = tokio::time::timeout(wait, changes.next()).await;
    }
}

/// Changes of the Service and of its endpoints.
struct Changes {
    service: Option<Watcher>,
    slices: Option<Watcher>,
}

impl Changes {
    async fn of(state: &State, remote: &Remote) -> Changes {
        let watch = |resource: Option<Arc<crate::resource::Resource>>, selection: Selection| async move {
            let start = WatchStart::Now;
            resource?.cache.watch(WatchParams { start, selection }).await.ok()
        };
        let one = Selection {
            namespace: Some(remote.namespace.clone()),
            name: Some(remote.service.clone()),
            ..Selection::default()
        };
        Changes {
            service: watch(state.resource("", "v1", "services"), one).await,
            slices: watch(
                state.any_version("discovery.k8s.io", "endpointslices"),
                check::slices_of(remote),
            )
            .await,
        }
    }

    async fn next(&mut self) {
        async fn of(watcher: &mut Option<Watcher>) {
            match watcher {
                Some(watcher) => drop(watcher.next().await),
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = of(&mut self.service) => {}
            () = of(&mut self.slices) => {}
        }
    }
}

async fn look(state: &Arc<State>, remote: &Remote) -> Verdict {
    let verdict = check::check(state, remote).await;
    let before = remote.available.swap(verdict.is_good(), Ordering::Relaxed);
    let mut changed = before != verdict.is_good();
    if verdict.is_good() {
        match discovery::discover(state, remote).await {
            Ok(found) => {
                if remote.found().as_deref() != Some(&found) {
                    remote.found.store(Some(Arc::new(found)));
                    changed = true;
                }
            }
            Err(error) => tracing::warn!(
                apiservice = remote.name,
                error,
                "cannot discover what an API server serves"
            ),
        }
    }
    if changed {
        state.registry.rcu(|registry| registry.refreshed());
    }
    if let Err(error) = write(state, remote, &verdict).await
        && !error.is_conflict()
        && !error.is_not_found()
    {
        tracing::warn!(apiservice = remote.name, %error, "cannot write an APIService's status; will try again");
    }
    verdict
}

/// Writes the condition, if it says something new.
async fn write(state: &Arc<State>, remote: &Remote, verdict: &Verdict) -> Result<(), Status> {
    let Some(resource) = state.any_version(GROUP, PLURAL) else {
        return Ok(());
    };
    let Some(mut object) = resource.cached("", &remote.name) else {
        return Ok(());
    };
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let known = conditions.iter().find(|c| c["type"] == "Available");
    let same = known.is_some_and(|c| {
        c["status"] == verdict.status && c["reason"] == verdict.reason && c["message"] == *verdict.message
    });
    if same {
        return Ok(());
    }
    let time = known.filter(|c| c["status"] == verdict.status).map_or_else(
        || api::time::format(Timestamp::now()).into(),
        |c| c["lastTransitionTime"].clone(),
    );
    let mut conditions: Vec<Value> = conditions.into_iter().filter(|c| c["type"] != "Available").collect();
    conditions.push(
        json!({"type": "Available", "status": verdict.status, "reason": verdict.reason,
        "message": verdict.message, "lastTransitionTime": time}),
    );
    object["status"] = json!({"conditions": conditions});
    let path = format!("/apis/{GROUP}/v1/{PLURAL}/{}/status", meta::name(&object));
    request(state, Method::PUT, &path, codec::to_json(&object))
        .await
        .map(drop)
}
