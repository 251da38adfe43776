//! `podcertificaterequests`.
//!
//! Whether `status.notBefore` is near the present is not checked: validation does not know the time.

use api::field::{Error, Path};
use api::{Value, time, validate};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField, Subresource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{GROUP, pem, request};
use crate::{cells, checks, parts, references, tree};

const MIN_SECONDS: i64 = 3600;
const MAX_SECONDS: i64 = 91 * 24 * 3600;
/// Of signers of the Kubernetes project.
const MAX_KUBERNETES_SECONDS: i64 = 24 * 3600;
const MAX_REQUEST_BYTES: usize = 10 * 1024;
const MAX_CHAIN_BYTES: usize = 100 * 1024;
const MAX_UID_BYTES: usize = 128;
const VERDICTS: &[&str] = &["Denied", "Failed", "Issued"];
const REFRESH_MARGIN: SignedDuration = SignedDuration::from_mins(10);

pub(crate) fn kind() -> Kind {
    Kind::namespaced(GROUP, "v1", "PodCertificateRequest", "podcertificaterequests")
        .forbid_unconditional_update()
        .selectable(SelectableField::path("spec.nodeName"))
        .selectable(SelectableField::path("spec.signerName"))
        .validate(request)
        .validate_update(|new, old| checks::immutable(new, old, "spec", &Path::new("spec")))
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| parts::status_only(new, old))
                .validate(status),
        )
        .table(
            vec![
                Column::name(),
                Column::string("PodName", "The pod it is for."),
                Column::string("ServiceAccountName", "The account of the pod."),
                Column::string("NodeName", "The node of the pod."),
                Column::string("SignerName", "The signer that is asked."),
                Column::string("State", "What became of it."),
                Column::age(),
            ],
            |request, now| {
                let mut conditions = tree::list(request, "status.conditions").iter();
                let state = conditions.find_map(|condition| {
                    let kind = tree::text(condition, "type");
                    VERDICTS.iter().find(|known| **known == kind)
                });
                vec![
                    cells::name(request),
                    tree::text(request, "spec.podName").into(),
                    tree::text(request, "spec.serviceAccountName").into(),
                    tree::text(request, "spec.nodeName").into(),
                    tree::text(request, "spec.signerName").into(),
                    state.copied().unwrap_or("Pending").into(),
                    cells::age(request, now),
                ]
            },
        )
}

fn request(request: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let signer = tree::text(request, "spec.signerName");
    let mut errors = references::signer_name(signer, &path.child("signerName"));
    let annotations = tree::at(request, "spec.unverifiedUserAnnotations");
    errors.extend(user_annotations(annotations, &path.child("unverifiedUserAnnotations")));
    for (name, uid) in [
        ("podName", "podUID"),
        ("serviceAccountName", "serviceAccountUID"),
        ("nodeName", "nodeUID"),
    ] {
        let value = tree::text(request, &format!("spec.{name}"));
        errors.extend(checks::dns_subdomain(value, &path.child(name)));
        let (value, path) = (tree::text(request, &format!("spec.{uid}")), path.child(uid));
        if value.is_empty() {
            errors.push(Error::invalid(&path, value, "must not be empty"));
        }
        if value.len() > MAX_UID_BYTES {
            errors.push(Error::too_long(&path, MAX_UID_BYTES));
        }
    }
    let seconds_path = path.child("maxExpirationSeconds");
    let Some(seconds) = tree::int(request, "spec.maxExpirationSeconds") else {
        errors.push(Error::required(&seconds_path, "must be set"));
        return errors;
    };
    let of_kubernetes = signer.split('/').next() == Some("kubernetes.io");
    let most = if of_kubernetes {
        MAX_KUBERNETES_SECONDS
    } else {
        MAX_SECONDS
    };
    if !(MIN_SECONDS..=most).contains(&seconds) {
        let detail = format!("must be in the range [{MIN_SECONDS}, {most}]");
        errors.push(Error::invalid(&seconds_path, seconds, detail));
    }
    errors.extend(stub(request, &path.child("stubPKCS10Request")));
    errors
}

/// As annotations, but every key has a domain.
fn user_annotations(annotations: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = validate::annotations(annotations, path);
    let keys = annotations.and_then(Value::as_object).into_iter().flatten();
    for (key, _) in keys.filter(|(key, _)| !key.contains('/')) {
        let detail = "user annotation keys must be domain-prefixed";
        errors.push(Error::invalid(path, key.as_str(), detail));
    }
    errors
}

