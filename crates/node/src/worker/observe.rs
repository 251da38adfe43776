//! What the runtime has of a pod, as `podlife` wants it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use podlife::{Container, ContainerState, RuntimeStatus, Sandbox, termination_message};
use runtime::{ContainerFilter, ContainerStatus, NamespaceMode, PodSandboxFilter, PodSandboxState, PodSandboxStatus};

use crate::context::Context;
use crate::{labels, log_file};

/// What ended containers left to say, by id: read once.
pub(crate) type Messages = HashMap<String, String>;

fn of_pod(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(labels::POD_UID.to_string(), uid.to_string())])
}

/// The pod's sandboxes, newest first.
pub(crate) async fn sandboxes(ctx: &Context, uid: &str) -> runtime::Result<Vec<PodSandboxStatus>> {
    let filter = PodSandboxFilter {
        labels: of_pod(uid),
        ..PodSandboxFilter::default()
    };
    let mut found = ctx.runtime().list_pod_sandboxes(filter).await?;
    found.sort_by(|a, b| {
        b.created_at
            .cmp(&a.created_at)
            .then(b.metadata.attempt.cmp(&a.metadata.attempt))
    });
    Ok(found)
}

/// The pod's containers, newest first.
pub(crate) async fn containers(ctx: &Context, uid: &str) -> runtime::Result<Vec<ContainerStatus>> {
    let filter = ContainerFilter {
        labels: of_pod(uid),
        ..ContainerFilter::default()
    };
    let mut found = ctx.runtime().list_containers(filter).await?;
    found.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(b.attempt.cmp(&a.attempt)));
    Ok(found)
}

/// Everything the runtime has of the pod.
pub(crate) async fn observe(ctx: &Context, uid: &str, messages: &mut Messages) -> runtime::Result<RuntimeStatus> {
    let sandboxes = sandboxes(ctx, uid).await?.into_iter().map(sandbox).collect();
    let containers = containers(ctx, uid).await?;
    messages.retain(|id, _| containers.iter().any(|c| c.id == *id));
    let mut out = Vec::with_capacity(containers.len());
    for status in containers {
        let message = match status.state {
            runtime::ContainerState::Exited => match messages.get(&status.id) {
                Some(message) => message.clone(),
                None => {
                    let message = last_words(&status).await;
                    messages.insert(status.id.clone(), message.clone());
                    message
                }
            },
            _ => String::new(),
        };
        out.push(container(status, message));
    }
    Ok(RuntimeStatus {
        sandboxes,
        containers: out,
    })
}

fn sandbox(status: PodSandboxStatus) -> Sandbox {
    Sandbox {
        ready: status.state == PodSandboxState::Ready,
        attempt: status.metadata.attempt,
        created_at: status.created_at,
        ips: status.ips,
        host_network: status.namespaces.network == NamespaceMode::Node,
        id: status.id,
    }
}

fn container(status: ContainerStatus, message: String) -> Container {
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    Container {
        hash: u64::from_str_radix(annotation(labels::HASH), 16).unwrap_or(0),
        restart_count: annotation(labels::RESTART_COUNT)
            .parse()
            .unwrap_or(status.attempt as i32),
        state: match status.state {
            runtime::ContainerState::Created => ContainerState::Created,
            runtime::ContainerState::Running => ContainerState::Running,
            runtime::ContainerState::Exited => ContainerState::Exited,
            runtime::ContainerState::Unknown => ContainerState::Unknown,
        },
        user: status.user.map(|user| (user.uid, user.gid, user.supplemental_groups)),
        id: status.id,
        name: status.name,
        sandbox_id: status.sandbox_id,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason,
        message,
        image: status.image,
        image_id: status.image_ref,
    }
}

async fn last_words(status: &ContainerStatus) -> String {
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let (path, policy) = (
        annotation(labels::TERMINATION_LOG),
        annotation(labels::TERMINATION_POLICY),
    );
    let (log, code, said) = (status.log_path.clone(), status.exit_code, status.message.clone());
    let read = tokio::task::spawn_blocking(move || {
        let file = read_tail(Path::new(&path), termination_message::MAX_FILE_BYTES);
        let policy = termination_message::Policy::parse(Some(&policy));
        let log = if policy.wants_log(code, &file) {
            log_file::tail_text(&log)
        } else {
            String::new()
        };
        termination_message::message(&said, &file, &log)
    });
    read.await.unwrap_or_default()
}

/// The last bytes of a plain file; none if it cannot be read. A container may have put a link or a pipe there.
fn read_tail(path: &Path, limit: usize) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let Ok(mut file) = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return Vec::new();
    };
    let Some(size) = file
        .metadata()
        .ok()
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len())
    else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let _ = file.seek(SeekFrom::Start(size.saturating_sub(limit as u64)));
    let _ = file.take(limit as u64).read_to_end(&mut out);
    out
}
