//! What the tests stand on: a runtime in a folder of its own, and the probe's image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use runtime::*;
use tempfile::TempDir;

use crate::images::{Layer, docker_archive, image_config};

pub const PROBE_IMAGE: &str = "test.local/probe:latest";
pub const PROBE: &str = env!("CARGO_BIN_EXE_runtime-probe");

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Bed {
    pub dir: TempDir,
    pub config: RuntimeConfig,
    runtime: Option<EmbeddedRuntime>,
    mounts: BTreeSet<String>,
    finished: bool,
}

async fn reset_patiently(config: &RuntimeConfig) {
    for _ in 0..1000 {
        match reset(config, ResetScope::Machine).await {
            Ok(()) => return,
            // Tasks of the runtime may be letting go.
            Err(RuntimeError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data directory stays in use");
}

impl Drop for Bed {
    /// A test that failed cleans up as well.
    fn drop(&mut self) {
        self.runtime = None;
        if self.finished {
            return;
        }
        let config = self.config.clone();
        let cleaner = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio.block_on(reset_patiently(&config));
        });
        if cleaner.join().is_err() {
            eprintln!("cannot clean up in {}", self.dir.path().display());
        }
    }
}

fn mounts() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .map(|line| line.split(' ').nth(4).unwrap().to_owned())
        .collect()
}

pub fn new_config(dir: &Path) -> RuntimeConfig {
    let mut config = RuntimeConfig::new(dir.join("data"), "/proc/self/exe", Arc::new(LoopbackNetwork));
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    config.cgroup_root = format!("/skiff-test-{}-{number}", std::process::id());
    config.image_limits.keep_free_bytes = 1 << 20;
    config
}

