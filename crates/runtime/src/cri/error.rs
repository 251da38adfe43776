use std::io;
use std::path::PathBuf;

use super::ImageError;

/// What a verb answers.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No such sandbox, container or image.
    #[error("{what} \"{id}\" not found")]
    NotFound {
        /// `pod sandbox`, `container`, `image`.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A value in a config that cannot be honoured.
    #[error("invalid {field}: {message}")]
    Invalid {
        /// The field of the message.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The thing is not in the state that the verb needs.
    #[error("{what} \"{id}\" is {state}; it must be {needed}")]
    WrongState {
        /// `pod sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: String,
        /// The state it is in.
        state: String,
        /// The state it would have to be in.
        needed: &'static str,
    },
    /// The container's process could not be started; `reason` is what its status says as well.
    #[error("failed to start container \"{id}\": {message}")]
    Start {
        /// The container.
        id: String,
        /// [`reason::CONTAINER_CANNOT_RUN`](super::reason::CONTAINER_CANNOT_RUN) or
        /// [`reason::START_ERROR`](super::reason::START_ERROR).
        reason: &'static str,
        /// What failed.
        message: String,
    },
    /// A command could not be started in a container.
    #[error("failed to exec in container \"{id}\": {message}")]
    Exec {
        /// The container.
        id: String,
        /// What failed.
        message: String,
    },
    /// The command did not end in time and was killed.
    #[error("command {command:?} timed out")]
    Timeout {
        /// The command.
        command: String,
    },
    /// The pod network could not be set up or taken down.
    #[error("network of pod sandbox \"{id}\"")]
    Network {
        /// The sandbox.
        id: String,
        /// What failed.
        source: super::NetworkError,
    },
    /// The sandbox's shim could not be started or reached.
    #[error("shim of pod sandbox \"{id}\": {message}")]
    Shim {
        /// The sandbox.
        id: String,
        /// What failed.
        message: String,
    },
    /// A control group could not be made, changed or read.
    #[error("cgroup {path}: {message}")]
    Cgroup {
        /// The control group.
        path: String,
        /// What failed.
        message: String,
    },
    /// About an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file operation failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record in the data directory cannot be read.
    #[error("{} is damaged ({message}); remove it or restore the data directory", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Another process has the data directory open.
    #[error("{} is in use by another process; stop it or choose another data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// This machine cannot do what was asked.
    #[error("{what} is not supported on this machine: {message}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// Why not, and what to do.
        message: String,
    },
}

impl RuntimeError {
    /// For `map_err` on file operations.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RuntimeError {
        let path = path.into();
        move |source| RuntimeError::Io {
            operation,
            path,
            source,
        }
    }

    /// Whether the error says that the thing is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, RuntimeError::NotFound { .. })
    }
}
