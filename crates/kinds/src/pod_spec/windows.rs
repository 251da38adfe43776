//! Windows: options of security contexts, and host process pods.

use api::field::{Error, Path};
use api::{Value, validate};

use super::containers;
use crate::{checks, tree};

const MAX_SPEC_KIB: usize = 64;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;

/// `windowsOptions` of a security context (`validateWindowsSecurityContextOptions`).
pub fn options(context: &Value, path: &Path) -> Vec<Error> {
    let Some(options) = tree::at(context, "windowsOptions") else {
        return Vec::new();
    };
    let path = path.child("windowsOptions");
    let mut errors = Vec::new();
    if let Some(name) = tree::text_opt(options, "gmsaCredentialSpecName") {
        errors.extend(checks::dns_subdomain(name, &path.child("gmsaCredentialSpecName")));
    }
    if let Some(spec) = tree::text_opt(options, "gmsaCredentialSpec") {
        let detail = if spec.is_empty() {
            Some("gmsaCredentialSpec cannot be an empty string".to_owned())
        } else if spec.len() > MAX_SPEC_KIB * 1024 {
            Some(format!("gmsaCredentialSpec size must be under {MAX_SPEC_KIB} KiB"))
        } else {
            None
        };
        let path = path.child("gmsaCredentialSpec");
        errors.extend(detail.map(|detail| Error::invalid(&path, spec, detail)));
    }
    if let Some(user) = tree::text_opt(options, "runAsUserName") {
        let path = path.child("runAsUserName");
        errors.extend(checks::invalid_each(&path, user, user_name(user)));
    }
    errors
}

fn user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".to_owned()],
    };
    let mut messages = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            messages.push(format!(
                "runAsUserName's Domain length must be under {MAX_DOMAIN} characters"
            ));
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            messages.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        messages.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > MAX_USER {
        messages.push(format!(
            "runAsUserName's User length must not be longer than {MAX_USER} characters"
        ));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        messages.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        let detail = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        messages.push(detail.to_owned());
    }
    messages
}

fn is_net_bios(domain: &str) -> bool {
    let bad = |c: char| matches!(c, '\\' | '/' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.chars().any(bad)
}

fn is_dns(domain: &str) -> bool {
    let labels = domain.split('.');
    labels
        .into_iter()
        .all(|label| validate::dns1123_label(&label.to_ascii_lowercase()).is_empty())
}

/// Host process containers come alone and with the host's network.
pub fn host_process(spec: &Value, path: &Path) -> Vec<Error> {
    let setting = |holder: &Value| tree::flag_opt(holder, "securityContext.windowsOptions.hostProcess");
    let of_pod = setting(spec);
    let mut errors = Vec::new();
    let containers = containers::visit(spec, path);
    let mut processes = 0;
    for (container, path) in &containers {
        let own = setting(container);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let path = path
                .child("securityContext")
                .child("windowsOptions")
                .child("hostProcess");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(Error::invalid(&path, own, detail));
        }
        processes += usize::from(own.or(of_pod) == Some(true));
    }
    if processes == 0 {
        return errors;
    }
    if processes != containers.len() {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(path, "", detail));
    }
    if !tree::flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, detail));
    }
    errors
}
