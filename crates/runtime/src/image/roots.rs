//! The CA certificates that registries' certificates are verified with.
//!
//! Those of the machine (or of `SSL_CERT_FILE` and `SSL_CERT_DIR`), looked at for each pull, so that a new one needs no
//! restart; Mozilla's list, which is part of this program, on a machine that has none; and those that are given for one
//! registry, in the folder `HOST[:PORT]` of a directory such as Docker's `/etc/docker/certs.d`, as files `*.crt`.

use std::fs;
use std::path::PathBuf;

use oci_client::client::{Certificate, CertificateEncoding};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// For one registry.
pub(super) fn for_registry(registry: &str, dirs: &[PathBuf]) -> Vec<Certificate> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some of this machine's CA certificates cannot be read");
    }
    let mut certificates = usable(found.certs);
    if certificates.is_empty() {
        tracing::info!("this machine has no CA certificates; Mozilla's are used for registries");
        certificates = usable(webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec());
    }
    certificates.extend(dirs.iter().flat_map(|dir| given(&dir.join(registry))));
    certificates
}

/// Those in a registry's own folder; mostly there is none.
fn given(folder: &PathBuf) -> Vec<Certificate> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "crt"));
    files
        .flat_map(|path| {
            let found = rustls_native_certs::load_certs_from_paths(Some(&path), None);
            for error in &found.errors {
                tracing::warn!(%error, path = %path.display(), "a registry's CA certificate cannot be read");
            }
            usable(found.certs)
        })
        .collect()
}

/// One that cannot be read would spoil all of them.
fn usable(certificates: Vec<CertificateDer<'static>>) -> Vec<Certificate> {
    certificates
        .into_iter()
        .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok())
        .map(|certificate| Certificate {
            encoding: CertificateEncoding::Der,
            data: certificate.to_vec(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_its_own_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("host:5000");
        fs::create_dir(&folder).unwrap();
        let key = rcgen::generate_simple_self_signed(vec!["host".into()]).unwrap();
        fs::write(folder.join("ca.crt"), key.cert.pem()).unwrap();
        fs::write(folder.join("client.cert"), "not one of them").unwrap();
        let dirs = [dir.path().to_owned(), dir.path().join("absent")];
        let other = for_registry("other:5000", &dirs).len();
        assert!(other > 0, "the machine's, or Mozilla's");
        let ours = for_registry("host:5000", &dirs);
        assert_eq!(ours.len(), other + 1);
        assert_eq!(ours.last().unwrap().data, key.cert.der().to_vec());
    }

    #[test]
    fn mozillas_can_be_used() {
        assert!(usable(webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec()).len() > 50);
        assert!(usable(vec![CertificateDer::from(vec![1, 2, 3])]).is_empty());
    }
}
