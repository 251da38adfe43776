//! The process that sets a container or a command up: a fork of the shim, which has one thread, so that whatever
//! libcontainer does to its process (mount namespace, dumpable flag, working directory, leaks, hangs) is not done to the
//! shim. When it ends, the new process becomes the shim's child.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use crate::ContainerUser;
use crate::fd_passing;
use crate::wire::{Failure, FailureKind};

/// What was set up.
pub(super) struct Launched {
    pub pid: i32,
    pub start_time: u64,
    pub user: ContainerUser,
    /// The terminal's master, if there is one.
    pub master: Option<OwnedFd>,
}

#[derive(Serialize, Deserialize)]
enum Report {
    Launched {
        pid: i32,
        start_time: u64,
        user: ContainerUser,
    },
    Failed(Failure),
}

/// A helper at work.
pub(super) struct Helper {
    pub pid: Pid,
    socket: OwnedFd,
}

/// For setup steps that fail.
pub(super) fn setup_failure(message: impl ToString) -> Failure {
    Failure {
        kind: FailureKind::Setup,
        message: message.to_string(),
        exit_code: 128,
    }
}

impl Helper {
    /// Starts one. Of the shim's descriptors it has those in `keep` and standard error.
    pub fn start(keep: &[RawFd], job: impl FnOnce() -> Result<Launched, Failure>) -> io::Result<Helper> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Helper {
                pid: child,
                socket: ours,
            }),
            ForkResult::Child => {
                let mut kept = keep.to_vec();
                kept.push(theirs.as_raw_fd());
                close_others(kept);
                let result = catch_unwind(AssertUnwindSafe(job))
                    .unwrap_or_else(|_| Err(setup_failure("setting up panicked; see the shim's log")));
                let (report, master) = match result {
                    Ok(Launched {
                        pid,
                        start_time,
                        user,
                        master,
                    }) => (Report::Launched { pid, start_time, user }, master),
                    Err(failure) => (Report::Failed(failure), None),
                };
                let bytes = serde_json::to_vec(&report).unwrap_or_default();
                let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
                // If the shim is gone nobody wants to know.
                let _ = fd_passing::send(theirs.as_fd(), &bytes, &fds);
                // SAFETY: ends the process; what it shares with the shim must not be run down here.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// To poll for reading.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// What it did; to be called when its socket is readable.
    pub fn result(&self) -> Result<Launched, Failure> {
        let mut buffer = vec![0u8; 256 << 10];
        let mut fds = Vec::new();
        let length = fd_passing::receive(self.socket.as_fd(), &mut buffer, &mut fds)
            .map_err(|error| setup_failure(format!("setting up: {error}")))?;
        match serde_json::from_slice(&buffer[..length]) {
            Ok(Report::Launched { pid, start_time, user }) => Ok(Launched {
                pid,
                start_time,
                user,
                master: fds.pop(),
            }),
            Ok(Report::Failed(failure)) => Err(failure),
            Err(_) => Err(setup_failure("setting up was killed")),
        }
    }
}

fn close_others(mut kept: Vec<RawFd>) {
    kept.extend([0, 1, 2]);
    kept.sort_unstable();
    kept.dedup();
    let ends = kept[1..].iter().copied().chain([RawFd::MAX]);
    for (from, to) in kept.iter().zip(ends) {
        if from + 1 < to {
            // SAFETY: takes numbers only. The values that own these descriptors are the shim's; this process never
            // drops them, for it ends with _exit.
            unsafe { libc::syscall(libc::SYS_close_range, from + 1, to - 1, 0) };
        }
    }
}
