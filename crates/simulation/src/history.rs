//! What users do: a random history that makes sense, the same whatever goes wrong meanwhile.

use std::collections::BTreeMap;

use api::Value;
use serde_json::json;

use crate::hollow::{BAD_IMAGE, FAILS, RUNS};
use crate::rng::Rng;

/// What is done to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodOp {
    /// It is deleted.
    Delete,
    /// It is evicted.
    Evict,
    /// It loses the labels that its owner selects it by.
    Release,
}

/// One thing that a user (or an operator of nodes) does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Creates an object: group, resource, namespace, object.
    Create(&'static str, &'static str, String, Value),
    /// Merges a patch into an object: group, resource, namespace, name, patch.
    Patch(&'static str, &'static str, String, String, Value),
    /// Deletes an object: group, resource, namespace, name, policy (`o`, `b`, `f`).
    Delete(&'static str, &'static str, String, String, char),
    /// Does something to one of the running pods of an app.
    Pod(String, String, PodOp, usize),
    /// A node falls silent.
    Silence(String),
    /// A silent node is heard again.
    Revive(String),
    /// A node and its machine are removed.
    Remove(String),
    /// A machine comes.
    Add(String, &'static str),
    /// A node gets a taint with an effect.
    Taint(String, &'static str),
    /// A node loses the taints that users gave it.
    Untaint(String),
}

/// A thing and its time, in milliseconds from the beginning.
#[derive(Clone, Debug)]
pub struct Deed {
    /// When.
    pub at: i64,
    /// What.
    pub op: Op,
}

/// The namespaces that users work in; `t` may be deleted.
pub const NAMESPACES: [&str; 4] = ["a", "b", "q", "t"];

#[derive(Clone, Debug)]
struct Known {
    kind: Made,
    namespace: String,
    name: String,
    images: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    Service,
    Budget,
}

impl Made {
    fn resource(self) -> (&'static str, &'static str) {
        match self {
            Made::Deployment => ("apps", "deployments"),
            Made::ReplicaSet => ("apps", "replicasets"),
            Made::StatefulSet => ("apps", "statefulsets"),
            Made::DaemonSet => ("apps", "daemonsets"),
            Made::Job => ("batch", "jobs"),
            Made::CronJob => ("batch", "cronjobs"),
            Made::Service => ("", "services"),
            Made::Budget => ("policy", "poddisruptionbudgets"),
        }
    }
}

struct Author {
    rng: Rng,
    deeds: Vec<Deed>,
    at: i64,
    known: Vec<Known>,
    nodes: BTreeMap<String, bool>,
    silent: Vec<String>,
    counter: u32,
    temporary_gone: bool,
}

/// A history of about so many deeds.
pub fn history(seed: u64, deeds: usize) -> Vec<Deed> {
    let mut author = Author {
        rng: Rng::new(seed, 5),
        deeds: Vec::new(),
        at: 0,
        known: Vec::new(),
        nodes: BTreeMap::new(),
        silent: Vec::new(),
        counter: 0,
        temporary_gone: false,
    };
    author.begin();
    while author.deeds.len() < deeds {
        author.at += author.rng.between(100, 9_000);
        author.next();
    }
    author.finish();
    author.deeds
}

fn template(app: &str, image: &str, restart: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {"labels": {"app": app}, "annotations": annotations},
        "spec": {"restartPolicy": restart, "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "c", "image": image, "resources": {"requests": {"cpu": "10m"}}}]},
    })
}

impl Author {
    fn add(&mut self, op: Op) {
        self.deeds.push(Deed { at: self.at, op });
    }

    fn begin(&mut self) {
        for namespace in NAMESPACES {
            self.add(Op::Create(
                "",
                "namespaces",
                String::new(),
                json!({"metadata": {"name": namespace}}),
            ));
        }
        let hard = json!({"pods": self.rng.between(40, 60).to_string(), "count/jobs.batch": "20"});
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
        self.add(Op::Create("", "resourcequotas", "q".to_owned(), quota));
        for (index, zone) in ["z1", "z2", "z1", "z2", "z1"].iter().enumerate() {
            let name = format!("n{index}");
            self.nodes.insert(name.clone(), true);
            self.add(Op::Add(name, zone));
        }
    }

