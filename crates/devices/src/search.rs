//! The search: requests in their order, for each the first devices that fit; back when a later one finds none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{Quantity, Value};

use crate::attribute::Attribute;
use crate::outcome;
use crate::pool::{Pool, gather};
use crate::request::{Amount, Claim, Request, Rule};
use crate::slice::{Device, Slice};
use crate::{Node, Stock};

/// The most devices of a claim (`AllocationResultsMaxSize`).
const MOST_DEVICES: usize = 32;
/// The most steps of a search; upstream limits its time.
pub const STEPS: usize = 1_000_000;

/// A device that may be given.
pub(crate) struct Candidate {
    pub slice: Arc<Slice>,
    index: usize,
    pool: usize,
    in_use: bool,
}

impl Candidate {
    pub fn device(&self) -> &Device {
        &self.slice.devices[self.index]
    }
}

/// A device that was given.
#[derive(Clone, Copy)]
pub(crate) struct Given {
    pub request: usize,
    pub alternative: usize,
    pub candidate: usize,
}

/// Where the search is.
#[derive(Clone, Copy, Default)]
struct At {
    claim: usize,
    request: usize,
    alternative: usize,
    device: usize,
}

/// Why the search goes no further.
enum Stop {
    /// This way leads to more devices than a claim may have.
    TooMany,
    Fault(String),
}

pub(crate) struct Search<'s> {
    node: &'s dyn Node,
    stock: &'s Stock<'s>,
    claims: Vec<Claim<'s>>,
    pools: Vec<Pool>,
    candidates: Vec<Candidate>,
    /// Claims that each candidate is given to in this search.
    takers: Vec<BTreeSet<usize>>,
    given: Vec<Vec<Given>>,
    /// For each claim and constraint the values that are given so far.
    values: Vec<Vec<Vec<Attribute>>>,
    consumed: BTreeMap<(usize, String, String), Quantity>,
    /// All devices that requests for all of them get.
    all: HashMap<(usize, usize, usize), Vec<usize>>,
    fits: HashMap<(usize, usize, usize, usize), bool>,
    /// The alternative that each request took.
    pub chosen: HashMap<(usize, usize), usize>,
    steps: usize,
}

