//! `certificatesigningrequests`, with `approval` and `status`.

use api::field::{Error, Path};
use api::{Value, time};
use apiserver::Kind;
use apiserver::kind::{Column, Context, NameRule, Part, SelectableField, Subresource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{GROUP, pem, request};
use crate::{cells, parts, references, tree};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Condition types that are only ever true.
const VERDICTS: [&str; 3] = ["Approved", "Denied", "Failed"];
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Which part of the object an update may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    Main,
    Status,
    Approval,
}

pub(crate) fn kind() -> Kind {
    let mut kind = Kind::cluster(GROUP, "v1", "CertificateSigningRequest", "certificatesigningrequests")
        .short_names(&["csr"])
        .name_rule(NameRule::Custom(|_| Vec::new()))
        .selectable(SelectableField::path("spec.signerName"))
        .prepare_create(prepare_create)
        .prepare_update(|_, new, old| tree::keep(new, old, "spec"))
        .validate(|new| whole(new, None))
        .validate_update(|new, old| change(new, old, Through::Main))
        .subresource(
            Subresource::part(
                "approval",
                Part {
                    resets: vec!["spec", "status.certificate"],
                    ..Part::default()
                },
            )
            .prepare(prepare_approval)
            .validate(|new, old| change(new, old, Through::Approval)),
        )
        .subresource(
            Subresource::part(
                "status",
                Part {
                    resets: vec!["spec", "status.conditions"],
                    ..Part::default()
                },
            )
            .prepare(prepare_status)
            .validate(|new, old| change(new, old, Through::Status)),
        )
        .table(
            vec![
                Column::name(),
                Column::age(),
                Column::string("SignerName", "The signer that is asked."),
                Column::string("Requestor", "Who asks."),
                Column::string("RequestedDuration", "How long the certificate is to live."),
                Column::string("Condition", "What became of it."),
            ],
            row,
        );
    kind.strategy.resets = vec!["spec"];
    kind
}

fn row(request: &Value, now: Timestamp) -> Vec<Value> {
    let seconds = tree::int(request, "spec.expirationSeconds");
    let duration = seconds.map(|seconds| time::human_duration(SignedDuration::from_secs(seconds)));
    vec![
        cells::name(request),
        cells::age(request, now),
        cells::or(tree::text(request, "spec.signerName"), "<none>"),
        tree::text(request, "spec.username").into(),
        duration.unwrap_or_else(|| "<none>".to_owned()).into(),
        state(request).into(),
    ]
}

fn state(request: &Value) -> String {
    let conditions = tree::list(request, "status.conditions");
    let has = |kind: &str| conditions.iter().any(|condition| tree::text(condition, "type") == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !tree::text(request, "status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

/// Who asks is who sent the request.
fn prepare_create(context: &Context<'_>, request: &mut Value) {
    let user = context.user;
    let spec = tree::child(request, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        tree::unset(spec, field);
    }
    if !user.name.is_empty() {
        tree::set(spec, "username", user.name.clone());
    }
    if !user.uid.is_empty() {
        tree::set(spec, "uid", user.uid.clone());
    }
    if !user.groups.is_empty() {
        tree::set(spec, "groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        tree::set(spec, "extra", json!(user.extra));
    }
}

fn prepare_approval(context: &Context<'_>, new: &mut Value, old: &Value) {
    stamp_conditions(context.now, new, old);
    let conditions = tree::at(new, "status.conditions").cloned();
    parts::keep_all_but_status(new, old);
    tree::keep(new, old, "status");
    let status = tree::child(new, "status");
    match conditions {
        Some(conditions) => tree::set(status, "conditions", conditions),
        None => tree::unset(status, "conditions"),
    }
}

fn prepare_status(context: &Context<'_>, new: &mut Value, old: &Value) {
    parts::keep_all_but_status(new, old);
    for kind in ["Approved", "Denied"] {
        let kept: Vec<Value> = conditions(old, kind).cloned().collect();
        if kept.len() == conditions(new, kind).count() {
            let mut kept = kept.into_iter();
            let list = tree::items_mut(new, "status.conditions");
            for slot in list.filter(|condition| tree::text(condition, "type") == kind) {
                *slot = kept.next().unwrap_or_default();
            }
        }
    }
    stamp_conditions(context.now, new, old);
}

fn conditions<'v>(request: &'v Value, kind: &str) -> impl Iterator<Item = &'v Value> {
    let list = tree::list(request, "status.conditions").iter();
    list.filter(move |condition| tree::text(condition, "type") == kind)
}

/// Gives conditions the times that they lack.
fn stamp_conditions(now: Timestamp, new: &mut Value, old: &Value) {
    let now = time::format(now);
    for condition in tree::items_mut(new, "status.conditions") {
        tree::fill(condition, "lastUpdateTime", now.clone());
        if !tree::is_unset(condition, "lastTransitionTime") {
            continue;
        }
        let same = |other: &&Value| {
            ["type", "status"]
                .iter()
                .all(|f| tree::text(other, f) == tree::text(condition, f))
                && !tree::text(other, "lastTransitionTime").is_empty()
        };
        let before = tree::list(old, "status.conditions").iter().find(same);
        let at = before.map_or(now.as_str(), |other| tree::text(other, "lastTransitionTime"));
        let at = at.to_owned();
        tree::set(condition, "lastTransitionTime", at);
    }
}

/// What is wrong with a request; what the stored one has wrong too is tolerated.
fn whole(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let encoded = tree::text(new, "spec.request");
    if let Err(detail) = signed_request(encoded) {
        errors.push(Error::invalid(&path.child("request"), encoded, detail));
    }
    errors.extend(usages(new, old, &path.child("usages")));
    let signer = tree::text(new, "spec.signerName");
    let had_legacy = old.is_some_and(|old| tree::text(old, "spec.signerName") == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !had_legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&path.child("signerName"), signer, detail));
    } else {
        errors.extend(references::signer_name(signer, &path.child("signerName")));
    }
    if let Some(seconds) = tree::int(new, "spec.expirationSeconds")
        && seconds < 600
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    errors.extend(condition_list(new, old));
    let certificate = tree::text(new, "status.certificate");
    let kept = old.is_some_and(|old| {
        let before = tree::text(old, "status.certificate");
        before == certificate || chain(before).is_err()
    });
    if !kept && let Err(detail) = chain(certificate) {
        let path = Path::new("status").child("certificate");
        errors.push(Error::invalid(&path, "<certificate data>", detail));
    }
    errors
}

