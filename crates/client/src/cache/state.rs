//! The content of a cache and its indexes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Key, index};
use crate::Object;

pub(super) struct State<K> {
    objects: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<K>>>,
    len: usize,
    indexes: Vec<Index<K>>,
}

struct Index<K> {
    name: &'static str,
    values: fn(&K) -> Vec<String>,
    entries: HashMap<String, BTreeSet<Key>>,
}

impl<K: Object> Index<K> {
    fn insert(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            self.entries.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &K) {
        for value in (self.values)(object) {
            if let Some(keys) = self.entries.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
    }
}

impl<K: Object> State<K> {
    pub(super) fn new() -> Self {
        let mut state = Self {
            objects: BTreeMap::new(),
            len: 0,
            indexes: Vec::new(),
        };
        state.add_index(index::OWNER, index::owner::<K>);
        state
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(namespace)?.get(name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values().flat_map(BTreeMap::values)
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.objects.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let index = self.indexes.iter().find(|index| index.name == name);
        let index = index.unwrap_or_else(|| panic!("the {} cache has no index {name:?}", K::KIND));
        let keys = index.entries.get(value).into_iter().flatten();
        keys.filter_map(|key| self.get(&key.namespace, &key.name).cloned())
            .collect()
    }

    pub(super) fn add_index(&mut self, name: &'static str, values: fn(&K) -> Vec<String>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index {
            name,
            values,
            entries: HashMap::new(),
        };
        for object in self.all() {
            index.insert(&Key::of(&**object), object);
        }
        self.indexes.push(index);
    }

    /// Puts an object; answers with the one it replaces.
    pub(super) fn insert(&mut self, key: &Key, object: Arc<K>) -> Option<Arc<K>> {
        let objects = match self.objects.get_mut(&key.namespace) {
            Some(objects) => objects,
            None => self.objects.entry(key.namespace.clone()).or_default(),
        };
        let old = objects.insert(key.name.clone(), object.clone());
        if old.is_none() {
            self.len += 1;
        }
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(key, old);
            }
            index.insert(key, &object);
        }
        old
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let objects = self.objects.get_mut(&key.namespace)?;
        let old = objects.remove(&key.name)?;
        if objects.is_empty() {
            self.objects.remove(&key.namespace);
        }
        self.len -= 1;
        for index in &mut self.indexes {
            index.remove(key, &old);
        }
        Some(old)
    }
}
