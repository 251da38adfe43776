//! Certificates for requests that others made (upstream `pkg/controller/certificates/authority`).
//!
//! rcgen knows one value an attribute of a name, and refuses extensions that it does not know; requests have several
//! organizations (a user's groups), and extensions that are to be ignored. So the certificate is put together here.

use rcgen::{PublicKeyData, SigningKey};
use time::{Duration, OffsetDateTime};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Authority;

/// Clocks may be behind ours; must be less than the shortest lifetime.
const BACKDATE: Duration = Duration::minutes(5);
/// What lives shorter than this gets all of its time after the signing.
const SHORT: Duration = Duration::hours(8);

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is not a PKCS#10 request.
    #[error("unable to parse certificate request: {0}")]
    Request(String),
    /// Whoever made it did not hold its key.
    #[error("unable to verify certificate request signature: {0}")]
    Signature(String),
    /// A usage that no certificate has.
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    /// The authority's certificate is not usable.
    #[error("the authority's certificate is not usable: {0}")]
    Authority(String),
    /// The authority has come to its end.
    #[error("the signer has expired: NotAfter={0}")]
    Expired(OffsetDateTime),
    /// Its key did not sign.
    #[error("failed to sign certificate")]
    Key(#[from] rcgen::Error),
}

mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
}

