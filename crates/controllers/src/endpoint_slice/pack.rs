//! Which endpoint goes into which slice: what is in a slice stays there, slices that change anyway
//! are filled first, and no slice is touched for nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::Value;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Group, SLICE_CAPACITY};
use crate::diff::merge_patch;
use crate::object::{controller_reference, name, namespace, to_value};
use crate::plan::{Action, Plan};

/// What makes an endpoint the same one.
type Identity = (Option<String>, Vec<String>);

fn identity(endpoint: &Endpoint) -> Identity {
    (
        endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()),
        endpoint.addresses.clone(),
    )
}

/// A slice as it shall be.
struct Draft {
    seen: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

pub(super) fn reconcile(
    service: &Service,
    family: &str,
    slices: Vec<Arc<EndpointSlice>>,
    groups: Vec<Group>,
    labels: &BTreeMap<String, String>,
    plan: &mut Plan,
) {
    let mut by_ports: Vec<(Vec<EndpointPort>, Vec<Arc<EndpointSlice>>)> = Vec::new();
    for slice in slices {
        let ports = slice.ports.clone().unwrap_or_default();
        match by_ports.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, slices)) => slices.push(slice),
            None => by_ports.push((ports, vec![slice])),
        }
    }
    let (mut updates, mut surplus, mut creates) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups {
        let index = by_ports.iter().position(|(ports, _)| *ports == group.ports);
        let slices = index.map(|index| by_ports.swap_remove(index).1).unwrap_or_default();
        let (drafts, rest) = fill(slices, group.endpoints);
        for draft in drafts {
            if draft.endpoints.is_empty() {
                surplus.push(draft.seen)
            } else {
                updates.push(draft)
            }
        }
        for endpoints in rest.chunks(SLICE_CAPACITY) {
            creates.push((group.ports.clone(), endpoints.to_vec()));
        }
    }
    // A service without any endpoint has one empty slice, so that it can be told from one that
    // nobody looked at.
    let mut empty: Vec<Arc<EndpointSlice>> = by_ports
        .into_iter()
        .flat_map(|(_, slices)| slices)
        .chain(surplus)
        .collect();
    if updates.is_empty() && creates.is_empty() {
        match empty
            .iter()
            .position(|slice| slice.ports.as_ref().is_none_or(Vec::is_empty))
        {
            Some(index) => {
                let seen = empty.swap_remove(index);
                let changed = seen.endpoints.as_ref().is_some_and(|endpoints| !endpoints.is_empty());
                updates.push(Draft {
                    seen,
                    endpoints: Vec::new(),
                    changed,
                });
            }
            None => creates.push((Vec::new(), Vec::new())),
        }
    }
    for (ports, endpoints) in creates {
        plan.act(Action::create(&new_slice(service, family, ports, endpoints, labels)));
    }
    for draft in updates {
        if let Some(action) = update(&draft, labels) {
            plan.act(action);
        }
    }
    for slice in empty {
        plan.act(Action::delete(&*slice));
    }
}

/// Puts endpoints into slices of the same ports; answers with what found no room.
fn fill(slices: Vec<Arc<EndpointSlice>>, endpoints: Vec<Endpoint>) -> (Vec<Draft>, Vec<Endpoint>) {
    let order: Vec<Identity> = endpoints.iter().map(identity).collect();
    let mut wanted: HashMap<Identity, Endpoint> = endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    let mut drafts = Vec::with_capacity(slices.len());
    for seen in slices {
        let old = seen.endpoints.clone().unwrap_or_default();
        let endpoints: Vec<Endpoint> = old
            .iter()
            .filter_map(|endpoint| wanted.remove(&identity(endpoint)))
            .collect();
        let changed = endpoints != old;
        drafts.push(Draft {
            seen,
            endpoints,
            changed,
        });
    }
    let mut rest: Vec<Endpoint> = order.iter().filter_map(|identity| wanted.remove(identity)).collect();
    rest.reverse();
    for draft in drafts.iter_mut().filter(|draft| draft.changed) {
        while draft.endpoints.len() < SLICE_CAPACITY
            && let Some(endpoint) = rest.pop()
        {
            draft.endpoints.push(endpoint);
        }
    }
    rest.reverse();
    // The rest goes into the fullest untouched slice that has room for all of it.
    let partial = rest.len() % SLICE_CAPACITY;
    if partial > 0 {
        let room = |draft: &&mut Draft| !draft.changed && draft.endpoints.len() + partial <= SLICE_CAPACITY;
        if let Some(draft) = drafts.iter_mut().filter(room).max_by_key(|draft| draft.endpoints.len()) {
            let split = rest.len() - partial;
            draft.endpoints.extend(rest.drain(split..));
            draft.changed = true;
        }
    }
    (drafts, rest)
}

fn update(draft: &Draft, labels: &BTreeMap<String, String>) -> Option<Action> {
    let mut body = api::Map::new();
    if draft.changed {
        body.insert("endpoints".to_owned(), to_value(&draft.endpoints));
    }
    if let Some(labels) = merge_patch(&draft.seen.metadata.labels, &Some(labels.clone())) {
        body.insert("metadata".to_owned(), json!({"labels": labels}));
    }
    (!body.is_empty()).then(|| Action::patch_version(&*draft.seen, Value::Object(body)))
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    labels: &BTreeMap<String, String>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(service))),
            namespace: Some(namespace(service).to_owned()),
            labels: Some(labels.clone()),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}
