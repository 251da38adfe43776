//! Runs the garbage collector over the metadata of everything.

use std::sync::Arc;

use controllers::garbage::{NodeKey, concerned, reconcile};
use tokio_util::sync::CancellationToken;

use crate::execute::Executor;
use crate::expectation::{Expectation, Sight};
use crate::hands::Live;
use crate::metadata::{Metadata, node_of};
use crate::queue::Queue;
use crate::runner::{Turns, run};

/// Objects that are looked at at once (`concurrent-gc-syncs`).
const WORKERS: usize = 20;

/// Collects garbage until `stop`.
pub(crate) async fn collect(metadata: Metadata, executor: Executor<Live>, stop: CancellationToken) {
    let queue: Arc<Queue<NodeKey>> = Arc::default();
    let (sink, graph) = (queue.clone(), metadata.clone());
    metadata.listen(move |resource, change| {
        let old = change.old.as_deref().map(|object| node_of(resource, object));
        let new = change.new.as_deref().map(|object| node_of(resource, object));
        for key in concerned(&graph, old.as_ref(), new.as_ref()) {
            sink.add(key);
        }
    });
    if stop.run_until_cancelled(metadata.synced()).await.is_none() {
        return;
    }
    // Owners may have gone while nobody looked.
    metadata.all_keys().into_iter().for_each(|key| queue.add(key));
    let turns = Turns {
        name: "garbage-collector-controller",
        queue,
        executor,
        sight: metadata.clone(),
        workers: WORKERS,
        decide: move |key: &NodeKey, _: &controllers::Turn| reconcile(&metadata, key),
    };
    run(turns, stop).await;
}

impl Sight for Metadata {
    async fn seen(&self, expectation: &Expectation) {
        let (Expectation::Seen { resource, .. } | Expectation::Going { resource, .. }) = expectation;
        if let Some(cache) = self.kinds_cache(resource) {
            crate::world::seen_by(&cache, expectation).await;
        }
    }
}
