//! `semver` (k8s.io/apiserver/pkg/cel/library/semverlib.go).

use std::cmp::Ordering;
use std::fmt;

use crate::error::EvalError;
use crate::function::Functions;
use crate::value::{Opaque, Value};

/// A version by semver.org 2.0.0, as github.com/blang/semver reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// Patch number.
    pub patch: u64,
    pre: Vec<Part>,
    build: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Number(u64),
    Text(String),
}

impl Semver {
    /// Reads a version.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        Ok(Self {
            major: number(major, "major")?,
            minor: number(minor, "minor")?,
            patch: number(patch, "patch")?,
            pre: pre.map_or(Ok(Vec::new()), |pre| pre.split('.').map(part).collect())?,
            build: build.map_or(Ok(Vec::new()), |build| build.split('.').map(build_part).collect())?,
        })
    }

    /// Reads a version after taking off a `v`, adding missing parts and removing leading zeros.
    pub fn parse_normalized(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let trimmed = part.trim_start_matches('0');
                let digit = trimmed.as_bytes().first().is_some_and(u8::is_ascii_digit);
                *part = if digit {
                    trimmed.to_owned()
                } else {
                    format!("0{trimmed}")
                };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".to_owned());
            }
            parts.resize(3, "0".to_owned());
        }
        Self::parse(&parts.join("."))
    }

    /// The order of versions; builds do not count.
    pub fn order(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self
                    .pre
                    .iter()
                    .zip(&other.pre)
                    .map(|(one, two)| match (one, two) {
                        (Part::Number(one), Part::Number(two)) => one.cmp(two),
                        (Part::Number(_), Part::Text(_)) => Ordering::Less,
                        (Part::Text(_), Part::Number(_)) => Ordering::Greater,
                        (Part::Text(one), Part::Text(two)) => one.cmp(two),
                    })
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| self.pre.len().cmp(&other.pre.len())),
            })
    }
}

fn number(text: &str, name: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {name} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        let name = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        return Err(format!("{name} number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn part(text: &str) -> Result<Part, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!(
                "Numeric PreRelease version must not contain leading zeroes {text:?}"
            ));
        }
        return text
            .parse()
            .map(Part::Number)
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"));
    }
    if !alphanumeric(text) {
        return Err(format!("Invalid character(s) found in prerelease {text:?}"));
    }
    Ok(Part::Text(text.to_owned()))
}

fn build_part(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("Build meta data is empty".to_owned());
    }
    if !alphanumeric(text) {
        return Err(format!("Invalid character(s) found in build meta data {text:?}"));
    }
    Ok(text.to_owned())
}

impl fmt::Display for Semver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)?;
        for (index, part) in self.pre.iter().enumerate() {
            out.write_str(if index == 0 { "-" } else { "." })?;
            match part {
                Part::Number(number) => number.fmt(out)?,
                Part::Text(text) => out.write_str(text)?,
            }
        }
        for (index, part) in self.build.iter().enumerate() {
            write!(out, "{}{part}", if index == 0 { "+" } else { "." })?;
        }
        Ok(())
    }
}

fn parse(arguments: &[Value]) -> Result<Result<Semver, String>, EvalError> {
    match arguments {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Semver::parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(Semver::parse_normalized(text)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn semver(arguments: &[Value]) -> Result<Value, EvalError> {
    parse(arguments)?
        .map(|version| Value::opaque(Opaque::Semver(version)))
        .map_err(EvalError::new)
}

fn is_semver(arguments: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Bool(parse(arguments)?.is_ok()))
}

fn version(value: Option<&Value>) -> Result<&Semver, EvalError> {
    match value {
        Some(Value::Opaque(value)) => match &**value {
            Opaque::Semver(version) => Ok(version),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn order(arguments: &[Value]) -> Result<Ordering, EvalError> {
    Ok(version(arguments.first())?.order(version(arguments.get(1))?))
}

/// Declares `semver` and its functions.
pub(super) fn declare(functions: &mut Functions) {
    const OF: &str = "kubernetes.Semver";
    let two = |result: &str| format!(".({OF},{OF}):{result}");
    functions.native("semver", "string_to_semver", &format!("(string):{OF}"), semver);
    functions.native(
        "semver",
        "string_bool_to_semver",
        &format!("(string,bool):{OF}"),
        semver,
    );
    functions.native("isSemver", "is_semver_string", "(string):bool", is_semver);
    functions.native("isSemver", "is_semver_string_bool", "(string,bool):bool", is_semver);
    functions.native("isGreaterThan", "semver_is_greater_than", &two("bool"), |a| {
        Ok(Value::Bool(order(a)?.is_gt()))
    });
    functions.native("isLessThan", "semver_is_less_than", &two("bool"), |a| {
        Ok(Value::Bool(order(a)?.is_lt()))
    });
    functions.native("compareTo", "semver_compare_to", &two("int"), |a| {
        Ok(Value::Int(order(a)? as i64))
    });
    let one = format!(".({OF}):int");
    functions.native("major", "semver_major", &one, |a| {
        Ok(Value::Int(version(a.first())?.major as i64))
    });
    functions.native("minor", "semver_minor", &one, |a| {
        Ok(Value::Int(version(a.first())?.minor as i64))
    });
    functions.native("patch", "semver_patch", &one, |a| {
        Ok(Value::Int(version(a.first())?.patch as i64))
    });
}
