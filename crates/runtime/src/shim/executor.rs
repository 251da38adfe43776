//! The last steps of a container's process before it becomes the container's program.
//!
//! libcontainer calls [`Launch`] in the new process, in its namespaces and root, as its user, but with all capabilities
//! that skiff has: a seccomp filter needs `SYS_ADMIN` to be installed without `no_new_privs`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use seccompiler::BpfProgram;

use super::capabilities::CapabilitySet;
use crate::wire::{Failure, FailureKind};

/// Everything that the last steps need. Shared with the process by being copied into it.
#[derive(Clone)]
pub(super) struct Launch {
    pub seccomp: Vec<BpfProgram>,
    pub capabilities: CapabilitySet,
    pub user: u32,
    pub terminal: bool,
    /// Where a [`Failure`] is written. Closed by the kernel when the program is executed: that is the success.
    pub failure: RawFd,
}

impl Executor for Launch {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let failure = match self.become_program(spec) {
            Err(failure) => failure,
            Ok(never) => match never {},
        };
        // SAFETY: the descriptor is this process's, and it is not closed here.
        let mut pipe = ManuallyDrop::new(unsafe { File::from_raw_fd(self.failure) });
        // If even that fails, the other end sees this process end without a word, and says so.
        let _ = serde_json::to_vec(&failure).map(|bytes| pipe.write_all(&bytes));
        // SAFETY: ends the process; nothing of it needs to be run down.
        unsafe { libc::_exit(failure.exit_code) }
    }

    /// The program is looked for when it is executed, as the user who executes it.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

enum Never {}

fn setup(what: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure {
        kind: FailureKind::Setup,
        message: format!("{what}: {error}"),
        exit_code: 128,
    }
}

impl Launch {
    fn become_program(&self, spec: &Spec) -> Result<Never, Failure> {
        reset_signals();
        if self.terminal {
            // SAFETY: takes numbers only. The terminal belongs to the user, as `login` would have it; on failure it
            // stays root's.
            unsafe { libc::fchown(0, self.user, u32::MAX) };
        }
        for program in &self.seccomp {
            install(program).map_err(setup("install seccomp filter"))?;
        }
        self.capabilities
            .confine_this_process()
            .map_err(setup("drop capabilities"))?;
        let args = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().clone())
            .unwrap_or_default();
        execute(&args)
    }
}

/// Signals as a program expects to find them: the shim blocks some, and the Rust runtime ignores SIGPIPE.
fn reset_signals() {
    // SAFETY: no handler is installed, so none can run later; the set is initialised by sigemptyset.
    unsafe {
        // Neither is a program to inherit that skiff itself does without huge pages.
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        // By the system call: the C library refuses the two signals that it keeps for itself, and whoever started
        // skiff may have left those ignored too. All zeros is SIG_DFL without flags or mask.
        let default = [0_u64; 4];
        for signal in 1..=libc::SIGRTMAX() {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

fn install(program: &BpfProgram) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::other("the filter is too long"))?,
        filter: program.as_ptr() as *mut libc::sock_filter,
    };
    // SAFETY: the filter lives through the call, is not written to, and seccompiler's instructions have the layout of
    // the kernel's.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn execute(args: &[String]) -> Result<Never, Failure> {
    let cannot_run = |message: String, exit_code| Failure {
        kind: FailureKind::CannotRun,
        message,
        exit_code,
    };
    let c_string = |text: &str| {
        CString::new(text).map_err(|_| cannot_run(format!("exec: {text:?}: the argument contains a NUL byte"), 126))
    };
    let name = args.first().map_or("", String::as_str);
    let arguments = args.iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>, _>>()?;
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| {
            use std::os::unix::ffi::OsStringExt;
            let mut entry = key.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            CString::new(entry).ok()
        })
        .collect::<Vec<_>>();
    if name.contains('/') {
        let error = replace_process(&c_string(name)?, &arguments, &environment);
        let code = if error.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        };
        return Err(cannot_run(format!("exec: {name:?}: {}", describe(&error)), code));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut refused = None;
    for folder in path.split(':').filter(|_| !name.is_empty()) {
        let folder = if folder.is_empty() { "." } else { folder };
        let error = replace_process(&c_string(&format!("{folder}/{name}"))?, &arguments, &environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            _ => refused = Some(error),
        }
    }
    Err(match refused {
        Some(error) => cannot_run(format!("exec: {name:?}: {}", describe(&error)), 126),
        None => cannot_run(format!("exec: {name:?}: executable file not found in $PATH"), 127),
    })
}

/// The kernel's words, as Go prints them.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => error.to_string(),
    }
}

fn replace_process(path: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings
            .iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and all strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