/// Bits of key usages (RFC 5280, 4.2.1.3).
const KEY_USAGES: [(&str, u8); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Extended usages, in the order of Go's constants.
const EXTENDED_USAGES: [(&str, &[u8]); 13] = [
    ("any", &[0x55, 0x1d, 0x25, 0x00]),
    ("server auth", &[0x2b, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[0x2b, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[0x2b, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[0x2b, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[0x2b, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[0x2b, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[0x2b, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[0x2b, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[0x2b, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[0x2b, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3]),
    ("netscape sgc", &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1]),
];

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const ALT_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

impl Authority {
    /// Signs what a request asks for: its key, subject and alternative names, with these usages (in the words of the
    /// certificates API) and this lifetime, cut at the authority's end. Answers with PEM.
    ///
    /// # Errors
    /// When the request is not one, or the authority cannot sign.
    pub fn sign_request(
        &self,
        request: &[u8],
        usages: &[String],
        lifetime: std::time::Duration,
        now: std::time::SystemTime,
    ) -> Result<String, SignError> {
        let now = OffsetDateTime::from(now);
        let lifetime = Duration::try_from(lifetime).unwrap_or(Duration::MAX);
        let (_, parsed) =
            X509CertificationRequest::from_der(request).map_err(|error| SignError::Request(error.to_string()))?;
        parsed
            .verify_signature()
            .map_err(|error| SignError::Signature(error.to_string()))?;
        let own = pem_content(&self.cert_pem)?;
        let (_, own) = X509Certificate::from_der(&own).map_err(|error| SignError::Authority(error.to_string()))?;
        let end = own.validity().not_after.to_datetime();
        let start = now - BACKDATE;
        if now >= end {
            return Err(SignError::Expired(end));
        }
        let from = if lifetime < SHORT { now } else { start };
        let wanted = from.checked_add(lifetime).unwrap_or(end);
        let key = self.key();
        let algorithm = algorithm(key)?;
        let asked = &parsed.certification_request_info;
        let body = sequence(&[
            &element(0xa0, &[&element(tag::INTEGER, &[&[2]])]),
            &element(tag::INTEGER, &[&serial()]),
            algorithm,
            own.subject().as_raw(),
            &sequence(&[&time(start), &time(wanted.min(end))]),
            asked.subject.as_raw(),
            asked.subject_pki.raw,
            &element(0xa3, &[&extensions(&parsed, &own, usages)?]),
        ]);
        let signature = key.sign(&body)?;
        let certificate = sequence(&[&body, algorithm, &element(tag::BIT_STRING, &[&[0], &signature])]);
        Ok(to_pem(&certificate))
    }
}

fn pem_content(text: &str) -> Result<Vec<u8>, SignError> {
    let first = rustls_pemfile::certs(&mut text.as_bytes()).next();
    match first {
        Some(Ok(der)) => Ok(der.to_vec()),
        _ => Err(SignError::Authority("no certificate in its file".to_owned())),
    }
}

fn to_pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn extensions(
    request: &X509CertificationRequest<'_>,
    authority: &X509Certificate<'_>,
    usages: &[String],
) -> Result<Vec<u8>, SignError> {
    let known = |usage: &&String| {
        KEY_USAGES.iter().any(|(name, _)| name == usage) || EXTENDED_USAGES.iter().any(|(name, _)| name == usage)
    };
    let odd: Vec<String> = usages.iter().filter(|usage| !known(usage)).cloned().collect();
    if !odd.is_empty() {
        return Err(SignError::Usages(odd));
    }
    let asked = |name: &&str| usages.iter().any(|usage| usage == name);
    let mut all = Vec::new();
    let bits: Vec<u8> = KEY_USAGES
        .iter()
        .filter(|(name, _)| asked(name))
        .map(|(_, bit)| *bit)
        .collect();
    if !bits.is_empty() {
        all.push(extension(KEY_USAGE, true, &bit_string(&bits)));
    }
    let mut extended: Vec<&[u8]> = Vec::new();
    for (_, oid) in EXTENDED_USAGES.iter().filter(|(name, _)| asked(name)) {
        if extended.last() != Some(oid) {
            extended.push(oid);
        }
    }
    if !extended.is_empty() {
        let list: Vec<Vec<u8>> = extended.iter().map(|oid| element(tag::OID, &[oid])).collect();
        all.push(extension(EXTENDED_KEY_USAGE, false, &sequence_of(&list)));
    }
    all.push(extension(BASIC_CONSTRAINTS, true, &sequence(&[])));
    if let Some(id) = key_identifier(authority) {
        all.push(extension(AUTHORITY_KEY, false, &sequence(&[&element(0x80, &[&id])])));
    }
    let names = alt_names(request);
    if !names.is_empty() {
        // Whoever has no other name has to have these understood.
        let critical = request.certification_request_info.subject.iter().next().is_none();
        all.push(extension(ALT_NAMES, critical, &sequence_of(&names)));
    }
    Ok(sequence_of(&all))
}

fn key_identifier(authority: &X509Certificate<'_>) -> Option<Vec<u8>> {
    authority
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

/// Names of hosts, addresses of mail, addresses of machines, URIs: in this order, and no others.
fn alt_names(request: &X509CertificationRequest<'_>) -> Vec<Vec<u8>> {
    let mut sorted: [Vec<Vec<u8>>; 4] = Default::default();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            let (place, tag, content): (usize, u8, &[u8]) = match name {
                GeneralName::DNSName(name) => (0, 0x82, name.as_bytes()),
                GeneralName::RFC822Name(name) => (1, 0x81, name.as_bytes()),
                GeneralName::IPAddress(bytes) => (2, 0x87, bytes),
                GeneralName::URI(uri) => (3, 0x86, uri.as_bytes()),
                _ => continue,
            };
            sorted[place].push(element(tag, &[content]));
        }
    }
    sorted.concat()
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let (id, value) = (element(tag::OID, &[oid]), element(tag::OCTET_STRING, &[value]));
    if critical {
        sequence(&[&id, &element(tag::BOOLEAN, &[&[0xff]]), &value])
    } else {
        sequence(&[&id, &value])
    }
}

/// Named bits, without trailing zeros.
fn bit_string(bits: &[u8]) -> Vec<u8> {
    let last = bits.iter().copied().max().unwrap_or(0);
    let mut bytes = vec![0u8; usize::from(last / 8) + 1];
    for bit in bits {
        bytes[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    element(tag::BIT_STRING, &[&[7 - last % 8], &bytes])
}

/// A positive number of at most 16 bytes.
fn serial() -> Vec<u8> {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes.to_vec()
}

fn time(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if (1950..2050).contains(&at.year()) {
        element(tag::UTC_TIME, &[format!("{:02}{rest}", at.year() % 100).as_bytes()])
    } else {
        element(tag::GENERALIZED_TIME, &[format!("{:04}{rest}", at.year()).as_bytes()])
    }
}

/// The AlgorithmIdentifier of a key's signatures.
fn algorithm(key: &impl PublicKeyData) -> Result<&'static [u8], SignError> {
    let known: [(&rcgen::SignatureAlgorithm, &'static [u8]); 6] = [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
        ),
        (&rcgen::PKCS_ED25519, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70]),
        (
            &rcgen::PKCS_RSA_SHA256,
            &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0],
        ),
        (
            &rcgen::PKCS_RSA_SHA384,
            &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0],
        ),
        (
            &rcgen::PKCS_RSA_SHA512,
            &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0],
        ),
    ];
    let found = known.iter().find(|(algorithm, _)| *algorithm == key.algorithm());
    found
        .map(|(_, encoded)| *encoded)
        .ok_or_else(|| SignError::Authority("its key is of a kind that does not sign here".to_owned()))
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, parts)
}

fn sequence_of(parts: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    sequence(&parts)
}

/// A DER element.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - zeros) as u8);
        out.extend_from_slice(&bytes[zeros..]);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn authority() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), "ca", "kubernetes").unwrap();
        (dir, authority)
    }

    fn request() -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:n");
        params.subject_alt_names = vec![
            SanType::IpAddress([10, 0, 0, 1].into()),
            SanType::DnsName(Ia5String::try_from("n.example").unwrap()),
        ];
        params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .der()
            .to_vec()
    }

    fn signed(usages: &[&str], lifetime: Duration) -> (Authority, Vec<u8>, OffsetDateTime) {
        let (_dir, authority) = authority();
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let lifetime = lifetime.try_into().unwrap();
        let pem = authority
            .sign_request(&request(), &usages, lifetime, now.into())
            .unwrap();
        let der = pem_content(&pem).unwrap();
        (authority, der, now)
    }

    #[test]
    fn a_certificate_says_what_was_asked() {
        let (authority, der, now) = signed(
            &["digital signature", "decipher only", "server auth", "client auth"],
            Duration::days(365),
        );
        let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        let own = pem_content(&authority.cert_pem).unwrap();
        let (_, own) = X509Certificate::from_der(&own).unwrap();
        certificate.verify_signature(Some(own.public_key())).unwrap();
        assert_eq!(certificate.issuer().as_raw(), own.subject().as_raw());
        assert_eq!(certificate.subject().to_string(), "O=system:nodes, CN=system:node:n");
        let validity = certificate.validity();
        assert_eq!(validity.not_before.to_datetime(), now - BACKDATE);
        assert_eq!(validity.not_after.to_datetime(), now - BACKDATE + Duration::days(365));
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.digital_signature() && usage.value.decipher_only());
        assert!(!usage.value.key_encipherment());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth && !extended.any);
        assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        let expected = [
            GeneralName::DNSName("n.example"),
            GeneralName::IPAddress(&[10, 0, 0, 1]),
        ];
        assert_eq!(names.general_names, expected);
        assert!(certificate.serial.bits() <= 127);
    }

    #[test]
    fn short_lives_are_given_whole_and_none_outlives_the_authority() {
        let (_, der, now) = signed(&["client auth"], Duration::minutes(10));
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(
            certificate.validity().not_after.to_datetime(),
            now + Duration::minutes(10)
        );
        let (authority, der, _) = signed(&["client auth"], Duration::days(100_000));
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let own = pem_content(&authority.cert_pem).unwrap();
        let (_, own) = X509Certificate::from_der(&own).unwrap();
        assert_eq!(certificate.validity().not_after, own.validity().not_after);
    }

    #[test]
    fn what_cannot_be_signed_is_refused() {
        let (_dir, authority) = authority();
        let now = OffsetDateTime::now_utc();
        let sign = |request: &[u8], usage: &str, now: OffsetDateTime| {
            let day = std::time::Duration::from_secs(24 * 3600);
            authority.sign_request(request, &[usage.to_owned()], day, now.into())
        };
        assert!(matches!(sign(b"x", "any", now), Err(SignError::Request(_))));
        assert!(matches!(sign(&request(), "odd", now), Err(SignError::Usages(odd)) if odd == ["odd"]));
        assert!(matches!(
            sign(&request(), "any", now + Duration::days(4000)),
            Err(SignError::Expired(_))
        ));
        let mut forged = request();
        let at = forged.windows(6).position(|window| window == b"node:n").unwrap();
        forged[at + 5] = b'm';
        assert!(matches!(sign(&forged, "any", now), Err(SignError::Signature(_))));
    }

    #[test]
    fn lengths_are_short_or_long() {
        assert_eq!(element(4, &[&[1, 2]]), [4, 2, 1, 2]);
        assert_eq!(element(4, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
        assert_eq!(bit_string(&[0, 2]), [3, 2, 5, 0xa0]);
    }
}
