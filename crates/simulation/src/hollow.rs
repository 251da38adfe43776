//! Hollow nodes: machines that run pods in name only, fall silent, come back, and go for good.

use std::collections::{BTreeMap, HashMap};

use api::{Value, meta};
use apiserver::rules;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::registry::registry;
use crate::rng::Rng;
use crate::server::Change;
use crate::world::Shared;

/// Annotation: how many seconds a pod that ends runs.
pub const RUNS: &str = "simulation/runs";
/// Annotation: how many of a job's pods (of an index, if it has them) fail before one succeeds.
pub const FAILS: &str = "simulation/fails";
/// An image that never starts.
pub const BAD_IMAGE: &str = "bad:1";

#[derive(Clone, Debug)]
enum Work {
    Start(String),
    End(String),
    Stop(String),
    Kill(String),
    Bind(String, String),
}

#[derive(Debug)]
struct Guest {
    namespace: String,
    name: String,
    node: String,
    running: bool,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Machine {
    silent: bool,
    deferred: Vec<Work>,
}

/// All machines.
pub struct Hollow {
    machines: BTreeMap<String, Machine>,
    guests: BTreeMap<String, Guest>,
    due: BTreeMap<(Timestamp, u64), Work>,
    count: u64,
    rng: Rng,
    seen_pods: u64,
    seen_claims: u64,
    failures: HashMap<String, u64>,
    addresses: u32,
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

impl Hollow {
    /// No machines yet.
    pub fn new(seed: u64) -> Self {
        Self {
            machines: BTreeMap::new(),
            guests: BTreeMap::new(),
            due: BTreeMap::new(),
            count: 0,
            rng: Rng::new(seed, 3),
            seen_pods: 0,
            seen_claims: 0,
            failures: HashMap::new(),
            addresses: 0,
        }
    }