fn signed_request(encoded: &str) -> Result<(), String> {
    const NO_BLOCK: &str = "PEM block type must be CERTIFICATE REQUEST";
    let text = STANDARD.decode(encoded).map_err(|_| NO_BLOCK.to_owned())?;
    let text = String::from_utf8_lossy(&text);
    match pem::blocks(&text).first() {
        Some(block) if block.label == "CERTIFICATE REQUEST" => request::verify(&block.content),
        _ => Err(NO_BLOCK.to_owned()),
    }
}

fn usages(new: &Value, old: Option<&Value>, path: &Path) -> Vec<Error> {
    let list = tree::strings(new, "spec.usages");
    let before = old.map(|old| tree::strings(old, "spec.usages")).unwrap_or_default();
    let mut errors = Vec::new();
    if list.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if before.iter().all(|usage| USAGES.contains(usage)) {
        for (index, usage) in list.iter().enumerate() {
            if !USAGES.contains(usage) {
                errors.push(Error::not_supported(&path.index(index), *usage, USAGES));
            }
        }
    }
    let repeats = |list: &[&str], index: usize| list[..index].contains(&list[index]);
    if !(0..before.len()).any(|index| repeats(&before, index)) {
        for index in (0..list.len()).filter(|index| repeats(&list, *index)) {
            errors.push(Error::duplicate(&path.index(index), list[index]));
        }
    }
    errors
}

fn condition_list(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let types = |request: &Value| -> Vec<String> {
        let list = tree::list(request, "status.conditions").iter();
        list.map(|condition| tree::text(condition, "type").to_owned()).collect()
    };
    let before = old.map(types).unwrap_or_default();
    let had = |kind: &str| before.iter().any(|other| other == kind);
    let had_both = had("Approved") && had("Denied");
    let had_repeats = (0..before.len()).any(|index| before[..index].contains(&before[index]));
    let path = Path::new("status").child("conditions");
    let now = types(new);
    let mut errors = Vec::new();
    for (index, condition) in tree::list(new, "status.conditions").iter().enumerate() {
        let (kind, item) = (tree::text(condition, "type"), path.index(index));
        if kind.is_empty() && !had("") {
            errors.push(Error::required(&item.child("type"), ""));
        }
        let allowed: &[&str] = if VERDICTS.contains(&kind) {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        let status = tree::text(condition, "status");
        if status.is_empty() {
            errors.push(Error::required(&item.child("status"), ""));
        } else if !allowed.contains(&status) {
            errors.push(Error::not_supported(&item.child("status"), status, allowed));
        }
        let seen = |other: &str| now[..index].iter().any(|kind| kind == other);
        let opposed = (kind == "Approved" && seen("Denied")) || (kind == "Denied" && seen("Approved"));
        if opposed && !had_both {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(&path, kind, detail));
        }
        if seen(kind) && !had_repeats {
            errors.push(Error::duplicate(&item.child("type"), kind));
        }
    }
    errors
}

