//! Constraints of pods that have none of their own, and the pods that they count: those of the same
//! services and the same controller (upstream plugins/helper/spread.go).

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::labels::Selector;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::framework::Shared;
use crate::pod::PodInfo;
use crate::shape::{self, PodSelector, Spread};

/// Upstream `systemDefaultConstraints`.
pub(super) fn system() -> Vec<Spread> {
    let constraint = |key: &str, max_skew| Spread {
        max_skew,
        topology_key: key.into(),
        required: false,
        pods: std::sync::Arc::new(PodSelector::default()),
        match_label_keys: Vec::new(),
        min_domains: 1,
        honors_affinity: true,
        honors_taints: false,
    };
    vec![
        constraint("kubernetes.io/hostname", 3),
        constraint("topology.kubernetes.io/zone", 5),
    ]
}

#[derive(Debug, Default)]
struct Known {
    /// By namespace, name; services without a selector are left out.
    services: HashMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    /// Selectors by kind, namespace and name.
    controllers: HashMap<(&'static str, String, String), Selector>,
}

/// The services and controllers of the cluster, reduced to their selectors.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Known>);

impl Owners {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn observe(&self, old: Option<&Shared>, new: Option<&Shared>) {
        let Some(object) = new.or(old) else { return };
        let gone = new.is_none();
        let object: &(dyn Any + Send + Sync) = &**object;
        let mut known = self.lock();
        if let Some(service) = object.downcast_ref::<Service>() {
            known.set_service(service, gone);
        } else if let Some(owner) = object.downcast_ref::<ReplicationController>() {
            let selector = owner.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selector = Selector::from_map(selector.into_iter().flatten());
            known.set_controller("ReplicationController", &owner.metadata, selector, gone);
        } else if let Some(owner) = object.downcast_ref::<ReplicaSet>() {
            let selector = shape::selector(Some(&owner.spec.selector));
            known.set_controller("ReplicaSet", &owner.metadata, selector, gone);
        } else if let Some(owner) = object.downcast_ref::<StatefulSet>() {
            let selector = shape::selector(Some(&owner.spec.selector));
            known.set_controller("StatefulSet", &owner.metadata, selector, gone);
        }
    }

    /// What the pod's like have in common; everything when nothing is known (`DefaultSelector`).
    pub(super) fn selector(&self, pod: &PodInfo) -> Selector {
        let known = self.lock();
        let mut labels: BTreeMap<&String, &String> = BTreeMap::new();
        let services = known.services.get(&*pod.key.namespace);
        for selector in services.into_iter().flat_map(BTreeMap::values) {
            if selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)) {
                labels.extend(selector);
            }
        }
        let by_services = Selector::from_map(labels);
        let Some(owner) = &pod.shape.controller else {
            return by_services;
        };
        let kind = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => "ReplicationController",
            ("apps/v1", "ReplicaSet") => "ReplicaSet",
            ("apps/v1", "StatefulSet") => "StatefulSet",
            _ => return by_services,
        };
        let key = (kind, pod.key.namespace.to_string(), owner.name.clone());
        match known.controllers.get(&key) {
            Some(own) if !own.is_nothing() => {
                let both = by_services.requirements().iter().chain(own.requirements());
                Selector::new(both.cloned().collect())
            }
            _ => by_services,
        }
    }
}

impl Known {
    fn set_service(&mut self, service: &Service, gone: bool) {
        let (namespace, name) = names(&service.metadata);
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let services = self.services.entry(namespace).or_default();
        match selector.filter(|selector| !selector.is_empty() && !gone) {
            Some(selector) => services.insert(name, selector),
            None => services.remove(&name),
        };
    }

    fn set_controller(&mut self, kind: &'static str, metadata: &ObjectMeta, selector: Selector, gone: bool) {
        let (namespace, name) = names(metadata);
        if gone {
            self.controllers.remove(&(kind, namespace, name));
        } else {
            self.controllers.insert((kind, namespace, name), selector);
        }
    }
}

fn names(metadata: &ObjectMeta) -> (String, String) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}