    /// A machine comes and registers.
    pub fn add(&mut self, world: &mut Shared, name: &str, zone: &str) {
        self.machines.insert(name.to_owned(), Machine::default());
        let amounts = json!({"cpu": "64", "memory": "256Gi", "pods": "200", "ephemeral-storage": "100Gi"});
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone,
                "topology.kubernetes.io/region": "r", "kubernetes.io/os": "linux"}},
            "status": {"capacity": amounts, "allocatable": amounts},
        });
        let nodes = registry().known("", "nodes");
        let made = world.server.create(nodes, "", &node);
        if let Err(error) = made {
            world.note(|| format!("node {name}: {error}"));
        }
        self.report(world, name);
    }

    /// The node agent says how its node is.
    pub fn report(&mut self, world: &mut Shared, name: &str) {
        let now = api::time::format(world.server.now);
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": "",
                "lastHeartbeatTime": now, "lastTransitionTime": now})
        };
        let status = json!({"status": {"conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ]}});
        let nodes = registry().known("", "nodes");
        let said = world.server.update(nodes, "", name, "status", Change::Merge(&status));
        if let Err(error) = said {
            world.note(|| format!("status of node {name}: {error}"));
        }
    }

    /// A machine falls silent; its pods go on running.
    pub fn silence(&mut self, world: &mut Shared, name: &str) {
        if let Some(machine) = self.machines.get_mut(name) {
            machine.silent = true;
            let now = world.server.now;
            world.silent.insert(name.to_owned(), now);
        }
    }

    /// A silent machine is heard again.
    pub fn revive(&mut self, world: &mut Shared, name: &str) {
        let Some(machine) = self.machines.get_mut(name) else {
            return;
        };
        machine.silent = false;
        let deferred = std::mem::take(&mut machine.deferred);
        world.silent.remove(name);
        self.report(world, name);
        for guest in self.guests.values().filter(|guest| guest.node == name && guest.running) {
            say_ready(world, guest);
        }
        for work in deferred {
            self.later(world, 10, 500, work);
        }
    }

    /// A machine is gone for good.
    pub fn remove(&mut self, world: &mut Shared, name: &str) {
        self.machines.remove(name);
        world.silent.remove(name);
        self.guests.retain(|_, guest| guest.node != name);
    }

    /// When something happens next.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    fn later(&mut self, world: &Shared, low_ms: i64, high_ms: i64, work: Work) {
        let at = world.server.now + SignedDuration::from_millis(self.rng.between(low_ms, high_ms));
        self.count += 1;
        self.due.insert((at, self.count), work);
    }

    /// Sees what happened to pods and claims.
    pub fn observe(&mut self, world: &mut Shared) {
        let (pods, claims) = (
            registry().known("", "pods"),
            registry().known("", "persistentvolumeclaims"),
        );
        for event in world.server.store.since(claims, self.seen_claims).to_vec() {
            self.seen_claims = event.revision;
            let (namespace, name) = event.object().key();
            if event.old.is_none() {
                self.later(world, 50, 900, Work::Bind(namespace.to_owned(), name.to_owned()));
            }
        }
        for event in world.server.store.since(pods, self.seen_pods).to_vec() {
            self.seen_pods = event.revision;
            let (pod, gone) = (&event.object().value, event.new.is_none());
            let (uid, node) = (meta::uid(pod).to_owned(), text(pod, "/spec/nodeName"));
            if node.is_empty() || !self.machines.contains_key(node) {
                continue;
            }
            if gone {
                self.later(world, 10, 300, Work::Kill(uid));
                continue;
            }
            let known = self.guests.contains_key(&uid);
            if !known {
                let guest = Guest {
                    namespace: meta::namespace(pod).to_owned(),
                    name: meta::name(pod).to_owned(),
                    node: node.to_owned(),
                    running: false,
                    stopping: false,
                };
                self.guests.insert(uid.clone(), guest);
                self.later(world, 50, 900, Work::Start(uid.clone()));
            }
            let guest = self.guests.get_mut(&uid).expect("just made");
            if meta::is_deleting(pod) && !guest.stopping {
                guest.stopping = true;
                self.later(world, 50, 2_000, Work::Stop(uid));
            }
        }
    }

    /// Does what is due.
    pub fn act(&mut self, world: &mut Shared) {
        let now = world.server.now;
        while let Some(((at, _), _)) = self.due.first_key_value()
            && *at <= now
        {
            let (_, work) = self.due.pop_first().expect("just seen");
            self.work(world, work);
        }
    }

    fn work(&mut self, world: &mut Shared, work: Work) {
        let uid = match &work {
            Work::Bind(namespace, name) => {
                let claims = registry().known("", "persistentvolumeclaims");
                let bound = world.server.change(claims, namespace, name, |claim| {
                    claim["status"]["phase"] = "Bound".into();
                    Ok(())
                });
                drop(bound);
                return;
            }
            Work::Start(uid) | Work::End(uid) | Work::Stop(uid) | Work::Kill(uid) => uid.clone(),
        };
        let Some(guest) = self.guests.get(&uid) else { return };
        let Some(machine) = self.machines.get_mut(&guest.node) else {
            return;
        };
        if machine.silent {
            // What ends, ends; nobody is told until the node is heard again.
            machine.deferred.push(work);
            return;
        }
        match work {
            Work::Start(_) => self.start(world, &uid),
            Work::End(_) => self.end(world, &uid),
            Work::Stop(_) => self.stop(world, &uid),
            Work::Kill(_) | Work::Bind(..) => drop(self.guests.remove(&uid)),
        }
    }

    fn pod(&self, world: &Shared, uid: &str) -> Option<Value> {
        let guest = self.guests.get(uid)?;
        let pods = registry().known("", "pods");
        let found = world.server.get(pods, &guest.namespace, &guest.name).ok()?;
        (meta::uid(found) == uid).then(|| found.clone())
    }

    fn start(&mut self, world: &mut Shared, uid: &str) {
        let Some(pod) = self.pod(world, uid) else {
            self.guests.remove(uid);
            return;
        };
        let bad = text(&pod, "/spec/containers/0/image") == BAD_IMAGE;
        if meta::is_deleting(&pod) || bad || matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
            return;
        }
        self.check_identity(world, uid);
        self.addresses += 1;
        let ip = format!("10.244.{}.{}", self.addresses / 250, self.addresses % 250 + 1);
        let now = api::time::format(world.server.now);
        let guest = self.guests.get_mut(uid).expect("found above");
        guest.running = true;
        let status = json!({"phase": "Running", "startTime": now, "podIP": ip, "podIPs": [{"ip": ip}]});
        say(world, guest, &json!({"metadata": {"uid": uid}, "status": status}));
        say_ready(world, guest);
        if text(&pod, "/spec/restartPolicy") != "Always" {
            let runs = meta::annotation(&pod, RUNS)
                .and_then(|runs| runs.parse().ok())
                .unwrap_or(1);
            self.later(world, runs * 1000, runs * 1000 + 500, Work::End(uid.to_owned()));
        }
    }

    /// No two pods run under one name.
    fn check_identity(&self, world: &mut Shared, uid: &str) {
        let guest = &self.guests[uid];
        let others = self.guests.iter().filter(|(other, _)| other.as_str() != uid);
        let mut same =
            others.filter(|(_, other)| other.running && other.namespace == guest.namespace && other.name == guest.name);
        if let Some((other_uid, other)) = same.next() {
            world.violate(format!(
                "{}/{} runs twice: {uid} on {} while {other_uid} runs on {}",
                guest.namespace, guest.name, guest.node, other.node
            ));
        }
    }

    fn end(&mut self, world: &mut Shared, uid: &str) {
        let Some(pod) = self.pod(world, uid) else { return };
        let guest = self.guests.get_mut(uid).expect("found above");
        if !std::mem::take(&mut guest.running) {
            return;
        }
        let index = meta::annotation(&pod, "batch.kubernetes.io/job-completion-index").unwrap_or("");
        let owner = meta::controller_of(&pod).map_or("", |owner| owner.uid);
        let fails: u64 = meta::annotation(&pod, FAILS)
            .and_then(|fails| fails.parse().ok())
            .unwrap_or(0);
        let failed = self.failures.entry(format!("{owner}/{index}")).or_default();
        // What is told to end does not end well.
        let phase = if guest.stopping {
            "Failed"
        } else if *failed < fails {
            *failed += 1;
            "Failed"
        } else {
            "Succeeded"
        };
        say_ended(world, guest, phase);
    }

    fn stop(&mut self, world: &mut Shared, uid: &str) {
        let Some(pod) = self.pod(world, uid) else {
            self.guests.remove(uid);
            return;
        };
        let guest = self.guests.get_mut(uid).expect("found above");
        guest.running = false;
        if !matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
            say_ended(world, guest, "Failed");
        }
        let options = rules::DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(uid.to_owned()),
            ..rules::DeleteOptions::default()
        };
        let (namespace, name) = (guest.namespace.clone(), guest.name.clone());
        let deleted = world
            .server
            .delete(registry().known("", "pods"), &namespace, &name, &options);
        world.note(|| {
            format!(
                "kubelet: pod {namespace}/{name} is stopped: {:?}",
                deleted.err().map(|e| e.message)
            )
        });
    }
}