impl Bed {
    /// Without images.
    pub async fn bare() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let config = new_config(dir.path());
        Bed::with(dir, config).await
    }

    pub async fn with(dir: TempDir, config: RuntimeConfig) -> Bed {
        let mounts = mounts();
        let runtime = EmbeddedRuntime::open(config.clone()).await.unwrap();
        Bed {
            dir,
            config,
            runtime: Some(runtime),
            mounts,
            finished: false,
        }
    }

    /// Nothing is left to clean up.
    pub fn forget(mut self) {
        self.finished = true;
    }

    /// With the probe's image.
    pub async fn new() -> Bed {
        let bed = Bed::bare().await;
        bed.import_probe().await;
        bed
    }

    pub async fn import_probe(&self) {
        let path = self.dir.path().join("probe.tar");
        write_probe_archive(&path);
        self.runtime().import_images(&path).await.unwrap();
    }

    pub fn runtime(&self) -> &EmbeddedRuntime {
        self.runtime.as_ref().unwrap()
    }

    /// Forgets the runtime, as if its process had ended.
    pub fn close(&mut self) {
        self.runtime = None;
    }

    pub async fn reopen(&mut self) {
        self.runtime = None;
        for _ in 0..1000 {
            match EmbeddedRuntime::open(self.config.clone()).await {
                Ok(runtime) => {
                    self.runtime = Some(runtime);
                    return;
                }
                // Tasks of the old one may be letting go.
                Err(RuntimeError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the data directory stays in use");
    }

    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: name.into(),
                namespace: "test".into(),
                uid: format!("uid-{name}"),
                attempt: 0,
            },
            hostname: name.into(),
            log_directory: self.dir.path().join("logs").join(name),
            cgroup_parent: format!("{}/pod{name}", self.config.cgroup_root),
            ..Default::default()
        }
    }

    pub fn container(&self, args: &[&str]) -> ContainerConfig {
        ContainerConfig {
            name: "main".into(),
            image: PROBE_IMAGE.into(),
            args: args.iter().map(|arg| arg.to_string()).collect(),
            log_path: "main/0.log".into(),
            ..Default::default()
        }
    }

    pub async fn run_pod(&self, name: &str) -> String {
        self.runtime().run_pod_sandbox(self.pod(name)).await.unwrap()
    }

    pub async fn create(&self, pod: &str, config: ContainerConfig) -> String {
        self.runtime().create_container(pod, config).await.unwrap()
    }

    pub async fn start(&self, pod: &str, config: ContainerConfig) -> String {
        let id = self.create(pod, config).await;
        self.runtime().start_container(&id).await.unwrap();
        id
    }

    /// A container in a pod of its own, to its end: its status and what it printed.
    pub async fn run_config(&self, config: ContainerConfig) -> (ContainerStatus, String) {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pod = self.run_pod(&format!("p{number}")).await;
        let result = self.run_in(&pod, config).await;
        self.runtime().remove_pod_sandbox(&pod).await.unwrap();
        result
    }

    pub async fn run_in(&self, pod: &str, config: ContainerConfig) -> (ContainerStatus, String) {
        let id = self.start(pod, config).await;
        let status = self.wait_exit(&id).await;
        let text = output(&status.log_path);
        (status, text)
    }

    pub async fn run(&self, args: &[&str]) -> (ContainerStatus, String) {
        self.run_config(self.container(args)).await
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        self.runtime().container_status(id).await.unwrap()
    }

    pub async fn wait_exit(&self, id: &str) -> ContainerStatus {
        let mut events = self.runtime().events();
        loop {
            let status = self.status(id).await;
            if status.state == ContainerState::Exited {
                return status;
            }
            events.next().await.unwrap();
        }
    }

    /// Until the log contains something.
    pub async fn wait_log(&self, id: &str, wanted: &str) -> String {
        let path = self.status(id).await.log_path;
        for _ in 0..2000 {
            let text = output(&path);
            if text.contains(wanted) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{wanted:?} never came; got {:?}", output(&path));
    }

    /// Removes everything and checks that nothing is left.
    pub async fn finish(mut self) {
        self.runtime = None;
        reset_patiently(&self.config).await;
        self.finished = true;
        assert!(!self.config.data_dir.exists());
        assert_eq!(mounts(), self.mounts, "mounts");
        assert_eq!(
            cgroups_named(&self.config.cgroup_root),
            Vec::<PathBuf>::new(),
            "control groups"
        );
        self.wait_processes(0).await;
    }

    /// Until so many processes belong to this bed. (Helpers come and go; what was killed takes its time.)
    pub async fn wait_processes(&self, count: usize) {
        for _ in 0..2000 {
            if self.processes().len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {count} processes: {:?}", self.processes());
    }

    /// Command lines of processes that belong to this bed.
    pub fn processes(&self) -> Vec<String> {
        let dir = self.dir.path().to_str().unwrap().to_owned();
        all_command_lines()
            .into_iter()
            .filter(|line| line.contains(&dir))
            .collect()
    }
}

fn all_command_lines() -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

/// All groups of a name in all trees.
pub fn cgroups_named(path: &str) -> Vec<PathBuf> {
    let mut trees = vec![PathBuf::from("/sys/fs/cgroup")];
    trees.extend(
        std::fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .map(|entry| entry.path()),
    );
    trees
        .iter()
        .map(|tree| tree.join(path.trim_start_matches('/')))
        .filter(|path| path.exists())
        .collect()
}

/// A log's text without times and streams, partial lines joined.
pub fn output(path: &Path) -> String {
    let mut text = String::new();
    for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
        let mut fields = line.splitn(4, ' ');
        let tag = fields.nth(2).unwrap();
        text += fields.next().unwrap_or("");
        if tag == "F" {
            text += "\n";
        }
    }
    text
}

pub fn write_probe_archive(path: &Path) {
    let mut layer = Layer::new();
    layer.dir("etc", 0o755);
    layer.dir("tmp", 0o1777);
    layer.dir("bin", 0o755);
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/probe\napp:x:100:101::/srv:/probe\n",
    );
    layer.file("etc/group", 0o644, b"root:x:0:\napp:x:101:\nextra:x:102:app\n");
    layer.file("bin/script", 0o644, b"not executable");
    layer.file("bin/nonsense", 0o755, b"this is no program");
    layer.file("probe", 0o755, &std::fs::read(PROBE).unwrap());
    let config = image_config(
        &[&layer],
        serde_json::json!({ "Entrypoint": ["/probe"], "Env": ["PATH=/bin:/", "FROM=image"] }),
    );
    std::fs::write(path, docker_archive(&[PROBE_IMAGE], &config, &[&layer])).unwrap();
}
