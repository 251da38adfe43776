//! One attempt of a probe (pkg/probe).

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use podlife::ProbeResult;
use runtime::RuntimeError;
use tokio::net::TcpStream;

use super::{Target, grpc, http};

/// Output that is shown of a failed command.
const MAX_OUTPUT: usize = 10 * 1024;

/// What came of an attempt.
pub(crate) struct Outcome {
    pub result: ProbeResult,
    pub message: String,
}

impl Outcome {
    pub fn success() -> Outcome {
        Outcome {
            result: ProbeResult::Success,
            message: String::new(),
        }
    }

    pub fn failure(message: impl Into<String>) -> Outcome {
        Outcome {
            result: ProbeResult::Failure,
            message: message.into(),
        }
    }

    fn error(message: impl Into<String>) -> Outcome {
        Outcome {
            result: ProbeResult::Unknown,
            message: message.into(),
        }
    }
}

/// Tries once.
pub(super) async fn attempt(target: &Target, timeout: SignedDuration) -> Outcome {
    let timeout = Duration::try_from(timeout).unwrap_or(Duration::from_secs(1));
    let probe = &target.probe;
    if let Some(action) = &probe.exec {
        return exec(target, action.command.clone().unwrap_or_default(), timeout).await;
    }
    if let Some(action) = &probe.http_get {
        let found = match http::Target::of(action, &target.container, target.ip) {
            Ok(found) => found,
            Err(message) => return Outcome::error(message),
        };
        return match tokio::time::timeout(timeout, http::get(&found, "kube-probe/1.37")).await {
            Ok(Ok(())) => Outcome::success(),
            Ok(Err(message)) => Outcome::failure(message),
            Err(_) => Outcome::failure(format!(
                "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                found.url()
            )),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let port = match port(&action.port, &target.container) {
            Ok(port) => port,
            Err(message) => return Outcome::error(message),
        };
        let host = action.host.clone().filter(|host| !host.is_empty());
        let Some(host) = host.or_else(|| target.ip.map(|ip| ip.to_string())) else {
            return Outcome::error("the pod has no address");
        };
        return tcp(&host, port, timeout).await;
    }
    if let Some(action) = &probe.grpc {
        let Some(ip) = target.ip else {
            return Outcome::error("the pod has no address");
        };
        let Ok(port) = u16::try_from(action.port) else {
            return Outcome::error("invalid port number");
        };
        return grpc::check(ip, port, action.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Outcome::error("missing probe handler")
}

async fn exec(target: &Target, command: Vec<String>, timeout: Duration) -> Outcome {
    let statics = |text: &String| {
        let lookup = |name: &str| {
            let variables = target.container.env.iter().flatten();
            variables
                .filter(|var| var.name == name)
                .map(|var| var.value.clone().unwrap_or_default())
                .next()
        };
        podlife::expand::expand(text, lookup)
    };
    let command: Vec<String> = command.iter().map(statics).collect();
    let shown = command.join(" ");
    match target.ctx.runtime().exec_sync(&target.id, command, Some(timeout)).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::success(),
        Ok(answer) => {
            let mut output = [answer.stdout, answer.stderr].concat();
            output.truncate(MAX_OUTPUT);
            Outcome::failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(RuntimeError::Timeout { .. }) => Outcome::failure(format!(
            "command timed out: {shown:?} timed out after {}s",
            timeout.as_secs()
        )),
        Err(error @ RuntimeError::Exec { .. }) => Outcome::failure(error.to_string()),
        Err(error) => Outcome::error(error.to_string()),
    }
}

async fn tcp(host: &str, port: u16, timeout: Duration) -> Outcome {
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::success(),
        Ok(Err(error)) => Outcome::failure(format!("dial tcp {shown}: connect: {}", plain(&error))),
        Err(_) => Outcome::failure(format!("dial tcp {shown}: i/o timeout")),
    }
}

/// An error of the kernel as Go words it.
pub(super) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        _ => error.to_string(),
    }
}

/// A port by number or by the name that the container gives it.
pub(super) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("invalid port number: {port:?}"))
}
