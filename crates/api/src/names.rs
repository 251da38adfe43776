//! Names of kinds and resources: group, version, kind, resource.

use std::fmt;

use serde_json::{Map, Value};

/// An API group and version, such as `apps/v1`, or `v1` for the core group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// The group; empty for the core group.
    pub group: String,
    /// The version, such as `v1`.
    pub version: String,
}

/// A string is not of the form `version` or `group/version`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseGroupVersionError(pub String);

impl GroupVersion {
    /// A group and version by name.
    pub fn new(group: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
        }
    }

    /// Parses the wire form. The empty string and `/` give the empty pair, as upstream's
    /// `schema.ParseGroupVersion` does.
    pub fn parse(text: &str) -> Result<Self, ParseGroupVersionError> {
        if text.is_empty() || text == "/" {
            return Ok(Self::default());
        }
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(version), None, _) => Ok(Self::new("", version)),
            (Some(group), Some(version), None) => Ok(Self::new(group, version)),
            _ => Err(ParseGroupVersionError(text.to_owned())),
        }
    }

    /// The wire form for `apiVersion`: `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        self.to_string()
    }

    /// The kind of this name in this group and version.
    pub fn with_kind(&self, kind: impl Into<String>) -> Gvk {
        Gvk::new(self.group.clone(), self.version.clone(), kind)
    }

    /// The resource of this name in this group and version.
    pub fn with_resource(&self, resource: impl Into<String>) -> Gvr {
        Gvr::new(self.group.clone(), self.version.clone(), resource)
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

/// A kind with its group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind, in CamelCase.
    pub kind: String,
}

impl Gvk {
    /// A kind by its three names.
    pub fn new(group: impl Into<String>, version: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }

    /// The kind that an object claims for itself; `None` when `apiVersion` or `kind` is missing
    /// or malformed.
    pub fn of(object: &Value) -> Option<Self> {
        let kind = object.get("kind")?.as_str().filter(|kind| !kind.is_empty())?;
        let api_version = object.get("apiVersion")?.as_str().filter(|text| !text.is_empty())?;
        Some(GroupVersion::parse(api_version).ok()?.with_kind(kind))
    }

    /// Writes `apiVersion` and `kind` into an object.
    pub fn stamp(&self, object: &mut Value) {
        if !object.is_object() {
            *object = Value::Object(Map::new());
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("apiVersion".to_owned(), Value::String(self.api_version()));
            map.insert("kind".to_owned(), Value::String(self.kind.clone()));
        }
    }

    /// The group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group.clone(), self.version.clone())
    }

    /// The wire form of group and version.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// The kind with its group only.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind {
            group: self.group.clone(),
            kind: self.kind.clone(),
        }
    }
}

impl fmt::Display for Gvk {
    /// As upstream prints it in messages: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// A resource with its group and version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The plural resource name.
    pub resource: String,
}

impl Gvr {
    /// A resource by its three names.
    pub fn new(group: impl Into<String>, version: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
        }
    }

    /// The group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group.clone(), self.version.clone())
    }

    /// The wire form of group and version.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// The resource with its group only.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        }
    }

    /// The URL path of the collection, cluster-wide or in one namespace.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|name| !name.is_empty()) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.resource);
        path
    }
}

impl fmt::Display for Gvr {
    /// As upstream prints it in messages: `apps/v1, Resource=deployments`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

/// A kind with its group; the subject of `Invalid` errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// The group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
}

impl GroupKind {
    /// A kind by its two names.
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.kind, &self.group)
    }
}

/// A resource with its group; the subject of most errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// The group; empty for the core group.
    pub group: String,
    /// The plural resource name.
    pub resource: String,
}

impl GroupResource {
    /// A resource by its two names.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
        }
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.group.is_empty() && self.resource.is_empty()
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.resource, &self.group)
    }
}

fn dotted(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    f.write_str(name)?;
    if group.is_empty() {
        Ok(())
    } else {
        write!(f, ".{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn group_versions_round_trip() {
        for (text, group, version) in [("v1", "", "v1"), ("apps/v1", "apps", "v1"), ("", "", ""), ("/", "", "")] {
            assert_eq!(
                GroupVersion::parse(text),
                Ok(GroupVersion::new(group, version)),
                "{text}"
            );
        }
        assert!(GroupVersion::parse("a/b/c").is_err());
        assert_eq!(GroupVersion::new("apps", "v1").api_version(), "apps/v1");
        assert_eq!(GroupVersion::new("", "v1").api_version(), "v1");
    }

    #[test]
    fn names_print_as_upstream_prints_them() {
        assert_eq!(
            GroupResource::new("apps", "deployments").to_string(),
            "deployments.apps"
        );
        assert_eq!(GroupResource::new("", "pods").to_string(), "pods");
        assert_eq!(Gvk::new("", "v1", "Pod").to_string(), "/v1, Kind=Pod");
        assert_eq!(
            Gvr::new("apps", "v1", "deployments").path(Some("x")),
            "/apis/apps/v1/namespaces/x/deployments"
        );
        assert_eq!(Gvr::new("", "v1", "pods").path(None), "/api/v1/pods");
    }

    #[test]
    fn a_kind_is_read_from_and_written_to_an_object() {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
        let gvk = Gvk::of(&object).unwrap();
        assert_eq!(gvk, Gvk::new("apps", "v1", "Deployment"));
        Gvk::new("", "v1", "Pod").stamp(&mut object);
        assert_eq!(object, json!({"apiVersion": "v1", "kind": "Pod"}));
        assert_eq!(Gvk::of(&json!({"kind": "Pod"})), None);
    }
}
