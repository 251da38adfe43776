//! Whether a node has, or can get, the volumes of a pod (upstream `GetPodVolumeClaims`, `FindPodVolumes`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::Quantity;

use crate::framework::{Code, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::storage::{Capacity, Claim, Class, Storage, Volume, claims, find_matching};

/// The provisioner of classes whose volumes nobody makes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What one pod needs, worked out once for all nodes.
pub(super) struct Wanted {
    storage: Arc<Storage>,
    /// The volumes of its bound claims; `None` for one that is not there.
    bound: Vec<Option<Arc<Volume>>>,
    /// Its claims that wait for it, the smallest first.
    pub(super) delayed: Vec<Arc<Claim>>,
    /// The volumes of their classes.
    candidates: HashMap<String, Vec<Arc<Volume>>>,
    /// Whether it has claims that somebody else has yet to bind.
    pub(super) waits_for_others: bool,
}

/// What the pod would get on one node.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Volumes that are there, with their claims.
    pub(super) bindings: Vec<(Arc<Volume>, Arc<Claim>)>,
    /// Claims whose volumes are to be made, with the space that was told of.
    pub(super) provisions: Vec<(Arc<Claim>, Option<Arc<Capacity>>)>,
}

impl Choice {
    /// What is asked of each class, and what there is.
    pub(super) fn by_class(&self) -> BTreeMap<&str, (i64, i64)> {
        let mut classes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        let request = |claim: &Claim| claim.request.as_ref().map_or(0, Quantity::value);
        for (volume, claim) in &self.bindings {
            let (requested, capacity) = classes.entry(&volume.class).or_default();
            *requested += request(claim);
            *capacity += volume.capacity.value();
        }
        if self.bindings.is_empty() {
            for (claim, space) in &self.provisions {
                let Some(space) = space else { continue };
                let (requested, capacity) = classes.entry(&claim.class).or_default();
                *requested += request(claim);
                // All claims of a class share one space.
                *capacity = space.bytes.unwrap_or(0);
            }
        }
        classes
    }
}

impl Wanted {
    /// Sorts a pod's claims, all of which exist.
    ///
    /// # Errors
    /// A class that cannot be right.
    pub(super) fn of(storage: &Arc<Storage>, pod: &PodInfo) -> Result<Wanted, String> {
        let mut wanted = Wanted {
            storage: storage.clone(),
            bound: Vec::new(),
            delayed: Vec::new(),
            candidates: HashMap::new(),
            waits_for_others: false,
        };
        for used in claims(pod) {
            let name = used.name(pod);
            let Some(claim) = storage.claim(&pod.key.namespace, &name) else {
                let key = format!("{}/{name}", pod.key.namespace);
                return Err(format!(
                    "error getting PVC {key:?}: could not find v1.PersistentVolumeClaim {key:?}"
                ));
            };
            let claim = storage.assumed().claim(claim);
            if claim.is_bound() {
                let volume = storage.volume(&claim.volume);
                wanted.bound.push(volume.map(|volume| storage.assumed().volume(volume)));
            } else if claim.volume.is_empty() && is_delayed(storage, &claim)? {
                let same = |known: &Arc<Claim>| known.name == claim.name;
                if !wanted.delayed.iter().any(same) {
                    wanted.delayed.push(claim);
                }
            } else {
                wanted.waits_for_others = true;
            }
        }
        wanted.delayed.sort_by(|a, b| a.request.cmp(&b.request));
        for claim in &wanted.delayed {
            if !wanted.candidates.contains_key(&claim.class) {
                let volumes = storage.volumes_of(&claim.class);
                let volumes = volumes.map(|volume| storage.assumed().volume(volume)).collect();
                wanted.candidates.insert(claim.class.clone(), volumes);
            }
        }
        Ok(wanted)
    }

