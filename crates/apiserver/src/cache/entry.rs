//! One object at one revision, with what was made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// What selectors look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// The object's labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The selectable fields besides `metadata.name` and `metadata.namespace`, by name, those that are
    /// empty left out.
    fields: Box<[(Arc<str>, Box<str>)]>,
}

impl Indexed {
    /// These labels and fields.
    pub fn new(labels: Arc<BTreeMap<String, String>>, mut fields: Vec<(Arc<str>, Box<str>)>) -> Indexed {
        fields.sort();
        fields.dedup_by(|a, b| a.0 == b.0);
        Indexed {
            labels,
            fields: fields.into(),
        }
    }

    /// A field's value, unless it is empty.
    pub fn field(&self, name: &str) -> Option<&str> {
        let at = self.fields.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.fields[at].1)
    }
}

/// Writes a revision into an object.
pub type Stamp = dyn Fn(&Bytes, i64) -> Bytes + Send + Sync;

/// Brings stored objects into the form that a cache holds, in their order; many at once, as a webhook
/// may be asked.
pub type Conversion = Arc<dyn Fn(Vec<Bytes>) -> BoxFuture<'static, Result<Vec<Bytes>, api::Status>> + Send + Sync>;

/// What the bytes of a type mean; both functions run once for each change.
#[derive(Clone)]
pub struct Codec {
    /// Labels and fields of a stored object.
    pub index: Arc<dyn Fn(&Bytes) -> Indexed + Send + Sync>,
    /// The object with `metadata.resourceVersion` set to the revision, whether or not it had one
    /// ([`super::stamp_resource_version`] does this for JSON).
    pub stamp: Arc<Stamp>,
}

/// Encodings that are made at most once for each object and revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The object in protobuf.
    Protobuf,
    /// The row of a Table, in JSON, with the object's metadata.
    TableRow,
    /// The row of a Table, in JSON, without an object.
    TableRowBare,
    /// PartialObjectMetadata in JSON.
    Metadata,
    /// PartialObjectMetadata in protobuf.
    MetadataProtobuf,
}

const ENCODINGS: usize = 5;

/// One object at one revision. Shared by all who read or watch it.
pub struct Entry {
    key: Arc<str>,
    /// Where the namespace and the name begin in the key.
    namespace_at: usize,
    name_at: usize,
    /// The revision that wrote it; of a DELETED event's object, the revision of the deletion.
    pub revision: i64,
    /// The object in JSON, with its `metadata.resourceVersion`.
    pub json: Bytes,
    /// What selectors look at.
    pub indexed: Arc<Indexed>,
    encodings: OnceLock<Box<[OnceLock<Bytes>; ENCODINGS]>>,
}

impl Entry {
    /// The store's key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The namespace; empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        let end = self.name_at.saturating_sub(1).max(self.namespace_at);
        if self.name_at == self.namespace_at {
            ""
        } else {
            &self.key[self.namespace_at..end]
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.key[self.name_at..]
    }

    /// The labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.indexed.labels
    }

    /// A selectable field's value, empty if there is none; `metadata.name` and `metadata.namespace` always
    /// work.
    pub fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => self.indexed.field(path).unwrap_or(""),
        }
    }

    /// The object in another encoding, made by the first who asks.
    pub fn encoded(&self, encoding: Encoding, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        let slots = self.encodings.get_or_init(Default::default);
        slots[encoding as usize].get_or_init(|| make(self)).clone()
    }

    /// An object of no namespace that is in no store.
    pub fn unstored(key: String, prefix_len: usize, json: Bytes, indexed: Indexed) -> Self {
        Self::new(key.into(), prefix_len, false, 0, json, Arc::new(indexed))
    }

    pub(super) fn new(
        key: Arc<str>,
        prefix_len: usize,
        namespaced: bool,
        revision: i64,
        json: Bytes,
        indexed: Arc<Indexed>,
    ) -> Self {
        let slash = if namespaced { key[prefix_len..].find('/') } else { None };
        let name_at = slash.map_or(prefix_len, |slash| prefix_len + slash + 1);
        Self {
            key,
            namespace_at: prefix_len,
            name_at,
            revision,
            json,
            indexed,
            encodings: OnceLock::new(),
        }
    }

    /// The same object as seen at another revision.
    pub(super) fn at_revision(&self, revision: i64, stamp: impl FnOnce(&Bytes, i64) -> Bytes) -> Self {
        Self {
            key: Arc::clone(&self.key),
            namespace_at: self.namespace_at,
            name_at: self.name_at,
            revision,
            json: stamp(&self.json, revision),
            indexed: Arc::clone(&self.indexed),
            encodings: OnceLock::new(),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
