//! How a remote command ended, as the error stream says it.

use bytes::Bytes;
use serde_json::{Value, json};

/// The end of a remote command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Success,
    /// Any other exit code.
    ExitCode(i32),
    /// It could not be run, or the connection to it broke.
    Failed(String),
}

impl Outcome {
    /// The `metav1.Status` that protocol v4 and later send (apiserver/pkg/util/remotecommand and
    /// kubelet/cri/remotecommand/exec.go `NewV4Status`).
    #[must_use]
    pub fn to_status(&self) -> Bytes {
        let status = match self {
            Outcome::Success => json!({"metadata": {}, "status": "Success"}),
            Outcome::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Outcome::Failed(message) => json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "InternalError",
                "details": {"causes": [{"message": message}]},
                "code": 500,
            }),
        };
        Bytes::from(status.to_string())
    }

    /// The text that protocols before v4 send: nothing for success.
    #[must_use]
    pub fn to_text(&self) -> Bytes {
        match self {
            Outcome::Success => Bytes::new(),
            Outcome::ExitCode(code) => Bytes::from(format!("command terminated with exit code {code}")),
            Outcome::Failed(message) => Bytes::from(message.clone()),
        }
    }

    /// Reads what the error stream carried; an empty stream is a success.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Outcome {
        if bytes.is_empty() {
            return Outcome::Success;
        }
        let Ok(status) = serde_json::from_slice::<Value>(bytes) else {
            return Outcome::Failed(String::from_utf8_lossy(bytes).into_owned());
        };
        if status["status"] == "Success" {
            return Outcome::Success;
        }
        let code = status["details"]["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|_| status["reason"] == "NonZeroExitCode")
            .find(|cause| cause["reason"] == "ExitCode")
            .and_then(|cause| cause["message"].as_str()?.parse().ok());
        match code {
            Some(code) => Outcome::ExitCode(code),
            None => Outcome::Failed(status["message"].as_str().unwrap_or("unknown error").to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn round_trip() {
        for outcome in [
            Outcome::Success,
            Outcome::ExitCode(7),
            Outcome::Failed("no such container".into()),
        ] {
            assert_eq!(Outcome::parse(&outcome.to_status()), outcome);
        }
        assert_eq!(Outcome::parse(b""), Outcome::Success);
        assert_eq!(Outcome::parse(b"boom"), Outcome::Failed("boom".into()));
    }
}
