//! Why a pod could not be placed, kept while it is pending.

use std::collections::BTreeMap;
use std::fmt;

/// The last attempt's findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Nodes that were looked at.
    pub node_count: usize,
    /// For each node that was turned down: the plugin and its reasons.
    pub nodes: BTreeMap<String, NodeVerdict>,
}

/// Why one node was turned down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The plugin that said no.
    pub plugin: &'static str,
    /// Upstream's words.
    pub reasons: Vec<String>,
    /// Whether evicting pods could help.
    pub resolvable: bool,
}

impl Verdict {
    /// The plugins that turned nodes down.
    pub fn plugins(&self) -> impl Iterator<Item = &'static str> {
        let names: std::collections::BTreeSet<_> = self.nodes.values().map(|verdict| verdict.plugin).collect();
        names.into_iter()
    }
}

/// Upstream's `FitError`: how many nodes gave which reason, sorted as text.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.node_count == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.nodes.values().flat_map(|verdict| &verdict.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let mut parts: Vec<_> = counts
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        write!(f, "0/{} nodes are available: {}.", self.node_count, parts.join(", "))
    }
}
