//! A scheduler name with its plugins in order.

use std::fmt;
use std::sync::Arc;

use super::plugin::{Context, Plugin};
use crate::pod::PodInfo;

/// The extension points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// May the pod be queued.
    PreEnqueue,
    /// Which pod is first.
    QueueSort,
    /// Work ahead of filtering.
    PreFilter,
    /// Can the node take the pod.
    Filter,
    /// Make room.
    PostFilter,
    /// Work ahead of scoring.
    PreScore,
    /// How good is the node.
    Score,
    /// Take what the pod needs.
    Reserve,
    /// May the pod be bound.
    Permit,
    /// Work ahead of binding.
    PreBind,
    /// Bind.
    Bind,
    /// The pod is bound.
    PostBind,
}

impl Point {
    /// All of them, in the order of a pod's way.
    pub const ALL: [Point; 12] = [
        Point::PreEnqueue,
        Point::QueueSort,
        Point::PreFilter,
        Point::Filter,
        Point::PostFilter,
        Point::PreScore,
        Point::Score,
        Point::Reserve,
        Point::Permit,
        Point::PreBind,
        Point::Bind,
        Point::PostBind,
    ];

    /// The name in upstream's metrics and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Point::PreEnqueue => "PreEnqueue",
            Point::QueueSort => "QueueSort",
            Point::PreFilter => "PreFilter",
            Point::Filter => "Filter",
            Point::PostFilter => "PostFilter",
            Point::PreScore => "PreScore",
            Point::Score => "Score",
            Point::Reserve => "Reserve",
            Point::Permit => "Permit",
            Point::PreBind => "PreBind",
            Point::Bind => "Bind",
            Point::PostBind => "PostBind",
        }
    }

    /// The name in the configuration file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Point::PreEnqueue => "preEnqueue",
            Point::QueueSort => "queueSort",
            Point::PreFilter => "preFilter",
            Point::Filter => "filter",
            Point::PostFilter => "postFilter",
            Point::PreScore => "preScore",
            Point::Score => "score",
            Point::Reserve => "reserve",
            Point::Permit => "permit",
            Point::PreBind => "preBind",
            Point::Bind => "bind",
            Point::PostBind => "postBind",
        }
    }
}

/// A plugin at an extension point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enabled {
    /// Its place in [`Profile::plugins`].
    pub plugin: usize,
    /// Its weight, where it scores.
    pub weight: i64,
}

/// The plugins of one scheduler name.
pub struct Profile {
    /// Pods with this `spec.schedulerName` are its own.
    pub scheduler_name: String,
    /// Share of the nodes that are scored at most; `None` for upstream's adaptive share.
    pub percentage_of_nodes_to_score: Option<usize>,
    plugins: Vec<Arc<dyn Plugin>>,
    enabled: [Vec<Enabled>; Point::ALL.len()],
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.plugins.iter().map(|plugin| plugin.name()).collect();
        write!(f, "Profile({}, {names:?})", self.scheduler_name)
    }
}

impl Profile {
    /// A profile without plugins.
    #[must_use]
    pub fn new(scheduler_name: &str) -> Profile {
        Profile {
            scheduler_name: scheduler_name.to_owned(),
            percentage_of_nodes_to_score: None,
            plugins: Vec::new(),
            enabled: Default::default(),
        }
    }

    /// Adds a plugin at every point that it has, behind those that are there.
    pub fn add(&mut self, plugin: Arc<dyn Plugin>, weight: i64) {
        let number = self.hold(plugin.clone());
        for point in plugin.points() {
            self.enable(*point, number, weight);
        }
    }

    /// Holds a plugin without enabling it anywhere, and returns its number.
    pub fn hold(&mut self, plugin: Arc<dyn Plugin>) -> usize {
        self.plugins.push(plugin);
        self.plugins.len() - 1
    }

    /// Enables a plugin at one point, behind those that are there.
    pub fn enable(&mut self, point: Point, plugin: usize, weight: i64) {
        self.enabled[point as usize].push(Enabled { plugin, weight });
    }

    /// All plugins.
    #[must_use]
    pub fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.plugins
    }

    /// The plugins at one point, in order, each with its number and weight.
    pub fn at(&self, point: Point) -> impl Iterator<Item = (usize, &dyn Plugin, i64)> {
        let enabled = self.enabled[point as usize].iter();
        enabled.map(|enabled| (enabled.plugin, &*self.plugins[enabled.plugin], enabled.weight))
    }

    /// The plugins that have something to do before or while nodes are filtered, in order, and whether
    /// their filters are enabled. (Here every filter has a PreFilter, which makes it.)
    pub fn filtering(&self) -> impl Iterator<Item = (&dyn Plugin, bool)> {
        let filters = &self.enabled[Point::Filter as usize];
        let is_filter = |number: usize| filters.iter().any(|enabled| enabled.plugin == number);
        let ahead = self.enabled[Point::PreFilter as usize].iter();
        let ahead = ahead.filter(move |enabled| !is_filter(enabled.plugin));
        let all = filters
            .iter()
            .map(|enabled| (enabled, true))
            .chain(ahead.map(|enabled| (enabled, false)));
        all.map(|(enabled, filters)| (&*self.plugins[enabled.plugin], filters))
    }

    /// Whether any plugin is at a point.
    #[must_use]
    pub fn has(&self, point: Point) -> bool {
        !self.enabled[point as usize].is_empty()
    }

    /// What keeps a pod out of the active queue: the plugin and its words.
    #[must_use]
    pub fn gate(&self, context: &Context, pod: &PodInfo) -> Option<(&'static str, String)> {
        self.at(Point::PreEnqueue)
            .find_map(|(_, plugin, _)| plugin.pre_enqueue(context, pod).err().map(|why| (plugin.name(), why)))
    }
}
