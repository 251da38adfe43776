//! What holds at every step, and what holds in the end.

use std::collections::{BTreeMap, BTreeSet};

use api::{Value, labels, meta};
use jiff::Timestamp;
use quota::{Quota, Tally, amounts};

use crate::registry::{Resource, registry};
use crate::server::{Server, is_ready};
use crate::store::Event;
use crate::user::Users;
use crate::world::Shared;

/// What is known of a job's pods.
#[derive(Default)]
struct Work {
    most_parallelism: i64,
    most_completions: i64,
    succeeded: BTreeSet<String>,
}

/// Watches over every write.
#[derive(Default)]
pub struct Law {
    jobs: BTreeMap<String, Work>,
}

fn known(group: &str, resource: &str) -> Resource {
    registry().known(group, resource)
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or("")
}

fn is_terminal(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn is_active(pod: &Value) -> bool {
    !is_terminal(pod) && !meta::is_deleting(pod)
}

fn live(server: &Server, group: &str, resource: &str) -> Vec<Value> {
    let all = server.store.list(known(group, resource), "", u64::MAX);
    all.iter().map(|object| object.value.clone()).collect()
}

impl Law {
    /// Looks at all writes since the last look.
    pub fn look(&mut self, shared: &mut Shared) {
        let fresh = std::mem::take(&mut shared.server.fresh);
        for (resource, event) in fresh {
            let mut broken = Vec::new();
            self.job(&shared.server, resource, &event, &mut broken);
            self.quota(&shared.server, resource, &event, &mut broken);
            broken.into_iter().for_each(|what| shared.violate(what));
        }
    }

    /// Jobs run no more pods than they may, and never two of an index.
    fn job(&mut self, server: &Server, resource: Resource, event: &Event, broken: &mut Vec<String>) {
        let object = &event.object().value;
        if resource == known("batch", "jobs") {
            let work = self.jobs.entry(meta::uid(object).to_owned()).or_default();
            let count = |field: &str| object["spec"][field].as_i64().unwrap_or(i64::MAX);
            work.most_parallelism = work.most_parallelism.max(count("parallelism"));
            work.most_completions = work.most_completions.max(count("completions"));
            return;
        }
        if resource != known("", "pods") {
            return;
        }
        let Some(owner) = meta::controller_of(object).filter(|owner| owner.kind == "Job") else {
            return;
        };
        let work = self.jobs.entry(owner.uid.to_owned()).or_default();
        if phase(object) == "Succeeded" {
            work.succeeded.insert(meta::uid(object).to_owned());
        }
        if event.old.is_some() {
            return;
        }
        let pods: Vec<_> = server.store.owned(owner.uid, |_| event.revision);
        let active: Vec<&Value> = pods
            .iter()
            .map(|(_, pod)| &pod.value)
            .filter(|pod| is_active(pod))
            .collect();
        let number = i64::try_from(active.len()).unwrap_or(i64::MAX);
        let about = format!("job {}/{}", meta::namespace(object), owner.name);
        if number > work.most_parallelism {
            broken.push(format!(
                "{about}: {number} pods at once, {} may be",
                work.most_parallelism
            ));
        }
        let succeeded = i64::try_from(work.succeeded.len()).unwrap_or(i64::MAX);
        if succeeded.saturating_add(number) > work.most_completions {
            broken.push(format!(
                "{about}: {succeeded} succeeded and {number} run of {}",
                work.most_completions
            ));
        }
        let indexes = active
            .iter()
            .filter_map(|pod| meta::annotation(pod, "batch.kubernetes.io/job-completion-index"));
        let mut seen = BTreeSet::new();
        for index in indexes {
            if !seen.insert(index) {
                broken.push(format!("{about}: two pods of index {index}"));
            }
        }
    }

    /// A new pod never goes beyond a quota that is in force.
    fn quota(&mut self, server: &Server, resource: Resource, event: &Event, broken: &mut Vec<String>) {
        if event.old.is_some() || resource == known("", "resourcequotas") {
            return;
        }
        let namespace = meta::namespace(&event.object().value);
        for quota in server.store.list(known("", "resourcequotas"), namespace, u64::MAX) {
            let quota = &quota.value;
            if namespace.is_empty() || quota["spec"]["hard"] != quota["status"]["hard"] {
                continue;
            }
            let (hard, used) = truth(server, quota, Some(event.revision));
            let exceeded = amounts::exceeding(&used, &hard);
            if !exceeded.is_empty() {
                let used = amounts::pretty(&used);
                broken.push(format!("quota {}/{} is exceeded: {used}", namespace, meta::name(quota)));
            }
        }
    }

    /// What holds when everything is still.
    pub fn in_the_end(&self, server: &Server, users: &Users, silent: &BTreeMap<String, Timestamp>) -> Vec<String> {
        let mut broken = Vec::new();
        self.jobs_in_the_end(server, &mut broken);
        users_lost_nothing(server, users, &mut broken);
        pods_in_the_end(server, silent, &mut broken);
        owners_in_the_end(server, &mut broken);
        quotas_in_the_end(server, &mut broken);
        endpoints_in_the_end(server, &mut broken);
        broken
    }

    /// Each pod that succeeded is counted, once.
    fn jobs_in_the_end(&self, server: &Server, broken: &mut Vec<String>) {
        for job in live(server, "batch", "jobs") {
            let Some(work) = self.jobs.get(meta::uid(&job)) else {
                continue;
            };
            let (counted, truth) = (
                job["status"]["succeeded"].as_u64().unwrap_or(0),
                work.succeeded.len() as u64,
            );
            let about = format!("job {}/{}", meta::namespace(&job), meta::name(&job));
            if counted != truth {
                broken.push(format!("{about}: {truth} pods succeeded, {counted} are counted"));
            }
            let left = job["status"]["uncountedTerminatedPods"].as_object();
            if left.is_some_and(|left| {
                left.values()
                    .any(|uids| uids.as_array().is_some_and(|uids| !uids.is_empty()))
            }) {
                broken.push(format!("{about}: pods are still uncounted"));
            }
        }
    }
}

fn truth(server: &Server, quota: &Value, revision: Option<u64>) -> (quota::Amounts, quota::Amounts) {
    let namespace = meta::namespace(quota);
    let mut tally = Tally::of(quota, server.now);
    for (resource, gvr) in registry().resources.iter().enumerate() {
        let name = gvr.group_resource();
        if registry().kinds[resource].is_namespaced() && tally.wants(&name) {
            let all = server.store.list(resource, namespace, revision.unwrap_or(u64::MAX));
            let values: Vec<Value> = all.iter().map(|object| object.value.clone()).collect();
            tally.count(&name, &values);
        }
    }
    tally.status(quota)
}

fn users_lost_nothing(server: &Server, users: &Users, broken: &mut Vec<String>) {
    for (uid, mine) in &users.made {
        let about = format!(
            "{} {}/{}",
            registry().kinds[mine.resource].plural,
            mine.namespace,
            mine.name
        );
        match server.get(mine.resource, &mine.namespace, &mine.name) {
            Ok(found) if meta::uid(found) != uid => broken.push(format!("{about} is another one")),
            Ok(found) if meta::is_deleting(found) => broken.push(format!("{about} is being deleted")),
            Ok(found) if found["spec"] != mine.spec => {
                broken.push(format!(
                    "{about} has another spec: {}, not {}",
                    found["spec"], mine.spec
                ));
            }
            Ok(_) => {}
            Err(_) => broken.push(format!("{about} is lost")),
        }
    }
}

fn pods_in_the_end(server: &Server, silent: &BTreeMap<String, Timestamp>, broken: &mut Vec<String>) {
    for pod in live(server, "", "pods") {
        let about = format!("pod {}/{}", meta::namespace(&pod), meta::name(&pod));
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
        if meta::is_deleting(&pod) && !silent.contains_key(node) {
            broken.push(format!(
                "{about} is still going (finalizers {:?})",
                meta::finalizers(&pod)
            ));
        }
        if !node.is_empty() && server.get(known("", "nodes"), "", node).is_err() {
            broken.push(format!("{about} is on {node}, which is gone"));
        }
    }
}

/// No object outlives all of its owners.
fn owners_in_the_end(server: &Server, broken: &mut Vec<String>) {
    for (resource, kind) in registry().kinds.iter().enumerate() {
        for object in server.store.list(resource, "", u64::MAX) {
            let value = &object.value;
            if meta::is_deleting(value) && kind.plural != "pods" {
                let about = format!("{} {}/{}", kind.plural, meta::namespace(value), meta::name(value));
                broken.push(format!(
                    "{about} is still going (finalizers {:?})",
                    meta::finalizers(value)
                ));
            }
            let owners = meta::owner_references(value);
            let lives = |uid: &str| server.store.by_uid(uid, |_| u64::MAX).is_some();
            if !owners.is_empty() && !owners.iter().any(|owner| lives(owner.uid)) {
                let about = format!("{} {}/{}", kind.plural, meta::namespace(value), meta::name(value));
                broken.push(format!("{about} outlives {} {}", owners[0].kind, owners[0].name));
            }
        }
    }
}

fn quotas_in_the_end(server: &Server, broken: &mut Vec<String>) {
    for quota in live(server, "", "resourcequotas") {
        let (hard, used) = truth(server, &quota, None);
        let said = Quota::read(&quota);
        if said.hard != hard || said.used != used {
            let (said, used) = (amounts::pretty(&said.used), amounts::pretty(&used));
            broken.push(format!("quota {} says {said}, in truth {used}", meta::name(&quota)));
        }
    }
}

/// Slices and Endpoints of a service have the addresses of the ready pods that it selects.
fn endpoints_in_the_end(server: &Server, broken: &mut Vec<String>) {
    for service in live(server, "", "services") {
        let (namespace, name) = (meta::namespace(&service), meta::name(&service));
        let Some(selector) = service["spec"]["selector"].as_object() else {
            continue;
        };
        let selector: BTreeMap<String, String> = selector
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned()))
            .collect();
        let pods = server.store.list(known("", "pods"), namespace, u64::MAX);
        let chosen = pods.iter().map(|pod| &pod.value).filter(|pod| {
            let labels = meta::labels(pod);
            is_ready(pod) && !is_terminal(pod) && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        });
        let wanted: BTreeSet<String> = chosen
            .map(|pod| pod["status"]["podIP"].as_str().unwrap_or("").to_owned())
            .collect();
        let slices = server
            .store
            .list(known("discovery.k8s.io", "endpointslices"), namespace, u64::MAX);
        let ours = slices.iter().map(|slice| &slice.value);
        let ours = ours.filter(|slice| {
            meta::label(slice, "kubernetes.io/service-name") == Some(name)
                && meta::label(slice, "endpointslice.kubernetes.io/managed-by")
                    == Some("endpointslice-controller.k8s.io")
        });
        let endpoints = ours.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let found: BTreeSet<String> = ready
            .map(|endpoint| endpoint["addresses"][0].as_str().unwrap_or("").to_owned())
            .collect();
        if found != wanted {
            broken.push(format!(
                "slices of service {namespace}/{name} have {found:?}, not {wanted:?}"
            ));
        }
        let legacy = server
            .get(known("", "endpoints"), namespace, name)
            .cloned()
            .unwrap_or_default();
        let subsets = legacy["subsets"].as_array().into_iter().flatten();
        let addresses = subsets.flat_map(|subset| subset["addresses"].as_array().into_iter().flatten());
        let found: BTreeSet<String> = addresses
            .map(|address| address["ip"].as_str().unwrap_or("").to_owned())
            .collect();
        if found != wanted {
            broken.push(format!(
                "endpoints of service {namespace}/{name} have {found:?}, not {wanted:?}"
            ));
        }
    }
}

/// The pods that a budget selects.
pub fn selected(server: &Server, budget: &Value) -> Vec<Value> {
    let Ok(selector) = labels::Selector::from_label_selector(budget["spec"].get("selector")) else {
        return Vec::new();
    };
    let pods = server.store.list(known("", "pods"), meta::namespace(budget), u64::MAX);
    pods.iter()
        .map(|pod| pod.value.clone())
        .filter(|pod| selector.matches(&meta::labels(pod)))
        .collect()
}
