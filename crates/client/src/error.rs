//! What can go wrong between asking and having the answer.

use api::Status;

use crate::{BoxError, ConfigError};

/// The error of every client operation.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with a failure.
    #[error(transparent)]
    Api(Box<Status>),
    /// The request could not be built.
    #[error("building the request for {path}")]
    BuildRequest {
        /// Request path.
        path: String,
        /// Why.
        source: http::Error,
    },
    /// No response: connecting or sending failed.
    #[error("sending {method} {url}")]
    Send {
        /// HTTP method.
        method: String,
        /// Where it went.
        url: String,
        /// Why.
        source: BoxError,
    },
    /// The response ended early.
    #[error("reading the answer of {path}")]
    ReadBody {
        /// Request path.
        path: String,
        /// Why.
        source: BoxError,
    },
    /// A body is not what its type says.
    #[error("decoding {what}")]
    Decode {
        /// What was decoded.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An object could not be serialized.
    #[error("encoding {what}")]
    Encode {
        /// What was encoded.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A line of a watch is longer than any object may be.
    #[error("a watch of {path} sent an event of more than {limit} bytes")]
    WatchLineTooLong {
        /// Request path.
        path: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// This transport has no upgraded connections.
    #[error("{path} needs an upgraded connection, which only HTTPS has")]
    UpgradeUnsupported {
        /// Request path.
        path: String,
    },
    /// The connection was not handed over after a 101.
    #[error("upgrading the connection of {path}")]
    Upgrade {
        /// Request path.
        path: String,
        /// Why.
        source: BoxError,
    },
    /// Credentials could not be read at the time of the request.
    #[error("reading the bearer token {path}")]
    ReadToken {
        /// Token file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration does not describe a usable connection.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Api(Box::new(status))
    }
}

impl ClientError {
    /// The server's Status, if it answered.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    /// HTTP status code, if the server answered.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|s| s.code)
    }

    /// The Status reason, if the server answered.
    pub fn reason(&self) -> Option<&str> {
        self.status().map(|s| s.reason.as_str())
    }

    fn is_reason(&self, reason: &str) -> bool {
        self.reason() == Some(reason)
    }

    /// The object (or the resource) does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// A create met an object of the same name.
    pub fn is_already_exists(&self) -> bool {
        self.is_reason("AlreadyExists")
    }

    /// A precondition or resourceVersion did not hold.
    pub fn is_conflict(&self) -> bool {
        self.is_reason("Conflict") || (self.code() == Some(409) && !self.is_already_exists())
    }

    /// The error with all its sources, for people.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// The object was refused as invalid.
    pub fn is_invalid(&self) -> bool {
        self.is_reason("Invalid")
    }

    /// The caller may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// The revision asked for is no longer (or not yet) available.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410) || self.is_reason("Expired") || self.is_reason("Gone")
    }

    /// The namespace is being deleted and takes no new content.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status()
            .is_some_and(|s| s.code == 403 && s.message.contains("because it is being terminated"))
    }
}
