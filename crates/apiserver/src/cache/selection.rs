//! Which objects a list or a watch is about.

use std::fmt;
use std::sync::Arc;

use super::Entry;

/// A predicate over labels and fields.
pub type Matcher = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// Which objects a list or a watch is about; all conditions hold together.
#[derive(Clone, Default)]
pub struct Selection {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this name.
    pub name: Option<String>,
    /// Only where this field has this value. It is part of the selection, and if the field is one
    /// of [`super::Config::indexed_fields`], a watcher costs nothing for other values' changes.
    pub field: Option<(String, String)>,
    /// Only what this accepts (the whole of the label and field selectors).
    pub matcher: Option<Matcher>,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Everything in a namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..Self::default()
        }
    }

    /// Whether the object is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|namespace| namespace == entry.namespace())
            && self.name.as_ref().is_none_or(|name| name == entry.name())
            && self
                .field
                .as_ref()
                .is_none_or(|(path, value)| entry.field(path) == value)
            && self.matcher.as_ref().is_none_or(|matcher| matcher(entry))
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selection")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("field", &self.field)
            .field("matcher", &self.matcher.is_some())
            .finish()
    }
}