/// Certificates and nothing else, at least one unless there is nothing.
fn chain(encoded: &str) -> Result<(), String> {
    if encoded.is_empty() {
        return Ok(());
    }
    let text = STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let blocks = pem::blocks(&text);
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            let label = api::field::go_quote(block.label);
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label}"));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        let mut rest: &[u8] = &block.content;
        if rest.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        while !rest.is_empty() {
            let parsed = X509Certificate::from_der(rest).map_err(|_| "x509: malformed certificate".to_owned());
            rest = parsed?.0;
        }
    }
    Ok(())
}

fn change(new: &Value, old: &Value, through: Through) -> Vec<Error> {
    let mut errors = whole(new, Some(old));
    let path = Path::new("status");
    let count = |request: &Value, kind: &str| conditions(request, kind).count();
    for kind in VERDICTS.iter().filter(|kind| count(new, kind) < count(old, kind)) {
        let detail = format!("updates may not remove a condition of type \"{kind}\"");
        errors.push(Error::forbidden(&path.child("conditions"), detail));
    }
    if through != Through::Approval {
        for kind in ["Approved", "Denied"] {
            let (after, before) = (count(new, kind), count(old, kind));
            let verb = if after > before {
                "add"
            } else if after == before && !conditions(new, kind).eq(conditions(old, kind)) {
                "modify"
            } else {
                continue;
            };
            let detail = format!("updates may not {verb} a condition of type \"{kind}\"");
            errors.push(Error::forbidden(&path.child("conditions"), detail));
        }
    }
    let (after, before) = (
        tree::text(new, "status.certificate"),
        tree::text(old, "status.certificate"),
    );
    if after != before {
        let path = path.child("certificate");
        if through != Through::Status {
            errors.push(Error::forbidden(&path, "updates may not set certificate content"));
        } else if !before.is_empty() {
            let detail = "updates may not modify existing certificate content";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn request() -> Value {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"metadata": {"name": "x"}, "spec": {"request": STANDARD.encode(pem), "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client"}})
    }

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_signed_request_is_accepted() {
        assert_eq!(whole(&request(), None), []);
        let mut forged = request();
        let text = String::from_utf8(STANDARD.decode(tree::text(&forged, "spec.request")).unwrap()).unwrap();
        let mut der = pem::blocks(&text).remove(0).content;
        // The name within is part of what is signed.
        let at = der.windows(4).position(|window| window == b"node").unwrap();
        der[at] = b'm';
        let text = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(der)
        );
        forged["spec"]["request"] = STANDARD.encode(text).into();
        let errors = whole(&forged, None);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].detail, "x509: ECDSA verification failure");
    }

    #[test]
    fn faults_have_their_paths() {
        let bad = json!({"spec": {"usages": ["odd", "odd"], "signerName": LEGACY_SIGNER, "expirationSeconds": 5},
            "status": {"certificate": STANDARD.encode("x"), "conditions": [
                {"type": "Approved", "status": "False"}, {"type": "Denied", "status": "True"}, {"type": ""}]}});
        assert_eq!(
            fields(whole(&bad, None)),
            [
                "spec.request",
                "spec.usages[0]",
                "spec.usages[1]",
                "spec.usages[1]",
                "spec.signerName",
                "spec.expirationSeconds",
                "status.conditions[0].status",
                "status.conditions",
                "status.conditions[2].type",
                "status.conditions[2].status",
                "status.certificate",
            ]
        );
    }

    #[test]
    fn each_part_changes_its_own() {
        let old = request();
        let mut approved = old.clone();
        approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
        assert_eq!(fields(change(&approved, &old, Through::Approval)), Vec::<String>::new());
        assert_eq!(fields(change(&approved, &old, Through::Status)), ["status.conditions"]);
        assert_eq!(
            fields(change(&old, &approved, Through::Approval)),
            ["status.conditions"]
        );
        let signed = {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
            STANDARD.encode(params.self_signed(&key).unwrap().pem())
        };
        let mut issued = approved.clone();
        issued["status"]["certificate"] = signed.into();
        assert_eq!(
            fields(change(&issued, &approved, Through::Status)),
            Vec::<String>::new()
        );
        assert_eq!(
            fields(change(&issued, &approved, Through::Main)),
            ["status.certificate"]
        );
        assert_eq!(
            fields(change(&approved, &issued, Through::Status)),
            ["status.certificate"]
        );
        assert_eq!(state(&issued), "Approved,Issued");
    }
}
