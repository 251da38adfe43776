//! Pools of unique values: picking, and mending the claims at start.
//!
//! A claim is written in the transaction that writes its object (see `verbs::persist`), so a pick
//! is only a guess at what is free; the transaction decides. The guess is made from a cache of the
//! pool's claims.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::{Status, Value};
use ipnet::IpNet;
use store::{Compare, Op, Range as KeyRange, Store, Txn};

use crate::cache::{self, Cache, Codec, Indexed};
use crate::kind::{Claim, Pick, PickError};
use crate::resource::{Registry, Resource, store_status, to_served};
use crate::verbs::persist::{claim_key, claim_owner, claim_prefix, claims};

/// The values a pool holds.
#[derive(Clone, Debug)]
pub enum Values {
    /// The usable addresses of a network.
    Addresses(IpNet),
    /// Ports.
    Ports(RangeInclusive<u16>),
}

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

impl Values {
    /// How many values there are. Networks lose their first address, IPv4 also the last.
    fn size(&self) -> u128 {
        match self {
            Values::Ports(ports) => ports.len() as u128,
            Values::Addresses(IpNet::V4(net)) => (1u128 << (32 - net.prefix_len())).saturating_sub(2),
            Values::Addresses(IpNet::V6(net)) => {
                // More than 2^64 values are never needed.
                (1u128 << (128 - net.prefix_len()).min(64)) - 1
            }
        }
    }

    /// The lower part that is kept for values that clients ask for by name (upstream's static
    /// band: `ipallocator` and `portallocator`).
    fn static_band(&self) -> u128 {
        let size = self.size();
        let (least, step, most) = match self {
            Values::Addresses(_) => (16, 16, 256),
            Values::Ports(_) => (16, 32, 128),
        };
        if size <= least {
            0
        } else {
            (size / step).clamp(least, most)
        }
    }

    fn value(&self, at: u128) -> String {
        match self {
            Values::Ports(ports) => (u128::from(*ports.start()) + at).to_string(),
            Values::Addresses(IpNet::V4(net)) => {
                let first = u128::from(u32::from(net.network())) + 1;
                std::net::Ipv4Addr::from((first + at) as u32).to_string()
            }
            Values::Addresses(IpNet::V6(net)) => {
                std::net::Ipv6Addr::from(u128::from(net.network()) + 1 + at).to_string()
            }
        }
    }

    fn check(&self, value: &str) -> Result<String, PickError> {
        match self {
            Values::Addresses(net) => {
                let address: Option<IpAddr> = value.parse().ok();
                let usable = address
                    .filter(|a| net.contains(a) && *a != net.network() && (*a != net.broadcast() || a.is_ipv6()));
                usable.map(|a| a.to_string()).ok_or_else(|| {
                    PickError::OutOfRange(format!(
                        "provided IP is not in the valid range. The range of valid IPs is {}",
                        net.trunc()
                    ))
                })
            }
            Values::Ports(ports) => {
                let port: Option<u16> = value.parse().ok();
                port.filter(|p| ports.contains(p))
                    .map(|p| p.to_string())
                    .ok_or_else(|| {
                        PickError::OutOfRange(format!(
                            "provided port is not in the valid range. The range of valid ports is {}-{}",
                            ports.start(),
                            ports.end()
                        ))
                    })
            }
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Values::Addresses(_) => "IP",
            Values::Ports(_) => "port",
        }
    }
}

/// The configured pools with what is claimed of them.
pub(crate) struct Pools(HashMap<String, (Pool, Cache)>);

impl Pools {
    pub fn new(pools: Vec<Pool>, store: &Store) -> Pools {
        let with_cache = |pool: Pool| {
            let codec = Codec {
                index: Arc::new(|_| Indexed::default()),
                stamp: Arc::new(|bytes, _| bytes.clone()),
            };
            let config = cache::Config::new(claim_prefix(&pool.name), false, codec);
            (pool.name.clone(), (pool, Cache::start(store.clone(), config)))
        };
        Pools(pools.into_iter().map(with_cache).collect())
    }

    /// Waits until the claims show this revision, after a transaction met a claim that was taken.
    pub async fn catch_up(&self, revision: i64) -> Result<(), Status> {
        for (_, cache) in self.0.values() {
            cache
                .wait_until(revision)
                .await
                .map_err(crate::resource::cache_status)?;
        }
        Ok(())
    }

    /// A picker for one write of one object.
    pub fn picker(&self, resource: &Resource, old: Option<&Value>) -> Picker<'_> {
        Picker {
            pools: self,
            own: claims(resource, old),
            picked: BTreeSet::new(),
        }
    }
}

/// Picks for one write.
pub(crate) struct Picker<'a> {
    pools: &'a Pools,
    own: BTreeSet<Claim>,
    picked: BTreeSet<Claim>,
}

