//! `clustertrustbundles`.

use std::collections::BTreeMap;

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, NameRule, SelectableField};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{GROUP, pem};
use crate::{cells, checks, references, tree};

const MAX_BUNDLE_BYTES: usize = 1024 * 1024;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "ClusterTrustBundle", "clustertrustbundles")
        .forbid_unconditional_update()
        // The rule depends on the signer: see `name`.
        .name_rule(NameRule::Custom(|_| Vec::new()))
        .selectable(SelectableField::path("spec.signerName"))
        .validate(|bundle| {
            let mut errors = basics(bundle);
            errors.extend(anchors(bundle));
            errors
        })
        .validate_update(|new, old| {
            let mut errors = basics(new);
            if tree::text(new, "spec.trustBundle") != tree::text(old, "spec.trustBundle") {
                errors.extend(anchors(new));
            }
            let path = Path::new("spec").child("signerName");
            errors.extend(checks::immutable(new, old, "spec.signerName", &path));
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("SignerName", "The signer whose anchors it holds."),
            ],
            |bundle, _| {
                let signer = tree::text(bundle, "spec.signerName");
                vec![cells::name(bundle), cells::or(signer, "<none>")]
            },
        )
}

fn basics(bundle: &Value) -> Vec<Error> {
    let signer = tree::text(bundle, "spec.signerName");
    let name = meta::name(bundle);
    let mut errors = Vec::new();
    if !name.is_empty() {
        errors = checks::invalid_each(&Path::new("metadata").child("name"), name, name_faults(name, signer));
    }
    if !signer.is_empty() {
        let path = Path::new("spec").child("signerName");
        errors.extend(references::signer_name(signer, &path));
    }
    errors
}

/// A bundle is named after its signer, if it has one.
fn name_faults(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return validate::dns1123_subdomain(name);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => validate::dns1123_subdomain(rest),
        None => vec![format!(
            "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
        )],
    }
}

fn anchors(bundle: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("trustBundle");
    let text = tree::text(bundle, "spec.trustBundle");
    if text.len() > MAX_BUNDLE_BYTES {
        return vec![Error::too_long(&path, MAX_BUNDLE_BYTES)];
    }
    let refuse = |detail: String| Error::invalid(&path, "<value omitted>", detail);
    let blocks = pem::blocks(text);
    let mut errors = Vec::new();
    let mut seen: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (index, block) in blocks.iter().enumerate() {
        if block.label != "CERTIFICATE" {
            errors.push(refuse(format!("entry {index} has bad block type: {}", block.label)));
            continue;
        }
        if block.has_headers {
            errors.push(refuse(format!("entry {index} has PEM block headers")));
            continue;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(&block.content) else {
            errors.push(refuse(format!("entry {index} does not parse as X.509")));
            continue;
        };
        if !certificate.is_ca() {
            errors.push(refuse(format!("entry {index} does not have the CA bit set")));
            continue;
        }
        seen.entry(&block.content).or_default().push(index);
    }
    if !errors.is_empty() {
        return errors;
    }
    if seen.is_empty() {
        errors.push(refuse("at least one trust anchor must be provided".to_owned()));
    }
    for indices in seen.values().filter(|indices| indices.len() > 1) {
        let list: Vec<String> = indices.iter().map(usize::to_string).collect();
        errors.push(refuse(format!("duplicate trust anchor (indices [{}])", list.join(" "))));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use serde_json::json;

    fn certificate(is_ca: IsCa) -> String {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn anchors_are_authorities_once() {
        let authority = certificate(IsCa::Ca(BasicConstraints::Unconstrained));
        let details = |text: &str| -> Vec<String> {
            let bundle = json!({"spec": {"trustBundle": text}});
            anchors(&bundle).into_iter().map(|error| error.detail).collect()
        };
        assert_eq!(details(&authority), Vec::<String>::new());
        assert_eq!(details(""), ["at least one trust anchor must be provided"]);
        assert_eq!(
            details(&authority.repeat(2)),
            ["duplicate trust anchor (indices [0 1])"]
        );
        assert_eq!(
            details(&certificate(IsCa::NoCa)),
            ["entry 0 does not have the CA bit set"]
        );
    }

    #[test]
    fn names_start_with_the_signer() {
        assert_eq!(name_faults("a", ""), Vec::<String>::new());
        assert_eq!(name_faults("example.com:x:v1", "example.com/x"), Vec::<String>::new());
        assert_eq!(name_faults("a:b", "").len(), 1);
        assert_eq!(name_faults("v1", "example.com/x").len(), 1);
    }
}