    /// What would go on forever ends, and silent nodes come back or go.
    fn finish(&mut self) {
        self.at += self.rng.between(1_000, 60_000);
        for node in std::mem::take(&mut self.silent) {
            self.add(Op::Revive(node));
        }
        for node in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.add(Op::Untaint(node));
        }
        // So does what is halfway for good: where it stands then depends on when it stopped.
        for known in std::mem::take(&mut self.known) {
            let image = format!("app:{}", known.images + 1);
            let template = json!({"spec": {"containers": [{"name": "c", "image": image,
                "resources": {"requests": {"cpu": "10m"}}}]}});
            let spec = match known.kind {
                Made::CronJob => json!({"suspend": true}),
                Made::Job => json!({"suspend": false, "parallelism": 2}),
                Made::Deployment => json!({"paused": false, "template": template}),
                Made::DaemonSet => json!({"template": template}),
                Made::StatefulSet => {
                    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}})
                }
                _ => continue,
            };
            let (group, resource) = known.kind.resource();
            self.add(Op::Patch(
                group,
                resource,
                known.namespace,
                known.name,
                json!({"spec": spec}),
            ));
        }
    }

    fn next(&mut self) {
        match self.rng.below(100) {
            0..=29 => self.create(),
            30..=64 => self.change(),
            65..=72 => self.delete(),
            73..=84 => self.disturb_pod(),
            85..=97 => self.disturb_node(),
            _ if !self.temporary_gone => {
                self.temporary_gone = true;
                self.known.retain(|known| known.namespace != "t");
                self.add(Op::Delete("", "namespaces", String::new(), "t".to_owned(), 'b'));
            }
            _ => {}
        }
    }

    fn create(&mut self) {
        let places = if self.temporary_gone {
            &NAMESPACES[..3]
        } else {
            &NAMESPACES[..]
        };
        let namespace = (*self.rng.pick(places)).to_owned();
        self.counter += 1;
        let kind = *self.rng.pick(&[
            Made::Deployment,
            Made::Deployment,
            Made::ReplicaSet,
            Made::StatefulSet,
            Made::StatefulSet,
            Made::DaemonSet,
            Made::Job,
            Made::Job,
            Made::CronJob,
            Made::Service,
            Made::Budget,
        ]);
        let name = format!("{}{}", &kind.resource().1[..2], self.counter);
        let object = match kind {
            Made::Deployment => self.deployment(&name),
            Made::ReplicaSet => {
                let spec = json!({"replicas": self.rng.below(4), "selector": {"matchLabels": {"app": name}},
                    "template": template(&name, "app:1", "Always", &json!({}))});
                json!({"metadata": {"name": name}, "spec": spec})
            }
            Made::StatefulSet => self.stateful_set(&name),
            Made::DaemonSet => {
                let spec = json!({"selector": {"matchLabels": {"app": name}}, "updateStrategy": {"rollingUpdate":
                    {"maxUnavailable": self.rng.between(1, 2)}}, "template": template(&name, "app:1", "Always", &json!({}))});
                json!({"metadata": {"name": name}, "spec": spec})
            }
            Made::Job => json!({"metadata": {"name": name}, "spec": self.job(&name)}),
            Made::CronJob => {
                let policy = *self.rng.pick(&["Allow", "Forbid", "Replace"]);
                json!({"metadata": {"name": name}, "spec": {"schedule": "* * * * *", "concurrencyPolicy": policy,
                    "jobTemplate": {"spec": self.job(&name)}}})
            }
            Made::Service => {
                let Some(app) = self.any_app(&namespace) else { return };
                json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "selector": {"app": app},
                    "ports": [{"port": 80, "targetPort": 80}]}})
            }
            Made::Budget => {
                let Some(app) = self.any_app(&namespace) else { return };
                let field = *self.rng.pick(&["minAvailable", "maxUnavailable"]);
                let mut spec = json!({"selector": {"matchLabels": {"app": app}}});
                spec[field] = if self.rng.chance(500) { json!(1) } else { json!("50%") };
                json!({"metadata": {"name": name}, "spec": spec})
            }
        };
        let (group, resource) = kind.resource();
        self.known.push(Known {
            kind,
            namespace: namespace.clone(),
            name,
            images: 1,
        });
        self.add(Op::Create(group, resource, namespace, object));
    }

    /// An app without a budget or service of its own yet is as good as any.
    fn any_app(&mut self, namespace: &str) -> Option<String> {
        let runs = |known: &&Known| {
            known.namespace == namespace
                && matches!(known.kind, Made::Deployment | Made::ReplicaSet | Made::StatefulSet)
        };
        let apps: Vec<&Known> = self.known.iter().filter(runs).collect();
        if apps.is_empty() {
            return None;
        }
        Some(self.rng.pick(&apps).name.clone())
    }

    fn deployment(&mut self, name: &str) -> Value {
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate":
            {"maxSurge": self.rng.between(1, 2), "maxUnavailable": self.rng.between(0, 1)}});
        let strategy = if self.rng.chance(200) {
            json!({"type": "Recreate"})
        } else {
            rolling
        };
        json!({"metadata": {"name": name}, "spec": {"replicas": self.rng.below(5), "strategy": strategy,
            "minReadySeconds": if self.rng.chance(300) { 3 } else { 0 },
            "revisionHistoryLimit": self.rng.between(1, 10),
            "selector": {"matchLabels": {"app": name}}, "template": template(name, "app:1", "Always", &json!({}))}})
    }

    fn stateful_set(&mut self, name: &str) -> Value {
        let policy = *self.rng.pick(&["OrderedReady", "Parallel"]);
        let mut spec = json!({"replicas": self.rng.below(4), "serviceName": name, "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": name}}, "template": template(name, "app:1", "Always", &json!({}))});
        if self.rng.chance(500) {
            spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]);
            let scaled = *self.rng.pick(&["Retain", "Delete"]);
            let deleted = *self.rng.pick(&["Retain", "Delete"]);
            spec["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": scaled, "whenDeleted": deleted});
        }
        json!({"metadata": {"name": name}, "spec": spec})
    }

    fn job(&mut self, name: &str) -> Value {
        let (completions, parallelism) = (self.rng.between(1, 4), self.rng.between(1, 3));
        let fails = if self.rng.chance(400) {
            self.rng.between(1, 2)
        } else {
            0
        };
        let annotations = json!({RUNS: self.rng.between(1, 20).to_string(), FAILS: fails.to_string()});
        let mut spec = json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 30,
            "template": template(name, "app:1", "Never", &annotations)});
        if self.rng.chance(500) {
            spec["completionMode"] = "Indexed".into();
        }
        spec
    }

    fn some(&mut self, kinds: &[Made]) -> Option<usize> {
        let fit: Vec<usize> = (0..self.known.len())
            .filter(|index| kinds.contains(&self.known[*index].kind))
            .collect();
        (!fit.is_empty()).then(|| *self.rng.pick(&fit))
    }

    fn change(&mut self) {
        let changeable = [
            Made::Deployment,
            Made::ReplicaSet,
            Made::StatefulSet,
            Made::DaemonSet,
            Made::Job,
        ];
        let Some(index) = self.some(&changeable) else { return };
        let known = self.known[index].clone();
        let scalable = matches!(known.kind, Made::Deployment | Made::ReplicaSet | Made::StatefulSet);
        let patch = match known.kind {
            Made::Job => match self.rng.below(3) {
                0 => json!({"spec": {"parallelism": self.rng.below(4)}}),
                1 => json!({"spec": {"suspend": true}}),
                _ => json!({"spec": {"suspend": false, "parallelism": self.rng.between(1, 3)}}),
            },
            Made::Deployment if self.rng.chance(150) => json!({"spec": {"paused": self.rng.chance(400)}}),
            _ if scalable && self.rng.chance(500) => json!({"spec": {"replicas": self.rng.below(6)}}),
            Made::ReplicaSet => json!({"spec": {"replicas": self.rng.below(6)}}),
            Made::StatefulSet if self.rng.chance(200) => {
                json!({"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": self.rng.below(3)}}}})
            }
            _ => {
                let back = self.rng.chance(300) && known.images > 1;
                let images = if back {
                    self.rng.between(1, i64::from(known.images))
                } else {
                    i64::from(known.images) + 1
                };
                self.known[index].images = known.images.max(u32::try_from(images).unwrap_or(1));
                // A stateful set does not leave a bad revision by itself, upstream's neither.
                let bad = known.kind != Made::StatefulSet && self.rng.chance(80);
                let image = if bad {
                    BAD_IMAGE.to_owned()
                } else {
                    format!("app:{images}")
                };
                json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image,
                    "resources": {"requests": {"cpu": "10m"}}}]}}}})
            }
        };
        let (group, resource) = known.kind.resource();
        self.add(Op::Patch(group, resource, known.namespace, known.name, patch));
    }

    fn delete(&mut self) {
        if self.known.is_empty() {
            return;
        }
        let known = self.known.remove(self.rng.below(self.known.len()));
        let policy = *self.rng.pick(&['b', 'b', 'b', 'f', 'o']);
        let (group, resource) = known.kind.resource();
        self.add(Op::Delete(group, resource, known.namespace, known.name, policy));
    }

    fn disturb_pod(&mut self) {
        let kinds = [
            Made::Deployment,
            Made::ReplicaSet,
            Made::StatefulSet,
            Made::DaemonSet,
            Made::Job,
        ];
        let Some(index) = self.some(&kinds) else { return };
        let known = self.known[index].clone();
        let releasable = known.kind == Made::ReplicaSet || known.kind == Made::Deployment;
        let op = match self.rng.below(10) {
            0..=4 => PodOp::Delete,
            5..=8 => PodOp::Evict,
            _ if releasable => PodOp::Release,
            _ => PodOp::Delete,
        };
        let pick = self.rng.below(100);
        self.add(Op::Pod(known.namespace, known.name, op, pick));
    }

    fn disturb_node(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        let name = self.rng.pick(&names).clone();
        match self.rng.below(8) {
            0 | 1 if self.silent.is_empty() => {
                self.silent.push(name.clone());
                self.add(Op::Silence(name));
                // Most silences are short; some are long enough for evictions.
                self.at += if self.rng.chance(300) {
                    self.rng.between(300_000, 500_000)
                } else {
                    0
                };
            }
            2 | 3 if !self.silent.is_empty() => {
                let name = self.silent.remove(0);
                self.add(Op::Revive(name));
            }
            4 if self.nodes.len() > 3 && !self.silent.contains(&name) => {
                self.nodes.remove(&name);
                self.add(Op::Remove(name));
            }
            5 => {
                self.counter += 1;
                let name = format!("n{}", self.counter + 10);
                self.nodes.insert(name.clone(), true);
                self.add(Op::Add(name, "z2"));
            }
            6 => {
                let effect = *self.rng.pick(&["NoSchedule", "NoExecute"]);
                self.add(Op::Taint(name, effect));
            }
            7 => self.add(Op::Untaint(name)),
            _ => {}
        }
    }
}
