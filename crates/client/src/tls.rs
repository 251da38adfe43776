//! The TLS side of a configuration.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::{Auth, Config, ConfigError, Roots};

/// A rustls configuration without ALPN (the connector sets it).
///
/// # Errors
/// Certificates or keys cannot be used.
pub fn client_config(config: &Config) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls("the TLS provider", &error))?;
    let builder = match &config.roots {
        Roots::Insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(pki::any_certificate()),
        Roots::Native => builder.with_root_certificates(native_roots()),
        Roots::Pem(pem) => builder.with_root_certificates(pem_roots(pem)?),
    };
    match &config.auth {
        Auth::Certificate { certificate, key } => {
            let chain = certificates("the client certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| tls("the client key", &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| tls("the client certificate and key", &error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn tls(what: &'static str, reason: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Tls {
        what,
        reason: reason.to_string(),
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| tls(what, &error))?;
    if chain.is_empty() {
        return Err(tls(what, &"no certificate in it"));
    }
    Ok(chain)
}

fn pem_roots(pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the certificate authority", pem)? {
        roots
            .add(certificate)
            .map_err(|error| tls("the certificate authority", &error))?;
    }
    Ok(roots)
}

fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::warn!(%error, "a system certificate authority is unreadable");
    }
    roots.add_parsable_certificates(loaded.certs);
    roots
}
