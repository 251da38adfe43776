//! Files that volumes make out of API objects: items of ConfigMaps and Secrets, fields of the pod,
//! tokens, certificates and trust bundles.

use api::field::{Error, Path, go_quote};
use api::{Value, validate};

use super::env::{self, ContainerName, FILE_FIELDS};
use super::volumes::{mode, unreserved_path};
use crate::{checks, tree};

const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const MIN_CERTIFICATE_SECONDS: i64 = 3600;
const MAX_CERTIFICATE_SECONDS: i64 = 91 * 86_400;
const MAX_KUBERNETES_CERTIFICATE_SECONDS: i64 = 86_400;

/// One of `items` of a ConfigMap or Secret in a volume.
pub(super) fn key_path(item: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in ["key", "path"] {
        if tree::text(item, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    errors.extend(unreserved_path(tree::text(item, "path"), &path.child("path")));
    errors.extend(mode(item, "mode", path));
    errors
}

/// One of `items` of the downward API; upstream reports it at the volume.
pub(super) fn downward_file(file: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = tree::text(file, "path");
    if name.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(unreserved_path(name, &path.child("path")));
    let (field, resource) = (tree::at(file, "fieldRef"), tree::at(file, "resourceFieldRef"));
    match (field, resource) {
        (Some(field), resource) => {
            errors.extend(env::field_reference(field, FILE_FIELDS, &path.child("fieldRef")));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            let path = path.child("resourceFieldRef");
            errors.extend(env::resource_reference(resource, ContainerName::Required, &path));
        }
        (None, None) => {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(Error::required(path, detail));
        }
    }
    errors.extend(mode(file, "mode", path));
    errors
}

/// The files of a projected volume so far, none twice.
struct Files<'p> {
    volume: &'p Path,
    seen: Vec<String>,
}

impl Files<'_> {
    /// The error of a file that is there already; `shown` is what upstream prints.
    fn add(&mut self, file: &str, shown: &str) -> Option<Error> {
        if self.seen.iter().any(|other| other == file) {
            return Some(Error::invalid(self.volume, shown, "conflicting duplicate paths"));
        }
        self.seen.push(file.to_owned());
        None
    }

    fn add_named(&mut self, file: &str, shown: &str) -> Option<Error> {
        if file.is_empty() { None } else { self.add(file, shown) }
    }
}

/// A projected volume.
pub(super) fn projected(source: &Value, path: &Path) -> Vec<Error> {
    let mut errors = mode(source, "defaultMode", path);
    let mut files = Files {
        volume: path,
        seen: Vec::new(),
    };
    for (index, source) in tree::list(source, "sources").iter().enumerate() {
        let item = path.child("sources").index(index);
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let Some(part) = tree::at(source, kind) else { continue };
            kinds += 1;
            let (name, path) = (tree::text(part, "name"), item.child(kind));
            if name.is_empty() {
                errors.push(Error::required(&path.child("name"), ""));
            }
            for (index, entry) in tree::list(part, "items").iter().enumerate() {
                errors.extend(key_path(entry, &path.child("items").index(index)));
                errors.extend(files.add_named(tree::text(entry, "path"), name));
            }
        }
        if let Some(part) = tree::at(source, "downwardAPI") {
            kinds += 1;
            for file in tree::list(part, "items") {
                errors.extend(downward_file(file, &item.child("downwardAPI")));
                let name = tree::text(file, "path");
                errors.extend(files.add_named(name, name));
            }
        }
        if let Some(part) = tree::at(source, "serviceAccountToken") {
            kinds += 1;
            errors.extend(token(part, path, &item.child("serviceAccountToken")));
        }
        if let Some(part) = tree::at(source, "clusterTrustBundle") {
            kinds += 1;
            // Upstream names the path otherwise than the field.
            errors.extend(trust_bundle(part, &mut files, &item.child("clusterTrustBundlePEM")));
        }
        if let Some(part) = tree::at(source, "podCertificate") {
            kinds += 1;
            errors.extend(certificate(part, &mut files, &item.child("podCertificate")));
        }
        if kinds > 1 {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(Error::forbidden(&item, detail));
        }
    }
    errors
}

/// Upstream reports the file at the volume.
fn token(token: &Value, volume: &Path, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let seconds = tree::count(token, "expirationSeconds");
    let seconds_path = path.child("expirationSeconds");
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(Error::invalid(&seconds_path, seconds, detail));
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(Error::invalid(&seconds_path, seconds, detail));
    }
    match tree::text(token, "path") {
        "" => errors.push(Error::required(&volume.child("path"), "")),
        file => errors.extend(unreserved_path(file, &volume.child("path"))),
    }
    errors
}

