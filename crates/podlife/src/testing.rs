//! Builders for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::decide::{Inputs, Lifecycle, Memory, PodActions, decide};
use crate::observed::{Container, ContainerState, ProbeResult, ProbeResults, RuntimeStatus, Sandbox};
use crate::spec;
use crate::status::{StatusInputs, Waiting, status};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A pod from the JSON of its spec.
pub fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
        "spec": spec,
    }))
    .unwrap()
}

/// Containers of these names, image `img`, and more of the spec.
pub fn simple(policy: &str, names: &[&str]) -> Pod {
    let containers: Vec<_> = names
        .iter()
        .map(|n| serde_json::json!({"name": n, "image": "img"}))
        .collect();
    pod(serde_json::json!({"restartPolicy": policy, "containers": containers}))
}

pub struct World {
    pub pod: Pod,
    pub runtime: RuntimeStatus,
    pub probes: ProbeResults,
    pub memory: Memory,
    pub waiting: BTreeMap<String, Waiting>,
    pub previous: PodStatus,
    pub now: i64,
}

impl World {
    pub fn new(pod: Pod) -> World {
        World {
            pod,
            runtime: RuntimeStatus::default(),
            probes: ProbeResults::default(),
            memory: Memory::default(),
            waiting: BTreeMap::new(),
            previous: PodStatus::default(),
            now: 100,
        }
    }

    pub fn sandbox(mut self, id: &str, ready: bool) -> World {
        let attempt = self.runtime.sandboxes.len() as u32;
        let sandbox = Sandbox {
            id: id.into(),
            attempt,
            ready,
            created_at: at(0),
            ips: vec![IpAddr::from([10, 0, 0, 5])],
            host_network: self.pod.spec.as_ref().is_some_and(spec::host_network),
        };
        self.runtime.sandboxes.insert(0, sandbox);
        self
    }

    /// Adds a container of the newest sandbox; `Exited` with the code, ended at `now`.
    pub fn container(mut self, name: &str, state: ContainerState, exit_code: i32) -> World {
        self.add(name, state, exit_code);
        self
    }

    pub fn add(&mut self, name: &str, state: ContainerState, exit_code: i32) -> String {
        let before = self.runtime.containers.iter().filter(|c| c.name == name).count();
        let hash = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| spec::find(s, name))
            .map_or(0, |(_, c)| spec::hash(&c));
        let id = format!("{name}-{before}");
        let ended = state == ContainerState::Exited;
        self.runtime.containers.insert(
            0,
            Container {
                id: id.clone(),
                name: name.into(),
                sandbox_id: self.runtime.sandboxes.first().map(|s| s.id.clone()).unwrap_or_default(),
                state,
                created_at: at(self.now),
                started_at: (state != ContainerState::Created).then(|| at(self.now)),
                finished_at: ended.then(|| at(self.now)),
                exit_code,
                reason: if !ended {
                    ""
                } else if exit_code == 0 {
                    "Completed"
                } else {
                    "Error"
                }
                .into(),
                message: String::new(),
                image: "img".into(),
                image_id: "img@sha256:1".into(),
                restart_count: before as i32,
                hash,
                user: None,
            },
        );
        id
    }

    pub fn set(&mut self, name: &str, state: ContainerState, exit_code: i32) {
        let now = at(self.now);
        let found = self.runtime.containers.iter_mut().find(|c| c.name == name).unwrap();
        found.state = state;
        found.exit_code = exit_code;
        found.finished_at = Some(now);
        found.reason = if exit_code == 0 { "Completed" } else { "Error" }.into();
    }

    pub fn startup(mut self, id: &str, result: ProbeResult) -> World {
        self.probes.startup.insert(id.into(), result);
        self
    }

    pub fn liveness(mut self, id: &str, result: ProbeResult) -> World {
        self.probes.liveness.insert(id.into(), result);
        self
    }

    pub fn deleted(mut self, grace: i64) -> World {
        self.delete(grace);
        self
    }

    pub fn delete(&mut self, grace: i64) {
        let when = at(self.now).saturating_add(SignedDuration::from_secs(grace)).unwrap();
        self.pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(when));
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    pub fn decide(&self) -> PodActions {
        decide(&Inputs {
            pod: &self.pod,
            runtime: &self.runtime,
            probes: &self.probes,
            memory: &self.memory,
            now: at(self.now),
        })
    }

    /// Decides and remembers, as the executor does.
    pub fn step(&mut self) -> PodActions {
        let actions = self.decide();
        self.memory.ending = actions.ending.clone();
        for kill in &actions.kill {
            self.memory.killing.insert(kill.id.clone(), kill.deadline);
            if kill.restart {
                self.memory.restart.insert(kill.id.clone());
            }
        }
        self.waiting = actions.waiting.clone();
        actions
    }

    pub fn status(&self, lifecycle: Lifecycle) -> PodStatus {
        status(&StatusInputs {
            pod: &self.pod,
            spec: self.pod.spec.as_ref().unwrap(),
            previous: &self.previous,
            runtime: &self.runtime,
            probes: &self.probes,
            waiting: &self.waiting,
            lifecycle,
            cause: self.memory.ending.as_ref().map(|e| &e.cause),
            host_ips: &[IpAddr::from([192, 168, 0, 1])],
            runtime_name: "skiff",
            now: at(self.now),
        })
    }
}

pub fn starts(actions: &PodActions) -> Vec<&str> {
    actions.start.iter().map(|s| s.name.as_str()).collect()
}

pub fn kills(actions: &PodActions) -> Vec<&str> {
    actions.kill.iter().map(|k| k.name.as_str()).collect()
}
