//! The cluster that is measured: started, watched from outside, stopped, removed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use client::{Client, Object, WatchEvent, WatchParams};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use super::process::{self, Sample};

const NODE: &str = "skiff-bench";
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two connections to a port on which nobody listens yet.
const RETRY: Duration = Duration::from_millis(1);

/// What one start took, from the start of the process.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// `/readyz` answered 200.
    pub readyz: Duration,
    /// This process renewed the node's lease, and the Node is Ready.
    pub node_ready: Duration,
    /// What the program itself says.
    pub ready_in_ms: u64,
}

/// In a directory of its own.
pub struct Cluster {
    dir: PathBuf,
    secure_port: u16,
    kubelet_port: u16,
    up: Option<Child>,
}

impl Cluster {
    pub fn new(parent: &Path, secure_port: u16, kubelet_port: u16) -> Result<Cluster> {
        let dir = parent.join(format!("skiff-bench-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let dir = fs::canonicalize(&dir).with_context(|| format!("find {}", dir.display()))?;
        Ok(Cluster {
            dir,
            secure_port,
            kubelet_port,
            up: None,
        })
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("up.log")
    }

    /// The end of what the last `up` wrote to standard error.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..]
            .iter()
            .map(|line| format!("  up: {line}\n"))
            .collect()
    }

    /// Starts `up` and follows it until the node is ready; a client for more.
    pub async fn start(&mut self) -> Result<(Start, Client)> {
        let log = fs::File::create(self.log()).context("make a log file")?;
        let mut command = Command::new(std::env::current_exe().context("find skiff's own program")?);
        command
            .arg("up")
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--secure-port={}", self.secure_port))
            .arg(format!("--kubelet-port={}", self.kubelet_port))
            .arg(format!("--node-name={NODE}"))
            .args(["--bind-address=127.0.0.1", "--log=warn"])
            // What is measured is not what a full disk does.
            .arg("--eviction-hard=nodefs.available<1%,nodefs.inodesFree<1%")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        // Ctrl-C is for the measuring program, which then ends this one.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let (began, clock) = (Instant::now(), SystemTime::now());
        let mut child = command.spawn().context("start skiff up")?;
        let ready_in = ready_in(child.stdout.take().context("standard output is a pipe")?);
        self.up = Some(child);
        let measured = async {
            let client = self.answers().await?;
            let readyz = began.elapsed();
            node_ready(&client, clock).await?;
            let node_ready = began.elapsed();
            let ready_in_ms = ready_in.await.context("skiff up ended before it was ready")?;
            anyhow::Ok((
                Start {
                    readyz,
                    node_ready,
                    ready_in_ms,
                },
                client,
            ))
        };
        tokio::time::timeout(PATIENCE, measured)
            .await
            .context("skiff up did not become ready")?
    }

    /// Waits for the kubeconfig and then for an answer of `/readyz`.
    async fn answers(&mut self) -> Result<Client> {
        let kubeconfig = self.data().join("admin.kubeconfig");
        let mut client = None;
        loop {
            if client.is_none() && kubeconfig.exists() {
                client = Some(Client::from_kubeconfig(&kubeconfig).context("read the kubeconfig")?);
            }
            if let Some(client) = &client
                && client.get_text("/readyz").await.is_ok()
            {
                return Ok(client.clone());
            }
            let ended = self
                .up
                .as_mut()
                .map(Child::try_wait)
                .transpose()
                .context("look at skiff up")?
                .flatten();
            if let Some(status) = ended {
                bail!("skiff up ended: {status}");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Stops `up` as a user would; pods go on.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut up) = self.up.take() else { return Ok(()) };
        let pid = Pid::from_raw(i32::try_from(up.id()).context("a process id")?);
        kill(pid, Signal::SIGTERM).context("stop skiff up")?;
        let status = tokio::task::spawn_blocking(move || up.wait())
            .await?
            .context("wait for skiff up")?;
        if !status.success() {
            bail!("skiff up did not stop cleanly: {status}");
        }
        Ok(())
    }

    /// Removes the cluster with all that it made on the host.
    pub async fn reset(&self) -> Result<()> {
        let mut command = Command::new(std::env::current_exe().context("find skiff's own program")?);
        command
            .args(["reset", "--yes"])
            .arg(format!("--data-dir={}", self.data().display()));
        let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await?;
        let output = output.context("run skiff reset")?;
        if !output.status.success() {
            bail!("skiff reset: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Stops without waiting for anything, and removes everything.
    pub async fn remove(mut self) -> Result<()> {
        if let Some(mut up) = self.up.take() {
            up.kill().context("end skiff up")?;
            up.wait().context("wait for skiff up")?;
        }
        self.reset().await?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }

    /// What skiff and its shims have taken so far.
    pub fn processes(&self) -> Result<Vec<Sample>> {
        let up = self.up.as_ref().context("skiff up runs")?.id();
        process::samples(up, &self.data())
    }
}

/// The figure of the line `ready in N ms`. The pipe is read to its end, so that nobody waits for its reader.
fn ready_in(stdout: std::process::ChildStdout) -> oneshot::Receiver<u64> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let number = line.strip_prefix("ready in ").and_then(|rest| rest.strip_suffix(" ms"));
            if let Some(number) = number.and_then(|number| number.parse().ok())
                && let Some(sender) = sender.take()
            {
                // Nobody waits any more when the measurement was given up.
                let _ = sender.send(number);
            }
        }
    });
    receiver
}

/// A warm directory's Node says Ready from before: what counts is a lease that was renewed since.
async fn node_ready(client: &Client, since: SystemTime) -> Result<()> {
    let since = i64::try_from(
        since
            .duration_since(UNIX_EPOCH)
            .context("the clock is set")?
            .as_micros(),
    )?;
    let renewed = |lease: &Lease| {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|time| time.0.as_microsecond() >= since)
    };
    until::<Lease>(client, "kube-node-lease", &WatchParams::default(), renewed).await?;
    let ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    until::<Node>(client, "", &WatchParams::default(), ready).await
}

/// Watches until an object is as wanted.
pub async fn until<K: Object>(
    client: &Client,
    namespace: &str,
    params: &WatchParams,
    wanted: impl Fn(&K) -> bool,
) -> Result<()> {
    let mut events = client.watch::<K>(namespace, params).await.context("start a watch")?;
    while let Some(event) = events.next().await {
        match event.context("read a watch")? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) if wanted(&object) => return Ok(()),
            WatchEvent::Error(status) => return Err(*status).context("watch"),
            _ => {}
        }
    }
    bail!("the server ended a watch of {}", K::KIND)
}
