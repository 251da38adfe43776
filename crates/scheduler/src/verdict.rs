//! Why a pod could not be placed, kept while it is pending.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::framework::{Code, Rejection};
use crate::node::Slot;
use crate::pod::PodInfo;

/// The last attempt's findings: a set of nodes for each plugin and reason, so that thousands of nodes
/// cost hundreds of bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Nodes there were.
    pub node_count: usize,
    /// Why no node was even asked: the plugin, and what it said.
    pub before: Option<(&'static str, Rejection)>,
    /// Why nodes were turned down.
    pub groups: Vec<Group>,
    /// Nodes that PreFilter left out, and the plugins that did.
    pub left_out: Option<(usize, Vec<&'static str>)>,
    /// What PostFilter said.
    pub after: String,
}

/// The nodes that one plugin turned down for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The plugin.
    pub plugin: &'static str,
    /// Why.
    pub rejection: Rejection,
    /// How many nodes.
    pub count: usize,
    nodes: Vec<u64>,
}

impl Group {
    /// The slots of the nodes.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.nodes.iter().zip(0..).flat_map(|(word, at)| {
            (0..64)
                .filter(move |bit| word & (1_u64 << bit) != 0)
                .map(move |bit| at * 64 + bit)
        })
    }

    fn has(&self, slot: Slot) -> bool {
        self.nodes
            .get(slot as usize / 64)
            .is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }
}

impl Verdict {
    /// Notes that a plugin turned a node down.
    pub fn add(&mut self, plugin: &'static str, rejection: Rejection, slot: Slot) {
        let same = |group: &Group| group.plugin == plugin && group.rejection == rejection;
        let at = self.groups.iter().rposition(same).unwrap_or_else(|| {
            self.groups.push(Group {
                plugin,
                rejection,
                count: 0,
                nodes: Vec::new(),
            });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        let word = slot as usize / 64;
        if group.nodes.len() <= word {
            group.nodes.resize(word + 1, 0);
        }
        group.nodes[word] |= 1 << (slot % 64);
        group.count += 1;
    }

    /// What was said of a node.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Option<&Group> {
        self.groups.iter().find(|group| group.has(slot))
    }

    /// Whether evicting pods from a node may help.
    #[must_use]
    pub fn is_resolvable(&self, slot: Slot) -> bool {
        self.of(slot).is_some_and(|group| group.rejection.resolvable())
    }

    /// The plugins that turned the pod down.
    #[must_use]
    pub fn plugins(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.groups.iter().map(|group| group.plugin).collect();
        names.extend(self.before.iter().map(|(plugin, _)| *plugin));
        names.extend(self.left_out.iter().flat_map(|(_, plugins)| plugins));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The first failure of a plugin, if one failed.
    #[must_use]
    pub fn error(&self, pod: &PodInfo) -> Option<String> {
        let before = self.before.iter().map(|(plugin, rejection)| (*plugin, rejection));
        let nodes = self.groups.iter().map(|group| (group.plugin, &group.rejection));
        before
            .chain(nodes)
            .find(|(_, rejection)| rejection.code == Code::Error)
            .map(|(plugin, rejection)| format!("running {plugin:?} filter plugin: {}", rejection.texts(pod).join(", ")))
    }

    /// How many nodes gave which reason, in upstream's words and order.
    #[must_use]
    pub fn reasons(&self, pod: &PodInfo) -> Vec<String> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for group in &self.groups {
            for reason in group.rejection.texts(pod) {
                *counts.entry(reason.into_owned()).or_default() += group.count;
            }
        }
        if let Some((count, plugins)) = &self.left_out {
            let plugins = plugins.join(" ");
            *counts
                .entry(format!("node(s) didn't satisfy plugin(s) [{plugins}]"))
                .or_default() += count;
        }
        let mut parts: Vec<_> = counts
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        parts
    }

    /// Upstream's `FitError`.
    #[must_use]
    pub fn message(&self, pod: &PodInfo) -> String {
        if self.node_count == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut text = format!("0/{} nodes are available:", self.node_count);
        match &self.before {
            Some((_, rejection)) => {
                let _ = write!(text, " {}.", rejection.texts(pod).join(", "));
            }
            None => {
                let reasons = self.reasons(pod);
                if !reasons.is_empty() {
                    let _ = write!(text, " {}.", reasons.join(", "));
                }
            }
        }
        if !self.after.is_empty() {
            let _ = write!(text, " {}.", self.after);
        }
        text
    }
}
