//! The one place that writes objects: a compare-and-swap of the object's key and of the claims
//! it gains and loses, in one transaction.

use std::collections::BTreeSet;

use api::{Status, Value};
use bytes::Bytes;
use store::{Compare, KeyValue, Op, OpResult, Txn};

use super::metadata;
use crate::codec;
use crate::kind::{Claim, ClaimObjects};
use crate::resource::{Resource, store_status, stored_bytes};

/// What the key must be like for the write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It must not exist.
    Absent,
    /// It must have been written last at this revision.
    Revision(i64),
}

impl Expect {
    /// The key's revision; 0 if there is none.
    fn revision(self) -> i64 {
        match self {
            Expect::Absent => 0,
            Expect::Revision(revision) => revision,
        }
    }
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is durable, at this revision; with the bytes that were stored, unless it was deleted.
    Done(i64, Option<Bytes>),
    /// The key was not as expected: what it holds.
    Conflict(Option<KeyValue>),
    /// The key was as expected, but a claimed value had been taken.
    ClaimTaken,
}

/// A write of one object.
pub(crate) struct Write<'a> {
    pub resource: &'a Resource,
    pub key: String,
    pub expect: Expect,
    /// The object in the served version; `None` deletes it.
    pub object: Option<&'a Value>,
    /// The object before, in the served version.
    pub old: Option<&'a Value>,
}

/// The store's key of a claim that an object of this resource holds.
pub(crate) fn claim_key(resource: &Resource, claim: &Claim) -> String {
    let prefix = claim_objects(resource, claim).map_or_else(|| claim_prefix(&claim.pool), ClaimObjects::prefix);
    format!("{prefix}{}", claim.value)
}

fn claim_objects<'r>(resource: &'r Resource, claim: &Claim) -> Option<&'r ClaimObjects> {
    let objects = resource.kind.allocation.as_ref()?.objects.as_ref()?;
    objects.pools.contains(&claim.pool.as_str()).then_some(objects)
}

/// What is stored as the claim: an object, or who holds it.
pub(crate) fn claim_bytes(resource: &Resource, claim: &Claim, holder: &Value) -> Vec<u8> {
    let Some(objects) = claim_objects(resource, claim) else {
        let (namespace, name) = (api::meta::namespace(holder), api::meta::name(holder));
        return resource.key(namespace, name).into_bytes();
    };
    let mut object = (objects.object)(claim, holder);
    metadata::fill_system_fields(&mut object, jiff::Timestamp::now());
    codec::to_json(&object).to_vec()
}

/// The prefix of a pool's claims.
pub(crate) fn claim_prefix(pool: &str) -> String {
    format!("/registry/allocations/{pool}/")
}

/// The claims of an object that may be absent.
pub(crate) fn claims(resource: &Resource, object: Option<&Value>) -> BTreeSet<Claim> {
    match (&resource.kind.allocation, object) {
        (Some(allocation), Some(object)) => (allocation.held)(object),
        _ => BTreeSet::new(),
    }
}

impl Write<'_> {
    /// The expectation; where the cache shows the same, with how new that is, which spares the store a look.
    fn compare(&self) -> Compare {
        let (key, expected) = (self.key.clone(), self.expect.revision());
        match self.resource.cache.started().map(|cache| cache.seen(&self.key)) {
            Some((since, revision)) if since > 0 && revision == expected => Compare::Unchanged { key, revision, since },
            _ if expected == 0 => Compare::Absent(key),
            _ => Compare::ModRevision {
                key,
                revision: expected,
            },
        }
    }

    async fn txn(&self) -> Result<(Txn, Option<Bytes>), Status> {
        let compare = self.compare();
        let mut bytes = None;
        let op = match self.object {
            None => Op::delete(&*self.key),
            Some(object) => {
                let stored = bytes.insert(stored_bytes(&self.resource.kind, object).await?).clone();
                match self.resource.kind.ttl {
                    Some(ttl) => Op::put_ttl(&*self.key, stored, ttl),
                    None => Op::put(&*self.key, stored),
                }
            }
        };
        let mut txn = Txn {
            compare: vec![compare],
            success: vec![op],
            failure: vec![Op::get(&*self.key)],
        };
        let (new, old) = (claims(self.resource, self.object), claims(self.resource, self.old));
        for gained in new.difference(&old) {
            let key = claim_key(self.resource, gained);
            txn.compare.push(Compare::Absent(key.clone()));
            let bytes = self.object.map(|holder| claim_bytes(self.resource, gained, holder));
            txn.success.push(Op::put(key, bytes.unwrap_or_default()));
        }
        txn.success.extend(
            old.difference(&new)
                .map(|lost| Op::delete(claim_key(self.resource, lost))),
        );
        Ok((txn, bytes))
    }

    /// Runs the transaction; it is durable when this returns [`Outcome::Done`].
    ///
    /// # Errors
    /// The store's failure, as clients see it.
    pub async fn run(&self, store: &store::Store) -> Result<Outcome, Status> {
        let (txn, stored) = self.txn().await?;
        let response = store.txn(txn).await.map_err(store_status)?;
        if response.succeeded {
            return Ok(Outcome::Done(response.revision, stored));
        }
        let found = match response.results.into_iter().next() {
            Some(OpResult::Get(found)) => found,
            _ => None,
        };
        let as_expected = match (self.expect, &found) {
            (Expect::Absent, None) => true,
            (Expect::Revision(revision), Some(kv)) => kv.mod_revision == revision,
            _ => false,
        };
        Ok(if as_expected {
            Outcome::ClaimTaken
        } else {
            Outcome::Conflict(found)
        })
    }
}
