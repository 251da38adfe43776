//! The flow schemas and priority levels of every cluster
//! (`apiserver/pkg/apis/flowcontrol/bootstrap`).

use api::Value;
use serde_json::json;

use super::GROUP;

/// Tells the server that it may bring the object up to date.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const ANYBODY: &[Subject] = &[
    Subject::Group("system:unauthenticated"),
    Subject::Group("system:authenticated"),
];

#[derive(Clone, Copy)]
enum Subject {
    Group(&'static str),
    User(&'static str),
    /// Of `kube-system`; `*` is all.
    Account(&'static str),
}

#[derive(Clone, Copy)]
enum Rules {
    /// Every request.
    All,
    /// GET of these paths.
    Paths(&'static [&'static str]),
    /// (group, resources, verbs, cluster-scoped ones too).
    Resources(&'static [(&'static str, &'static [&'static str], &'static [&'static str], bool)]),
}

struct Schema {
    name: &'static str,
    precedence: i64,
    level: &'static str,
    /// What tells flows apart; empty is nothing.
    distinguisher: &'static str,
    subjects: &'static [Subject],
    rules: Rules,
}

const LEASE_VERBS: &[&str] = &["get", "create", "update"];

const SCHEMAS: &[Schema] = &[
    Schema {
        name: "exempt",
        precedence: 1,
        level: "exempt",
        distinguisher: "",
        subjects: &[Subject::Group("system:masters")],
        rules: Rules::All,
    },
    Schema {
        name: "probes",
        precedence: 2,
        level: "exempt",
        distinguisher: "",
        subjects: ANYBODY,
        rules: Rules::Paths(&["/healthz", "/readyz", "/livez"]),
    },
    Schema {
        name: "system-leader-election",
        precedence: 100,
        level: "leader-election",
        distinguisher: "ByUser",
        subjects: &[
            Subject::User("system:kube-controller-manager"),
            Subject::User("system:kube-scheduler"),
            Subject::Account("*"),
        ],
        rules: Rules::Resources(&[("coordination.k8s.io", &["leases"], LEASE_VERBS, false)]),
    },
    Schema {
        name: "endpoint-controller",
        precedence: 150,
        level: "workload-high",
        distinguisher: "ByUser",
        subjects: &[
            Subject::User("system:kube-controller-manager"),
            Subject::Account("endpoint-controller"),
            Subject::Account("endpointslicemirroring-controller"),
        ],
        rules: Rules::Resources(&[("", &["endpoints"], LEASE_VERBS, false)]),
    },
    Schema {
        name: "workload-leader-election",
        precedence: 200,
        level: "leader-election",
        distinguisher: "ByUser",
        subjects: &[Subject::Account("*")],
        rules: Rules::Resources(&[
            ("", &["endpoints", "configmaps"], LEASE_VERBS, false),
            ("coordination.k8s.io", &["leases"], LEASE_VERBS, false),
        ]),
    },
    Schema {
        name: "system-node-high",
        precedence: 400,
        level: "node-high",
        distinguisher: "ByUser",
        subjects: &[Subject::Group("system:nodes")],
        rules: Rules::Resources(&[
            ("", &["nodes", "nodes/status"], &["*"], true),
            ("coordination.k8s.io", &["leases"], &["*"], false),
        ]),
    },
    Schema {
        name: "system-nodes",
        precedence: 500,
        level: "system",
        distinguisher: "ByUser",
        subjects: &[Subject::Group("system:nodes")],
        rules: Rules::All,
    },
    Schema {
        name: "kube-controller-manager",
        precedence: 800,
        level: "workload-high",
        distinguisher: "ByNamespace",
        subjects: &[Subject::User("system:kube-controller-manager")],
        rules: Rules::All,
    },
    Schema {
        name: "kube-scheduler",
        precedence: 800,
        level: "workload-high",
        distinguisher: "ByNamespace",
        subjects: &[Subject::User("system:kube-scheduler")],
        rules: Rules::All,
    },
    Schema {
        name: "kube-system-service-accounts",
        precedence: 900,
        level: "workload-high",
        distinguisher: "ByNamespace",
        subjects: &[Subject::Account("*")],
        rules: Rules::All,
    },
    Schema {
        name: "service-accounts",
        precedence: 9000,
        level: "workload-low",
        distinguisher: "ByUser",
        subjects: &[Subject::Group("system:serviceaccounts")],
        rules: Rules::All,
    },
    Schema {
        name: "global-default",
        precedence: 9900,
        level: "global-default",
        distinguisher: "ByUser",
        subjects: ANYBODY,
        rules: Rules::All,
    },
    Schema {
        name: "catch-all",
        precedence: 10000,
        level: "catch-all",
        distinguisher: "ByUser",
        subjects: ANYBODY,
        rules: Rules::All,
    },
];

