//! PEM blocks as Go's `encoding/pem` finds them: whatever is no block is skipped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'t> {
    /// `CERTIFICATE`, `CERTIFICATE REQUEST`…
    pub label: &'t str,
    /// Whether it carries headers.
    pub has_headers: bool,
    /// The decoded content.
    pub content: Vec<u8>,
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// Every well-formed block of a text.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let starts_line = at == 0 || rest.as_bytes()[at - 1] == b'\n';
        rest = &rest[at + BEGIN.len()..];
        if starts_line && let Some((block, after)) = block(rest) {
            found.push(block);
            rest = after;
        }
    }
    found
}

fn block(text: &str) -> Option<(Block<'_>, &str)> {
    let (first, body) = text.split_once('\n')?;
    let label = first.trim_end().strip_suffix(DASHES)?;
    let end = format!("-----END {label}-----");
    let at = body.find(&end)?;
    let (inner, after) = (&body[..at], &body[at + end.len()..]);
    let mut has_headers = false;
    let mut encoded = String::with_capacity(inner.len());
    for line in inner.lines().map(str::trim) {
        if encoded.is_empty() && line.contains(':') {
            has_headers = true;
        } else {
            encoded.extend(line.chars().filter(|c| !c.is_ascii_whitespace()));
        }
    }
    let content = STANDARD.decode(encoded).ok()?;
    let block = Block {
        label,
        has_headers,
        content,
    };
    Some((block, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_among_other_text() {
        let text = "noise\n-----BEGIN A-----\naGk=\n-----END A-----\n\
                    -----BEGIN B C-----\nKey: value\n\naG8=\n-----END B C-----\n-----BEGIN A-----\n*\n-----END A-----";
        let found = blocks(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].label, found[0].has_headers, &*found[0].content),
            ("A", false, &b"hi"[..])
        );
        assert_eq!(
            (found[1].label, found[1].has_headers, &*found[1].content),
            ("B C", true, &b"ho"[..])
        );
        assert!(blocks("").is_empty() && blocks("-----BEGIN A").is_empty());
    }
}
