//! One RBAC rule, and what it allows (`component-helpers/auth/rbac`, `pkg/apis/rbac/v1`).

use serde::{Deserialize, Serialize};

use super::Attributes;

/// The wire shape of `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    pub verbs: Vec<String>,
}

/// Whether the list holds the item or a star.
fn holds(list: &[String], item: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == item)
}

impl Rule {
    /// Whether the rule allows it.
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !holds(&self.verbs, &attributes.verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.allows_path(&attributes.path);
        }
        holds(&self.api_groups, &attributes.group)
            && self.allows_resource(attributes)
            && (self.resource_names.is_empty() || self.resource_names.contains(&attributes.name))
    }

    fn allows_resource(&self, attributes: &Attributes) -> bool {
        let combined = attributes.combined_resource();
        self.resources.iter().any(|entry| {
            entry == "*"
                || *entry == combined
                || (!attributes.subresource.is_empty()
                    && entry.strip_prefix("*/") == Some(attributes.subresource.as_str()))
        })
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|entry| {
            entry == "*" || entry == path || entry.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
        })
    }
}
