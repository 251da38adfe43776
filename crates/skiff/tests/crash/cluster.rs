//! A skiff that is killed and started again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Client;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");
const START: Duration = Duration::from_secs(60);

/// Tells the person who waits; not captured by the test harness.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Asks until there is an answer; the last refusal is told when `seconds` have passed.
pub async fn until<T>(what: &str, seconds: u64, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(refusal) if Instant::now() > deadline => panic!("waited {seconds} s until {what}:\n{refusal}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Dropped with all that it made.
pub struct Cluster {
    dir: PathBuf,
    pub data: PathBuf,
    up: Option<(Child, UnboundedReceiver<String>)>,
}

impl Cluster {
    pub fn new() -> Cluster {
        let dir = std::env::temp_dir().join(format!("skiff-crash-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let dir = fs::canonicalize(dir).unwrap();
        Cluster {
            data: dir.join("data"),
            dir,
            up: None,
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("up.log")
    }

    fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut up = Command::new(SKIFF)
            .args([
                "up",
                "--node-name=crash-node",
                "--secure-port=17643",
                "--kubelet-port=17350",
            ])
            .args(["--bind-address=127.0.0.1", "--log=info"])
            // A machine for tests may be fuller than one for work.
            .arg("--eviction-hard=nodefs.available<1%,nodefs.inodesFree<1%")
            .arg(format!("--data-dir={}", self.data.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (sender, lines) = unbounded_channel();
        let stdout = BufReader::new(up.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .all(|line| sender.send(line).is_ok())
        });
        self.up = Some((up, lines));
    }

    /// Starts it and waits until it is ready; how many milliseconds it says that took.
    pub async fn start(&mut self) -> u64 {
        self.spawn();
        let (_, lines) = self.up.as_mut().unwrap();
        let ready = async {
            while let Some(line) = lines.recv().await {
                let number = line.strip_prefix("ready in ").and_then(|rest| rest.strip_suffix(" ms"));
                if let Some(number) = number {
                    return number.parse().unwrap();
                }
            }
            panic!("skiff ended before it was ready");
        };
        tokio::time::timeout(START, ready)
            .await
            .expect("skiff did not become ready")
    }

    /// Starts it and kills it when it has told so many steps.
    pub async fn start_and_kill(&mut self, steps: u64) {
        self.spawn();
        let (_, lines) = self.up.as_mut().unwrap();
        for _ in 0..steps {
            tokio::time::timeout(START, lines.recv())
                .await
                .expect("skiff did not start");
        }
        self.kill();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let (mut up, _) = self.up.take().unwrap();
        up.kill().unwrap();
        up.wait().unwrap();
    }

    /// As a user would.
    pub async fn stop(&mut self) {
        let (mut up, _) = self.up.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(up.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = until("skiff stops", 30, async || match up.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert!(status.success(), "{status}");
    }

    /// With new connections: to the skiff that runs now.
    pub fn client(&self) -> Client {
        Client::from_kubeconfig(self.data.join("admin.kubeconfig")).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((mut up, _)) = self.up.take() {
            let _ = up.kill();
            let _ = up.wait();
        }
        if std::thread::panicking() {
            let text = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            say(&lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let reset = Command::new(SKIFF)
            .args(["reset", "--yes", "--data-dir"])
            .arg(&self.data)
            .output();
        match reset {
            Ok(output) if output.status.success() => drop(fs::remove_dir_all(&self.dir)),
            other => say(&format!("skiff reset: {other:?}; see {}", self.dir.display())),
        }
    }
}
