//! The authority and the certificates that it signs.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::files;
use crate::subject::{AltNames, Subject, Usage};
use crate::{Identity, PkiError};

/// Ten years, as kubeadm's authority.
const AUTHORITY_DAYS: i64 = 3650;
/// One year, as kubeadm's leaves; renewed when a third is left.
const LEAF_DAYS: i64 = 365;
const RENEW_BEFORE_DAYS: i64 = 120;
/// Clocks of other machines may be behind ours.
const BACKDATE: Duration = Duration::hours(1);

/// A certificate authority with its key.
pub struct Authority {
    /// Certificate, PEM.
    pub cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A freshly signed certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Certificate, PEM.
    pub cert_pem: String,
}

impl Authority {
    /// Opens `<dir>/<name>.crt` and `.key`, or makes both.
    ///
    /// # Errors
    /// When the files cannot be read, written or used.
    pub fn open(dir: &Path, name: &str, common_name: &str) -> Result<Authority, PkiError> {
        let key_pem = open_key(dir, name)?;
        let key = parse_key(dir, name, &key_pem)?;
        let path = dir.join(format!("{name}.crt"));
        let cert_pem = match files::read(&path)? {
            Some(pem) => pem,
            None => {
                let pem = authority_params(common_name)
                    .self_signed(&key)
                    .map_err(generate(name))?
                    .pem();
                files::replace(&path, &pem, 0o644)?;
                pem
            }
        };
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key).map_err(|source| PkiError::Unusable {
            path,
            reason: source.to_string(),
        })?;
        Ok(Authority { cert_pem, issuer })
    }

    /// Opens `<dir>/<name>.crt` and `.key`; signs the certificate anew when it is missing, close to
    /// its end, from another authority, or not made for `subject`.
    ///
    /// # Errors
    /// When the files cannot be read, written or used.
    pub fn open_leaf(&self, dir: &Path, name: &str, subject: &Subject) -> Result<Identity, PkiError> {
        let key_pem = open_key(dir, name)?;
        let path = dir.join(format!("{name}.crt"));
        if let Some(cert_pem) = files::read(&path)?
            && self.still_fits(&cert_pem, &key_pem, subject)
        {
            return Ok(Identity { cert_pem, key_pem });
        }
        let key = parse_key(dir, name, &key_pem)?;
        let cert_pem = self.sign(&key, subject).map_err(generate(name))?.cert_pem;
        files::replace(&path, &cert_pem, 0o644)?;
        Ok(Identity { cert_pem, key_pem })
    }

    /// Signs a certificate for `key`, held by `subject`.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn sign(&self, key: &impl PublicKeyData, subject: &Subject) -> Result<Issued, rcgen::Error> {
        let cert = leaf_params(subject)?.signed_by(key, &self.issuer)?;
        Ok(Issued { cert_pem: cert.pem() })
    }

    /// Its key.
    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    fn still_fits(&self, cert_pem: &str, key_pem: &str, subject: &Subject) -> bool {
        let Ok(Some(der)) = rustls_pemfile::certs(&mut cert_pem.as_bytes()).next().transpose() else {
            return false;
        };
        let Ok(Some(ca)) = rustls_pemfile::certs(&mut self.cert_pem.as_bytes()).next().transpose() else {
            return false;
        };
        let (Ok((_, cert)), Ok((_, ca))) = (X509Certificate::from_der(&der), X509Certificate::from_der(&ca)) else {
            return false;
        };
        let renew_at = cert.validity().not_after.timestamp() - RENEW_BEFORE_DAYS * 86_400;
        let key_matches =
            KeyPair::from_pem(key_pem).is_ok_and(|key| key.subject_public_key_info() == cert.public_key().raw);
        OffsetDateTime::now_utc().unix_timestamp() < renew_at
            && key_matches
            && cert.verify_signature(Some(ca.public_key())).is_ok()
            && subject_of(&cert) == (subject.common_name.clone(), subject.organizations.clone())
            && covers(&alt_names_of(&cert), &subject.alt_names)
    }
}

/// A certificate for `subject` that vouches for itself, and is kept nowhere.
///
/// # Errors
/// When a name cannot stand in a certificate.
pub fn self_signed(subject: &Subject) -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate()?;
    let cert_pem = leaf_params(subject)?.self_signed(&key)?.pem();
    let key_pem = key.serialize_pem();
    Ok(Identity { cert_pem, key_pem })
}

/// The key of `<dir>/<name>.key`, made if missing (ECDSA P-256: quick to make, small, and taken by
/// every Kubernetes client).
pub fn open_key(dir: &Path, name: &str) -> Result<String, PkiError> {
    let path = dir.join(format!("{name}.key"));
    if let Some(pem) = files::read(&path)? {
        return Ok(pem);
    }
    let pem = KeyPair::generate().map_err(generate(name))?.serialize_pem();
    files::replace(&path, &pem, 0o600)?;
    Ok(pem)
}

/// Writes and returns the public half of a key as `<dir>/<name>.pub`.
pub fn public_key_pem(dir: &Path, name: &str, key_pem: &str) -> Result<String, PkiError> {
    let pem = parse_key(dir, name, key_pem)?.public_key_pem();
    let path = dir.join(format!("{name}.pub"));
    if files::read(&path)?.as_deref() != Some(&pem) {
        files::replace(&path, &pem, 0o644)?;
    }
    Ok(pem)
}

fn parse_key(dir: &Path, name: &str, pem: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(pem).map_err(|source| PkiError::Unusable {
        path: dir.join(format!("{name}.key")),
        reason: source.to_string(),
    })
}

fn generate(name: &str) -> impl FnOnce(rcgen::Error) -> PkiError {
    let name = name.to_owned();
    move |source| PkiError::Generate { name, source }
}

fn validity(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::days(days);
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    validity(&mut params, AUTHORITY_DAYS);
    params
}

fn leaf_params(subject: &Subject) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(subject.alt_names.dns.clone())?;
    params
        .subject_alt_names
        .extend(subject.alt_names.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    params.distinguished_name = DistinguishedName::new();
    for organization in &subject.organizations {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization.as_str());
    }
    params
        .distinguished_name
        .push(DnType::CommonName, subject.common_name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match subject.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, LEAF_DAYS);
    Ok(params)
}

fn subject_of(cert: &X509Certificate<'_>) -> (String, Vec<String>) {
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().unwrap_or_default().to_owned();
    (
        cert.subject().iter_common_name().map(text).next().unwrap_or_default(),
        cert.subject().iter_organization().map(text).collect(),
    )
}

fn alt_names_of(cert: &X509Certificate<'_>) -> AltNames {
    let mut names = AltNames::default();
    let Ok(Some(extension)) = cert.subject_alternative_name() else {
        return names;
    };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                    names.ips.push(v4.into());
                } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                    names.ips.push(v6.into());
                }
            }
            _ => {}
        }
    }
    names
}

fn covers(have: &AltNames, want: &AltNames) -> bool {
    want.dns.iter().all(|name| have.dns.contains(name)) && want.ips.iter().all(|ip| have.ips.contains(ip))
}
