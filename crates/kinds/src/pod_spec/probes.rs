//! Probes and lifecycle handlers.

use api::field::{Error, Path};
use api::{Value, validate};

use crate::{checks, tree};

/// Signals of Linux that may stop a container, as upstream lists them.
const SIGNALS: &[&str] = &[
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO",
    "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT",
];
const MORE_SIGNALS: &[&str] = &[
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// Sorted, as sets print.
fn linux_signals() -> Vec<String> {
    let named = SIGNALS.iter().chain(MORE_SIGNALS).map(|name| (*name).to_owned());
    let after = (1..=15).map(|n| format!("SIGRTMIN+{n}"));
    let before = (1..=14).map(|n| format!("SIGRTMAX-{n}"));
    let ends = ["SIGRTMIN", "SIGRTMAX"].map(str::to_owned);
    let mut all: Vec<String> = named.chain(after).chain(before).chain(ends).collect();
    all.sort_unstable();
    all
}

/// The three probes of a container.
pub fn probes(container: &Value, path: &Path) -> Vec<Error> {
    const NUMBERS: &[&str] = &[
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    let mut errors = Vec::new();
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = tree::at(container, name) else {
            continue;
        };
        let path = path.child(name);
        errors.extend(handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, &path));
        errors.extend(checks::all_nonnegative(probe, NUMBERS, &path));
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
                let detail = "must not be set for readinessProbes";
                errors.push(Error::invalid(&grace_path, seconds, detail));
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
pub fn lifecycle(container: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = path.child("lifecycle");
    let grace = tree::int(spec, "terminationGracePeriodSeconds");
    for name in ["postStart", "preStop"] {
        if let Some(hook) = tree::at(container, &format!("lifecycle.{name}")) {
            let known = ["exec", "httpGet", "tcpSocket", "sleep"];
            errors.extend(handler(hook, &known, grace, &path.child(name)));
        }
    }
    if let Some(signal) = tree::text_opt(container, "lifecycle.stopSignal") {
        errors.extend(stop_signal(signal, spec, &path.child("stopSignal")));
    }
    errors
}

fn stop_signal(signal: &str, spec: &Value, path: &Path) -> Vec<Error> {
    let Some(os) = tree::at(spec, "os") else {
        let detail = "may not be set for containers with empty `spec.os.name`";
        return vec![Error::forbidden(path, detail)];
    };
    let known = match tree::text(os, "name") {
        "windows" => vec!["SIGKILL".to_owned(), "SIGTERM".to_owned()],
        "linux" => linux_signals(),
        _ => return Vec::new(),
    };
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    checks::optional_one_of(Some(signal), &known, path)
}

/// One action out of those that are known; `grace` bounds sleeping.
fn handler(handler: &Value, known: &[&str], grace: Option<i64>, path: &Path) -> Vec<Error> {
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
            "grpc" => grpc(action, &path),
            "sleep" => sleep(action, grace, &path),
            _ => Vec::new(),
        });
    }
    if handlers == 0 {
        errors.push(Error::required(path, "must specify a handler type"));
    }
    errors
}

fn sleep(action: &Value, grace: Option<i64>, path: &Path) -> Vec<Error> {
    let seconds = tree::count(action, "seconds");
    match grace {
        Some(grace) if seconds < 0 || seconds > grace => {
            let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            vec![Error::invalid(path, seconds, detail)]
        }
        _ => Vec::new(),
    }
}

fn grpc(action: &Value, path: &Path) -> Vec<Error> {
    let mut errors = checks::port_number(tree::count(action, "port"), &path.child("port"));
    let mode = tree::text_opt(action, "mode");
    errors.extend(checks::optional_one_of(
        mode,
        &["Plaintext", "TLS"],
        &path.child("mode"),
    ));
    errors
}

fn http_get(action: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if tree::text(action, "path").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(checks::port_number_or_name(action.get("port"), &path.child("port")));
    let scheme = tree::text(action, "scheme");
    let known = &["HTTP", "HTTPS"];
    errors.extend(checks::optional_one_of(Some(scheme), known, &path.child("scheme")));
    for header in tree::list(action, "httpHeaders") {
        let name = tree::text(header, "name");
        let path = path.child("httpHeaders");
        errors.extend(checks::invalid_each(&path, name, validate::http_header_name(name)));
    }
    if let Some(protocol) = tree::text_opt(action, "protocol") {
        let protocol_path = path.child("protocol");
        let host = tree::text(action, "host");
        if !matches!(protocol, "HTTP1" | "HTTP2") {
            errors.push(Error::not_supported(&protocol_path, protocol, &["HTTP1", "HTTP2"]));
        } else if protocol == "HTTP2" && scheme != "HTTP" {
            let detail = "is only supported with HTTP (H2C)";
            errors.push(Error::invalid(&protocol_path, protocol, detail));
        } else if protocol == "HTTP2" && !host.is_empty() {
            let detail = "must be empty when `protocol` is \"HTTP2\"";
            errors.push(Error::invalid(&path.child("host"), host, detail));
        }
    }
    errors
}
