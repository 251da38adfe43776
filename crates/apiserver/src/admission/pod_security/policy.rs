//! Levels, versions, and which of them a namespace's labels ask for (upstream
//! `pod-security-admission/api/helpers.go`).

use std::collections::BTreeMap;
use std::fmt;

use api::Value;
use api::field::{Error, Path};

/// How strict, from anything goes to hardened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The rules of which minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

/// A level as of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub level: Level,
    pub version: Version,
}

/// What is enforced, audited and warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: Rules,
    pub audit: Rules,
    pub warn: Rules,
}

/// The modes by the names they have in labels and configuration.
pub(super) const MODES: [&str; 3] = ["enforce", "audit", "warn"];
/// What labels and audit annotations begin with.
pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted".to_owned()),
    }
}

fn version(text: &str) -> Result<Version, String> {
    if text == "latest" {
        return Ok(Version::Latest);
    }
    let digits = text
        .strip_prefix("v1.")
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && (!digits.starts_with('0') || *digits == "0"));
    let minor = digits.and_then(|digits| digits.parse().ok());
    minor
        .map(Version::Minor)
        .ok_or_else(|| "must be \"latest\" or \"v1.x\"".to_owned())
}

impl Default for Policy {
    fn default() -> Self {
        let rules = Rules {
            level: Level::Privileged,
            version: Version::Latest,
        };
        Self {
            enforce: rules,
            audit: rules,
            warn: rules,
        }
    }
}

impl Policy {
    fn mode(&mut self, mode: &str) -> &mut Rules {
        match mode {
            "enforce" => &mut self.enforce,
            "audit" => &mut self.audit,
            _ => &mut self.warn,
        }
    }

    /// The rules of a mode.
    pub fn of(&self, mode: &str) -> Rules {
        let mut policy = *self;
        *policy.mode(mode)
    }

    /// The `defaults` of a `PodSecurityConfiguration`.
    pub fn from_configuration(defaults: &Value) -> Result<Policy, String> {
        let mut policy = Policy::default();
        let text = |field: &str| defaults.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        for mode in MODES {
            if let Some(given) = text(mode) {
                policy.mode(mode).level = level(given).map_err(|why| format!("defaults.{mode}: {why}"))?;
            }
            let field = format!("{mode}-version");
            if let Some(given) = text(&field) {
                policy.mode(mode).version = version(given).map_err(|why| format!("defaults.{field}: {why}"))?;
            }
        }
        Ok(policy)
    }

    /// What labels ask for, and what is wrong with them. A broken label enforces the strictest, and
    /// audits and warns of nothing.
    pub fn of_labels(labels: &BTreeMap<String, String>, defaults: Policy) -> (Policy, Vec<Error>) {
        let mut policy = defaults;
        let mut errors = Vec::new();
        let mut given_level = [false; 3];
        let mut given_version = [false; 3];
        for (at, mode) in MODES.into_iter().enumerate() {
            let label = format!("{PREFIX}{mode}");
            if let Some(text) = labels.get(&label) {
                let parsed = level(text);
                given_level[at] = parsed.is_ok() || mode != "enforce";
                policy.mode(mode).level = parsed.unwrap_or_else(|why| {
                    errors.push(invalid(&label, text, &why));
                    if mode == "enforce" {
                        Level::Restricted
                    } else {
                        Level::Privileged
                    }
                });
            }
            let label = format!("{PREFIX}{mode}-version");
            if let Some(text) = labels.get(&label) {
                given_version[at] = true;
                policy.mode(mode).version = version(text).unwrap_or_else(|why| {
                    errors.push(invalid(&label, text, &why));
                    Version::Latest
                });
            }
        }
        // Whoever is refused wants to be warned before, of templates above all.
        if !given_level[2] && given_level[0] && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !given_version[2] {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether anything goes, without a warning.
    pub fn is_fully_privileged(&self) -> bool {
        MODES.iter().all(|mode| self.of(mode).level == Level::Privileged)
    }

    /// Whether two policies come to the same.
    pub fn is_equivalent(&self, other: &Policy) -> bool {
        MODES.iter().all(|mode| {
            let (a, b) = (self.of(mode), other.of(mode));
            a == b || (a.level == Level::Privileged && b.level == Level::Privileged)
        })
    }
}

fn invalid(label: &str, value: &str, why: &str) -> Error {
    let path = Path::new("metadata").child("labels").key(label);
    Error::invalid(&path, value, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(pairs: &[(&str, &str)]) -> (Policy, Vec<String>) {
        let labels = pairs
            .iter()
            .map(|(mode, value)| (format!("{PREFIX}{mode}"), (*value).to_owned()))
            .collect();
        let (policy, errors) = Policy::of_labels(&labels, Policy::default());
        (policy, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_are_read_one_by_one() {
        let (policy, errors) = of(&[
            ("enforce", "baseline"),
            ("enforce-version", "v1.24"),
            ("audit", "restricted"),
        ]);
        assert!(errors.is_empty());
        assert_eq!(policy.enforce.to_string(), "baseline:v1.24");
        assert_eq!(policy.audit.to_string(), "restricted:latest");
        assert_eq!(policy.warn, policy.enforce);
        let (policy, _) = of(&[("enforce", "restricted"), ("warn", "baseline")]);
        assert_eq!(policy.warn.to_string(), "baseline:latest");
    }

    #[test]
    fn broken_labels_fail_closed_where_it_counts() {
        let (policy, errors) = of(&[("enforce", "x"), ("audit", "y"), ("warn-version", "v1.01")]);
        assert_eq!(
            (policy.enforce.level, policy.audit.level),
            (Level::Restricted, Level::Privileged)
        );
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"y\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
            ]
        );
    }

    #[test]
    fn defaults_come_from_the_configuration() {
        let given = json!({"enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted"});
        let policy = Policy::from_configuration(&given).unwrap();
        assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
        assert_eq!(policy.warn.to_string(), "restricted:latest");
        assert!(Policy::from_configuration(&json!({"audit": "strict"})).is_err());
        assert!(Policy::default().is_fully_privileged() && !policy.is_fully_privileged());
    }
}
