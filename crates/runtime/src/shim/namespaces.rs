//! The pod's namespaces. The shim is in them itself (network, IPC, UTS), so they are there as long as it or a container
//! is, and leave nothing behind.
//!
//! `/dev/shm` is a tmpfs in a mount namespace of its own, with no process in it: the shim holds it by a descriptor. A
//! shared PID namespace needs a first process, which collects orphans and does nothing else.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, Pid, fork, pipe2, pivot_root};

use super::{ShimError, context};
use crate::beneath::check;
use crate::records::SandboxRecord;
use crate::{NamespaceMode, PodSandboxConfig};

/// Size of `/dev/shm`, as containerd has it.
const SHM_OPTIONS: &str = "mode=1777,size=65536k";

/// What the shim holds besides being in the namespaces.
pub(super) struct PodNamespaces {
    /// The machine's mount namespace.
    pub host_mounts: File,
    /// A mount namespace whose root is the pod's `/dev/shm`; none with the machine's IPC namespace.
    pub shm: Option<File>,
    /// The first process of the pod's PID namespace, if containers share one.
    pub pause: Option<Pause>,
}

/// See [`PodNamespaces::pause`].
pub(super) struct Pause {
    pub pid: Pid,
    /// It ends when this is closed.
    _alive: OwnedFd,
}

/// Makes the namespaces and enters them. Must be called while there is one thread.
pub(super) fn enter(record: &SandboxRecord) -> Result<PodNamespaces, ShimError> {
    let options = &record.config.security_context.namespace_options;
    let host_mounts = File::open("/proc/self/ns/mnt").map_err(context("open mount namespace"))?;
    let mut flags = CloneFlags::empty();
    if options.network != NamespaceMode::Node {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if options.ipc != NamespaceMode::Node {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(flags).map_err(context("make namespaces"))?;
    if options.network != NamespaceMode::Node {
        bring_loopback_up().map_err(context("bring loopback up"))?;
        let hostname = &record.config.hostname;
        if !hostname.is_empty() {
            nix::unistd::sethostname(hostname).map_err(context("set host name"))?;
        }
    }
    set_sysctls(&record.config)?;
    let shm = match options.ipc {
        NamespaceMode::Node => None,
        _ => Some(make_shm().map_err(context("make /dev/shm"))?),
    };
    let pause = match options.pid {
        NamespaceMode::Pod => Some(make_pause().map_err(context("make PID namespace"))?),
        _ => None,
    };
    Ok(PodNamespaces {
        host_mounts,
        shm,
        pause,
    })
}

fn bring_loopback_up() -> io::Result<()> {
    #[repr(C)]
    struct InterfaceFlags {
        name: [u8; libc::IFNAMSIZ],
        flags: libc::c_short,
        padding: [u8; 22],
    }
    let mut request = InterfaceFlags {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        padding: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    request.flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request has the layout and size of struct ifreq and lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) })
}

/// What pods may set: see pkg/kubelet/sysctl/namespace.go.
fn is_namespaced(key: &str, config: &PodSandboxConfig) -> bool {
    let options = &config.security_context.namespace_options;
    let ipc = key.starts_with("kernel.shm")
        || key.starts_with("kernel.msg")
        || key == "kernel.sem"
        || key.starts_with("fs.mqueue.");
    (key.starts_with("net.") && options.network != NamespaceMode::Node) || (ipc && options.ipc != NamespaceMode::Node)
}

fn set_sysctls(config: &PodSandboxConfig) -> Result<(), ShimError> {
    let refused = |key: &str, why: &str| ShimError {
        message: format!("sysctl {key:?}: {why}"),
    };
    for (key, value) in &config.sysctls {
        // With `/` between the parts, `.` belongs to a name.
        let path = match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
            Some(b'/') => key.clone(),
            _ => key.replace('.', "/"),
        };
        if !is_namespaced(&path.replace('/', "."), config) {
            return Err(refused(key, "it is not of this pod's namespaces"));
        }
        if !Path::new(&path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(refused(key, "it is not a name"));
        }
        fs::write(Path::new("/proc/sys").join(&path), value).map_err(|error| refused(key, &error.to_string()))?;
    }
    // containerd 2's defaults: any user may ping and bind low ports.
    if config.security_context.namespace_options.network != NamespaceMode::Node {
        for (key, value) in [
            ("net/ipv4/ip_unprivileged_port_start", "0"),
            ("net/ipv4/ping_group_range", "0 2147483647"),
        ] {
            if !config.sysctls.keys().any(|set| set.replace('.', "/") == key) {
                // A kernel without it has nothing to allow.
                let _ = fs::write(Path::new("/proc/sys").join(key), value);
            }
        }
    }
    Ok(())
}

