//! What the scheduler itself would say: its own plugins over the picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use scheduler::config::args::PluginArgs;
use scheduler::cycle::{Attempt, Failure, NoJudge, schedule};
use scheduler::framework::Context;
use scheduler::{Cluster, PodInfo, Verdict, plugins};

use super::picture::{Picture, node_of};

/// An answer about one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It fits; this node is the best.
    Fits { node: String, feasible: usize },
    /// It is not tried at all.
    Gated(String),
    /// No node will do.
    Nowhere {
        /// The scheduler's own words.
        message: String,
        /// Why each node will not: the plugin and its reasons.
        nodes: BTreeMap<String, (String, Vec<String>)>,
    },
}

/// Asks about `pod`, which is on no node.
pub fn judge(picture: &Picture, pod: &Arc<Pod>) -> Answer {
    let cluster = cluster(picture);
    // A plugin that cannot see what it judges by is left out.
    let registry = plugins::registry();
    let blind = registry.iter().filter(|registered| {
        let plugin = (registered.make)(&PluginArgs::default());
        plugin
            .watches()
            .iter()
            .any(|resource| picture.unseen.contains(resource))
    });
    let blind: Vec<&str> = blind.map(|registered| registered.name).collect();
    let mut profile = plugins::default_profile_without(&blind);
    for (resource, object) in &picture.others {
        for plugin in profile
            .plugins()
            .iter()
            .filter(|plugin| plugin.watches().contains(resource))
        {
            plugin.observe(*resource, None, Some(object));
        }
    }
    let info = Arc::new(PodInfo::new(pod, cluster.interner()));
    // All nodes are looked at: an explanation is not in a hurry.
    profile.percentage_of_nodes_to_score = Some(100);
    let now = Timestamp::now();
    let context = Context { cluster: &cluster, now };
    if let Some((_, gate)) = profile.gate(&context, &info) {
        return Answer::Gated(gate);
    }
    let attempt = Attempt {
        cluster: &cluster,
        profile: &profile,
        start: 0,
        random: 0,
        now,
        timings: None,
    };
    match schedule(&attempt, &info, &mut NoJudge) {
        Ok(placement) => Answer::Fits {
            node: placement.node.to_string(),
            feasible: placement.feasible,
        },
        Err(Failure::Error(message)) => Answer::Nowhere {
            message,
            nodes: BTreeMap::new(),
        },
        Err(Failure::Unfit(verdict, _)) => Answer::Nowhere {
            message: verdict.message(&info),
            nodes: by_node(&cluster, &info, &verdict),
        },
    }
}

fn cluster(picture: &Picture) -> Cluster {
    let mut cluster = Cluster::default();
    for namespace in &picture.namespaces {
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        cluster.set_namespace(namespace.metadata.name.as_deref().unwrap_or_default(), labels);
    }
    for node in &picture.nodes {
        cluster.set_node(node.clone());
    }
    for bound in picture.pods.iter().filter(|bound| node_of(bound).is_some()) {
        let info = PodInfo::new(bound, cluster.interner());
        cluster.set_pod(Arc::new(info));
    }
    for (resource, object) in picture.others.iter().filter(|(resource, _)| resource.is_storage()) {
        cluster.observe_storage(*resource, None, Some(object));
    }
    cluster.settle();
    cluster
}

/// What was said of each node, in words.
fn by_node(cluster: &Cluster, pod: &PodInfo, verdict: &Verdict) -> BTreeMap<String, (String, Vec<String>)> {
    let each = cluster.nodes().map(|node| {
        let said = match (verdict.of(node.slot), &verdict.before, &verdict.left_out) {
            (Some(group), ..) => Some((group.plugin, &group.rejection)),
            (None, Some((plugin, rejection)), _) => Some((*plugin, rejection)),
            _ => None,
        };
        let words = match said {
            Some((plugin, rejection)) => {
                let reasons = rejection.texts(pod).into_iter().map(|reason| reason.into_owned());
                (plugin.to_owned(), reasons.collect())
            }
            None => (
                "NodeAffinity".to_owned(),
                vec!["not one of the nodes that the pod names".to_owned()],
            ),
        };
        (node.name().to_owned(), words)
    });
    each.collect()
}
