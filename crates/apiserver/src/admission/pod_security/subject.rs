//! What checks look at: a pod's annotations and spec, and how they speak of it.

use std::collections::{BTreeMap, BTreeSet};

use api::{Value, meta};

/// A pod, or a template of one.
pub(super) struct Subject<'a> {
    pub annotations: BTreeMap<String, String>,
    pub spec: &'a Value,
}

/// Why something is not allowed: short for many pods, in detail for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub reason: String,
    pub detail: String,
}

/// A violation by its words.
pub(super) fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation {
        reason: reason.into(),
        detail: detail.into(),
    })
}

/// A field that is there and not null.
pub(super) fn set<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    crate::kind::value_at(value, path).filter(|found| !found.is_null())
}

/// The text at a path, or empty.
pub(super) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    set(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The list at a path, or empty.
pub(super) fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    set(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl<'a> Subject<'a> {
    /// Of a pod or a template.
    pub fn of(object: &'a Value) -> Subject<'a> {
        Subject {
            annotations: meta::annotations(object),
            spec: object.get("spec").unwrap_or(&Value::Null),
        }
    }

    /// All containers: init, ordinary, ephemeral.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |field| list(spec, field))
    }

    /// The names of the containers of which something holds.
    pub fn named(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| holds(container))
            .map(|container| text(container, "name"))
            .collect()
    }

    /// A field of the pod's security context.
    pub fn security(&self, field: &str) -> Option<&'a Value> {
        set(self.spec, "securityContext").and_then(|context| set(context, field))
    }

    /// Whether it says that it runs on Windows, where Linux' restrictions mean nothing.
    pub fn is_windows(&self) -> bool {
        text(self.spec, "os.name") == "windows"
    }

    /// Whether its root is nobody on the host.
    pub fn has_user_namespace(&self) -> bool {
        set(self.spec, "hostUsers").and_then(Value::as_bool) == Some(false)
    }
}

/// A field of a container's security context.
pub(super) fn security<'v>(container: &'v Value, field: &str) -> Option<&'v Value> {
    set(container, "securityContext").and_then(|context| set(context, field))
}

/// `"a", "b"`.
pub(super) fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

/// One or the other.
pub(super) fn plural<'t>(one: &'t str, many: &'t str, count: usize) -> &'t str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers_named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and container "a"`: who sets something, of the two levels it can be set at.
pub(super) fn setters(by_pod: bool, by: &[&str]) -> Vec<String> {
    let mut setters = Vec::new();
    if by_pod {
        setters.push("pod".to_owned());
    }
    if !by.is_empty() {
        setters.push(containers_named(by));
    }
    setters
}

/// Values that were found, each once, sorted.
pub(super) type Found = BTreeSet<String>;
