//! How requests are labelled (`endpoints/metrics/metrics.go`).

use std::time::Duration;

use crate::request::{Query, RequestInfo};

/// What a finished request is counted with.
pub(crate) struct Finished<'a> {
    pub info: &'a RequestInfo,
    /// Whether its names are those of something served; what clients make up must not make time series.
    pub known: bool,
    pub query: &'a Query,
    pub code: u16,
    pub took: Duration,
    /// The time spent waiting for a turn, which is not the server's work.
    pub waited: Duration,
    /// The length of the answer, if it is known before it is sent.
    pub length: Option<u64>,
}

/// The label values of a request.
pub(super) struct Labels<'a> {
    pub verb: &'static str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub scope: &'static str,
}

const ROOTS: [&str; 9] = [
    "/livez",
    "/readyz",
    "/healthz",
    "/metrics",
    "/version",
    "/openapi/v2",
    "/openapi/v3",
    "/api",
    "/apis",
];

impl<'a> Labels<'a> {
    /// Of a request whose names are known; else of no names at all.
    pub fn of(info: &'a RequestInfo, known: bool) -> Labels<'a> {
        let verb = verb(info);
        if !known {
            return Labels {
                verb,
                group: "",
                version: "",
                resource: "",
                subresource: "",
                scope: "",
            };
        }
        if !info.is_resource {
            let root = ROOTS.iter().find(|root| info.path == **root).copied();
            return Labels {
                verb,
                group: "",
                version: "",
                resource: "",
                subresource: root.unwrap_or(""),
                scope: "",
            };
        }
        Labels {
            verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            scope: match (info.named, info.namespace.is_empty()) {
                (true, _) => "resource",
                (_, false) => "namespace",
                _ => "cluster",
            },
        }
    }
}

fn verb(info: &RequestInfo) -> &'static str {
    if info.subresource == "log" && info.verb == "get" {
        return "CONNECT";
    }
    match info.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "deletecollection" => "DELETECOLLECTION",
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "patch" => "PATCH",
        "delete" => "DELETE",
        _ => "other",
    }
}

/// Whether the request changes something.
fn is_mutating(info: &RequestInfo) -> bool {
    matches!(
        info.verb.as_str(),
        "create" | "update" | "patch" | "delete" | "deletecollection"
    )
}

/// `mutating` or `readOnly`.
pub(crate) fn request_kind(info: &RequestInfo) -> &'static str {
    if is_mutating(info) { "mutating" } else { "readOnly" }
}
