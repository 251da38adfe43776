//! Devices that pods claim (upstream `plugins/dynamicresources`): claims are allocated on the node that is chosen, and
//! reserved for the pod before it is bound.

mod inventory;
mod node;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{Gvr, Value, meta};
use devices::{Selectors, Stock};
use jiff::SignedDuration;
use serde_json::json;

use self::inventory::{Claim, Inventory};
use self::node::NodeView;
use crate::framework::{
    Action, Code, Context, Event, Filter, Plugin, Point, PostFilter, PostFilterContext, PreBind, PreFilter,
    Registration, Rejection, Resource, Shared, Verb, Write,
};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// What keeps an allocated claim from going.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// The most consumers of a claim (`ResourceClaimReservedForMaxSize`).
const MOST_CONSUMERS: usize = 256;
/// How long a write may take to be seen.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// What is known of devices, and what was given and is not seen in the claims yet.
#[derive(Default)]
pub(super) struct DynamicResources {
    inventory: Mutex<Inventory>,
    selectors: Arc<Selectors>,
}

/// What one pod needs, worked out once for all nodes.
struct Wanted {
    /// Where the devices of allocated claims can be used.
    selectors: Vec<Value>,
    search: Search,
}

/// A search among the devices as they were.
#[derive(Clone)]
struct Search {
    claims: Vec<Arc<Value>>,
    stock: inventory::Snapshot,
    compiled: Arc<Selectors>,
}

impl Search {
    fn on(&self, node: &NodeInfo) -> Result<Option<Vec<Value>>, String> {
        if self.claims.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let claims: Vec<&Value> = self.claims.iter().map(|claim| &**claim).collect();
        let class = |name: &str| self.stock.classes.get(name).cloned();
        let stock = Stock {
            slices: &self.stock.slices,
            class: &class,
            allocated: &self.stock.allocated,
            selectors: &self.compiled,
        };
        devices::allocate(&NodeView(node), &claims, &stock)
    }
}

impl Filter for Wanted {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.selectors.iter().all(|selector| node::selects(selector, node)) {
            return Err(Rejection::unresolvable("resourceclaim not available on the node"));
        }
        match self.search.on(node) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Rejection::unschedulable("cannot allocate all claims")),
            Err(error) => Err(Rejection::with(Code::Unresolvable, vec![error])),
        }
    }
}