impl Picker<'_> {
    fn pool(&self, name: &str) -> Result<&(Pool, Cache), PickError> {
        self.pools.0.get(name).ok_or_else(|| PickError::NoPool(name.to_owned()))
    }

    fn is_free(&self, claim: &Claim, cache: &Cache) -> bool {
        !self.picked.contains(claim) && !self.own.contains(claim) && cache.get(&claim_key(claim)).is_none()
    }
}

impl Pick for Picker<'_> {
    fn any(&mut self, pool: &str) -> Result<String, PickError> {
        let (definition, cache) = self.pool(pool)?;
        let (size, band) = (definition.values.size(), definition.values.static_band());
        let claim = |at: u128| Claim {
            pool: pool.to_owned(),
            value: definition.values.value(at),
        };
        let dynamic = size - band;
        let guesses = (0..GUESSES)
            .filter(|_| dynamic > 0)
            .map(|_| rand::random_range(band..size));
        let in_turn = (band..size).chain(0..band).take(1 << 20);
        let found = guesses
            .chain(in_turn)
            .map(claim)
            .find(|claim| self.is_free(claim, cache))
            .ok_or(PickError::Full)?;
        self.picked.insert(found.clone());
        Ok(found.value)
    }

    fn exact(&mut self, pool: &str, value: &str) -> Result<(), PickError> {
        let (definition, cache) = self.pool(pool)?;
        let value = definition.values.check(value)?;
        let claim = Claim {
            pool: pool.to_owned(),
            value,
        };
        if !self.own.contains(&claim) && !self.is_free(&claim, cache) {
            return Err(PickError::Allocated(definition.values.noun().to_owned()));
        }
        self.picked.insert(claim);
        Ok(())
    }

    fn has_pool(&self, pool: &str) -> bool {
        self.pools.0.contains_key(pool)
    }
}

/// Compares claims and objects as of one revision and mends the claims. Safe beside running
/// servers: each repair holds only if what it was concluded from is unchanged.
///
/// # Errors
/// The store's failure.
pub(crate) async fn repair(store: &Store, registry: &Registry, pools: &Pools) -> Result<usize, Status> {
    let mut repaired = 0;
    let mut wanted: BTreeMap<String, (String, i64, String)> = BTreeMap::new();
    let revision = store.revision();
    for resource in registry.all().iter().filter(|r| r.kind.allocation.is_some()) {
        let range = KeyRange::prefix(&resource.prefix).at(revision);
        for kv in store.range(range).await.map_err(store_status)?.kvs {
            let Ok(stored) = serde_json::from_slice::<Value>(&kv.value) else {
                continue;
            };
            let object = to_served(&resource.kind, stored);
            for claim in claims(resource, Some(&object)) {
                let holder = (kv.key.to_string(), kv.mod_revision, claim_owner(resource, &object));
                wanted.entry(claim_key(&claim)).or_insert(holder);
            }
        }
    }
    for name in pools.0.keys() {
        let range = KeyRange::prefix(&claim_prefix(name)).at(revision);
        for kv in store.range(range).await.map_err(store_status)?.kvs {
            if wanted.remove(&*kv.key).is_some() {
                continue;
            }
            let txn = Txn::delete(&*kv.key, kv.mod_revision);
            repaired += usize::from(store.txn(txn).await.map_err(store_status)?.succeeded);
        }
    }
    for (key, (holder, revision, owner)) in wanted {
        let txn = Txn {
            compare: vec![
                Compare::Absent(key.clone()),
                Compare::ModRevision { key: holder, revision },
            ],
            success: vec![Op::put(key, owner.into_bytes())],
            failure: Vec::new(),
        };
        repaired += usize::from(store.txn(txn).await.map_err(store_status)?.succeeded);
    }
    Ok(repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_network() {
        let values = Values::Addresses("10.96.0.0/12".parse().unwrap());
        assert_eq!(values.size(), (1 << 20) - 2);
        assert_eq!(values.static_band(), 256);
        assert_eq!(values.value(0), "10.96.0.1");
        assert_eq!(values.check("10.96.0.10"), Ok("10.96.0.10".into()));
        assert!(values.check("10.96.0.0").is_err());
        assert!(values.check("10.111.255.255").is_err());
        assert_eq!(
            values.check("10.0.0.1").unwrap_err().to_string(),
            "provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/12"
        );
    }

    #[test]
    fn ports_of_a_range() {
        let values = Values::Ports(30000..=32767);
        assert_eq!((values.size(), values.static_band()), (2768, 86));
        assert_eq!(values.value(0), "30000");
        assert_eq!(
            values.check("80").unwrap_err().to_string(),
            "provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
    }
}
