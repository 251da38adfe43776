//! What a request asks for, and what node agents may ask for (upstream `pkg/apis/certificates/helpers.go`).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use crate::Untyped;

/// A PKCS#10 request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request {
    pub der: Vec<u8>,
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: usize,
    pub email_addresses: usize,
    pub ip_addresses: usize,
    pub uris: usize,
}

impl Request {
    /// The request in a certificate signing request; none if it is not one.
    pub fn of(object: &Untyped) -> Option<Request> {
        let text = STANDARD.decode(object.text("spec.request")).ok()?;
        let block = pem::parse(text)
            .ok()
            .filter(|block| block.tag() == "CERTIFICATE REQUEST")?;
        let der = block.into_contents();
        let (_, parsed) = X509CertificationRequest::from_der(&der).ok()?;
        let subject = &parsed.certification_request_info.subject;
        let text = |value: &AttributeTypeAndValue<'_>| value.as_str().unwrap_or("").to_owned();
        let mut request = Request {
            common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..Request::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => request.dns_names += 1,
                    GeneralName::RFC822Name(_) => request.email_addresses += 1,
                    GeneralName::IPAddress(_) => request.ip_addresses += 1,
                    GeneralName::URI(_) => request.uris += 1,
                    _ => {}
                }
            }
        }
        request.der = der;
        Some(request)
    }

    /// Whether it is for the client certificate of a node agent.
    ///
    /// # Errors
    /// Why not.
    pub fn for_kubelet_client(&self, usages: &[&str]) -> Result<(), String> {
        self.for_nodes()?;
        for (count, what) in [
            (self.dns_names, "DNS"),
            (self.email_addresses, "Email"),
            (self.ip_addresses, "IP"),
            (self.uris, "URI"),
        ] {
            refuse_names(count, what)?;
        }
        self.names_node()?;
        usages_match(usages, &["client auth", "digital signature", "key encipherment"])
    }

    /// Whether it is for the serving certificate of a node agent.
    ///
    /// # Errors
    /// Why not.
    pub fn for_kubelet_serving(&self, usages: &[&str]) -> Result<(), String> {
        self.for_nodes()?;
        if self.dns_names == 0 && self.ip_addresses == 0 {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        refuse_names(self.email_addresses, "Email")?;
        refuse_names(self.uris, "URI")?;
        usages_match(usages, &["digital signature", "key encipherment", "server auth"])?;
        self.names_node()
    }

    fn for_nodes(&self) -> Result<(), String> {
        if self.organizations == ["system:nodes"] {
            return Ok(());
        }
        Err("subject organization is not system:nodes".to_owned())
    }

    fn names_node(&self) -> Result<(), String> {
        if self.common_name.starts_with("system:node:") {
            return Ok(());
        }
        Err("subject common name does not begin with system:node:".to_owned())
    }
}

fn refuse_names(count: usize, what: &str) -> Result<(), String> {
    if count == 0 {
        return Ok(());
    }
    Err(format!("{what} subjectAltNames are not allowed"))
}

/// Keys that are not of RSA do not encipher.
fn usages_match(usages: &[&str], required: &[&str]) -> Result<(), String> {
    let asked: BTreeSet<&str> = usages.iter().copied().collect();
    let all: BTreeSet<&str> = required.iter().copied().collect();
    let mut without = all.clone();
    without.remove("key encipherment");
    if asked == all || asked == without {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", required.join(" ")))
}

/// Whether these are for a client of the API server.
///
/// # Errors
/// Why not.
pub(super) fn for_client(usages: &[&str]) -> Result<(), String> {
    const NEEDED: &str = "client auth";
    let optional = ["digital signature", "key encipherment"];
    if let Some(odd) = usages
        .iter()
        .find(|usage| **usage != NEEDED && !optional.contains(usage))
    {
        return Err(format!("invalid usage for client certificate: {odd}"));
    }
    if usages.contains(&NEEDED) {
        return Ok(());
    }
    Err(format!("missing required usage for client certificate: {NEEDED}"))
}