    /// What the pod would get on this node.
    ///
    /// # Errors
    /// Why the node will not do.
    pub(super) fn on(&self, node: &NodeInfo) -> Result<Choice, Rejection> {
        let mut reasons: Vec<&'static str> = Vec::new();
        let mut missing = false;
        for volume in &self.bound {
            match volume {
                None => missing = true,
                Some(volume) if !volume.is_reached(node.labels()) => {
                    reasons.push("node(s) didn't match PersistentVolume's node affinity");
                }
                Some(_) => continue,
            }
            break;
        }
        let mut choice = Choice::default();
        let (satisfied, roomy) = self.choose(node, &mut choice).map_err(Rejection::error)?;
        if !satisfied {
            reasons.push("node(s) didn't find available persistent volumes to bind");
        }
        if !roomy {
            reasons.push("node(s) did not have enough free storage");
        }
        if missing {
            reasons.push("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
        }
        match reasons[..] {
            [] => Ok(choice),
            [reason] => Err(Rejection::unresolvable(reason)),
            _ => {
                let reasons = reasons.into_iter().map(ToOwned::to_owned).collect();
                Err(Rejection::with(Code::Unresolvable, reasons))
            }
        }
    }

    /// Finds volumes for the claims that wait; whether there are any, and whether there is room to make the rest.
    fn choose(&self, node: &NodeInfo, choice: &mut Choice) -> Result<(bool, bool), String> {
        let elsewhere = |claim: &Arc<Claim>| claim.selected_node.as_deref().is_some_and(|name| name != node.name());
        if self.delayed.iter().any(elsewhere) {
            return Ok((false, true));
        }
        let mut taken: Vec<&str> = Vec::new();
        let mut unmatched = Vec::new();
        for claim in self.delayed.iter().filter(|claim| claim.selected_node.is_none()) {
            match find_matching(claim, &self.candidates[&claim.class], node.labels(), &taken) {
                Some(volume) => {
                    taken.push(&volume.name);
                    choice.bindings.push((volume.clone(), claim.clone()));
                }
                None => unmatched.push(claim),
            }
        }
        let selected = self.delayed.iter().filter(|claim| claim.selected_node.is_some());
        for claim in selected.chain(unmatched) {
            let class = self.class_of(claim)?;
            if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER || !class.allows(node.labels()) {
                return Ok((false, true));
            }
            match self.room(class, claim, node) {
                Room::Enough(space) => choice.provisions.push((claim.clone(), space)),
                Room::TooLittle => return Ok((true, false)),
            }
        }
        Ok((true, true))
    }

    fn class_of(&self, claim: &Claim) -> Result<&Arc<Class>, String> {
        if claim.class.is_empty() {
            return Err(format!("no class for claim {:?}", claim.key()));
        }
        let class = self.storage.class(&claim.class);
        class.ok_or_else(|| format!("failed to find storage class {:?}", claim.class))
    }

    /// Upstream `hasEnoughCapacity`.
    fn room(&self, class: &Class, claim: &Claim, node: &NodeInfo) -> Room {
        let tells = self
            .storage
            .driver(&class.provisioner)
            .is_some_and(|driver| driver.tells_capacity);
        let Some(size) = claim.request.as_ref().map(Quantity::value).filter(|_| tells) else {
            return Room::Enough(None);
        };
        let mut known = self.storage.capacities().filter(|space| space.class == class.name);
        let reaches = |space: &Capacity| space.nodes.as_ref().is_some_and(|nodes| nodes.matches(node.labels()));
        let found = known.find(|space| space.limit().is_some_and(|limit| limit >= size) && reaches(space));
        found.map_or(Room::TooLittle, |space| Room::Enough(Some(space.clone())))
    }
}

/// Whether there is space for a volume.
enum Room {
    /// There is; who said so, if anybody was asked.
    Enough(Option<Arc<Capacity>>),
    /// There is not.
    TooLittle,
}

/// Upstream `IsDelayBindingMode`.
fn is_delayed(storage: &Storage, claim: &Claim) -> Result<bool, String> {
    let Some(class) = storage.class(&claim.class).filter(|_| !claim.class.is_empty()) else {
        return Ok(false);
    };
    match class.binding_mode {
        None => Err(format!("VolumeBindingMode not set for StorageClass {:?}", class.name)),
        Some(_) => Ok(class.waits_for_consumer()),
    }
}
