//! `continue` tokens: where a list goes on (upstream `storage/continue.go`).

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The content of a token.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    v: String,
    #[serde(default)]
    rv: i64,
    start: String,
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    /// The revision of the first page; `None` for a token given out after that one expired.
    pub revision: Option<i64>,
    /// The last key of the page before.
    pub after: String,
}

const VERSION: &str = "meta.k8s.io/v1";

/// Makes a token; the key is kept relative to the list's prefix.
pub(crate) fn encode(prefix: &str, next: &Continue) -> String {
    let relative = next.after.strip_prefix(prefix).unwrap_or(&next.after);
    let token = Token {
        v: VERSION.to_owned(),
        rv: next.revision.unwrap_or(-1),
        start: format!("{relative}\0"),
    };
    let json = serde_json::to_vec(&token).expect("a token holds only strings and numbers");
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads a token a client brought back.
///
/// # Errors
/// 400 if it is none of ours.
pub(crate) fn decode(prefix: &str, text: &str) -> Result<Continue, Status> {
    let refuse = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let json = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| refuse(&error.to_string()))?;
    let token: Token = serde_json::from_slice(&json).map_err(|error| {
        // In Go's words, where it is no JSON at all.
        let said = schema::codec::repeated_fields(&json).err();
        refuse(&said.map_or_else(|| error.to_string(), |said| said.to_string()))
    })?;
    if token.v != VERSION {
        return Err(refuse(&format!(
            "server does not recognize this encoded version {}",
            token.v
        )));
    }
    if token.rv == 0 {
        return Err(refuse(
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ));
    }
    let start = token.start.strip_suffix('\0').unwrap_or(&token.start);
    if start.is_empty() {
        return Err(refuse("encoded start key empty (version meta.k8s.io/v1)"));
    }
    if start.starts_with('/') || start.split('/').any(|part| part == "..") {
        return Err(refuse(&token.start));
    }
    Ok(Continue {
        revision: (token.rv > 0).then_some(token.rv),
        after: format!("{prefix}{start}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for revision in [Some(7), None] {
            let next = Continue {
                revision,
                after: "/registry/pods/ns/a".to_owned(),
            };
            let text = encode("/registry/pods/", &next);
            assert_eq!(decode("/registry/pods/", &text).unwrap(), next);
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let make = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for text in [
            "%%%".to_owned(),
            make("{}"),
            make(r#"{"v":"meta.k8s.io/v2","rv":1,"start":"a\u0000"}"#),
            make(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a\u0000"}"#),
            make(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../a\u0000"}"#),
            make(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"/a\u0000"}"#),
            make(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
        ] {
            assert_eq!(decode("/registry/pods/", &text).unwrap_err().code, 400, "{text}");
        }
    }
}
