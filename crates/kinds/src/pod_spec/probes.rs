//! Probes and lifecycle handlers.

use api::field::{Error, Path};
use api::{Value, validate};

use crate::{checks, tree};

/// The three probes of a container.
pub fn probes(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = tree::at(container, name) else {
            continue;
        };
        let path = path.child(name);
        errors.extend(handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], &path));
        let numbers = [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ];
        errors.extend(checks::all_nonnegative(probe, &numbers, &path));
        let grace = tree::int(probe, "terminationGracePeriodSeconds");
        let grace_path = path.child("terminationGracePeriodSeconds");
        if let Some(seconds) = grace
            && seconds <= 0
        {
            errors.push(Error::invalid(&grace_path, seconds, "must be greater than 0"));
        }
        let threshold = tree::count(probe, "successThreshold");
        match (name, grace) {
            ("readinessProbe", Some(seconds)) => {
                errors.push(Error::invalid(
                    &grace_path,
                    seconds,
                    "must not be set for readinessProbes",
                ));
            }
            ("readinessProbe", None) => {}
            _ if threshold != 1 => {
                errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
            }
            _ => {}
        }
    }
    errors
}

/// `lifecycle` of a container.
pub fn lifecycle(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for name in ["postStart", "preStop"] {
        if let Some(hook) = tree::at(container, &format!("lifecycle.{name}")) {
            let known = ["exec", "httpGet", "tcpSocket", "sleep"];
            errors.extend(handler(hook, &known, &path.child("lifecycle").child(name)));
        }
    }
    errors
}

fn handler(handler: &Value, known: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut handlers = 0;
    for name in known {
        let Some(action) = tree::at(handler, name) else {
            continue;
        };
        let path = path.child(name);
        handlers += 1;
        if handlers > 1 {
            errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        errors.extend(match *name {
            "exec" if tree::list(action, "command").is_empty() => {
                vec![Error::required(&path.child("command"), "")]
            }
            "httpGet" => http_get(action, &path),
            "tcpSocket" => checks::port_number_or_name(action.get("port"), &path.child("port")),
            "grpc" => checks::port_number(tree::count(action, "port"), &path.child("port")),
            "sleep" => checks::nonnegative(action, "seconds", &path),
            _ => Vec::new(),
        });
    }
    if handlers == 0 {
        errors.push(Error::required(path, "must specify a handler type"));
    }
    errors
}

fn http_get(action: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if tree::text(action, "path").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(checks::port_number_or_name(action.get("port"), &path.child("port")));
    let scheme = tree::text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in tree::list(action, "httpHeaders") {
        let name = tree::text(header, "name");
        let path = path.child("httpHeaders");
        errors.extend(checks::invalid_each(&path, name, validate::http_header_name(name)));
    }
    errors
}
