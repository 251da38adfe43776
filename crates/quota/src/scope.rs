//! Scopes of quotas: which objects one is about.

use api::Value;

use crate::{list, text};

/// One condition of a quota's scope (`core/v1.ScopedResourceSelectorRequirement`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The scope: `PriorityClass`, `BestEffort`, …
    pub scope: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// The values, for `In` and `NotIn`.
    pub values: Vec<String>,
}

impl Requirement {
    /// The scope alone.
    pub fn exists(scope: &str) -> Self {
        Self {
            scope: scope.to_owned(),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        }
    }

    /// Reads `{scopeName, operator, values}`.
    pub fn read(value: &Value) -> Self {
        let values = list(value, "values").iter().filter_map(Value::as_str);
        Self {
            scope: text(value, "scopeName").to_owned(),
            operator: text(value, "operator").to_owned(),
            values: values.map(str::to_owned).collect(),
        }
    }

    /// The conditions of a quota: its scopes, and its scope selector.
    pub fn of_quota(quota: &Value) -> Vec<Self> {
        let scopes = list(quota, "spec.scopes").iter().filter_map(Value::as_str);
        let selected = list(quota, "spec.scopeSelector.matchExpressions");
        scopes
            .map(Self::exists)
            .chain(selected.iter().map(Self::read))
            .collect()
    }

    /// Whether it holds for a name that may be absent, as a label selector would decide.
    pub(crate) fn selects(&self, name: Option<&str>) -> bool {
        let listed = |name: &str| self.values.iter().any(|value| value == name);
        match self.operator.as_str() {
            "In" => name.is_some_and(listed),
            "NotIn" => !name.is_some_and(listed),
            "Exists" => name.is_some(),
            "DoesNotExist" => name.is_none(),
            _ => false,
        }
    }
}

/// As upstream's messages show it: `{PriorityClass In [high]}`.
impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{} {} [{}]}}", self.scope, self.operator, self.values.join(" "))
    }
}