/// Makes a mount namespace that consists of an empty tmpfs.
fn make_shm() -> io::Result<File> {
    let (ready, ready_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (done, done_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((ready, done_write));
            let made = isolate_tmpfs();
            let byte = [made.err().map_or(0, |error| error as i32 as u8)];
            let _ = nix::unistd::write(&ready_write, &byte);
            // Until the parent has opened the namespace.
            let _ = File::from(done).read(&mut [0]);
            // SAFETY: ends the process; nothing of it needs to be run down.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((ready_write, done));
            let mut error = [libc::EIO as u8];
            let opened = match File::from(ready).read(&mut error) {
                Ok(1) if error[0] == 0 => File::open(format!("/proc/{child}/ns/mnt")),
                Ok(_) => Err(io::Error::from_raw_os_error(i32::from(error[0]))),
                Err(error) => Err(error),
            };
            drop(done_write);
            // The child has nothing left to do.
            let _ = nix::sys::wait::waitpid(child, None);
            opened
        }
    }
}

fn isolate_tmpfs() -> nix::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // Any folder will do: it is covered in this namespace only.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), "/proc", Some("tmpfs"), flags, Some(SHM_OPTIONS))?;
    nix::unistd::chdir("/proc")?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)
}

/// Starts the first process of a PID namespace, as a child of this one.
fn make_pause() -> io::Result<Pause> {
    let (alive, alive_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (answer, answer_write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // The process in between takes the new namespace for its children, so that ours stay where they are; its child
    // becomes ours when it ends, for we are a subreaper.
    // SAFETY: this process has one thread.
    let between = match unsafe { fork() }? {
        ForkResult::Child => {
            drop((alive_write, answer));
            let answer = |value: i32| nix::unistd::write(&answer_write, &value.to_ne_bytes());
            // SAFETY: as above.
            match unshare(CloneFlags::CLONE_NEWPID).and_then(|()| unsafe { fork() }) {
                Ok(ForkResult::Child) => pause(alive),
                Ok(ForkResult::Parent { child }) => drop(answer(child.as_raw())),
                Err(error) => drop(answer(-(error as i32))),
            }
            // SAFETY: ends the process; nothing of it needs to be run down.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    drop((alive, answer_write));
    let mut bytes = [0u8; 4];
    let read = File::from(answer).read_exact(&mut bytes);
    let _ = nix::sys::wait::waitpid(between, None);
    read?;
    match i32::from_ne_bytes(bytes) {
        pid if pid > 0 => Ok(Pause {
            pid: Pid::from_raw(pid),
            _alive: alive_write,
        }),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Collects orphans until the shim is gone.
fn pause(alive: OwnedFd) -> ! {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    // Everything else of the shim's is to be closed here, or its connections would never end.
    // SAFETY: takes numbers only; no value that owns a closed descriptor is dropped, for this never returns.
    unsafe {
        let kept = alive.as_raw_fd() as u32;
        libc::syscall(libc::SYS_close_range, 0, kept - 1, 0);
        libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, c"skiff-pause".as_ptr());
        // With SIGCHLD ignored the kernel collects them itself.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    while !matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive) | Err(_)
    ) {}
    let mut byte = [0u8];
    while matches!(
        nix::unistd::read(alive.as_raw_fd(), &mut byte),
        Err(nix::errno::Errno::EINTR)
    ) {}
    // SAFETY: ends the process, and with it the namespace.
    unsafe { libc::_exit(0) }
}
