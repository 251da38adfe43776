//! The cluster's certificates and keys, kept as PEM files in one directory.
//!
//! [`Pki::open`] makes what is missing and renews what is about to expire or no longer fits the
//! names and addresses that it is asked to serve; everything else stays byte for byte as it was, so
//! that kubeconfigs handed out earlier go on working. The names of the files are kubeadm's.
//!
//! Guarantees: a private key is never world-readable; a file is replaced by rename, so a crash leaves
//! the old or the new one; the certificate authority and the service-account key are made once and
//! never replaced.
//!
//! Does not know: the API, the kubelet, where the directory lies.

mod authority;
mod files;
mod request;
mod subject;
mod tls;
mod unverified;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use authority::{Authority, Issued, self_signed};
pub use files::FileError;
pub use request::SignError;
pub use subject::{AltNames, Subject, Usage};
pub use tls::{TlsError, asking_server_config, chain_and_key, client_config, client_verifier, server_config};
pub use unverified::{any_certificate, unverifying_config};

/// How a set of certificates could not be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the directory could not be read or written.
    #[error("certificate directory")]
    File(#[from] FileError),
    /// A certificate or key could not be made.
    #[error("make certificate {name}: {source}")]
    Generate {
        /// The file's stem, such as `apiserver`.
        name: String,
        /// What rcgen says.
        source: rcgen::Error,
    },
    /// A certificate or key on disk is not one.
    #[error(
        "{path} is not a usable certificate or key ({reason}); move it away and start again, or restore it from a backup"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the certificates must cover.
#[derive(Debug, Clone)]
pub struct PkiConfig {
    /// Names and addresses at which clients reach the API server.
    pub apiserver: AltNames,
    /// The node's name: the kubelet's identity is `system:node:<name>`.
    pub node_name: String,
    /// Addresses at which the node's kubelet answers.
    pub node_ips: Vec<IpAddr>,
}

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// Private key, PKCS#8 PEM.
    pub key_pem: String,
}

/// The opened directory: everything a one-machine control plane needs.
#[derive(Debug, Clone)]
pub struct Pki {
    /// The cluster's authority certificate (`ca.crt`).
    pub ca_pem: String,
    /// The API server's serving certificate (`apiserver.crt`).
    pub apiserver: Identity,
    /// The API server's identity towards kubelets (`apiserver-kubelet-client.crt`).
    pub apiserver_kubelet_client: Identity,
    /// The kubelet's serving certificate (`kubelet.crt`).
    pub kubelet_server: Identity,
    /// The kubelet's identity towards the API server (`kubelet-client.crt`).
    pub kubelet_client: Identity,
    /// The administrator's identity (`admin.crt`), group `system:masters`.
    pub admin: Identity,
    /// The authority of front proxies (`front-proxy-ca.crt`).
    pub front_proxy_ca_pem: String,
    /// The API server's identity towards servers that it passes requests on to (`front-proxy-client.crt`).
    pub front_proxy_client: Identity,
    /// Signs service-account tokens (`sa.key`, ECDSA P-256, PKCS#8).
    pub service_account_key_pem: String,
    /// Verifies service-account tokens (`sa.pub`).
    pub service_account_public_pem: String,
}

impl Pki {
    /// Opens `dir`, making it and all that is missing.
    ///
    /// # Errors
    /// When the directory cannot be read or written, or holds something that is no certificate or
    /// key: nothing is overwritten then.
    pub fn open(dir: &Path, config: &PkiConfig) -> Result<Pki, PkiError> {
        files::make_directory(dir)?;
        let authority = Authority::open(dir, "ca", "kubernetes")?;
        let front_proxy = Authority::open(dir, "front-proxy-ca", "front-proxy-ca")?;
        let issue = |name: &str, subject: Subject| authority.open_leaf(dir, name, &subject);
        let service_account_key_pem = authority::open_key(dir, "sa")?;
        let service_account_public_pem = authority::public_key_pem(dir, "sa", &service_account_key_pem)?;
        Ok(Pki {
            apiserver: issue("apiserver", Subject::server("kube-apiserver", config.apiserver.clone()))?,
            apiserver_kubelet_client: issue(
                "apiserver-kubelet-client",
                Subject::client("kube-apiserver-kubelet-client", &["system:masters"]),
            )?,
            kubelet_server: issue(
                "kubelet",
                Subject::server(
                    &format!("system:node:{}", config.node_name),
                    AltNames {
                        dns: vec![config.node_name.clone(), "localhost".into()],
                        ips: config.node_ips.clone(),
                    },
                )
                .in_groups(&["system:nodes"]),
            )?,
            kubelet_client: issue(
                "kubelet-client",
                Subject::client(&format!("system:node:{}", config.node_name), &["system:nodes"]),
            )?,
            admin: issue("admin", Subject::client("kubernetes-admin", &["system:masters"]))?,
            ca_pem: authority.cert_pem.clone(),
            front_proxy_client: front_proxy.open_leaf(
                dir,
                "front-proxy-client",
                &Subject::client("front-proxy-client", &[]),
            )?,
            front_proxy_ca_pem: front_proxy.cert_pem.clone(),
            service_account_key_pem,
            service_account_public_pem,
        })
    }
}

/// The names and addresses that kubeadm puts into the API server's certificate: the Service's names
/// in every form, its address, and what the caller adds (kubeadm's `GetAPIServerAltNames`).
#[must_use]
pub fn apiserver_alt_names(
    cluster_domain: &str,
    service_ip: IpAddr,
    extra_dns: &[String],
    extra_ips: &[IpAddr],
) -> AltNames {
    let mut dns: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ]
    .map(String::from)
    .to_vec();
    dns.push(format!("kubernetes.default.svc.{cluster_domain}"));
    dns.extend(extra_dns.iter().cloned());
    let mut ips = vec![
        service_ip,
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
    ];
    ips.extend(extra_ips);
    dns.sort();
    dns.dedup();
    ips.sort();
    ips.dedup();
    AltNames { dns, ips }
}

#[cfg(test)]
mod tests;
