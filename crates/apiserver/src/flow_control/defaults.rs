//! Upstream's mandatory and suggested objects (`pkg/apis/flowcontrol/bootstrap/default.go`): in force until others are
//! stored, and what a new cluster starts with.

use api::Value;
use serde_json::{Map, json};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Name, shares, lendable percentage, and queues, hand size and queue length.
const LEVELS: [(&str, u32, u32, Option<(u32, u32, u32)>); 7] = [
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// All of them.
pub fn defaults() -> Vec<Value> {
    let mut objects = vec![level(
        "exempt",
        &json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
    )];
    objects.extend(LEVELS.iter().map(|(name, shares, lends, queuing)| {
        let response = match queuing {
            None => json!({"type": "Reject"}),
            Some((queues, hand, length)) => json!({"type": "Queue", "queuing":
                {"queues": queues, "handSize": hand, "queueLengthLimit": length}}),
        };
        let limited = json!({
            "nominalConcurrencyShares": shares, "lendablePercent": lends, "limitResponse": response,
        });
        level(name, &json!({"type": "Limited", "limited": limited}))
    }));
    objects.extend(schemas());
    objects
}

/// Those of these names.
pub(super) fn named(names: &[&str]) -> Vec<Value> {
    let mut objects = defaults();
    objects.retain(|object| names.contains(&api::meta::name(object)));
    objects
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec})
}

fn level(name: &str, spec: &Value) -> Value {
    object("PriorityLevelConfiguration", name, spec.clone())
}

fn groups(names: &[&str]) -> Vec<Value> {
    let group = |name: &&str| json!({"kind": "Group", "group": {"name": name}});
    names.iter().map(group).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    let user = |name: &&str| json!({"kind": "User", "user": {"name": name}});
    names.iter().map(user).collect()
}

fn accounts(names: &[&str]) -> Vec<Value> {
    let account =
        |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}});
    names.iter().map(account).collect()
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"],
    });
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// One FlowSchema.
struct Schema {
    name: &'static str,
    level: &'static str,
    precedence: u32,
    distinguisher: &'static str,
    subjects: Vec<Value>,
    resources: Vec<Value>,
    paths: Vec<Value>,
}

impl Schema {
    fn object(self) -> Value {
        let mut rule = Map::new();
        for (field, list) in [
            ("subjects", self.subjects),
            ("resourceRules", self.resources),
            ("nonResourceRules", self.paths),
        ] {
            if !list.is_empty() {
                rule.insert(field.to_owned(), list.into());
            }
        }
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": self.level}, "matchingPrecedence": self.precedence,
            "rules": [rule],
        });
        if !self.distinguisher.is_empty() {
            spec["distinguisherMethod"] = json!({"type": self.distinguisher});
        }
        object("FlowSchema", self.name, spec)
    }
}

fn schemas() -> Vec<Value> {
    const WRITES: [&str; 3] = ["get", "create", "update"];
    const LEASES: &str = "coordination.k8s.io";
    let anything = || vec![resources(&["*"], "*", &["*"], true)];
    let any_path = || vec![json!({"verbs": ["*"], "nonResourceURLs": ["*"]})];
    let leases = || resources(&WRITES, LEASES, &["leases"], false);
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let both = |one: Vec<Value>, other: Vec<Value>| one.into_iter().chain(other).collect::<Vec<_>>();
    let all = |name, level, precedence, distinguisher, subjects| Schema {
        name,
        level,
        precedence,
        distinguisher,
        subjects,
        resources: anything(),
        paths: any_path(),
    };
    let some = |name, level, precedence, subjects, resources| Schema {
        name,
        level,
        precedence,
        distinguisher: "ByUser",
        subjects,
        resources,
        paths: Vec::new(),
    };
    let manager = || users(&["system:kube-controller-manager"]);
    let schemas = vec![
        all("exempt", "exempt", 1, "", groups(&["system:masters"])),
        Schema {
            name: "probes",
            level: "exempt",
            precedence: 2,
            distinguisher: "",
            subjects: everybody(),
            resources: Vec::new(),
            paths: vec![json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]})],
        },
        some(
            "system-leader-election",
            "leader-election",
            100,
            both(
                users(&["system:kube-controller-manager", "system:kube-scheduler"]),
                accounts(&["*"]),
            ),
            vec![leases()],
        ),
        some(
            "endpoint-controller",
            "workload-high",
            150,
            both(
                manager(),
                accounts(&["endpoint-controller", "endpointslicemirroring-controller"]),
            ),
            vec![resources(&WRITES, "", &["endpoints"], false)],
        ),
        some(
            "workload-leader-election",
            "leader-election",
            200,
            accounts(&["*"]),
            vec![resources(&WRITES, "", &["endpoints", "configmaps"], false), leases()],
        ),
        some(
            "system-node-high",
            "node-high",
            400,
            groups(&["system:nodes"]),
            vec![
                resources(&["*"], "", &["nodes", "nodes/status"], true),
                resources(&["*"], LEASES, &["leases"], false),
            ],
        ),
        all("system-nodes", "system", 500, "ByUser", groups(&["system:nodes"])),
        all(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            manager(),
        ),
        all(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            users(&["system:kube-scheduler"]),
        ),
        all(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            accounts(&["*"]),
        ),
        all(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            groups(&["system:serviceaccounts"]),
        ),
        all("global-default", "global-default", 9900, "ByUser", everybody()),
        all("catch-all", "catch-all", 10000, "ByUser", everybody()),
    ];
    schemas.into_iter().map(Schema::object).collect()
}
