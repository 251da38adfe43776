//! Kinds by group and version, in the order clients prefer them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::kind::Kind;

/// A group with its versions, the preferred one first.
pub(super) struct Group {
    pub name: String,
    pub versions: Vec<Version>,
}

/// A version with its kinds, by plural.
pub(super) struct Version {
    pub name: String,
    pub kinds: Vec<Kind>,
}

/// Upstream's order of groups (`controlplane/apiserver/aggregator.go`); others follow by name.
const ORDER: [&str; 22] = [
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "resource.k8s.io",
];

pub(super) fn collect<'k>(kinds: impl Iterator<Item = &'k Kind>) -> Vec<Group> {
    let mut by_group: BTreeMap<&str, BTreeMap<&str, Vec<Kind>>> = BTreeMap::new();
    for kind in kinds {
        let versions = by_group.entry(&kind.gvk.group).or_default();
        versions.entry(&kind.gvk.version).or_default().push(kind.clone());
    }
    let mut groups: Vec<Group> = by_group
        .into_iter()
        .map(|(name, versions)| {
            let mut versions: Vec<Version> = versions
                .into_iter()
                .map(|(name, mut kinds)| {
                    kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
                    Version {
                        name: name.to_owned(),
                        kinds,
                    }
                })
                .collect();
            versions.sort_by_key(|version| Reverse(priority(&version.name)));
            Group {
                name: name.to_owned(),
                versions,
            }
        })
        .collect();
    groups.sort_by_key(|group| {
        let place = ORDER.iter().position(|name| *name == group.name).unwrap_or(ORDER.len());
        (place, group.name.clone())
    });
    groups
}

/// Stable before beta before alpha, then by number (`apimachinery/pkg/version` comparison).
fn priority(version: &str) -> (u8, u32, u32) {
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (text[..end].parse().unwrap_or(0), text[end..].to_owned())
    };
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    let (major, rest) = digits(rest);
    match rest.as_str() {
        "" => (3, major, 0),
        rest if rest.starts_with("beta") => (2, major, digits(&rest[4..]).0),
        rest if rest.starts_with("alpha") => (1, major, digits(&rest[5..]).0),
        _ => (0, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1beta1", "v1alpha1", "v2", "v1", "v10beta3", "v1beta2"];
        versions.sort_by_key(|v| Reverse(priority(v)));
        assert_eq!(versions, ["v2", "v1", "v10beta3", "v1beta2", "v1beta1", "v1alpha1"]);
    }
}
