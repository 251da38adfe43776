//! Pools of unique values: picking, and mending the claims at start.
//!
//! A claim is written in the transaction that writes its object (see `verbs::persist`), so a pick
//! is only a guess at what is free; the transaction decides. The guess is made from a cache of the
//! pool's claims, which are objects of their own where the kind says so.

mod repair;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::{Status, Value, meta};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use store::Store;

use crate::cache::{self, At, Cache, Codec, Indexed, ListParams, Selection};
use crate::kind::{Claim, ClaimObjects, Pick, PickError};
use crate::resource::{Registry, Resource, cache_status};
use crate::verbs::persist::{claim_prefix, claims};

pub(crate) use repair::repair;
pub use values::Values;

/// A pool, by the name that kinds use for it.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The name.
    pub name: String,
    /// The values.
    pub values: Values,
}

/// Random guesses before every value is looked at in turn.
const GUESSES: usize = 32;

/// A pool with what is claimed of it.
struct Known {
    pool: Pool,
    /// The claims, whose keys begin with this.
    prefix: String,
    claims: Cache,
    /// Where more networks are announced.
    announced: Option<Announced>,
}

/// Networks that objects announce, as of a revision.
struct Announced {
    resource: Arc<Resource>,
    networks: fn(&Value) -> Vec<IpNet>,
    seen: ArcSwap<Seen>,
}

/// Networks, and what tells the set of objects that they were read from: the newest one's revision,
/// and how many there were.
#[derive(Default)]
struct Seen {
    newest: i64,
    count: usize,
    networks: Vec<IpNet>,
}

/// The configured pools with what is claimed of them.
pub(crate) struct Pools(HashMap<String, Known>);

impl Pools {
    pub fn new(pools: Vec<Pool>, store: &Store, registry: &Registry) -> Pools {
        let known = |pool: Pool| (pool.name.clone(), Known::new(pool, store, registry));
        Pools(pools.into_iter().map(known).collect())
    }

    /// The names of the pools.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Waits until the claims show this revision, after a transaction met a claim that was taken.
    pub async fn catch_up(&self, revision: i64) -> Result<(), Status> {
        for known in self.0.values() {
            known.claims.wait_until(revision).await.map_err(cache_status)?;
            if let Some(announced) = &known.announced {
                announced.catch_up(revision).await?;
            }
        }
        Ok(())
    }

    /// A picker for one write of one object.
    pub fn picker(&self, resource: &Resource, old: Option<&Value>) -> Picker<'_> {
        Picker {
            pools: self,
            dry_run: false,
            own: claims(resource, old),
            picked: BTreeSet::new(),
        }
    }
}

impl Known {
    fn new(pool: Pool, store: &Store, registry: &Registry) -> Known {
        let kinds = registry
            .all()
            .iter()
            .filter_map(|resource| resource.kind.allocation.as_ref());
        let mut objects = kinds.filter_map(|allocation| allocation.objects.as_ref());
        let objects = objects.find(|objects| objects.pools.contains(&pool.name.as_str()));
        let served = objects.and_then(|objects| registry.any_version(objects.group, objects.plural));
        let prefix = objects.map_or_else(|| claim_prefix(&pool.name), ClaimObjects::prefix);
        let claims = served.map_or_else(|| start_cache(store, &prefix), |resource| Cache::clone(&resource.cache));
        let announced = objects.and_then(|objects| {
            let (group, plural, networks) = objects.networks?;
            Some(Announced {
                resource: registry.any_version(group, plural)?.clone(),
                networks,
                seen: ArcSwap::default(),
            })
        });
        Known {
            pool,
            prefix,
            claims,
            announced,
        }
    }

    /// What can be picked from: the configured values first.
    fn values(&self) -> Vec<Values> {
        let mut all = vec![self.pool.values.clone()];
        if let (Values::Addresses(own), Some(announced)) = (&self.pool.values, &self.announced) {
            let same_family = |net: &&IpNet| net.network().is_ipv4() == own.network().is_ipv4();
            let seen = announced.seen.load();
            let more = seen
                .networks
                .iter()
                .filter(same_family)
                .filter(|net| !own.contains(*net));
            all.extend(more.map(|net| Values::Addresses(*net)));
        }
        all
    }
}

