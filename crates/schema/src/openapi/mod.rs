//! OpenAPI documents from the schema and a list of endpoints.
//!
//! [`v3`] makes one document a group version (what `kubectl explain` and client-side checks read),
//! [`v2`] one for all, as JSON; [`gnostic`] turns both into the protobuf forms that clients ask for,
//! [`merge`](mod@merge) adds the documents of other servers. Names, extensions and operation ids are upstream's (kube-openapi `builder`,
//! `builder3`, `pkg/generators`).
//!
//! Building inflates the documentation texts and makes a tree of some megabytes: callers keep the
//! bytes, not the tree.

mod custom;
mod definitions;
mod document;
pub mod gnostic;
pub mod merge;
mod operations;
mod parameters;

use api::{GroupVersion, Gvk};

pub use custom::Custom;
pub use document::{v2, v3};

/// What can be done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection, which also watches it.
    List,
    /// POST of an object.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// GET and POST that become a stream (exec, attach, portforward, proxy).
    Connect,
}

/// What a successful answer carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// The object (or its list).
    #[default]
    Object,
    /// Text or a stream (logs, exec).
    Text,
}

/// A path of the API server that serves a resource or a subresource.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// With `{namespace}`, `{name}` and `{path}` where they vary, such as
    /// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale`.
    pub path: String,
    /// The document it belongs to.
    pub group_version: GroupVersion,
    /// The resource's kind, which names the operations (`Deployment`, also for its `scale`).
    pub kind: String,
    /// `status`, `scale`, …
    pub subresource: Option<String>,
    /// The resource lives in namespaces (also where the path goes across them).
    pub namespaced: bool,
    /// What is read and written there: the kind itself, or `autoscaling/v1 Scale`, `policy/v1 Eviction`, …
    pub object: Gvk,
    /// What can be done there.
    pub verbs: Vec<Verb>,
    /// A kind whose members are query parameters of GET and connect (`PodLogOptions`, …).
    pub options: Option<Gvk>,
    /// What a successful answer carries.
    pub answer: Answer,
}

impl Endpoint {
    /// A path that serves a kind itself.
    pub fn new(path: impl Into<String>, object: Gvk, namespaced: bool, verbs: impl Into<Vec<Verb>>) -> Self {
        Self {
            path: path.into(),
            group_version: object.group_version(),
            kind: object.kind.clone(),
            subresource: None,
            namespaced,
            object,
            verbs: verbs.into(),
            options: None,
            answer: Answer::Object,
        }
    }

    /// The same for a subresource that reads and writes `object`.
    #[must_use]
    pub fn subresource(mut self, name: impl Into<String>, object: Gvk) -> Self {
        self.subresource = Some(name.into());
        self.object = object;
        self
    }
}

/// The two versions of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}
