//! Parameters of requests; each becomes query parameters or a DeleteOptions body.

use serde::Serialize;

/// How a patch's body is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes strategic merge.
    Strategic,
    /// Server-side apply; needs a field manager.
    Apply,
}

impl PatchKind {
    /// The patch's media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }
}

/// What a list (or deletecollection) selects.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// Label selector in string form.
    pub label_selector: String,
    /// Field selector in string form.
    pub field_selector: String,
    /// Page size; 0 is no limit.
    pub limit: u32,
    /// Token of the previous page.
    pub continue_token: String,
    /// Revision asked for; empty is the most recent.
    pub resource_version: String,
    /// `Exact` or `NotOlderThan`, when `resource_version` is given.
    pub resource_version_match: String,
}

impl ListParams {
    /// Everything that matches a label selector.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self {
            label_selector: selector.into(),
            ..Self::default()
        }
    }

    /// Everything that matches a field selector.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self {
            field_selector: selector.into(),
            ..Self::default()
        }
    }

    pub(crate) fn query(&self, query: &mut Query) {
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        if self.limit > 0 {
            query.text("limit", &self.limit.to_string());
        }
        query.text("continue", &self.continue_token);
        query.text("resourceVersion", &self.resource_version);
        query.text("resourceVersionMatch", &self.resource_version_match);
    }
}

/// What a watch selects and where it starts.
#[derive(Clone, Debug, Default)]
pub struct WatchParams {
    /// Label selector in string form.
    pub label_selector: String,
    /// Field selector in string form.
    pub field_selector: String,
    /// Events after this revision.
    pub resource_version: String,
    /// Ask for bookmarks.
    pub bookmarks: bool,
    /// The server ends the watch after this time; 0 is the server's default.
    pub timeout_seconds: u32,
    /// Begin with the present state as ADDED events, ended by a bookmark.
    pub send_initial_events: bool,
}

impl WatchParams {
    pub(crate) fn query(&self, query: &mut Query) {
        query.text("watch", "true");
        query.text("labelSelector", &self.label_selector);
        query.text("fieldSelector", &self.field_selector);
        query.text("resourceVersion", &self.resource_version);
        if self.bookmarks {
            query.text("allowWatchBookmarks", "true");
        }
        if self.send_initial_events {
            query.text("sendInitialEvents", "true");
            query.text("resourceVersionMatch", "NotOlderThan");
        }
        if self.timeout_seconds > 0 {
            query.text("timeoutSeconds", &self.timeout_seconds.to_string());
        }
    }
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteParams {
    /// Name recorded in managedFields; empty lets the server derive it from the user agent.
    pub field_manager: String,
    /// `Strict`, `Warn`, `Ignore`, or empty for the server's default.
    pub field_validation: String,
    /// Do everything but the storing.
    pub dry_run: bool,
    /// Take over fields owned by others (server-side apply only).
    pub force: bool,
}

impl WriteParams {
    /// Options with a field manager.
    pub fn manager(name: impl Into<String>) -> Self {
        Self {
            field_manager: name.into(),
            ..Self::default()
        }
    }

    pub(crate) fn query(&self, query: &mut Query) {
        query.text("fieldManager", &self.field_manager);
        query.text("fieldValidation", &self.field_validation);
        if self.dry_run {
            query.text("dryRun", "All");
        }
        if self.force {
            query.text("force", "true");
        }
    }
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    /// Dependents stay, their owner references are removed.
    Orphan,
    /// The object goes first.
    Background,
    /// Dependents that block go first.
    Foreground,
}

/// What must be true of an object for a delete to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// Its UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its resourceVersion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// Options of delete and deletecollection, in the wire form of DeleteOptions.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteParams {
    /// Overrides the kind's grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// What happens to dependents; unset is the kind's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<Propagation>,
    /// What must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    /// `["All"]` does everything but the storing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

impl DeleteParams {
    /// Deletes only the object with this UID.
    pub fn uid(uid: impl Into<String>) -> Self {
        let preconditions = Preconditions {
            uid: Some(uid.into()),
            resource_version: None,
        };
        Self {
            preconditions: Some(preconditions),
            ..Self::default()
        }
    }

    /// With this propagation policy.
    pub fn propagate(mut self, policy: Propagation) -> Self {
        self.propagation_policy = Some(policy);
        self
    }
}

/// A query string in the making; empty values are left out.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        escape(&mut self.0, value);
    }

    pub(crate) fn finish(self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte as char);
            }
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_leave_out_what_is_empty() {
        let mut query = Query::default();
        ListParams::labels("app in (a,b)").query(&mut query);
        assert_eq!(query.finish("/x".into()), "/x?labelSelector=app%20in%20%28a%2Cb%29");
        assert_eq!(Query::default().finish("/x".into()), "/x");
    }

    #[test]
    fn delete_options_have_the_wire_names() {
        let body = serde_json::to_value(DeleteParams::uid("u").propagate(Propagation::Foreground));
        let expected = serde_json::json!({"propagationPolicy": "Foreground", "preconditions": {"uid": "u"}});
        assert_eq!(body.expect("plain data"), expected);
    }
}
