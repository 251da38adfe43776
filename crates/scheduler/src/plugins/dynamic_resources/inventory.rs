//! What is known of claims, slices, classes and taints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::{Value, meta};
use devices::{DeviceId, Slice, Taint};
use k8s_openapi::api::core::v1::PodResourceClaim;

use crate::framework::Resource;
use crate::pod::PodInfo;

static NULL: Value = Value::Null;

/// A claim as it was seen.
#[derive(Clone)]
pub(super) struct Claim {
    pub object: Arc<Value>,
}

impl Claim {
    pub fn uid(&self) -> &str {
        meta::uid(&self.object)
    }

    pub fn id(&self) -> String {
        format!("{}/{}", meta::namespace(&self.object), meta::name(&self.object))
    }

    pub fn allocation(&self) -> &Value {
        allocation(&self.object)
    }

    pub fn consumers(&self) -> &[Value] {
        self.object["status"]["reservedFor"]
            .as_array()
            .map_or(&[], Vec::as_slice)
    }

    pub fn is_reserved_for(&self, uid: &str) -> bool {
        self.consumers().iter().any(|consumer| consumer["uid"] == *uid)
    }
}

fn allocation(claim: &Value) -> &Value {
    claim["status"].get("allocation").unwrap_or(&NULL)
}

/// The object of a pod's claim (`resourceclaim.Name` of dynamic-resource-allocation).
enum Named<'p> {
    /// One that the user made.
    Given(&'p str),
    /// One that was made for the pod, which has to own it.
    Made(&'p str),
    /// None: it was found to be needless.
    Unneeded,
    /// It is not made yet.
    NotYet,
}

fn named<'p>(pod: &'p PodInfo, claim: &'p PodResourceClaim) -> Named<'p> {
    if let Some(name) = &claim.resource_claim_name {
        return Named::Given(name);
    }
    let status = pod
        .shape
        .generated_claims
        .iter()
        .find(|status| status.name == claim.name);
    match status.map(|status| status.resource_claim_name.as_deref()) {
        None => Named::NotYet,
        Some(None) => Named::Unneeded,
        Some(Some(name)) => Named::Made(name),
    }
}

/// The names of a pod's claims, those not made yet left out.
pub(super) fn names(pod: &PodInfo) -> impl Iterator<Item = &str> {
    pod.shape
        .resource_claims
        .iter()
        .filter_map(|claim| match named(pod, claim) {
            Named::Given(name) | Named::Made(name) => Some(name),
            Named::Unneeded | Named::NotYet => None,
        })
}

/// What there is to allocate from, at one moment.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub slices: Arc<[Arc<Slice>]>,
    pub classes: Arc<BTreeMap<String, Arc<Value>>>,
    pub allocated: Arc<BTreeSet<DeviceId>>,
}

/// An allocation that is not seen in its claim yet.
struct Given {
    pod: Box<str>,
    allocation: Value,
}

#[derive(Default)]
pub(super) struct Inventory {
    claims: BTreeMap<(String, String), Arc<Value>>,
    slices: BTreeMap<String, Arc<Value>>,
    classes: Arc<BTreeMap<String, Arc<Value>>>,
    rules: BTreeMap<String, Arc<Value>>,
    /// By UID of the claim.
    given: HashMap<Box<str>, Given>,
    /// The version of each claim, by UID, that the last write was about.
    written: HashMap<Box<str>, String>,
    /// Worked out when it is needed, and forgotten when something changes.
    searched: Option<Arc<[Arc<Slice>]>>,
    allocated: Option<Arc<BTreeSet<DeviceId>>>,
}

impl Inventory {
    pub fn observe(&mut self, resource: Resource, old: Option<Arc<Value>>, new: Option<Arc<Value>>) {
        let Some(object) = new.as_ref().or(old.as_ref()) else {
            return;
        };
        let name = meta::name(object).to_owned();
        match resource {
            Resource::ResourceClaim => {
                if new.as_ref().is_none_or(|claim| !allocation(claim).is_null()) {
                    self.given.remove(meta::uid(object));
                }
                if new.is_none() {
                    self.written.remove(meta::uid(object));
                }
                put(&mut self.claims, (meta::namespace(object).to_owned(), name), new);
                self.allocated = None;
            }
            Resource::ResourceSlice => {
                put(&mut self.slices, name, new);
                self.searched = None;
            }
            Resource::DeviceTaintRule => {
                put(&mut self.rules, name, new);
                self.searched = None;
            }
            Resource::DeviceClass => put(Arc::make_mut(&mut self.classes), name, new),
            _ => {}
        }
    }

