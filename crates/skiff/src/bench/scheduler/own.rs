//! A control plane of this program's own, in a directory of its own: API server, scheduler, and the controllers that
//! scheduler_perf runs (garbage collector and namespaces). No node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(60);

/// The running program.
pub struct Own {
    dir: PathBuf,
    up: Child,
}

impl Own {
    /// Starts it below `parent`, and waits until it is ready.
    pub async fn start(parent: &Path) -> Result<Own> {
        let dir = parent.join(format!("skiff-bench-scheduler-{}", std::process::id()));
        // One of before that was killed had the same number.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        let log = fs::File::create(dir.join("up.log")).context("make a log file")?;
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe().context("find skiff's own program")?);
        command
            .args(["up", "--no-node", "--bind-address=127.0.0.1", "--log=warn"])
            .arg(format!("--data-dir={}", dir.join("data").display()))
            .arg(format!("--secure-port={port}"))
            .arg("--controllers=garbage-collector-controller,namespace-controller")
            // As scheduler_perf: nobody makes service accounts, nobody says that nodes are ready.
            .arg("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition")
            .args(["--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut up = command.spawn().context("start skiff up")?;
        let ready = ready(up.stdout.take().context("standard output is a pipe")?);
        let own = Own { dir, up };
        let waited = tokio::time::timeout(PATIENCE, ready).await;
        if !matches!(waited, Ok(Ok(()))) {
            let log = own.log_tail();
            own.remove().await?;
            anyhow::bail!("skiff up did not become ready\n{log}");
        }
        Ok(own)
    }

    /// Its administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/admin.kubeconfig")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.up.id()
    }

    /// The end of what it wrote to standard error.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("up.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        last.iter().map(|line| format!("  up: {line}\n")).collect()
    }

    /// Ends it and removes its directory.
    pub async fn remove(mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.up.id()).context("a process id")?);
        // Nothing of it is wanted any more.
        let _ = kill(pid, Signal::SIGKILL);
        let dir = std::mem::take(&mut self.dir);
        tokio::task::spawn_blocking(move || {
            self.up.wait().context("wait for skiff up")?;
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))
        })
        .await?
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Given up half-way.
        if !self.dir.as_os_str().is_empty() {
            let _ = self.up.kill();
            let _ = self.up.wait();
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Told when the line `ready in N ms` comes. The pipe is read to its end, so that nobody waits for its reader.
fn ready(stdout: std::process::ChildStdout) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.starts_with("ready in ")
                && let Some(sender) = sender.take()
            {
                // Nobody waits any more when the measurement was given up.
                let _ = sender.send(());
            }
        }
    });
    receiver
}