fn start_cache(store: &Store, prefix: &str) -> Cache {
    let codec = Codec {
        index: Arc::new(|_| Indexed::default()),
        stamp: Arc::new(|bytes, _| bytes.clone()),
    };
    Cache::start(store.clone(), cache::Config::new(prefix, false, codec))
}

impl Announced {
    /// Reads the networks anew if something has changed. What is about to be deleted gives no
    /// addresses any more.
    async fn catch_up(&self, revision: i64) -> Result<(), Status> {
        let cache = &self.resource.cache;
        cache.wait_until(revision).await.map_err(cache_status)?;
        let params = ListParams {
            at: At::Any,
            selection: Selection::all(),
            limit: 0,
            start_after: None,
        };
        let page = cache.list(params).await.map_err(cache_status)?;
        let newest = page.entries.iter().map(|entry| entry.revision).max().unwrap_or(0);
        let count = page.entries.len();
        let seen = self.seen.load();
        if (seen.newest, seen.count) == (newest, count) {
            return Ok(());
        }
        let objects = page.entries.iter().map(|entry| self.resource.value(entry));
        let networks = objects
            .filter(|object| !meta::is_deleting(object))
            .flat_map(|object| (self.networks)(&object))
            .collect();
        self.seen.store(Arc::new(Seen {
            newest,
            count,
            networks,
        }));
        Ok(())
    }
}

/// Picks for one write.
pub(crate) struct Picker<'a> {
    pools: &'a Pools,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    own: BTreeSet<Claim>,
    picked: BTreeSet<Claim>,
}

impl Picker<'_> {
    fn pool(&self, name: &str) -> Result<&Known, PickError> {
        self.pools.0.get(name).ok_or_else(|| PickError::NoPool(name.to_owned()))
    }

    fn is_free(&self, claim: &Claim, known: &Known) -> bool {
        let key = format!("{}{}", known.prefix, claim.value);
        !self.picked.contains(claim) && !self.own.contains(claim) && known.claims.get(&key).is_none()
    }

    fn any_of(&self, values: &Values, known: &Known) -> Option<Claim> {
        let (size, band) = (values.size(), values.static_band());
        let claim = |at: u128| Claim {
            pool: known.pool.name.clone(),
            value: values.value(at),
        };
        let dynamic = size - band;
        let guesses = (0..GUESSES)
            .filter(|_| dynamic > 0)
            .map(|_| rand::random_range(band..size));
        let in_turn = (band..size).chain(0..band).take(1 << 20);
        guesses
            .chain(in_turn)
            .map(claim)
            .find(|claim| self.is_free(claim, known))
    }
}

impl Pick for Picker<'_> {
    fn any(&mut self, pool: &str) -> Result<String, PickError> {
        let known = self.pool(pool)?;
        let values = known.values();
        let found = values
            .iter()
            .find_map(|values| self.any_of(values, known))
            .ok_or(PickError::Full)?;
        self.picked.insert(found.clone());
        Ok(found.value)
    }

    fn exact(&mut self, pool: &str, value: &str) -> Result<(), PickError> {
        let known = self.pool(pool)?;
        let values = known.values();
        let checked = values.iter().find_map(|values| values.check(value).ok());
        // A dry run takes any port that is free (`portallocator/operation.go`).
        let checked = match known.pool.values {
            Values::Ports(_) if self.dry_run => Some(value.to_owned()),
            _ => checked,
        };
        // The configured values say what would have been right.
        let value = checked.map_or_else(|| known.pool.values.check(value), Ok)?;
        let claim = Claim {
            pool: pool.to_owned(),
            value,
        };
        if !self.own.contains(&claim) && !self.is_free(&claim, known) {
            return Err(PickError::Allocated(known.pool.values.noun().to_owned()));
        }
        self.picked.insert(claim);
        Ok(())
    }

    fn has_pool(&self, pool: &str) -> bool {
        self.pools.0.contains_key(pool)
    }
}
