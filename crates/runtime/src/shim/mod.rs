//! A pod's shim: a small process, re-executed from our own program, that is in the pod's namespaces, is the parent of
//! the pod's containers, owns their streams, writes their logs and their exit codes. It outlives skiff.
//!
//! ```text
//! skiff ──socket──> shim ──fork──> helper ──libcontainer──> container's first process (then the shim's child)
//! ```
//!
//! It has one thread, and everything in it is driven by one `poll` loop. It never forks without `_exit`ing the child.
//!
//! Does not know: images (beyond folders of layers), pods' specs, restart policies, networks.

mod capabilities;
mod connection;
mod container;
mod event_loop;
mod executor;
mod helper;
mod launch;
mod log;
mod namespaces;
mod requests;
mod rootfs;
mod seccomp;
mod spec;
mod user;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub(crate) use rootfs::Overlay;

use crate::cgroup::Cgroups;
use crate::records::{self, SandboxDir, SandboxRecord, ShimRecord, process_start_time};

/// Why a shim could not be started, or a container not be set up.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ShimError {
    pub message: String,
}

fn context<E: Display>(what: &'static str) -> impl FnOnce(E) -> ShimError {
    move |error| ShimError {
        message: format!("{what}: {error}"),
    }
}

/// What a shim prints when it is ready.
pub(crate) const READY: &str = "ready\n";

/// The whole of `skiff shim …`, given the arguments after `shim`. To be called first thing in `main`: there must be one
/// thread, and no runtime.
///
/// - `pod DIR`: a pod's shim, see [`crate::EmbeddedRuntime`].
/// - `unpack`, `overlay`: see `image::unpack`.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ! {
    let args: Vec<OsString> = args.into_iter().collect();
    let code = match args.first().and_then(|verb| verb.to_str()) {
        Some("pod") if args.len() == 2 => pod_main(SandboxDir {
            path: PathBuf::from(&args[1]),
        }),
        Some("unpack") => crate::image::unpack_main(&args[1..]),
        Some("overlay") => crate::image::probe_overlay_main(&args[1..]),
        _ => {
            eprintln!("skiff shim is started by skiff itself; it has no use on its own");
            2
        }
    };
    std::process::exit(code)
}

fn pod_main(dir: SandboxDir) -> i32 {
    match start(&dir) {
        Ok(shim) => shim.run(),
        Err(error) => {
            // The runtime reads it from there.
            let _ = writeln!(std::io::stdout(), "{error}");
            1
        }
    }
}

fn start(dir: &SandboxDir) -> Result<event_loop::Shim, ShimError> {
    // First of all, so that this process can always be found by the folder's contents.
    let pid = std::process::id() as i32;
    let own = ShimRecord {
        pid,
        start_time: process_start_time(pid).unwrap_or(0),
    };
    records::write(&dir.shim_record(), &own).map_err(context("write record"))?;
    let record: SandboxRecord = records::read(&dir.record())
        .map_err(context("read record"))?
        .ok_or_else(|| ShimError {
            message: "the sandbox is gone".to_owned(),
        })?;
    nix::unistd::chdir(&dir.path).map_err(context("enter folder"))?;
    // It fails for a leader of a process group, which is detached enough then.
    let _ = nix::unistd::setsid();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    prepare_signals().map_err(context("prepare signals"))?;
    // SAFETY: takes numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"skiff-shim".as_ptr());
    }
    let cgroups = Cgroups::detect().map_err(context("control groups"))?;
    cgroups
        .join_supervised(&record.shim_cgroup, pid)
        .map_err(context("leave skiff's control group"))?;
    // Among the last to be killed when memory is short; without SYS_RESOURCE it stays as it is.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    let namespaces = namespaces::enter(&record)?;
    let listener = UnixListener::bind("sock").map_err(context("make socket"))?;
    fs::set_permissions("sock", fs::Permissions::from_mode(0o600)).map_err(context("protect socket"))?;
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(context("listen to signals"))?;
    let shim = event_loop::Shim::new(dir.clone(), record, cgroups, namespaces, listener, signals)?;
    announce()?;
    Ok(shim)
}

/// Only SIGKILL ends a shim: it must see its containers out. New programs get all signals back (see `executor`).
fn prepare_signals() -> nix::Result<()> {
    for ignored in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGPIPE,
        Signal::SIGQUIT,
    ] {
        // SAFETY: no handler is installed.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&child), None)
}

/// Says that the shim is ready, waits to be told to go on, and lets go of both pipes.
///
/// If skiff dies before it told us, nobody may ever know of this process: then it ends. After that its record is
/// certain to be found.
fn announce() -> Result<(), ShimError> {
    let mut stdout = std::io::stdout();
    stdout
        .write_all(READY.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(context("announce"))?;
    let null: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(context("open /dev/null"))?;
    nix::unistd::dup2(null.as_raw_fd(), 1).map_err(context("close standard output"))?;
    std::io::stdin()
        .read_exact(&mut [0])
        .map_err(context("wait for skiff"))?;
    nix::unistd::dup2(null.as_raw_fd(), 0).map_err(context("close standard input"))?;
    Ok(())
}
