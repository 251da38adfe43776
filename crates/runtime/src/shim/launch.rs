//! What a helper does: sets a container or a command up by libcontainer.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde_json::{Value, json};

use super::capabilities::CapabilitySet;
use super::executor::Launch;
use super::helper::{Launched, setup_failure};
use super::namespaces::PodNamespaces;
use super::rootfs::mount_rootfs;
use super::seccomp::default_profile;
use super::spec::{Spec, SpecInput, working_dir};
use super::user::{Databases, User};
use crate::cgroup::{Cgroups, restrict_devices};
use crate::records::{ContainerDir, ContainerRecord, SandboxDir, SandboxRecord, process_start_time};
use crate::wire::Failure;
use crate::{ContainerUser, SecurityProfile, beneath, fd_passing};

/// A new process's streams; `None`: `/dev/null`.
#[derive(Default)]
pub(super) struct Stdio {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

impl Stdio {
    pub fn raw(&self) -> Vec<RawFd> {
        [&self.stdin, &self.stdout, &self.stderr]
            .into_iter()
            .flatten()
            .map(AsRawFd::as_raw_fd)
            .collect()
    }

    /// Lets the process open its streams anew, by `/dev/stdout` and the like.
    fn give_to(&self, uid: u32) {
        for fd in self.raw() {
            // SAFETY: takes numbers only. On failure they stay root's, and only opening them anew fails.
            unsafe { libc::fchown(fd, uid, u32::MAX) };
        }
    }

    fn connect(self, builder: ContainerBuilder) -> Result<ContainerBuilder, Failure> {
        let null = || {
            let open = File::options().read(true).write(true).open("/dev/null");
            open.map(OwnedFd::from)
                .map_err(|error| setup_failure(format!("open /dev/null: {error}")))
        };
        let or_null = |fd: Option<OwnedFd>| fd.map_or_else(null, Ok);
        Ok(builder
            .with_stdin(or_null(self.stdin)?)
            .with_stdout(or_null(self.stdout)?)
            .with_stderr(or_null(self.stderr)?))
    }
}

/// What is needed to start a container.
pub(super) struct Start<'a> {
    pub sandbox: &'a SandboxRecord,
    pub sandbox_dir: &'a SandboxDir,
    pub container: &'a ContainerRecord,
    pub dir: &'a ContainerDir,
    pub namespaces: &'a PodNamespaces,
    pub cgroups: &'a Cgroups,
    pub stdio: Stdio,
}

/// An error with those it came from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| setup_failure(format!("{what}: {error}"))
}

impl Start<'_> {
    pub fn run(self) -> Result<Launched, Failure> {
        let staged = mount_rootfs(self.namespaces, self.container, self.dir).map_err(setup_failure)?;
        let (user, spec) = self.spec(&staged)?;
        let config_file = self.dir.path.join("config.json");
        fs::write(&config_file, spec.json.to_string()).map_err(failed("write the OCI configuration"))?;
        let (failure, failure_write) = pipe2(OFlag::O_CLOEXEC).map_err(setup_failure)?;
        let tty = self.container.config.tty;
        let launch = launch(self.container, user.uid, tty, failure_write.as_raw_fd())?;
        self.stdio.give_to(user.uid);
        let console = tty.then(|| Console::listen(self.dir)).transpose()?;
        let builder = builder(self.container, self.dir, launch)?;
        let builder = match &console {
            Some(console) => builder.with_console_socket(Some(&console.path)),
            None => self.stdio.connect(builder)?,
        };
        let mut container = builder
            .as_init(&self.dir.path)
            .with_systemd(false)
            .with_detach(true)
            .build()
            .map_err(|error| setup_failure(chain(&error)))?;
        drop(failure_write);
        let pid = container
            .pid()
            .ok_or_else(|| setup_failure("the new process has no id"))?
            .as_raw();
        let start_time = process_start_time(pid).unwrap_or(0);
        let master = console.map(Console::master).transpose()?;
        let cgroup = &self.container.cgroup;
        self.cgroups
            .apply(cgroup, &self.container.config.resources)
            .map_err(setup_failure)?;
        if let (true, Some(dir)) = (self.cgroups.is_v2(), self.cgroups.unified_dir(cgroup)) {
            restrict_devices(&dir, &spec.device_rules).map_err(failed("restrict devices"))?;
        }
        container.start().map_err(|error| setup_failure(chain(&error)))?;
        wait_for_exec(failure)?;
        Ok(Launched {
            pid,
            start_time,
            user: user.status(),
            master,
        })
    }

    fn spec(&self, staged: &super::rootfs::Staged) -> Result<(User, Spec), Failure> {
        let rootfs = File::open(self.dir.rootfs()).map_err(failed("open root file system"))?;
        let context = &self.container.config.security_context;
        let user = Databases::read(rootfs.as_fd())
            .and_then(|databases| databases.resolve(context, &self.container.image_config.user))
            .map_err(setup_failure)?;
        let working_dir = Path::new(working_dir(self.container));
        if !working_dir.is_absolute() {
            return Err(setup_failure(format!(
                "working directory {working_dir:?} is not absolute"
            )));
        }
        beneath::make_dirs_in_root(rootfs.as_fd(), working_dir)
            .map_err(|error| setup_failure(format!("working directory {}: {error}", working_dir.display())))?;
        let pause = self.namespaces.pause.as_ref();
        let input = SpecInput {
            sandbox: self.sandbox,
            sandbox_dir: self.sandbox_dir,
            container: self.container,
            container_dir: self.dir,
            user: &user,
            staged,
            pid_namespace: pause.map(|pause| PathBuf::from(format!("/proc/{}/ns/pid", pause.pid))),
            oom_score_adj: possible_oom_score_adj(self.container.config.resources.oom_score_adj.unwrap_or(0)),
        };
        let spec = input.build().map_err(setup_failure)?;
        Ok((user, spec))
    }
}

