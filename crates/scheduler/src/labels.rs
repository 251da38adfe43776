//! A pod's labels, shared by all pods that have the same.

use std::collections::BTreeMap;

use api::labels::LabelSet;

/// Labels in order of their keys. Immutable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Those of an object.
    #[must_use]
    pub fn of(map: Option<&BTreeMap<String, String>>) -> Labels {
        let pairs = map.into_iter().flatten();
        Labels(
            pairs
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
        )
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        if self.0.len() <= 8 {
            return self.0.iter().find(|(k, _)| &**k == key).map(|(_, value)| &**value);
        }
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl LabelSet for Labels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}