impl<'s> Search<'s> {
    pub fn new(node: &'s dyn Node, claims: &[&'s Value], stock: &'s Stock<'s>) -> Result<Self, String> {
        let claims = claims
            .iter()
            .map(|&claim| Claim::of(claim, stock))
            .collect::<Result<Vec<_>, _>>()?;
        let pools = gather(stock.slices, node, stock.allocated);
        let mut candidates = Vec::new();
        for (pool, known) in pools.iter().enumerate() {
            for slice in &known.slices {
                candidates.extend(slice.devices.iter().enumerate().map(|(index, device)| Candidate {
                    slice: slice.clone(),
                    index,
                    pool,
                    in_use: stock.allocated.contains(&slice.id(device)),
                }));
            }
        }
        let mut search = Search {
            node,
            stock,
            takers: vec![BTreeSet::new(); candidates.len()],
            given: vec![Vec::new(); claims.len()],
            values: claims
                .iter()
                .map(|claim| vec![Vec::new(); claim.constraints.len()])
                .collect(),
            claims,
            pools,
            candidates,
            consumed: BTreeMap::new(),
            all: HashMap::new(),
            fits: HashMap::new(),
            chosen: HashMap::new(),
            steps: 0,
        };
        search.count()?;
        Ok(search)
    }

    /// Finds out what "all" is, and that no claim asks for too much.
    fn count(&mut self) -> Result<(), String> {
        for claim in 0..self.claims.len() {
            let mut least = 0;
            for request in 0..self.claims[claim].requests.len() {
                let mut counts = Vec::new();
                for alternative in 0..self.claims[claim].requests[request].len() {
                    let at = At {
                        claim,
                        request,
                        alternative,
                        device: 0,
                    };
                    if self.request(at).amount == Amount::All {
                        let devices = self.all_devices(at)?;
                        self.all.insert((claim, request, alternative), devices);
                    }
                    counts.push(self.wanted(at));
                }
                least += counts.into_iter().min().unwrap_or(0);
            }
            if least > MOST_DEVICES {
                return Err(format!(
                    "claim {}: number of requested devices {least} exceeds the claim limit of {MOST_DEVICES}",
                    self.claims[claim].id
                ));
            }
        }
        Ok(())
    }

    fn all_devices(&mut self, at: At) -> Result<Vec<usize>, String> {
        let fault = |search: &Self, pool: &Pool, what: &str| {
            let (claim, request) = (&search.claims[at.claim].id, &search.request(at).name);
            format!(
                "claim {claim}, request {request}: asks for all devices, but resource pool {} is currently {what}",
                pool.name
            )
        };
        for pool in &self.pools {
            if pool.incomplete {
                return Err(fault(self, pool, "being updated"));
            }
            if pool.invalid {
                return Err(fault(self, pool, "invalid"));
            }
        }
        let mut devices = Vec::new();
        for candidate in 0..self.candidates.len() {
            if self.fits(at, candidate)? {
                devices.push(candidate);
            }
        }
        Ok(devices)
    }

    pub fn run(mut self) -> Result<Option<Vec<Value>>, String> {
        match self.step(At::default(), false) {
            Ok(true) => {}
            Ok(false) | Err(Stop::TooMany) => {
                if self.pools.iter().any(|pool| pool.invalid) {
                    return Err("invalid resource pools were encountered".to_owned());
                }
                return Ok(None);
            }
            Err(Stop::Fault(fault)) => return Err(fault),
        }
        let claims = self.claims.iter().enumerate();
        let results = claims.map(|(index, claim)| {
            let chosen = |request: usize| self.chosen.get(&(index, request)).copied().unwrap_or(0);
            outcome::allocation(claim, &self.given[index], &self.candidates, &chosen)
        });
        results.collect::<Result<Vec<_>, _>>().map(Some)
    }

    fn request(&self, at: At) -> &Request {
        &self.claims[at.claim].requests[at.request][at.alternative]
    }

    fn wanted(&self, at: At) -> usize {
        match self.request(at).amount {
            Amount::Exactly(count) => count,
            Amount::All => self
                .all
                .get(&(at.claim, at.request, at.alternative))
                .map_or(0, Vec::len),
        }
    }

    /// Gives one device and all that come after it; whether that worked.
    fn step(&mut self, at: At, within: bool) -> Result<bool, Stop> {
        self.steps += 1;
        if self.steps > STEPS {
            return Err(Stop::Fault(
                "filter operation aborted: too many ways to allocate devices".to_owned(),
            ));
        }
        let Some(claim) = self.claims.get(at.claim) else {
            return Ok(true);
        };
        let Some(alternatives) = claim.requests.get(at.request) else {
            let next = At {
                claim: at.claim + 1,
                ..At::default()
            };
            return match self.step(next, false) {
                // With other devices for an earlier claim, this one may do with fewer.
                Err(Stop::TooMany) => Ok(false),
                done => done,
            };
        };
        let count = alternatives.len();
        if !within && alternatives[0].parent.is_some() {
            return self.alternatives(at, count);
        }
        let wanted = self.wanted(at);
        let is_all = self.request(at).amount == Amount::All;
        if is_all && wanted == 0 {
            return Ok(false);
        }
        if at.device >= wanted {
            let next = At {
                claim: at.claim,
                request: at.request + 1,
                ..At::default()
            };
            return self.step(next, false);
        }
        if self.given[at.claim].len() + wanted - at.device > MOST_DEVICES {
            return Err(Stop::TooMany);
        }
        if is_all {
            let candidate = self.all[&(at.claim, at.request, at.alternative)][at.device];
            return self.try_one(at, candidate, within);
        }
        for candidate in 0..self.candidates.len() {
            let pool = &self.pools[self.candidates[candidate].pool];
            if pool.incomplete || pool.invalid || !self.fits(at, candidate).map_err(Stop::Fault)? {
                continue;
            }
            if self.try_one(at, candidate, within)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first alternative that leads to a solution.
    fn alternatives(&mut self, at: At, count: usize) -> Result<bool, Stop> {
        let mut all_too_many = true;
        for alternative in 0..count {
            match self.step(At { alternative, ..at }, true) {
                Err(Stop::TooMany) => continue,
                Ok(true) => {
                    self.chosen.insert((at.claim, at.request), alternative);
                    return Ok(true);
                }
                Ok(false) => all_too_many = false,
                fault => return fault,
            }
        }
        if all_too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    fn try_one(&mut self, at: At, candidate: usize, within: bool) -> Result<bool, Stop> {
        if !self.give(at, candidate)? {
            return Ok(false);
        }
        let next = At {
            device: at.device + 1,
            ..at
        };
        let done = self.step(next, within);
        if !matches!(done, Ok(true)) {
            self.take_back(at, candidate);
        }
        done
    }

    /// Whether a device satisfies the selectors of a request and its class, and is where the node can use it.
    fn fits(&mut self, at: At, candidate: usize) -> Result<bool, String> {
        let key = (at.claim, at.request, at.alternative, candidate);
        if let Some(known) = self.fits.get(&key) {
            return Ok(*known);
        }
        let fits = self.selected(at, candidate)?;
        self.fits.insert(key, fits);
        Ok(fits)
    }

    fn selected(&self, at: At, candidate: usize) -> Result<bool, String> {
        let (candidate, request) = (&self.candidates[candidate], self.request(at));
        let (device, slice) = (candidate.device(), &candidate.slice);
        if device.conditional || (slice.by_device && !device.place.has(self.node)) {
            return Ok(false);
        }
        let class = request.class["metadata"]["name"].as_str().unwrap_or("");
        let of_class = request.class["spec"]["selectors"].as_array().into_iter().flatten();
        let of_class = of_class
            .map(|selector| selector["cel"]["expression"].as_str().unwrap_or(""))
            .enumerate();
        let own = request.selectors.iter().map(String::as_str).enumerate();
        let named = of_class.map(|(index, text)| (format!("class {class}: selector #{index}"), text));
        let claim = &self.claims[at.claim].id;
        let named = named.chain(own.map(|(index, text)| (format!("claim {claim}: selector #{index}"), text)));
        for (name, expression) in named {
            let selected = self.stock.selectors.select(expression, &slice.driver, device);
            let selected = selected.map_err(|error| match error.starts_with("CEL compile") {
                true => format!("{name}: {error}"),
                false => format!("{name} on device {}: {error}", slice.id(device)),
            })?;
            if !selected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn give(&mut self, at: At, index: usize) -> Result<bool, Stop> {
        let (request, candidate) = (self.request(at), &self.candidates[index]);
        let takers = &self.takers[index];
        let used = match request.admin {
            true => takers.contains(&at.claim),
            false => candidate.in_use || !takers.is_empty(),
        };
        let device = candidate.device();
        if used || device.taints.iter().any(|taint| taint.prevents(&request.tolerations)) {
            return Ok(false);
        }
        let mut values = Vec::new();
        for (number, constraint) in self.claims[at.claim].constraints.iter().enumerate() {
            if !constraint.is_about(request) {
                continue;
            }
            let (Rule::Match(name) | Rule::Distinct(name)) = &constraint.rule;
            let known = &self.values[at.claim][number];
            let value = device.attribute(&candidate.slice.driver, name);
            let holds = value.is_some_and(|value| match constraint.rule {
                Rule::Match(_) => known.first().is_none_or(|first| first == value),
                Rule::Distinct(_) => !known.contains(value),
            });
            let Some(value) = value.filter(|_| holds) else {
                if request.amount == Amount::All {
                    return Err(Stop::Fault(format!(
                        "claim {}, request {}: cannot add device {} because a claim constraint would not be satisfied",
                        self.claims[at.claim].id,
                        request.name,
                        candidate.slice.id(device)
                    )));
                }
                return Ok(false);
            };
            values.push((number, value.clone()));
        }
        if !self.consume(index) {
            return Ok(false);
        }
        for (number, value) in values {
            self.values[at.claim][number].push(value);
        }
        self.takers[index].insert(at.claim);
        self.given[at.claim].push(Given {
            request: at.request,
            alternative: at.alternative,
            candidate: index,
        });
        Ok(true)
    }

    fn take_back(&mut self, at: At, index: usize) {
        self.given[at.claim].pop();
        self.takers[index].remove(&at.claim);
        self.change_counters(index, |known, value| known.sub(value));
        let request = &self.claims[at.claim].requests[at.request][at.alternative];
        for (number, constraint) in self.claims[at.claim].constraints.iter().enumerate() {
            if constraint.is_about(request) {
                self.values[at.claim][number].pop();
            }
        }
    }

    /// Takes a device's counters from its pool, if there are enough.
    fn consume(&mut self, index: usize) -> bool {
        self.change_counters(index, |known, value| known.add(value));
        let candidate = &self.candidates[index];
        let available = &self.pools[candidate.pool].available;
        let enough = candidate.device().consumes.iter().all(|(set, counters)| {
            counters.keys().all(|name| {
                let key = (candidate.pool, set.clone(), name.clone());
                let left = available.get(set).and_then(|set| set.get(name));
                left.is_some_and(|left| self.consumed.get(&key).is_none_or(|consumed| consumed <= left))
            })
        });
        if !enough {
            self.change_counters(index, |known, value| known.sub(value));
        }
        enough
    }

    fn change_counters(&mut self, index: usize, change: impl Fn(&Quantity, &Quantity) -> Quantity) {
        let candidate = &self.candidates[index];
        for (set, counters) in &candidate.device().consumes {
            for (name, value) in counters {
                let key = (candidate.pool, set.clone(), name.clone());
                let known = self.consumed.entry(key).or_insert_with(Quantity::zero);
                *known = change(known, value);
            }
        }
    }
}