impl DynamicResources {
    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, inventory: &mut Inventory, pod: &PodInfo) -> Result<Wanted, Rejection> {
        let unresolvable = |reason: String| Rejection::with(Code::Unresolvable, vec![reason]);
        let (mut selectors, mut claims) = (Vec::new(), Vec::new());
        for claim in inventory.claims_of(pod).map_err(unresolvable)? {
            let allocation = claim.allocation();
            if allocation.is_null() {
                if inventory.is_being_allocated(claim.uid(), &pod.key.uid) {
                    let reason = format!("resource claim {} is in the process of being allocated", claim.id());
                    return Err(Rejection::with(Code::Unschedulable, vec![reason]));
                }
                inventory.check_classes(&claim).map_err(unresolvable)?;
                claims.push(claim.object);
                continue;
            }
            if !claim.is_reserved_for(&pod.key.uid) && claim.consumers().len() >= MOST_CONSUMERS {
                return Err(Rejection::unschedulable("resourceclaim in use"));
            }
            if !allocation["nodeSelector"].is_null() {
                selectors.push(allocation["nodeSelector"].clone());
            }
        }
        let search = Search {
            claims,
            stock: inventory.snapshot(),
            compiled: self.selectors.clone(),
        };
        Ok(Wanted { selectors, search })
    }
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        &[
            Point::PreEnqueue,
            Point::PreFilter,
            Point::Filter,
            Point::PostFilter,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn watches(&self) -> &'static [Resource] {
        &[
            Resource::ResourceClaim,
            Resource::ResourceSlice,
            Resource::DeviceClass,
            Resource::DeviceTaintRule,
        ]
    }

    fn concerns(&self, pod: &PodInfo) -> bool {
        !pod.shape.resource_claims.is_empty()
    }

    fn observe(&self, resource: Resource, old: Option<&Shared>, new: Option<&Shared>) {
        let value = |object: Option<&Shared>| object.and_then(|object| object.clone().downcast::<Value>().ok());
        self.inventory().observe(resource, value(old), value(new));
    }

    fn events(&self) -> Vec<Registration> {
        vec![
            (Resource::ResourceClaim, Action::ALL),
            (Resource::UnscheduledPod, Action::UPDATE_POD_GENERATED_CLAIM),
            (
                Resource::Node,
                Action::ADD | Action::UPDATE_NODE_LABEL | Action::UPDATE_NODE_TAINT,
            ),
            (Resource::DeviceClass, Action::ADD | Action::UPDATE),
            (Resource::ResourceSlice, Action::ADD | Action::UPDATE),
            (Resource::DeviceTaintRule, Action::ALL),
        ]
    }

    /// A claim helps that is the pod's own, or that lets go of devices.
    fn hint(&self, _context: &Context, pod: &PodInfo, event: &Event) -> bool {
        if pod.shape.resource_claims.is_empty() {
            return false;
        }
        if event.resource != Resource::ResourceClaim {
            return true;
        }
        let (old, new) = event.objects::<Value>();
        let is_own = |claim: &Value| {
            meta::namespace(claim) == &*pod.key.namespace && inventory::names(pod).any(|name| name == meta::name(claim))
        };
        let allocated = |claim: Option<&Value>| claim.is_some_and(|claim| !claim["status"]["allocation"].is_null());
        old.or(new).is_none() || new.is_some_and(is_own) || (allocated(old) && !allocated(new))
    }

    fn pre_enqueue(&self, _context: &Context, pod: &PodInfo) -> Result<(), String> {
        if pod.shape.resource_claims.is_empty() {
            return Ok(());
        }
        self.inventory().claims_of(pod).map(drop)
    }

    fn pre_filter(&self, _context: &Context, pod: &Arc<PodInfo>) -> PreFilter {
        if pod.shape.resource_claims.is_empty() {
            return PreFilter::Skip;
        }
        match self.wanted(&mut self.inventory(), pod) {
            Ok(wanted) if wanted.selectors.is_empty() && wanted.search.claims.is_empty() => PreFilter::Skip,
            Ok(wanted) => PreFilter::run(wanted),
            Err(rejection) => PreFilter::Reject(rejection),
        }
    }

    /// Lets go of an allocation that only this pod holds, and that keeps it from every node.
    fn post_filter(&self, _context: &mut PostFilterContext, pod: &Arc<PodInfo>) -> PostFilter {
        if pod.shape.resource_claims.is_empty() {
            return PostFilter::Unschedulable(String::new());
        }
        let claims = self.inventory().claims_of(pod).unwrap_or_default();
        let held = claims.iter().find(|claim| {
            let others = claim.consumers().iter().any(|consumer| consumer["uid"] != *pod.key.uid);
            !claim.allocation().is_null() && !others
        });
        match held {
            None => PostFilter::Unschedulable("still not schedulable".to_owned()),
            Some(claim) => {
                let body = json!({"status": {"allocation": null, "reservedFor": null}});
                let write = claim.patch("status", body);
                PostFilter::Act(vec![write], "deallocation of ResourceClaim completed".to_owned())
            }
        }
    }

    fn reserve(&self, _context: &Context, pod: &Arc<PodInfo>, node: &NodeInfo) -> Result<(), Rejection> {
        if pod.shape.resource_claims.is_empty() {
            return Ok(());
        }
        let mut inventory = self.inventory();
        let wanted = self.wanted(&mut inventory, pod)?;
        wanted.check(node)?;
        let given = wanted.search.on(node).map_err(Rejection::error)?.unwrap_or_default();
        for (claim, allocation) in wanted.search.claims.iter().zip(given) {
            inventory.give(meta::uid(claim), &pod.key.uid, allocation);
        }
        Ok(())
    }

    fn unreserve(&self, _context: &Context, pod: &PodInfo) {
        if !pod.shape.resource_claims.is_empty() {
            self.inventory().take_back(&pod.key.uid);
        }
    }

    fn pre_bind(&self, context: &Context, pod: &Arc<PodInfo>, _node: &str) -> PreBind {
        if pod.shape.resource_claims.is_empty() {
            return PreBind::Done;
        }
        let mut inventory = self.inventory();
        let claims = match inventory.claims_of(pod) {
            Ok(claims) => claims,
            Err(error) => return PreBind::Reject(Rejection::with(Code::Unschedulable, vec![error])),
        };
        let (mut writes, mut waits) = (Vec::new(), false);
        for claim in claims {
            if !claim.allocation().is_null() && claim.is_reserved_for(&pod.key.uid) {
                continue;
            }
            waits = true;
            // A write of this version was sent: its outcome is still to be seen.
            if inventory.mark_written(&claim) {
                match bind(&inventory, &claim, pod) {
                    Ok(write) => writes.push(write),
                    Err(rejection) => return PreBind::Reject(rejection),
                }
            }
        }
        if !waits {
            inventory.take_back(&pod.key.uid);
            return PreBind::Done;
        }
        PreBind::Wait {
            writes,
            until: context.now.checked_add(PATIENCE).ok(),
        }
    }
}

/// The next write of a claim: its finalizer, then its allocation and the pod.
fn bind(inventory: &Inventory, claim: &Claim, pod: &PodInfo) -> Result<Write, Rejection> {
    let mut status = json!({});
    if claim.allocation().is_null() {
        let Some(allocation) = inventory.given(claim.uid(), &pod.key.uid) else {
            let reason = format!("resource claim {} lost its allocation", claim.id());
            return Err(Rejection::with(Code::Unschedulable, vec![reason]));
        };
        let mut finalizers = meta::finalizers(&claim.object);
        if !finalizers.contains(&FINALIZER) {
            finalizers.push(FINALIZER);
            return Ok(claim.patch("", json!({"metadata": {"finalizers": finalizers}})));
        }
        status["allocation"] = allocation;
    }
    let mut consumers = claim.consumers().to_vec();
    consumers.push(json!({"resource": "pods", "name": &*pod.key.name, "uid": &*pod.key.uid}));
    status["reservedFor"] = consumers.into();
    Ok(claim.patch("status", json!({"status": status})))
}

impl Claim {
    /// A patch of the version that was seen.
    fn patch(&self, subresource: &'static str, mut body: Value) -> Write {
        body["metadata"]["resourceVersion"] = meta::resource_version(&self.object).into();
        body["metadata"]["uid"] = self.uid().into();
        Write {
            verb: Verb::MergePatch,
            resource: Gvr::new("resource.k8s.io", "v1", "resourceclaims"),
            namespace: meta::namespace(&self.object).to_owned(),
            name: meta::name(&self.object).to_owned(),
            subresource,
            body,
        }
    }
}
