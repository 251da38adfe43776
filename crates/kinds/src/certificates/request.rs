//! PKCS#10 requests: that they are one, and that who sends them has the key.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// Reads a DER request and checks its signature.
///
/// # Errors
/// A message in upstream's words (Go's `x509`) where there are fixed ones.
pub(super) fn verify(der: &[u8]) -> Result<(), String> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|error| format!("asn1: structure error: {error}"))?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".to_owned());
    }
    request.verify_signature().map_err(|error| {
        if matches!(error, X509Error::SignatureUnsupportedAlgorithm) {
            return "x509: cannot verify signature: algorithm unimplemented".to_owned();
        }
        let key = request.certification_request_info.subject_pki.parsed();
        match key {
            Ok(PublicKey::RSA(_)) => "crypto/rsa: verification error",
            Ok(PublicKey::EC(_)) => "x509: ECDSA verification failure",
            _ => "x509: Ed25519 verification failure",
        }
        .to_owned()
    })
}
