//! What a request asks for, read off its method, path and query
//! (upstream `endpoints/request/requestinfo.go`).

mod query;

use http::Method;

pub use query::{Query, percent_decode};

/// A parsed request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about an API resource; otherwise only `path` and `verb` mean something.
    pub is_resource: bool,
    /// The path as sent.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, … or, for other paths, the lower-case method.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The API version.
    pub version: String,
    /// The namespace; empty for cluster-wide requests.
    pub namespace: String,
    /// The resource (plural).
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The object's name; for lists and watches the one a field selector asks for.
    pub name: String,
    /// Whether the name stands in the path.
    pub named: bool,
    /// Path segments from the resource on: resource, name, subresource, more.
    pub parts: Vec<String>,
    /// Whether the path had the deprecated `watch/` prefix.
    pub watch_prefix: bool,
}

/// Segments after `/namespaces/NAME/` that are subresources of the namespace, not resources in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads method, path and query.
    pub fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
        let mut info = RequestInfo {
            path: path.to_owned(),
            verb: method.as_str().to_lowercase(),
            ..RequestInfo::default()
        };
        // Go's server decodes a path before anybody takes it apart.
        let decoded = query::percent_decode(path);
        let segments: Vec<String> = decoded.trim_matches('/').split('/').map(str::to_owned).collect();
        let (group, rest): (&str, &[String]) = match segments.first().map(String::as_str) {
            Some("api") if segments.len() >= 3 => ("", &segments[1..]),
            Some("apis") if segments.len() >= 4 => (&segments[1], &segments[2..]),
            _ => return info,
        };
        info.is_resource = true;
        info.group = group.to_owned();
        info.version = rest[0].clone();
        info.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_owned();
        let mut parts = &rest[1..];
        if parts[0] == "watch" && parts.len() > 1 {
            info.verb = "watch".to_owned();
            info.watch_prefix = true;
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            info.namespace = parts[1].clone();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts = &parts[2..];
            }
        }
        info.parts = parts.to_vec();
        info.resource = parts[0].clone();
        info.name = parts.get(1).cloned().unwrap_or_default();
        info.named = !info.name.is_empty();
        info.subresource = parts.get(2).cloned().unwrap_or_default();
        info.refine_collection_verb(query);
        info
    }

    /// A request without a name is a list, watch or deletecollection.
    fn refine_collection_verb(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
        }
        if !self.named
            && matches!(self.verb.as_str(), "list" | "watch")
            && let Some(text) = query.get("fieldSelector")
            && let Some(name) = exact_name(text)
        {
            self.name = name;
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_owned();
        }
    }

    /// Whether a deadline does not apply (watch, proxy, streaming subresources).
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(
                self.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
    }
}

/// The name a field selector requires, if it does and the name can stand in a path.
fn exact_name(selector: &str) -> Option<String> {
    let selector = api::fields::Selector::parse(selector).ok()?;
    let name = selector.exact("metadata.name")?.to_owned();
    api::validate::path_segment_name(&name).is_empty().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    /// (method, path, verb, group, version, namespace, resource, subresource, name) of upstream's
    /// `requestinfo_test.go`.
    #[test]
    fn resource_requests() {
        let table = [
            ("GET", "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            (
                "GET",
                "/api/v1/namespaces/other",
                "get",
                "",
                "v1",
                "other",
                "namespaces",
                "",
                "other",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods",
                "list",
                "",
                "v1",
                "other",
                "pods",
                "",
                "",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods/foo",
                "get",
                "",
                "v1",
                "other",
                "pods",
                "",
                "foo",
            ),
            (
                "HEAD",
                "/api/v1/namespaces/other/pods/foo",
                "get",
                "",
                "v1",
                "other",
                "pods",
                "",
                "foo",
            ),
            ("GET", "/api/v1/pods/", "list", "", "v1", "", "pods", "", ""),
            ("POST", "/api/v1/pods", "create", "", "v1", "", "pods", "", ""),
            (
                "PUT",
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "v1",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (
                "PUT",
                "/api/v1/namespaces/other/status",
                "update",
                "",
                "v1",
                "other",
                "namespaces",
                "status",
                "other",
            ),
            ("GET", "/api/v1/watch/pods", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=true", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/pods?watch=0", "list", "", "v1", "", "pods", "", ""),
            (
                "GET",
                "/api/v1/watch/namespaces/other/pods/foo",
                "watch",
                "",
                "v1",
                "other",
                "pods",
                "",
                "foo",
            ),
            (
                "GET",
                "/api/v1/namespaces/other/pods/foo/status",
                "get",
                "",
                "v1",
                "other",
                "pods",
                "status",
                "foo",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/other/deployments",
                "deletecollection",
                "apps",
                "v1",
                "other",
                "deployments",
                "",
                "",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/other/deployments/foo/",
                "patch",
                "apps",
                "v1",
                "other",
                "deployments",
                "",
                "foo",
            ),
            (
                "GET",
                "/api/v1/nodes?fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "v1",
                "",
                "nodes",
                "",
                "foo",
            ),
        ];
        for (method, uri, verb, group, version, ns, resource, sub, name) in table {
            let info = parse(method, uri);
            assert!(info.is_resource, "{uri}");
            let got = (&*info.verb, &*info.group, &*info.version, &*info.namespace);
            assert_eq!(got, (verb, group, version, ns), "{uri}");
            let got = (&*info.resource, &*info.subresource, &*info.name);
            assert_eq!(got, (resource, sub, name), "{uri}");
        }
    }

    #[test]
    fn other_paths() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps",
            "/apis/apps/v1",
            "/healthz",
            "/apis",
        ] {
            let info = parse("GET", path);
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }
}
