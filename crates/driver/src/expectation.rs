//! What a plan wrote, to be seen by the caches before its key runs again.

use std::time::Duration;

use api::Gvr;

/// A cache that is this far behind is not waited for (upstream's `ExpectationsTimeout` is 5 minutes;
/// ours may be short, since running on a stale view only costs a refused write).
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A write that the caches have not necessarily seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// This resource's cache reaches a revision.
    Seen {
        /// The resource.
        resource: Gvr,
        /// The revision.
        revision: u64,
    },
    /// This object is gone, or seen to be going, or another one of its name.
    Going {
        /// Its resource.
        resource: Gvr,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// Whoever can tell whether a write was seen.
pub(crate) trait Sight: Send + Sync {
    /// Resolves when the write was seen, at once if nobody watches its resource.
    fn seen(&self, expectation: &Expectation) -> impl Future<Output = ()> + Send;
}

/// Waits for all, but not forever.
pub(crate) async fn all_seen(sight: &impl Sight, expectations: &[Expectation]) {
    let all = async {
        for expectation in expectations {
            sight.seen(expectation).await;
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!(?expectations, "a cache has not seen a write for long, going on without");
    }
}
