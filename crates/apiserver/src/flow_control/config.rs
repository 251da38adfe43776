//! The configuration in force: FlowSchemas in their order, and levels with their seats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use api::{Value, meta};
use tokio_util::sync::CancellationToken;

use super::level::{Beyond, Level};
use super::limits::{self, Limits, Wish};
use super::schema::{Digest, Schema};
use super::{Class, FlowControl, defaults};
use crate::cache::{At, ListParams, Selection, WatchParams, WatchStart};
use crate::metrics::Metrics;
use crate::resource::Resource;
use crate::state::State;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// What is in force.
pub(super) struct Config {
    /// By precedence, then by name.
    schemas: Vec<Schema>,
    levels: BTreeMap<Arc<str>, Arc<Level>>,
}

/// A PriorityLevelConfiguration, read.
struct LevelSpec {
    uid: Arc<str>,
    beyond: Beyond,
    shares: u32,
    lends: u32,
    borrows: Option<u32>,
}

impl Config {
    /// Of these objects, and of the mandatory ones if they are missing; levels of before go on.
    pub fn new(objects: &[Value], total: u32, before: Option<&Config>, metrics: &Metrics) -> Config {
        let mut specs: BTreeMap<String, LevelSpec> = BTreeMap::new();
        let mut schemas = Vec::new();
        for object in defaults::named(&MANDATORY).iter().chain(objects) {
            match meta::kind(object) {
                "PriorityLevelConfiguration" => {
                    specs.insert(meta::name(object).to_owned(), LevelSpec::parse(object));
                }
                _ => {
                    schemas.retain(|known: &Schema| known.name != meta::name(object));
                    schemas.extend(Schema::parse(object));
                }
            }
        }
        let sum: u32 = specs.values().map(|spec| spec.shares).sum();
        let levels: BTreeMap<Arc<str>, Arc<Level>> = specs
            .iter()
            .map(|(name, spec)| {
                let nominal = limits::nominal(total, spec.shares, sum);
                let limits: Limits = limits::limits(nominal, spec.lends, spec.borrows, total);
                let known = before.and_then(|before| before.levels.get(name.as_str()).cloned());
                let level = known.unwrap_or_else(|| Level::new(name, spec.beyond, limits));
                level.configure(spec.beyond, limits);
                (level.name.clone(), level)
            })
            .collect();
        // A schema whose level does not exist is dangling: it is left out.
        schemas.retain(|schema| levels.contains_key(&*schema.level));
        for schema in &mut schemas {
            let uid = &specs[&schema.level].uid;
            let class = Class::new(&schema.name, &schema.uid, &schema.level, uid, metrics);
            schema.class = Some(Arc::new(class));
        }
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Config { schemas, levels }
    }

    /// The request's schema and level.
    pub fn classify(&self, digest: &Digest<'_>) -> (&Schema, &Arc<Level>) {
        let last = self.schemas.last().expect("the mandatory schemas are always there");
        let found = self
            .schemas
            .iter()
            .find(|schema| schema.matches(digest))
            .unwrap_or(last);
        (found, &self.levels[&*found.level])
    }

    pub fn levels(&self) -> impl Iterator<Item = &Arc<Level>> {
        self.levels.values()
    }

    /// Gives all seats to the levels anew.
    pub fn lend(&self, total: u32, now: Instant) {
        let limited: Vec<(&Arc<Level>, Wish)> = self
            .levels
            .values()
            .filter_map(|level| Some((level, level.wish(now)?)))
            .collect();
        let wishes: Vec<Wish> = limited.iter().map(|(_, wish)| *wish).collect();
        let nominal: u32 = limited.iter().map(|(level, _)| level.limits().nominal).sum();
        let seats = limits::allocate(f64::from(nominal.max(total)), &wishes);
        for ((level, _), seats) in limited.iter().zip(seats) {
            level.set_current(seats.round() as u32, now);
        }
    }
}

impl LevelSpec {
    fn parse(object: &Value) -> LevelSpec {
        let number = |path: &str| {
            let value = crate::kind::value_at(object, &format!("spec.{path}")).and_then(Value::as_u64);
            value.and_then(|number| u32::try_from(number).ok())
        };
        let text = |path: &str| {
            let value = crate::kind::value_at(object, &format!("spec.{path}"));
            value.and_then(Value::as_str).unwrap_or("")
        };
        let exempt = text("type") == "Exempt";
        let part = if exempt { "exempt" } else { "limited" };
        let queuing = |field: &str, default: u32| {
            number(&format!("limited.limitResponse.queuing.{field}")).unwrap_or(default) as usize
        };
        let beyond = match (exempt, text("limited.limitResponse.type")) {
            (true, _) => Beyond::Exempt,
            (false, "Reject") => Beyond::Reject,
            (false, _) => Beyond::Queue {
                queues: queuing("queues", 64).max(1),
                hand: queuing("handSize", 8),
                longest: queuing("queueLengthLimit", 50),
            },
        };
        LevelSpec {
            uid: meta::uid(object).into(),
            beyond,
            shares: number(&format!("{part}.nominalConcurrencyShares")).unwrap_or(if exempt { 0 } else { 30 }),
            lends: number(&format!("{part}.lendablePercent")).unwrap_or(0),
            borrows: number("limited.borrowingLimitPercent"),
        }
    }
}

/// Follows the stored objects, until the server ends. Without such kinds, upstream's defaults stay in force.
pub(crate) async fn follow(state: Arc<State>) {
    let find = |plural: &str| state.any_version(GROUP, plural);
    let (Some(schemas), Some(levels)) = (find("flowschemas"), find("prioritylevelconfigurations")) else {
        return;
    };
    let shutdown = state.shutdown.clone();
    let control = state.flow_control.clone();
    // The caches must end with the server, and this task with them.
    drop(state);
    while !shutdown.is_cancelled() {
        if run(&control, &schemas, &levels, &shutdown).await.is_none() {
            return;
        }
    }
}

async fn run(control: &FlowControl, schemas: &Resource, levels: &Resource, shutdown: &CancellationToken) -> Option<()> {
    let params = || WatchParams {
        start: WatchStart::StateLatest,
        selection: Selection::all(),
    };
    let mut of_schemas = schemas.cache.watch(params()).await.ok()?;
    let mut of_levels = levels.cache.watch(params()).await.ok()?;
    loop {
        let mut objects = all(levels).await?;
        objects.extend(all(schemas).await?);
        if objects.is_empty() {
            // Not made yet.
            objects = defaults::defaults();
        }
        control.configure(&objects);
        let changed = tokio::select! {
            () = shutdown.cancelled() => return None,
            changed = of_schemas.next() => changed,
            changed = of_levels.next() => changed,
        };
        // A watch that was too slow begins anew.
        if changed.is_err() {
            return Some(());
        }
    }
}

async fn all(resource: &Resource) -> Option<Vec<Value>> {
    let params = ListParams {
        at: At::Any,
        selection: Selection::all(),
        limit: 0,
        start_after: None,
    };
    let page = resource.cache.list(params).await.ok()?;
    Some(page.entries.iter().map(|entry| resource.value(entry)).collect())
}
