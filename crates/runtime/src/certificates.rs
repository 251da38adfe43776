//! CA certificates for registries, on machines that have none.
//!
//! The library that speaks to registries takes them from the system, and cannot be used at all where there are none. A
//! fresh machine may have none. What it looks for can be told by `SSL_CERT_FILE`, so Mozilla's list, which is part of
//! this program, is offered there.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::path::Path;

use base64::Engine;

const VARIABLE: &str = "SSL_CERT_FILE";

/// Where systems keep them.
const KNOWN: [&str; 7] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
];

/// Whether there are any.
pub(crate) fn are_there() -> bool {
    std::env::var_os(VARIABLE).is_some()
        || std::env::var_os("SSL_CERT_DIR").is_some()
        || KNOWN.iter().any(|path| Path::new(path).exists())
}

/// Offers the built-in certificates, if the system has none. To be called in `main` before there is a second thread:
/// it sets an environment variable.
pub fn provide_certificates() {
    if are_there() {
        return;
    }
    let mut text = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        text += "-----BEGIN CERTIFICATE-----\n";
        for line in encoded.as_bytes().chunks(64) {
            text += &String::from_utf8_lossy(line);
            text += "\n";
        }
        text += "-----END CERTIFICATE-----\n";
    }
    // In memory, so that nothing is left behind. It stays open as long as the process lives.
    let Ok(file) = nix::sys::memfd::memfd_create(c"certificates", nix::sys::memfd::MemFdCreateFlag::MFD_CLOEXEC) else {
        return;
    };
    let mut file = std::fs::File::from(file);
    if file.write_all(text.as_bytes()).is_ok() {
        let path = format!("/proc/self/fd/{}", file.into_raw_fd());
        // SAFETY: the caller keeps to what this function asks for.
        unsafe { std::env::set_var(VARIABLE, OsStr::new(&path)) };
    }
}
