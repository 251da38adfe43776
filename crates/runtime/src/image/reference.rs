//! Image references, normalised as Docker does it (github.com/distribution/reference).

use std::fmt;

use super::digest::is_sha256;
use crate::ImageError;

const DEFAULT_REGISTRY: &str = "docker.io";

/// `registry/repository[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a reference in any form. One without tag and digest gets the tag `latest`.
    pub fn parse(text: &str) -> Result<Reference, ImageError> {
        let invalid = |message: &str| ImageError::InvalidReference {
            image: text.to_owned(),
            message: message.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((_, digest)) if !is_sha256(digest) => return Err(invalid("the digest is not a sha256 digest")),
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        // A colon before a slash belongs to the port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("invalid reference format: the tag is malformed"));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
            _ => (DEFAULT_REGISTRY, name.to_owned()),
        };
        let registry = if registry == "index.docker.io" {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let repository = match registry {
            DEFAULT_REGISTRY if !repository.contains('/') && !repository.is_empty() => format!("library/{repository}"),
            _ => repository,
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("invalid reference format: repository name must be lowercase"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) || !is_host(registry) {
            return Err(invalid("invalid reference format"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// Without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// With the tag, if there is one.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// With a digest.
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
    }

    /// Whether the registry is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self
            .registry
            .rsplit_once(':')
            .map_or(self.registry.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    !host.is_empty() && host.bytes().all(allowed)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Alphanumeric parts, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    component
        .split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalised() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("nginx@{digest}");
        let with_both = format!("quay.io/a/b:1@{digest}");
        for (given, expected) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("bitnami/redis", "docker.io/bitnami/redis:latest".to_owned()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("127.0.0.1:5000/a/b-c_d.e:v1", "127.0.0.1:5000/a/b-c_d.e:v1".to_owned()),
            ("skiff.local/hello:latest", "skiff.local/hello:latest".to_owned()),
            (&with_digest, format!("docker.io/library/nginx@{digest}")),
            (&with_both, with_both.clone()),
        ] {
            assert_eq!(Reference::parse(given).unwrap().to_string(), expected, "{given}");
        }
        for given in [
            "",
            "Nginx",
            "a//b",
            "a:",
            "a:b:c",
            "a@sha256:1",
            "-a",
            "a/../b",
            "reg.io/",
            "a b",
            "x/a..b",
            "@",
        ] {
            assert!(Reference::parse(given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn loopback() {
        for (given, expected) in [
            ("localhost:5000/a", true),
            ("127.1.2.3/a", true),
            ("[::1]:5/a", true),
            ("10.0.0.1:5000/a", false),
        ] {
            assert_eq!(Reference::parse(given).unwrap().is_loopback(), expected, "{given}");
        }
    }
}
