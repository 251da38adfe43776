//! What selectors look at, read off stored JSON without building all of the object.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use api::{Map, Value};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{is_cached_version, to_served};
use crate::cache::Indexed;
use crate::kind::Kind;

/// Never selectable, and much of many objects.
const SKIPPED_METADATA: [&str; 2] = ["annotations", "managedFields"];
/// No field of a built-in kind is selected by what is in these.
const SKIPPED: [&str; 9] = [
    "conditions",
    "containerStatuses",
    "containers",
    "ephemeralContainers",
    "initContainerStatuses",
    "initContainers",
    "template",
    "tolerations",
    "volumes",
];
/// So many different sets of labels are remembered.
const REMEMBERED: usize = 1024;

/// Reads labels and fields, for all kinds that share a storage.
pub(super) struct Indexer {
    kinds: Vec<Kind>,
    reads: Reads,
    names: HashSet<Arc<str>>,
    /// Objects made from one template have equal labels: they share them.
    labels: Mutex<HashSet<Arc<BTreeMap<String, String>>>>,
}

/// How much of the objects has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// The metadata: no field is selectable.
    Metadata,
    /// And the rest, but for what is heavy.
    Light,
    /// Everything: fields of custom resources, or of other versions.
    All,
}

impl Indexer {
    pub fn new(kinds: Vec<Kind>) -> Indexer {
        let selectable = || kinds.iter().filter(|kind| !kind.selectable.is_empty());
        let simple = |kind: &Kind| kind.custom.is_none() && is_cached_version(kind);
        let reads = match selectable().count() {
            0 => Reads::Metadata,
            _ if selectable().all(simple) => Reads::Light,
            _ => Reads::All,
        };
        let names = kinds.iter().flat_map(|kind| &kind.selectable);
        Indexer {
            reads,
            names: names.map(|field| Arc::from(&*field.name)).collect(),
            kinds,
            labels: Mutex::default(),
        }
    }

    /// Labels, and the selectable fields of every version that shares the storage.
    pub fn index(&self, bytes: &Bytes) -> Indexed {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let Ok(object) = (Top(self.reads)).deserialize(&mut json) else {
            return Indexed::default();
        };
        let mut fields: Vec<(Arc<str>, Box<str>)> = Vec::new();
        for kind in self.kinds.iter().filter(|kind| !kind.selectable.is_empty()) {
            let mut served = None;
            let view = if is_cached_version(kind) {
                &object
            } else {
                served.insert(to_served(kind, object.clone()))
            };
            for field in &kind.selectable {
                let value = (field.extract)(view);
                if let Some(name) = self.names.get(&*field.name).filter(|_| !value.is_empty()) {
                    fields.push((name.clone(), value.into()));
                }
            }
        }
        Indexed::new(self.shared(api::meta::labels(&object)), fields)
    }

    fn shared(&self, labels: BTreeMap<String, String>) -> Arc<BTreeMap<String, String>> {
        let mut known = self.labels.lock();
        if let Some(same) = known.get(&labels) {
            return same.clone();
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let labels = Arc::new(labels);
        known.insert(labels.clone());
        labels
    }
}

/// The object.
struct Top(Reads);

impl<'de> DeserializeSeed<'de> for Top {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let skipped: &[&str] = match (&*key, self.0) {
                ("metadata", _) => &SKIPPED_METADATA,
                (_, Reads::Metadata) => {
                    access.next_value::<IgnoredAny>()?;
                    continue;
                }
                (_, Reads::Light) => &SKIPPED,
                (_, Reads::All) => &[],
            };
            let value = access.next_value_seed(Part(skipped))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A field of the object: without some of its own fields, if it is an object.
struct Part(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if self.0.contains(&&*key) {
                access.next_value::<IgnoredAny>()?;
            } else {
                map.insert(key, access.next_value()?);
            }
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::SelectableField;

    #[test]
    fn labels_are_shared_and_fields_found() {
        let pods = Kind::namespaced("", "v1", "Pod", "pods")
            .selectable(SelectableField::path("spec.nodeName"))
            .selectable(SelectableField::path_or("spec.hostNetwork", "false"))
            .selectable(SelectableField::path("status.phase"));
        let indexer = Indexer::new(vec![pods]);
        assert_eq!(indexer.reads, Reads::Light);
        let pod = Bytes::from_static(
            br#"{"kind":"Pod","metadata":{"annotations":{"a":"b"},"labels":{"l":"x"},"managedFields":[{"a":1}]},
                "spec":{"containers":[{"name":"c"}],"nodeName":"n"},"status":null,"list":[1,-2,1.5,true]}"#,
        );
        let (one, other) = (indexer.index(&pod), indexer.index(&pod));
        assert_eq!(one, other);
        assert!(Arc::ptr_eq(&one.labels, &other.labels));
        assert_eq!(one.field("spec.nodeName"), Some("n"));
        assert_eq!(one.field("spec.hostNetwork"), Some("false"));
        assert_eq!(one.field("status.phase"), None);
        assert_eq!(indexer.index(&Bytes::from_static(b"no")), Indexed::default());
    }

    #[test]
    fn kinds_without_fields_need_their_metadata_only() {
        let indexer = Indexer::new(vec![Kind::namespaced("", "v1", "ConfigMap", "configmaps")]);
        let map = Bytes::from_static(br#"{"data":{"k":"v"},"metadata":{"labels":{"l":"x"}}}"#);
        assert_eq!(indexer.reads, Reads::Metadata);
        assert_eq!(indexer.index(&map).labels["l"], "x");
    }
}
