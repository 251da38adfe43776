//! Names of drivers, pools, devices, attributes and requests.

use api::field::{Error, Path};
use api::validate;

use crate::{checks, references};

const MAX_POOL_BYTES: usize = 253;
const MAX_IDENTIFIER_BYTES: usize = 32;

/// Drivers are named as CSI drivers are.
pub(super) fn driver(name: &str, path: &Path) -> Vec<Error> {
    references::driver_name(name, path)
}

/// Subdomains with slashes between.
pub(super) fn pool(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > MAX_POOL_BYTES {
        errors.push(Error::too_long(path, MAX_POOL_BYTES));
    }
    for part in name.split('/') {
        errors.extend(checks::dns_subdomain(part, path));
    }
    errors
}

/// A lower-case UUID.
pub(super) fn uid(text: &str, path: &Path) -> Vec<Error> {
    let shape = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    let hexadecimal = |part: &&str| part.bytes().all(|b| b.is_ascii_hexdigit());
    if parts.len() != shape.len() || !parts.iter().zip(shape).all(|(part, length)| part.len() == length) {
        let detail = format!("error validating uid: invalid UUID length: {}", text.len());
        return vec![Error::invalid(path, text, detail)];
    }
    if !parts.iter().all(hexadecimal) {
        return vec![Error::invalid(path, text, "error validating uid: invalid UUID format")];
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        return vec![Error::invalid(path, text, detail)];
    }
    Vec::new()
}

/// An identifier, or a domain, a slash and an identifier.
pub(super) fn qualified(name: &str, path: &Path) -> Vec<Error> {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(id, path),
        [domain, id] => {
            let mut errors = match *domain {
                "" => vec![Error::invalid(path, "", "the domain must not be empty")],
                domain => driver(domain, path),
            };
            match *id {
                "" => errors.push(Error::invalid(path, "", "the name must not be empty")),
                id => errors.extend(identifier(id, path)),
            }
            errors
        }
        // Upstream lets more slashes pass.
        _ => Vec::new(),
    }
}

/// With a domain.
pub(super) fn fully_qualified(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = qualified(name, path);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Error::invalid(path, name, detail));
    }
    errors
}

fn identifier(id: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if id.len() > MAX_IDENTIFIER_BYTES {
        errors.push(Error::too_long(path, MAX_IDENTIFIER_BYTES));
    }
    errors.extend(checks::invalid_each(path, id, validate::c_identifier(id)));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let path = Path::new("n");
        for (name, good) in [("a/b.c", true), ("", false), ("A", false), ("a//b", false)] {
            assert_eq!(pool(name, &path).is_empty(), good, "{name}");
        }
        for (name, good) in [
            ("model", true),
            ("a.io/model", true),
            ("/x", false),
            ("a.io/", false),
            ("1a", false),
        ] {
            assert_eq!(qualified(name, &path).is_empty(), good, "{name}");
        }
        assert_eq!(fully_qualified("model", &path).len(), 1);
        for (text, good) in [
            ("123e4567-e89b-12d3-a456-426614174000", true),
            ("123E4567-e89b-12d3-a456-426614174000", false),
            ("123e4567", false),
            ("123e4567-e89b-12d3-a456-42661417400x", false),
        ] {
            assert_eq!(uid(text, &path).is_empty(), good, "{text}");
        }
    }
}
