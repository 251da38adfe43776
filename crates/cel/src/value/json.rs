//! A place in a shared JSON tree, so that values can be looked into without being copied.

use std::fmt;
use std::sync::Arc;

use yoke::Yoke;

type Tree = serde_json::Value;

/// A node of a JSON tree together with a share of the tree. Cheap to clone.
#[derive(Clone)]
pub struct Json(Yoke<&'static Tree, Arc<Tree>>);

impl Json {
    /// The root of a tree.
    pub fn new(tree: Arc<Tree>) -> Self {
        Self(Yoke::attach_to_cart(tree, |tree| tree))
    }

    /// The node.
    pub fn value(&self) -> &Tree {
        self.0.get()
    }

    /// A member of an object.
    pub fn field(&self, name: &str) -> Option<Json> {
        self.0
            .try_map_project_cloned(|node, _| node.get(name).ok_or(()))
            .ok()
            .map(Json)
    }

    /// An element of an array.
    pub fn index(&self, index: usize) -> Option<Json> {
        self.0
            .try_map_project_cloned(|node, _| node.get(index).ok_or(()))
            .ok()
            .map(Json)
    }

    /// The node's text, when it is a string.
    pub fn text(&self) -> Option<Text> {
        self.0
            .try_map_project_cloned(|node, _| node.as_str().ok_or(()))
            .ok()
            .map(|text| Text(Repr::Json(text)))
    }
}

impl From<Arc<Tree>> for Json {
    fn from(tree: Arc<Tree>) -> Self {
        Self::new(tree)
    }
}

impl From<Tree> for Json {
    fn from(tree: Tree) -> Self {
        Self::new(Arc::new(tree))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(out)
    }
}

/// A string that is shared or lies in a shared JSON tree. Cheap to clone.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Shared(Arc<str>),
    Json(Yoke<&'static str, Arc<Tree>>),
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        match &self.0 {
            Repr::Shared(text) => text,
            Repr::Json(text) => text.get(),
        }
    }
}

impl<T: Into<Arc<str>>> From<T> for Text {
    fn from(text: T) -> Self {
        Self(Repr::Shared(text.into()))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self)
    }
}