fn stub(request: &Value, path: &Path) -> Vec<Error> {
    let encoded = tree::text(request, "spec.stubPKCS10Request");
    let der = STANDARD.decode(encoded).unwrap_or_default();
    if der.is_empty() {
        return vec![Error::required(path, "")];
    }
    if der.len() > MAX_REQUEST_BYTES {
        return vec![Error::too_long(path, MAX_REQUEST_BYTES)];
    }
    match request::verify(&der) {
        Ok(()) => Vec::new(),
        Err(detail) => vec![Error::invalid(path, encoded, detail)],
    }
}

fn has(object: &Value, kind: &str) -> bool {
    let mut list = tree::list(object, "status.conditions").iter();
    list.any(|condition| tree::text(condition, "type") == kind && tree::text(condition, "status") == "True")
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let conditions = tree::list(new, "status.conditions");
    let mut errors = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let (kind, path) = (tree::text(condition, "type"), path.child("conditions").index(index));
        if !VERDICTS.contains(&kind) {
            let known = &["Issued", "Denied", "Failed"];
            errors.push(Error::not_supported(&path.child("type"), kind, known));
            continue;
        }
        if index > 0
            && conditions[..index]
                .iter()
                .any(|c| VERDICTS.contains(&tree::text(c, "type")))
        {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(Error::invalid(&path.child("type"), kind, detail));
        }
        let status = tree::text(condition, "status");
        if status != "True" {
            errors.push(Error::not_supported(&path.child("status"), status, &["True"]));
        }
    }
    errors.extend(validate::conditions(conditions, &path.child("conditions")));
    if !errors.is_empty() {
        return errors;
    }
    let (after, before) = (tree::at(new, "status"), tree::at(old, "status"));
    let refuse = |detail: &str| vec![Error::invalid(&path, Value::Null, detail)];
    let is_same = |wanted: &Value| {
        let empty = json!({});
        tree::same(Some(after.unwrap_or(&empty)), Some(wanted))
    };
    if VERDICTS.iter().any(|kind| has(old, kind)) {
        let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
        return if is_same(before.unwrap_or(&json!({}))) {
            Vec::new()
        } else {
            refuse(detail)
        };
    }
    if has(new, "Denied") || has(new, "Failed") {
        let detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
        return if is_same(&json!({"conditions": conditions})) {
            Vec::new()
        } else {
            refuse(detail)
        };
    }
    if has(new, "Issued") {
        return issued(new, old, &path).err().unwrap_or_default();
    }
    let detail = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
    if is_same(before.unwrap_or(&json!({}))) {
        Vec::new()
    } else {
        refuse(detail)
    }
}

