//! Mending the claims at start, from the objects that hold them.

use std::collections::{BTreeMap, BTreeSet};

use api::{Status, Value, meta};
use store::{Compare, KeyValue, Op, Range as KeyRange, Store, Txn};

use super::Pools;
use crate::resource::{Registry, Resource, store_status, to_served};
use crate::verbs::persist::{claim_bytes, claim_key, claim_prefix, claims};

/// A claim that should be there.
struct Wanted {
    /// The object that holds it, at which revision.
    holder: String,
    revision: i64,
    bytes: Vec<u8>,
}

/// Compares claims and objects as of one revision and mends the claims. Safe beside running
/// servers: each repair holds only if what it was concluded from is unchanged.
///
/// # Errors
/// The store's failure.
pub(crate) async fn repair(store: &Store, registry: &Registry, pools: &Pools) -> Result<usize, Status> {
    let mut repaired = 0;
    let revision = store.revision();
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    // Claims of pools that have objects for them now may be left from before.
    let mut prefixes: BTreeMap<String, Option<&str>> = BTreeMap::new();
    for name in pools.names() {
        prefixes.insert(claim_prefix(name), None);
    }
    for resource in registry.all() {
        let Some(allocation) = &resource.kind.allocation else {
            continue;
        };
        if let Some(objects) = &allocation.objects {
            prefixes.insert(objects.prefix(), Some(&objects.managed_by));
        }
        for kv in stored(store, &resource.prefix, revision).await? {
            collect(resource, &kv, &mut wanted);
        }
    }
    for (prefix, managed_by) in prefixes {
        for kv in stored(store, &prefix, revision).await? {
            if wanted.remove(&*kv.key).is_some() || !is_ours(&kv, managed_by) {
                continue;
            }
            let txn = Txn::delete(&*kv.key, kv.mod_revision);
            repaired += usize::from(store.txn(txn).await.map_err(store_status)?.succeeded);
        }
    }
    for (key, wanted) in wanted {
        let txn = Txn {
            compare: vec![
                Compare::Absent(key.clone()),
                Compare::ModRevision {
                    key: wanted.holder,
                    revision: wanted.revision,
                },
            ],
            success: vec![Op::put(key, wanted.bytes)],
            failure: Vec::new(),
        };
        repaired += usize::from(store.txn(txn).await.map_err(store_status)?.succeeded);
    }
    Ok(repaired)
}

async fn stored(store: &Store, prefix: &str, revision: i64) -> Result<Vec<KeyValue>, Status> {
    let range = KeyRange::prefix(prefix).at(revision);
    Ok(store.range(range).await.map_err(store_status)?.kvs)
}

fn collect(resource: &Resource, kv: &KeyValue, wanted: &mut BTreeMap<String, Wanted>) {
    let Ok(stored) = serde_json::from_slice::<Value>(&kv.value) else {
        return;
    };
    let object = to_served(&resource.kind, stored);
    for claim in claims(resource, Some(&object)) {
        wanted.entry(claim_key(resource, &claim)).or_insert_with(|| Wanted {
            holder: kv.key.to_string(),
            revision: kv.mod_revision,
            bytes: claim_bytes(resource, &claim, &object),
        });
    }
}

/// Whether a claim is one that this server makes: objects of the same kind may be anybody's.
fn is_ours(kv: &KeyValue, managed_by: Option<&str>) -> bool {
    let Some((label, value)) = managed_by.and_then(|label| label.split_once('=')) else {
        return true;
    };
    let object: Option<Value> = serde_json::from_slice(&kv.value).ok();
    let labels: BTreeSet<(String, String)> = object.iter().flat_map(meta::labels).collect();
    labels.contains(&(label.to_owned(), value.to_owned()))
}
