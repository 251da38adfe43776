//! Kinds by group and version, in the order clients prefer them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aggregation::Remote;
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
    /// Who else serves it, if it is not this server.
    pub remote: Option<Arc<Remote>>,
}

impl Version {
    /// As the version's APIService has it.
    fn priority(&self) -> i64 {
        match &self.remote {
            Some(remote) => remote.version_priority,
            None if self.kinds.iter().any(|kind| kind.custom.is_some()) => 100,
            None => 15,
        }
    }
}

impl Group {
    /// The greatest of its APIServices; groups of custom resources have 1000.
    fn priority(&self) -> i64 {
        let remotes = self.versions.iter().filter_map(|v| v.remote.as_ref());
        remotes.map(|r| r.group_priority).max().unwrap_or(1000)
    }
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

pub(super) fn collect<'k>(kinds: impl Iterator<Item = &'k Kind>, remotes: &'k [Arc<Remote>]) -> Vec<Group> {
    let mut by_group: BTreeMap<&str, BTreeMap<&str, Vec<Kind>>> = BTreeMap::new();
    for kind in kinds {
        let versions = by_group.entry(&kind.gvk.group).or_default();
        versions.entry(&kind.gvk.version).or_default().push(kind.clone());
    }
    for remote in remotes {
        let versions = by_group.entry(&remote.group).or_default();
        versions.insert(&remote.version, Vec::new());
    }
    let remote_of = |group: &str, version: &str| {
        let mut all = remotes.iter();
        all.find(|r| r.group == group && r.version == version).cloned()
    };
    let mut groups: Vec<Group> = by_group
        .into_iter()
        .map(|(name, versions)| {
            let mut versions: Vec<Version> = versions
                .into_iter()
                .map(|(version, mut kinds)| {
                    kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
                    Version {
                        name: version.to_owned(),
                        remote: remote_of(name, version),
                        kinds,
                    }
                })
                .collect();
            let shared = versions.iter().any(|version| version.remote.is_some());
            versions.sort_by_key(|version| {
                let declared = if shared { version.priority() } else { 0 };
                Reverse((declared, priority(&version.name)))
            });
            Group {
                name: name.to_owned(),
                versions,
            }
        })
        .collect();
    groups.sort_by_key(|group| {
        let place = ORDER.iter().position(|name| *name == group.name).unwrap_or(ORDER.len());
        (place, Reverse(group.priority()), group.name.clone())
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
