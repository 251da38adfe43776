//! Random clusters and pods from a seed.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

/// xorshift64*.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub fn once_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    pub fn node(&mut self, name: &str) -> Node {
        let mut labels = json!({});
        if !self.once_in(8) {
            labels["kubernetes.io/hostname"] = json!(name);
        }
        if !self.once_in(5) {
            labels["topology.kubernetes.io/zone"] = json!(self.of(&["z1", "z2", "z3"]));
        }
        if self.once_in(2) {
            labels["disk"] = json!(self.of(&["ssd", "hdd"]));
        }
        let mut taints = Vec::new();
        if self.once_in(5) {
            let effect = self.of(&["NoSchedule", "NoExecute", "PreferNoSchedule", "PreferNoSchedule"]);
            taints.push(json!({"key": self.of(&["db", "gpu"]), "value": self.of(&["a", "b"]), "effect": effect}));
        }
        let mut allocatable = json!({
            "cpu": self.of(&["2", "4", "4000m", "16"]), "memory": self.of(&["4Gi", "8Gi", "64Gi"]),
            "pods": self.of(&["3", "10", "110"]),
        });
        if self.once_in(3) {
            allocatable["example.com/gpu"] = json!("2");
        }
        let image = |name: &str, bytes: u64| json!({"names": [name], "sizeBytes": bytes});
        let mut images = Vec::new();
        if self.once_in(3) {
            images.push(image("app:latest", 500 << 20));
        }
        if self.once_in(3) {
            images.push(image("web:latest", 90 << 20));
        }
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"taints": taints, "unschedulable": self.once_in(15)},
            "status": {"allocatable": allocatable, "images": images},
        }))
        .unwrap()
    }

    fn selector(&mut self) -> Value {
        match self.below(6) {
            0 => json!({}),
            1 => json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
            2 => json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
            3 => json!({"matchLabels": {"app": self.of(&["a", "b"]), "tier": "x"}}),
            _ => json!({"matchLabels": {"app": self.of(&["a", "b", "c"])}}),
        }
    }

    fn topology(&mut self) -> &'static str {
        self.of(&["kubernetes.io/hostname", "topology.kubernetes.io/zone", "disk"])
    }

    fn term(&mut self) -> Value {
        let mut term = json!({"labelSelector": self.selector(), "topologyKey": self.topology()});
        match self.below(5) {
            0 => term["namespaces"] = json!(["one", "two"]),
            1 => term["namespaceSelector"] = json!({"matchLabels": {"team": "t"}}),
            2 => term["namespaceSelector"] = json!({}),
            _ => {}
        }
        term
    }

    fn affinity(&mut self) -> Value {
        let mut affinity = json!({});
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (kind, often) in [("podAffinity", 5), ("podAntiAffinity", 4)] {
            if self.once_in(often) {
                let terms: Vec<Value> = (0..=self.below(2)).map(|_| self.term()).collect();
                affinity[kind][required] = json!(terms);
            }
            if self.once_in(often) {
                let weighted =
                    |chance: &mut Chance| json!({"weight": 1 + chance.below(100), "podAffinityTerm": chance.term()});
                let terms: Vec<Value> = (0..=self.below(2)).map(|_| weighted(self)).collect();
                affinity[kind][preferred] = json!(terms);
            }
        }
        if self.once_in(8) {
            let disk = json!({"matchExpressions": [{"key": "disk", "operator": self.of(&["Exists", "DoesNotExist"])}]});
            affinity["nodeAffinity"][required] = json!({"nodeSelectorTerms": [disk]});
        }
        if self.once_in(5) {
            let zone = json!({"matchExpressions": [
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [self.of(&["z1", "z2"])]}]});
            affinity["nodeAffinity"][preferred] = json!([{"weight": 1 + self.below(50), "preference": zone}]);
        }
        affinity
    }

    fn spread(&mut self) -> Vec<Value> {
        let mut constraints: Vec<Value> = Vec::new();
        for _ in 0..self.below(3) {
            let (key, when) = (self.topology(), self.of(&["DoNotSchedule", "ScheduleAnyway"]));
            if constraints
                .iter()
                .any(|c| c["topologyKey"] == key && c["whenUnsatisfiable"] == when)
            {
                continue;
            }
            let mut constraint = json!({
                "maxSkew": 1 + self.below(3), "topologyKey": key, "whenUnsatisfiable": when,
                "labelSelector": self.selector(),
            });
            if when == "DoNotSchedule" && self.once_in(4) {
                constraint["minDomains"] = json!(1 + self.below(4));
            }
            if self.once_in(3) {
                constraint["nodeAffinityPolicy"] = json!(self.of(&["Honor", "Ignore"]));
            }
            if self.once_in(3) {
                constraint["nodeTaintsPolicy"] = json!(self.of(&["Honor", "Ignore"]));
            }
            if self.once_in(4) {
                constraint["matchLabelKeys"] = json!(["tier"]);
            }
            constraints.push(constraint);
        }
        constraints
    }

    pub fn pod(&mut self, name: &str) -> Pod {
        let mut labels = json!({"app": self.of(&["a", "b", "c"])});
        if self.once_in(3) {
            labels["tier"] = json!(self.of(&["x", "y"]));
        }
        let mut requests = json!({});
        if !self.once_in(5) {
            requests["cpu"] = json!(self.of(&["100m", "500m", "1"]));
            requests["memory"] = json!(self.of(&["128Mi", "1Gi"]));
        }
        if self.once_in(12) {
            requests["example.com/gpu"] = json!("1");
        }
        let ports = if self.once_in(10) {
            json!([{"containerPort": 80, "hostPort": 8080}])
        } else {
            json!([])
        };
        let mut spec = json!({
            "containers": [{
                "name": "c", "image": self.of(&["app", "web", "none"]), "resources": {"requests": requests}, "ports": ports,
            }],
            "affinity": self.affinity(),
            "topologySpreadConstraints": self.spread(),
            "priority": self.of(&[0, 0, 10]),
        });
        if self.once_in(10) {
            spec["nodeSelector"] = json!({"disk": self.of(&["ssd", "hdd"])});
        }
        if self.once_in(4) {
            spec["tolerations"] = json!([{"key": "db", "operator": "Exists"}]);
        }
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": self.of(&["one", "two", "three"]), "uid": name, "labels": labels},
            "spec": spec,
        }))
        .unwrap()
    }
}
