//! Custom resources: kinds that come and go at run time
//! (`apiextensions-apiserver/pkg/apiserver/customresource_handler.go`).
//!
//! ```text
//!   CustomResourceDefinitions (watch cache) ─► controller ─► definition ─► Kind ─► Registry (swapped)
//!                                                  └─► status: names, conditions; cleanup of instances
//! ```
//!
//! A definition becomes ordinary [`Kind`]s, one a served version, whose [`Custom`] part says how trees
//! are pruned, defaulted, validated and converted. Everything else, the verbs above all, does not know
//! the difference.
//!
//! # Invariants
//! - A definition says Established only after its kinds are in the registry.
//! - Resources of a definition that did not change stay the same objects: watches of them go on.
//! - The cache of a version holds objects as that version serves them.

mod columns;
mod controller;
mod conversion;
mod definition;
mod finalizer;
mod jsonpath;
mod metadata;
mod naming;
mod rules;
mod strategy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::{Gvk, Status, Value};
use bytes::Bytes;
use futures_util::FutureExt;
use schema::structural::{self, Malformed, Node};

use crate::cache;
use crate::codec;

pub(crate) use columns::Columns;
pub(crate) use controller::{request, start};
use conversion::Converter;
use rules::Rules;
pub use rules::definition_errors;

/// What makes a kind a custom one; of one version.
pub(crate) struct Custom {
    /// The version's structural schema, as that of a resource.
    pub node: Node,
    /// The schema as it was declared.
    pub declared: Option<Value>,
    /// The rules of `x-kubernetes-validations`.
    pub rules: Option<Rules>,
    /// The table.
    pub columns: Columns,
    /// What every request is warned of: deprecation.
    pub warning: Option<String>,
    /// What all versions share.
    pub definition: Arc<Shared>,
}

/// What all versions of a definition share.
pub(crate) struct Shared {
    /// The schema of every version, served or not.
    pub versions: BTreeMap<String, Node>,
    pub converter: Converter,
    /// The definition is on its way out: nothing new is created.
    pub terminating: AtomicBool,
}

impl Custom {
    /// Whether new objects are refused.
    pub fn is_terminating(&self) -> bool {
        self.definition.terminating.load(Ordering::Relaxed)
    }

    /// The object of version `from` in the version that is stored.
    ///
    /// # Errors
    /// What a conversion webhook says.
    pub async fn to_storage(&self, from: &Gvk, stored: &Gvk, object: Value) -> Result<Value, Status> {
        if from == stored {
            return Ok(object);
        }
        self.between(stored, object).await
    }

    /// The object in another version than its own.
    ///
    /// # Errors
    /// What a conversion webhook says.
    pub async fn between(&self, wanted: &Gvk, object: Value) -> Result<Value, Status> {
        let mut converted = self.definition.converter.convert(vec![object], wanted).await?;
        converted
            .pop()
            .ok_or_else(|| Status::internal("conversion returned no object"))
    }

    /// Brings a tree into this version's shape; says which members were unknown.
    ///
    /// # Errors
    /// A member of metadata has the wrong type.
    pub fn shape(&self, object: &mut Value) -> Result<Vec<String>, api::field::Error> {
        let mut unknown = structural::coerce(&self.node, object, Malformed::Refuse)?;
        unknown.extend(structural::prune(&self.node, object));
        unknown.sort();
        Ok(unknown)
    }

    /// Shape and defaults; what does not fit is dropped.
    pub fn complete(&self, object: &mut Value) {
        // With malformed members dropped there is no error.
        drop(structural::coerce(&self.node, object, Malformed::Drop));
        structural::prune(&self.node, object);
        structural::drop_nulls(&self.node, object);
        structural::apply_defaults(&self.node, object);
    }
}

/// What stored objects go through to be served as `gvk`: defaults of the version they are stored in,
/// conversion, pruning.
pub(crate) fn on_read(gvk: Gvk, custom: Arc<Custom>) -> cache::Conversion {
    Arc::new(move |stored: Vec<Bytes>| read(gvk.clone(), custom.clone(), stored).boxed())
}

async fn read(gvk: Gvk, custom: Arc<Custom>, stored: Vec<Bytes>) -> Result<Vec<Bytes>, Status> {
    let wanted = gvk.api_version();
    let mut objects = Vec::with_capacity(stored.len());
    let mut foreign = Vec::new();
    for bytes in &stored {
        let mut object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
        let version = api::meta::api_version(&object).to_owned();
        let own = version.rsplit('/').next().unwrap_or_default();
        if let Some(node) = custom.definition.versions.get(own) {
            structural::drop_nulls(node, &mut object);
            structural::apply_defaults(node, &mut object);
        }
        if version != wanted {
            foreign.push(objects.len());
        }
        objects.push(object);
    }
    if !foreign.is_empty() {
        let others = foreign.iter().map(|at| objects[*at].take()).collect();
        let converted = custom.definition.converter.convert(others, &gvk).await?;
        for (at, object) in foreign.into_iter().zip(converted) {
            objects[at] = object;
        }
    }
    Ok(objects
        .into_iter()
        .map(|mut object| {
            drop(structural::coerce(&custom.node, &mut object, Malformed::Drop));
            structural::prune(&custom.node, &mut object);
            codec::to_object_json(&object)
        })
        .collect())
}
