//! Who may approve, sign and attest for which signer, and what nobody may ask for
//! (`plugin/pkg/admission/certificates/{approval,signing,subjectrestriction,ctbattest}`).

use api::{Status, Value};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Attributes, Operation, Plugin, Step};
use crate::authz;
use crate::kind::value_at;
use crate::state::State;
use crate::user::SYSTEM_MASTERS;

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct Approval;
pub(super) struct Signing;
pub(super) struct SubjectRestriction;
pub(super) struct TrustBundleAttest;

fn signer(object: &Value) -> &str {
    value_at(object, "spec.signerName")
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn is_request(attributes: &Attributes<'_>, subresource: &str) -> bool {
    let kind = &attributes.resource.kind;
    kind.gvk.group == GROUP && kind.plural == "certificatesigningrequests" && attributes.subresource == subresource
}

/// Whether the user holds the verb for that signer, or for all of its domain.
async fn may(state: &State, attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or("");
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let wanted = authz::Attributes {
            user: attributes.call.user.clone(),
            verb: verb.to_owned(),
            is_resource: true,
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..authz::Attributes::default()
        };
        if authz::authorize(state, &wanted).await.is_allowed() {
            return true;
        }
    }
    false
}

fn refuse(attributes: &Attributes<'_>, what: &str, signer: &str) -> Status {
    attributes.forbid(format!(
        "user not permitted to {what} signerName {}",
        api::field::go_quote(signer)
    ))
}

#[async_trait]
impl Plugin for Approval {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Validate && (group, plural) == (GROUP, "certificatesigningrequests")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
        _object: Option<&Value>,
    ) -> Result<(), Status> {
        // The signer of the old version: nobody gets around this by changing it.
        let Some(old) = attributes.old.filter(|_| is_request(attributes, "approval")) else {
            return Ok(());
        };
        if may(state, attributes, "approve", signer(old)).await {
            return Ok(());
        }
        Err(refuse(attributes, "approve requests with", signer(old)))
    }
}

#[async_trait]
impl Plugin for Signing {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Validate && (group, plural) == (GROUP, "certificatesigningrequests")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, new: Option<&Value>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (new, attributes.old.filter(|_| is_request(attributes, "status"))) else {
            return Ok(());
        };
        let same = |path: &str| value_at(new, path) == value_at(old, path);
        if (same("status.certificate") && same("status.conditions"))
            || may(state, attributes, "sign", signer(old)).await
        {
            return Ok(());
        }
        Err(refuse(attributes, "sign requests with", signer(old)))
    }
}

/// The names in the subject of a certificate signing request: (organizations, common names).
///
/// # Errors
/// Why it is none.
pub(super) fn subject(request: &Value) -> Result<(Vec<String>, Vec<String>), String> {
    let encoded = value_at(request, "spec.request").and_then(Value::as_str).unwrap_or("");
    let pem = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let block = pem::parse(&pem)
        .ok()
        .filter(|block| block.tag() == "CERTIFICATE REQUEST")
        .ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, parsed) = X509CertificationRequest::from_der(block.contents()).map_err(|error| error.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    let texts = |names: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| {
        let texts = names.into_iter().filter_map(|name| name.as_str().ok());
        texts.map(str::to_owned).collect()
    };
    Ok((
        texts(subject.iter_organization().collect()),
        texts(subject.iter_common_name().collect()),
    ))
}

#[async_trait]
impl Plugin for SubjectRestriction {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Validate && (group, plural) == (GROUP, "certificatesigningrequests")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn validate(
        &self,
        _state: &State,
        attributes: &Attributes<'_>,
        request: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(request) = request.filter(|request| is_request(attributes, "") && signer(request) == CLIENT_SIGNER)
        else {
            return Ok(());
        };
        let (groups, _) = subject(request).map_err(|why| attributes.forbid(format!("failed to parse CSR: {why}")))?;
        if groups.iter().any(|group| group == SYSTEM_MASTERS) {
            return Err(attributes.forbid(format!(
                "use of {CLIENT_SIGNER} signer with {SYSTEM_MASTERS} group is not allowed"
            )));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for TrustBundleAttest {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Validate && (group, plural) == (GROUP, "clustertrustbundles")
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, bundle: Option<&Value>) -> Result<(), Status> {
        let kind = &attributes.resource.kind;
        let concerns = kind.gvk.group == GROUP && kind.plural == "clustertrustbundles";
        let Some(bundle) = bundle.filter(|bundle| concerns && !signer(bundle).is_empty()) else {
            return Ok(());
        };
        if may(state, attributes, "attest", signer(bundle)).await {
            return Ok(());
        }
        Err(refuse(attributes, "attest for", signer(bundle)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_subject_of_a_request() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "system:node:n");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "system:nodes");
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = json!({"spec": {"request": STANDARD.encode(pem)}});
        assert_eq!(
            subject(&request),
            Ok((vec!["system:nodes".to_owned()], vec!["system:node:n".to_owned()]))
        );
        assert!(subject(&json!({"spec": {"request": "AAAA"}})).is_err());
        assert!(subject(&json!({})).is_err());
    }
}