/// What is needed to run a command in a container.
pub(super) struct Exec<'a> {
    pub container: &'a ContainerRecord,
    pub dir: &'a ContainerDir,
    pub command: &'a [String],
    pub tty: bool,
    pub stdio: Stdio,
}

impl Exec<'_> {
    pub fn run(self) -> Result<Launched, Failure> {
        let config_file = self.dir.path.join("config.json");
        let config = fs::read(&config_file).map_err(failed("read the OCI configuration"))?;
        let mut config: Value = serde_json::from_slice(&config).map_err(setup_failure)?;
        let mut process = config["process"].take();
        process["args"] = json!(self.command);
        process["terminal"] = json!(self.tty);
        if let Some(environment) = process["env"].as_array_mut() {
            let is_term = |entry: &Value| entry.as_str().is_some_and(|text| text.starts_with("TERM="));
            if self.tty && !environment.iter().any(is_term) {
                environment.push(json!("TERM=xterm"));
            }
        }
        let uid = process["user"]["uid"].as_u64().unwrap_or(0) as u32;
        let process_file = self.dir.path.join(format!("process-{}.json", std::process::id()));
        fs::write(&process_file, process.to_string()).map_err(failed("write the process configuration"))?;
        let result = self.exec(&process_file, uid);
        // It is in the container's folder and goes with it at the latest.
        let _ = fs::remove_file(&process_file);
        result
    }

    fn exec(self, process_file: &Path, uid: u32) -> Result<Launched, Failure> {
        let (failure, failure_write) = pipe2(OFlag::O_CLOEXEC).map_err(setup_failure)?;
        let launch = launch(self.container, uid, self.tty, failure_write.as_raw_fd())?;
        self.stdio.give_to(uid);
        let console = self.tty.then(|| Console::listen(self.dir)).transpose()?;
        let builder = builder(self.container, self.dir, launch)?;
        let builder = match &console {
            Some(console) => builder.with_console_socket(Some(&console.path)),
            None => self.stdio.connect(builder)?,
        };
        let built = builder
            .as_tenant()
            .with_detach(true)
            .with_process(Some(process_file))
            .build();
        drop(failure_write);
        let pid = built.map_err(|error| setup_failure(chain(&error)))?.as_raw();
        let start_time = process_start_time(pid).unwrap_or(0);
        let master = console.map(Console::master).transpose()?;
        wait_for_exec(failure)?;
        Ok(Launched {
            pid,
            start_time,
            user: ContainerUser::default(),
            master,
        })
    }
}

fn launch(container: &ContainerRecord, user: u32, terminal: bool, failure: RawFd) -> Result<Launch, Failure> {
    let security = &container.config.security_context;
    let capabilities = CapabilitySet::wanted(security.privileged, &security.capabilities)
        .map_err(setup_failure)?
        .intersection(CapabilitySet::of_this_process());
    let seccomp = match &security.seccomp {
        _ if security.privileged => Vec::new(),
        SecurityProfile::Unconfined => Vec::new(),
        SecurityProfile::RuntimeDefault => default_profile(capabilities).map_err(setup_failure)?,
        SecurityProfile::Localhost(path) => {
            return Err(setup_failure(format!(
                "seccomp profile {path}: profiles of the node are not supported; use RuntimeDefault or Unconfined"
            )));
        }
    };
    Ok(Launch {
        seccomp,
        capabilities,
        user,
        terminal,
        failure,
    })
}

fn builder(container: &ContainerRecord, dir: &ContainerDir, launch: Launch) -> Result<ContainerBuilder, Failure> {
    ContainerBuilder::new(container.id.clone(), SyscallType::default())
        .with_executor(launch)
        .with_root_path(dir.oci_state())
        .map_err(|error| setup_failure(chain(&error)))
}

/// Blocks until the container's program is executed, or could not be.
fn wait_for_exec(failure: OwnedFd) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    File::from(failure)
        .read_to_end(&mut bytes)
        .map_err(failed("wait for the command to start"))?;
    if bytes.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| setup_failure("the command could not be started")))
}

/// What can be had of the wanted value: without `SYS_RESOURCE` only a higher one than ours.
fn possible_oom_score_adj(wanted: i64) -> i64 {
    let wanted = wanted.clamp(-1000, 1000);
    let file = "/proc/self/oom_score_adj";
    let now: i64 = fs::read_to_string(file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    if wanted >= now || fs::write(file, wanted.to_string()).is_ok() {
        wanted
    } else {
        now
    }
}

/// Where libcontainer sends a terminal's master.
struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    fn listen(dir: &ContainerDir) -> Result<Console, Failure> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "console-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        // Relative, for a socket's path has at most 107 bytes.
        nix::unistd::chdir(&dir.path).map_err(setup_failure)?;
        let listener = UnixListener::bind(&name).map_err(failed("make console socket"))?;
        Ok(Console {
            path: dir.path.join(name),
            listener,
        })
    }

    fn master(self) -> Result<OwnedFd, Failure> {
        let _ = fs::remove_file(&self.path);
        let (socket, _) = self.listener.accept().map_err(failed("wait for the terminal"))?;
        let mut fds = Vec::new();
        fd_passing::receive(socket.as_fd(), &mut [0u8; 64], &mut fds).map_err(failed("receive the terminal"))?;
        fds.pop().ok_or_else(|| setup_failure("no terminal was made"))
    }
}