fn trust_bundle(bundle: &Value, files: &mut Files<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (name, signer) = (tree::text_opt(bundle, "name"), tree::text_opt(bundle, "signerName"));
    let selector = tree::at(bundle, "labelSelector");
    match (name, signer) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(Error::invalid(path, bundle.clone(), detail));
        }
        (Some(name), None) => {
            let name_path = path.child("name");
            if name.is_empty() {
                errors.push(Error::required(&name_path, "must be a valid object name"));
            }
            for message in bundle_name(name) {
                let detail = format!("not a valid clustertrustbundlename: {message}");
                errors.push(Error::invalid(&name_path, name, detail));
            }
            if let Some(selector) = selector {
                let detail = "labelSelector must be unset if name is specified";
                errors.push(Error::invalid(&path.child("labelSelector"), selector.clone(), detail));
            }
        }
        (None, Some(signer)) => {
            let signer_path = path.child("signerName");
            if signer.is_empty() {
                errors.push(Error::required(&signer_path, "must be a valid signer name"));
            }
            errors.extend(signer_name(signer, &signer_path));
            if let Some(selector) = selector {
                errors.extend(validate::label_selector(selector, &path.child("labelSelector")));
            }
        }
        (None, None) => {
            let detail = "either name or signerName must be specified";
            errors.push(Error::required(path, detail));
        }
    }
    let file = tree::text(bundle, "path");
    if file.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(unreserved_path(file, &path.child("path")));
    errors.extend(files.add(file, file));
    errors
}

fn bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((_, rest)) => validate::dns1123_subdomain(rest),
        None => validate::dns1123_subdomain(name),
    }
}

fn certificate(certificate: &Value, files: &mut Files<'_>, path: &Path) -> Vec<Error> {
    let signer = tree::text(certificate, "signerName");
    let mut errors = signer_name(signer, &path.child("signerName"));
    errors.extend(validate::annotations(
        certificate.get("userAnnotations"),
        &path.child("userAnnotations"),
    ));
    let key_type = Some(tree::text(certificate, "keyType"));
    errors.extend(checks::optional_one_of(key_type, KEY_TYPES, &path.child("keyType")));
    if let Some(seconds) = tree::int(certificate, "maxExpirationSeconds") {
        let path = path.child("maxExpirationSeconds");
        if seconds < MIN_CERTIFICATE_SECONDS {
            let detail = format!("if provided, maxExpirationSeconds must be >= {MIN_CERTIFICATE_SECONDS}");
            errors.push(Error::invalid(&path, seconds, detail));
        }
        let own = signer
            .split_once('/')
            .is_some_and(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
        let max = if own {
            MAX_KUBERNETES_CERTIFICATE_SECONDS
        } else {
            MAX_CERTIFICATE_SECONDS
        };
        if seconds > max {
            let detail = format!("if provided, maxExpirationSeconds must be <= {max}");
            errors.push(Error::invalid(&path, seconds, detail));
        }
    }
    let mut paths = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = tree::text(certificate, field);
        if !file.is_empty() {
            paths += 1;
            errors.extend(unreserved_path(file, &path.child(field)));
            errors.extend(files.add(file, file));
        }
    }
    if paths == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(Error::required(path, detail));
    }
    errors
}

/// The name of a signer, `example.com/name` (`ValidateSignerName`).
pub fn signer_name(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, rest] = segments[..] else {
        let detail = "must be a fully qualified domain and path of the form \"example.com/signer-name\"";
        return vec![Error::invalid(path, name, detail)];
    };
    let mut errors = Vec::new();
    if domain.len() > 253 {
        errors.push(Error::too_long(path, 253));
    }
    let first_bad = |text: &str, check: fn(&str) -> Vec<String>| {
        let mut labels = text.split('.').map(|label| (label, check(label)));
        labels
            .find(|(_, messages)| !messages.is_empty())
            .map(|(label, messages)| {
                let details = messages.into_iter();
                details
                    .map(|text| format!("validating label {}: {text}", go_quote(label)))
                    .collect::<Vec<_>>()
            })
    };
    let bad = first_bad(domain, validate::dns1123_label).unwrap_or_default();
    errors.extend(checks::invalid_each(path, domain, bad));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, detail));
    }
    let bad = first_bad(rest, validate::dns1123_subdomain).unwrap_or_default();
    errors.extend(checks::invalid_each(path, rest, bad));
    if name.len() > 571 {
        errors.push(Error::too_long(path, 571));
    }
    errors
}