/// Upstream stops at the first fault here.
fn issued(new: &Value, old: &Value, path: &Path) -> Result<(), Vec<Error>> {
    let chain_path = path.child("certificateChain");
    let chain = tree::text(new, "status.certificateChain");
    let refuse = |detail: &str| Err(vec![Error::invalid(&chain_path, chain, detail)]);
    if chain.len() > MAX_CHAIN_BYTES {
        return Err(vec![Error::too_long(&chain_path, MAX_CHAIN_BYTES)]);
    }
    let blocks = pem::blocks(chain);
    let Some(leaf) = blocks.first() else {
        return refuse("issued certificate chain must contain at least one certificate");
    };
    if leaf.label != "CERTIFICATE" {
        return refuse("issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    }
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf.content) else {
        return refuse("leaf certificate does not parse as valid X.509");
    };
    let asked = STANDARD
        .decode(tree::text(old, "spec.stubPKCS10Request"))
        .unwrap_or_default();
    let matches = X509CertificationRequest::from_der(&asked)
        .is_ok_and(|(_, asked)| asked.certification_request_info.subject_pki.raw == leaf.public_key().raw);
    if !matches {
        return refuse("leaf certificate was not issued to the requested public key");
    }
    times(new, &leaf, path)?;
    for block in &blocks[1..] {
        if block.label != "CERTIFICATE" {
            return refuse("issued certificate chain must consist entirely of CERTFICATE PEM blocks");
        }
        if X509Certificate::from_der(&block.content).is_err() {
            return refuse("intermediate certificate does not parse as valid X.509");
        }
    }
    Ok(())
}

fn times(new: &Value, leaf: &X509Certificate<'_>, path: &Path) -> Result<(), Vec<Error>> {
    let moment = |field: &str| time::parse(tree::text(new, &format!("status.{field}"))).ok();
    let needed = [
        (
            "notBefore",
            "must be present and consistent with the issued certificate",
        ),
        ("notAfter", "must be present and consistent with the issued certificate"),
        (
            "beginRefreshAt",
            "must be present and in the range [notbefore+10min, notafter-10min]",
        ),
    ];
    let missing: Vec<Error> = needed
        .iter()
        .filter(|(field, _)| moment(field).is_none())
        .map(|(field, detail)| Error::required(&path.child(field), *detail))
        .collect();
    let (Some(start), Some(end), Some(refresh)) = (moment("notBefore"), moment("notAfter"), moment("beginRefreshAt"))
    else {
        return Err(missing);
    };
    let refuse = |field: &str, detail: String| {
        let shown = tree::text(new, &format!("status.{field}"));
        Err(vec![Error::invalid(&path.child(field), shown, detail)])
    };
    let validity = leaf.validity();
    let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
    if start != at(validity.not_before.timestamp()) {
        let detail = "must be set to the NotBefore time encoded in the leaf certificate";
        return refuse("notBefore", detail.to_owned());
    }
    if end != at(validity.not_after.timestamp()) {
        let detail = "must be set to the NotAfter time encoded in the leaf certificate";
        return refuse("notAfter", detail.to_owned());
    }
    let lifetime = end.duration_since(start);
    let chain_path = path.child("certificateChain");
    if lifetime < SignedDuration::from_hours(1) {
        let detail = "leaf certificate lifetime must be >= 1 hour";
        return Err(vec![Error::invalid(&chain_path, time::go_duration(lifetime), detail)]);
    }
    let most = tree::count(new, "spec.maxExpirationSeconds");
    if lifetime.as_secs() > most {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
        return Err(vec![Error::invalid(&chain_path, time::go_duration(lifetime), detail)]);
    }
    if refresh < start + REFRESH_MARGIN {
        return refuse(
            "beginRefreshAt",
            "must be at least 10 minutes after status.notBefore".to_owned(),
        );
    }
    if refresh > end - REFRESH_MARGIN {
        return refuse(
            "beginRefreshAt",
            "must be at least 10 minutes before status.notAfter".to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn object(key: &KeyPair) -> Value {
        let params = CertificateParams::new(Vec::<String>::new()).unwrap();
        let asked = params.serialize_request(key).unwrap();
        json!({"spec": {"signerName": "example.com/x", "podName": "p", "podUID": "1", "serviceAccountName": "s",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "maxExpirationSeconds": 86400,
            "stubPKCS10Request": STANDARD.encode(asked.der())}})
    }

    fn condition(kind: &str) -> Value {
        json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn requests_are_signed_and_bounded() {
        let good = object(&KeyPair::generate().unwrap());
        assert_eq!(request(&good), []);
        let mut bad = good.clone();
        bad["spec"]["maxExpirationSeconds"] = 60.into();
        bad["spec"]["podUID"] = "".into();
        bad["spec"]["stubPKCS10Request"] = "AAAA".into();
        bad["spec"]["unverifiedUserAnnotations"] = json!({"plain": "x"});
        let fields: Vec<String> = request(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.unverifiedUserAnnotations",
                "spec.podUID",
                "spec.maxExpirationSeconds",
                "spec.stubPKCS10Request"
            ]
        );
    }

    #[test]
    fn verdicts_are_final() {
        let key = KeyPair::generate().unwrap();
        let old = object(&key);
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 2);
        let mut new = old.clone();
        new["status"] = json!({"conditions": [condition("Issued")],
            "certificateChain": params.self_signed(&key).unwrap().pem(),
            "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-01-02T00:00:00Z",
            "beginRefreshAt": "2026-01-01T16:00:00Z"});
        assert_eq!(status(&new, &old), []);
        let mut other = new.clone();
        other["status"]["beginRefreshAt"] = "2026-01-01T00:05:00Z".into();
        assert_eq!(status(&other, &old)[0].field, "status.beginRefreshAt");
        assert_eq!(status(&other, &new)[0].field, "status");
        let mut stolen = new.clone();
        stolen["status"]["certificateChain"] = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem().into();
        assert_eq!(
            status(&stolen, &old)[0].detail,
            "leaf certificate was not issued to the requested public key"
        );
        let mut denied = old.clone();
        denied["status"] = json!({"conditions": [condition("Denied")], "certificateChain": "x"});
        assert_eq!(status(&denied, &old)[0].field, "status");
        denied["status"] = json!({"conditions": [condition("Denied"), condition("Failed")]});
        assert_eq!(status(&denied, &old)[0].field, "status.conditions[1].type");
    }
}
