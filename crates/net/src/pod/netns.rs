//! Work inside another network namespace.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use super::PodNetError;

/// Runs a future to its end on a thread of its own in the namespace. The thread is never reused,
/// so no other work can find itself in the wrong namespace.
pub(crate) async fn within<T, F>(
    path: &Path,
    namespace: File,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, PodNetError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, PodNetError>>,
{
    let failed = |source| PodNetError::Namespace {
        path: path.to_owned(),
        source,
    };
    let (answer, done) = oneshot::channel();
    let owned = path.to_owned();
    std::thread::Builder::new()
        .name("skiff-netns".to_owned())
        .spawn(move || {
            let _ = answer.send(enter_and_run(&owned, &namespace, work));
        })
        .map_err(failed)?;
    done.await
        .map_err(|_| failed(io::Error::other("the thread inside it panicked")))?
}

fn enter_and_run<T, F>(path: &Path, namespace: &File, work: impl FnOnce() -> F) -> Result<T, PodNetError>
where
    F: Future<Output = Result<T, PodNetError>>,
{
    let failed = |source| PodNetError::Namespace {
        path: path.to_owned(),
        source,
    };
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    runtime.block_on(work())
}
