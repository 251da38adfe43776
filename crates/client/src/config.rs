//! A resolved connection: where, whom to trust, and as whom.

use std::path::{Path, PathBuf};

use crate::KubeconfigError;

/// Where pods find their service account.
const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Whose server certificates are accepted.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The system's authorities.
    Native,
    /// These authorities, in PEM.
    Pem(Vec<u8>),
    /// Any certificate: `insecure-skip-tls-verify`.
    Insecure,
}

/// As whom requests are sent.
#[derive(Clone)]
pub enum Auth {
    /// Anonymously.
    None,
    /// With a client certificate; both in PEM.
    Certificate {
        /// Certificate chain.
        certificate: Vec<u8>,
        /// Private key.
        key: Vec<u8>,
    },
    /// With a bearer token.
    Token(String),
    /// With the bearer token in a file that is replaced from time to time.
    TokenFile(PathBuf),
    /// With a user name and password.
    Basic {
        /// User.
        username: String,
        /// Password.
        password: String,
    },
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Certificate { .. } => "Certificate(..)",
            Self::Token(_) => "Token(..)",
            Self::TokenFile(_) => "TokenFile(..)",
            Self::Basic { .. } => "Basic(..)",
        })
    }
}

/// Everything an HTTPS client needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://host:port`, with a path prefix if there is one.
    pub server: String,
    /// Whom to trust.
    pub roots: Roots,
    /// As whom.
    pub auth: Auth,
    /// Name expected in the server's certificate, if not the host's.
    pub tls_server_name: Option<String>,
    /// Namespace of commands that name none.
    pub namespace: String,
    /// User to act as (`Impersonate-User`), if any.
    pub impersonate_user: Option<String>,
    /// Groups to act in.
    pub impersonate_groups: Vec<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// See the kubeconfig's error.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The server's address is not one.
    #[error("the server address {server:?} is not an http or https URL")]
    Server {
        /// What was given.
        server: String,
    },
    /// Certificates or keys cannot be parsed.
    #[error("{what} cannot be used: {reason}")]
    Tls {
        /// Which part.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A header value has bytes that a header cannot have.
    #[error("{what} has characters that an HTTP header cannot carry")]
    Header {
        /// Which value.
        what: &'static str,
    },
    /// Not in a pod.
    #[error("not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")]
    NotInCluster,
    /// The pod's service account cannot be read.
    #[error("reading {path}")]
    ReadServiceAccount {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Config {
    /// A connection to a server with the given trust and identity.
    pub fn new(server: impl Into<String>, roots: Roots, auth: Auth) -> Self {
        Self {
            server: server.into(),
            roots,
            auth,
            tls_server_name: None,
            namespace: "default".to_owned(),
            impersonate_user: None,
            impersonate_groups: Vec::new(),
        }
    }

    /// The configuration of a pod's service account.
    ///
    /// # Errors
    /// This process is not in a pod, or its service account cannot be read.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        let (Ok(host), Ok(port)) = (
            std::env::var("KUBERNETES_SERVICE_HOST"),
            std::env::var("KUBERNETES_SERVICE_PORT"),
        ) else {
            return Err(ConfigError::NotInCluster);
        };
        Self::service_account(&host, &port, Path::new(SERVICE_ACCOUNT_DIR))
    }

    fn service_account(host: &str, port: &str, folder: &Path) -> Result<Self, ConfigError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|source| ConfigError::ReadServiceAccount { path, source })
        };
        read("token")?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let auth = Auth::TokenFile(folder.join("token"));
        let mut config = Self::new(format!("https://{host}:{port}"), Roots::Pem(read("ca.crt")?), auth);
        if let Ok(namespace) = read("namespace") {
            config.namespace = String::from_utf8_lossy(&namespace).trim().to_owned();
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_folder_is_a_configuration() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in [("token", "t"), ("ca.crt", "pem"), ("namespace", "ns\n")] {
            std::fs::write(folder.path().join(name), text).expect("writable");
        }
        let config = Config::service_account("fd00::1", "443", folder.path()).expect("complete");
        assert_eq!(
            (config.server.as_str(), config.namespace.as_str()),
            ("https://[fd00::1]:443", "ns")
        );
        std::fs::remove_file(folder.path().join("token")).expect("there");
        assert!(Config::service_account("h", "1", folder.path()).is_err());
    }
}