fn say(world: &mut Shared, guest: &Guest, patch: &Value) {
    let pods = registry().known("", "pods");
    let said = world
        .server
        .update(pods, &guest.namespace, &guest.name, "status", Change::Merge(patch));
    world.note(|| {
        let error = said.err().map(|error| error.message).unwrap_or_default();
        format!(
            "kubelet {}: {}/{} {} {error}",
            guest.node, guest.namespace, guest.name, patch["status"]
        )
    });
}

fn container(state: Value, ready: bool) -> Value {
    json!([{"name": "c", "image": "app", "imageID": "app", "ready": ready, "started": ready, "restartCount": 0, "state": state}])
}

fn say_ready(world: &mut Shared, guest: &Guest) {
    let pods = registry().known("", "pods");
    let Ok(pod) = world.server.get(pods, &guest.namespace, &guest.name) else {
        return;
    };
    let now = api::time::format(world.server.now);
    let mut pod = pod.clone();
    if matches!(text(&pod, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    for kind in ["Initialized", "ContainersReady", "Ready"] {
        crate::server::set_condition(&mut pod, kind, "True", "", &now);
    }
    let conditions = pod["status"]["conditions"].clone();
    let containers = container(json!({"running": {"startedAt": now}}), true);
    say(
        world,
        guest,
        &json!({"status": {"conditions": conditions, "containerStatuses": containers}}),
    );
}

fn say_ended(world: &mut Shared, guest: &Guest, phase: &str) {
    let pods = registry().known("", "pods");
    let Ok(pod) = world.server.get(pods, &guest.namespace, &guest.name) else {
        return;
    };
    let now = api::time::format(world.server.now);
    let mut pod = pod.clone();
    for kind in ["ContainersReady", "Ready"] {
        crate::server::set_condition(&mut pod, kind, "False", "", &now);
    }
    let code = i32::from(phase == "Failed");
    let ended = json!({"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now, "reason": phase}});
    let conditions = pod["status"]["conditions"].clone();
    let containers = container(ended, false);
    say(
        world,
        guest,
        &json!({"status": {"phase": phase, "conditions": conditions, "containerStatuses": containers}}),
    );
}