    /// The claims of a pod.
    ///
    /// # Errors
    /// One is not there, or not the pod's.
    pub fn claims_of(&self, pod: &PodInfo) -> Result<Vec<Claim>, String> {
        let mut claims = Vec::new();
        for claim in &pod.shape.resource_claims {
            let (name, owned) = match named(pod, claim) {
                Named::Given(name) => (name, false),
                Named::Made(name) => (name, true),
                Named::Unneeded => continue,
                Named::NotYet => {
                    return Err(format!("pod \"{}\": ResourceClaim not created yet", pod.key));
                }
            };
            let key = (pod.key.namespace.to_string(), name.to_string());
            let Some(object) = self.claims.get(&key) else {
                return Err(format!("resourceclaim \"{name}\" not found"));
            };
            if meta::is_deleting(object) {
                return Err(format!("resourceclaim \"{name}\" is being deleted"));
            }
            let mut owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            if owned && !owners.any(|owner| owner["controller"] == true && owner["uid"] == *pod.key.uid) {
                let (namespace, pod) = (&pod.key.namespace, &pod.key.name);
                return Err(format!(
                    "ResourceClaim {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                ));
            }
            claims.push(Claim { object: object.clone() });
        }
        Ok(claims)
    }

    /// Whether another pod's allocation of it is on its way.
    pub fn is_being_allocated(&self, claim: &str, pod: &str) -> bool {
        self.given.get(claim).is_some_and(|given| &*given.pod != pod)
    }

    /// # Errors
    /// A class that is asked for is not there.
    pub fn check_classes(&self, claim: &Claim) -> Result<(), String> {
        let check = |name: &str, part: &Value| {
            let class = part["deviceClassName"].as_str().unwrap_or("");
            if class.is_empty() || self.classes.contains_key(class) {
                return Ok(());
            }
            Err(format!("request {name}: device class {class} does not exist"))
        };
        for request in claim.object["spec"]["devices"]["requests"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let name = request["name"].as_str().unwrap_or("");
            check(name, &request["exactly"])?;
            for part in request["firstAvailable"].as_array().into_iter().flatten() {
                check(&format!("{name}/{}", part["name"].as_str().unwrap_or("")), part)?;
            }
        }
        Ok(())
    }

    pub fn snapshot(&mut self) -> Snapshot {
        let (slices, rules) = (&self.slices, &self.rules);
        let searched = self.searched.get_or_insert_with(|| {
            let slices = slices
                .values()
                .map(|slice| Slice::of(slice).tainted(|id| taints_by_rules(rules, id)));
            slices.map(Arc::new).collect()
        });
        let (claims, given) = (&self.claims, &self.given);
        let allocated = self.allocated.get_or_insert_with(|| {
            let seen = claims.values().map(|claim| allocation(claim));
            Arc::new(
                seen.chain(given.values().map(|given| &given.allocation))
                    .flat_map(in_use)
                    .collect(),
            )
        });
        Snapshot {
            slices: searched.clone(),
            classes: self.classes.clone(),
            allocated: allocated.clone(),
        }
    }

    /// A claim is allocated for a pod.
    pub fn give(&mut self, claim: &str, pod: &str, allocation: Value) {
        let pod = pod.into();
        self.given.insert(claim.into(), Given { pod, allocation });
        self.allocated = None;
    }

    /// What a claim is given for a pod.
    pub fn given(&self, claim: &str, pod: &str) -> Option<Value> {
        let given = self.given.get(claim).filter(|given| &*given.pod == pod)?;
        Some(given.allocation.clone())
    }

    /// Nothing is given for a pod any more, unless its claim says so.
    pub fn take_back(&mut self, pod: &str) {
        let before = self.given.len();
        self.given.retain(|_, given| &*given.pod != pod);
        if self.given.len() != before {
            self.allocated = None;
        }
    }

    /// Notes that a claim is written as it was seen; false if that was noted before.
    pub fn mark_written(&mut self, claim: &Claim) -> bool {
        let version = meta::resource_version(&claim.object);
        let known = self.written.insert(claim.uid().into(), version.to_owned());
        known.as_deref() != Some(version)
    }
}

fn put<K: Ord>(map: &mut BTreeMap<K, Arc<Value>>, key: K, value: Option<Arc<Value>>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// The devices of an allocation that nobody else may have: not those of administrators.
fn in_use(allocation: &Value) -> Vec<DeviceId> {
    let results = allocation["devices"]["results"].as_array().into_iter().flatten();
    let own = results.filter(|result| result["adminAccess"] != true);
    own.map(|result| {
        let text = |field: &str| result[field].as_str().unwrap_or("").to_owned();
        DeviceId {
            driver: text("driver"),
            pool: text("pool"),
            device: text("device"),
        }
    })
    .collect()
}

/// The taints that rules give a device; one without a selector is about all of them.
fn taints_by_rules(rules: &BTreeMap<String, Arc<Value>>, id: &DeviceId) -> Vec<Taint> {
    let about = |rule: &&Arc<Value>| {
        let selector = &rule["spec"]["deviceSelector"];
        let fits = |field: &str, own: &str| selector[field].as_str().is_none_or(|wanted| wanted == own);
        fits("driver", &id.driver) && fits("pool", &id.pool) && fits("device", &id.device)
    };
    rules
        .values()
        .filter(about)
        .map(|rule| Taint::of(&rule["spec"]["taint"]))
        .collect()
}
