//! Node selectors and node affinity (upstream component-helpers/scheduling/corev1/nodeaffinity).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
    /// An operator or number that does not parse: matches nothing.
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

impl Requirement {
    fn of(requirement: &NodeSelectorRequirement) -> Requirement {
        let values = requirement.values.clone().unwrap_or_default();
        let number = |build: fn(i64) -> Test| match values.as_slice() {
            [value] => value.parse().map_or(Test::Never, build),
            _ => Test::Never,
        };
        let test = match requirement.operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => number(Test::Greater),
            "Lt" => number(Test::Less),
            _ => Test::Never,
        };
        Requirement {
            key: requirement.key.clone(),
            test,
        }
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let is_one_of = |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => is_one_of(values),
            Test::NotIn(values) => !is_one_of(values),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Greater(bound) => number().is_some_and(|value| value > *bound),
            Test::Less(bound) => number().is_some_and(|value| value < *bound),
            Test::Never => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl Term {
    fn of(term: &NodeSelectorTerm) -> Term {
        let all = |list: &Option<Vec<NodeSelectorRequirement>>| list.iter().flatten().map(Requirement::of).collect();
        Term {
            labels: all(&term.match_expressions),
            fields: all(&term.match_fields),
        }
    }

    /// An empty term matches nothing.
    fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        !(self.labels.is_empty() && self.fields.is_empty())
            && self
                .labels
                .iter()
                .all(|requirement| requirement.matches(labels.get(&requirement.key).map(String::as_str)))
            && self
                .fields
                .iter()
                .all(|requirement| requirement.key == "metadata.name" && requirement.matches(Some(name)))
    }
}

/// What a node must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequiredTerms {
    selector: BTreeMap<String, String>,
    terms: Option<Vec<Term>>,
}

impl RequiredTerms {
    /// Those of a pod: its node selector and its required node affinity.
    pub fn of(spec: &PodSpec) -> RequiredTerms {
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        RequiredTerms {
            selector: spec.node_selector.clone().unwrap_or_default(),
            terms: required.map(|selector| selector.node_selector_terms.iter().map(Term::of).collect()),
        }
    }

    /// Those of a selector of nodes, as volumes have it.
    pub fn of_selector(selector: &NodeSelector) -> RequiredTerms {
        RequiredTerms {
            selector: BTreeMap::new(),
            terms: Some(selector.node_selector_terms.iter().map(Term::of).collect()),
        }
    }

    /// Whether any node will do.
    pub fn is_empty(&self) -> bool {
        self.selector.is_empty() && self.terms.is_none()
    }

    /// Whether a node of this name and with these labels will do.
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }
}

/// What a node had better have, with weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreferredTerms(Vec<(i64, Term)>);

impl PreferredTerms {
    /// Those of a pod.
    pub fn of(spec: &PodSpec) -> PreferredTerms {
        let affinity = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let terms = preferred.into_iter().flatten().filter(|term| term.weight != 0);
        PreferredTerms(
            terms
                .map(|term| (i64::from(term.weight), Term::of(&term.preference)))
                .collect(),
        )
    }

    /// Whether any node will do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sum of the weights of the terms that a node matches.
    pub fn weight(&self, name: &str, labels: &BTreeMap<String, String>) -> i64 {
        self.0
            .iter()
            .filter(|(_, term)| term.matches(name, labels))
            .map(|(weight, _)| weight)
            .sum()
    }
}