/// (name, shares, lendable percent, (hand size, queues)); queues are 50 long.
type Level = (&'static str, i64, i64, Option<(i64, i64)>);
const LEVELS: &[Level] = &[
    ("catch-all", 5, 0, None),
    ("global-default", 20, 50, Some((6, 128))),
    ("leader-election", 10, 0, Some((4, 16))),
    ("node-high", 40, 25, Some((6, 64))),
    ("system", 30, 33, Some((6, 64))),
    ("workload-high", 40, 50, Some((6, 128))),
    ("workload-low", 100, 90, Some((6, 128))),
];

impl Subject {
    fn to_value(self) -> Value {
        match self {
            Subject::Group(name) => json!({"kind": "Group", "group": {"name": name}}),
            Subject::User(name) => json!({"kind": "User", "user": {"name": name}}),
            Subject::Account(name) => {
                json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}})
            }
        }
    }
}

impl Schema {
    fn spec(&self) -> Value {
        let subjects: Vec<Value> = self.subjects.iter().map(|subject| subject.to_value()).collect();
        let mut rule = json!({"subjects": subjects});
        match self.rules {
            Rules::All => {
                rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
                rule["resourceRules"] = json!([{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
                }]);
            }
            Rules::Paths(paths) => {
                rule["nonResourceRules"] = json!([{"verbs": ["get"], "nonResourceURLs": paths}]);
            }
            Rules::Resources(list) => {
                let rules = list.iter().map(|(group, resources, verbs, cluster)| {
                    let mut rule =
                        json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
                    if *cluster {
                        rule["clusterScope"] = true.into();
                    }
                    rule
                });
                rule["resourceRules"] = rules.collect::<Vec<Value>>().into();
            }
        }
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": self.level},
            "matchingPrecedence": self.precedence,
            "rules": [rule],
        });
        if !self.distinguisher.is_empty() {
            spec["distinguisherMethod"] = json!({"type": self.distinguisher});
        }
        spec
    }
}

fn level_spec((_, shares, lendable, queues): &Level) -> Value {
    let response = match queues {
        None => json!({"type": "Reject"}),
        Some((hand, queues)) => json!({
            "type": "Queue",
            "queuing": {"handSize": hand, "queues": queues, "queueLengthLimit": 50},
        }),
    };
    json!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response},
    })
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

/// The spec that a flow schema of this name must have, if it is one of the mandatory ones.
pub fn mandatory_schema(name: &str) -> Option<Value> {
    let found = SCHEMAS.iter().find(|schema| schema.name == name);
    found
        .filter(|schema| matches!(schema.name, "exempt" | "catch-all"))
        .map(Schema::spec)
}

/// The spec that a priority level of this name must have, if it is one of the mandatory ones.
pub fn mandatory_level(name: &str) -> Option<Value> {
    match name {
        "exempt" => Some(exempt_spec()),
        "catch-all" => LEVELS.iter().find(|(name, ..)| *name == "catch-all").map(level_spec),
        _ => None,
    }
}

fn exempt_spec() -> Value {
    json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
}

/// The default flow schemas.
pub fn flow_schemas() -> Vec<Value> {
    let schemas = SCHEMAS.iter();
    schemas
        .map(|schema| object("FlowSchema", schema.name, &schema.spec()))
        .collect()
}

/// The default priority levels.
pub fn priority_levels() -> Vec<Value> {
    let kind = "PriorityLevelConfiguration";
    let mut levels: Vec<Value> = LEVELS
        .iter()
        .map(|level| object(kind, level.0, &level_spec(level)))
        .collect();
    levels.push(object(kind, "exempt", &exempt_spec()));
    levels
}
