//! Which plugins are enabled where (upstream apis/config/v1/default_plugins.go and framework/runtime
//! `expandMultiPointPlugins`).

use std::sync::Arc;

use serde::Deserialize;

use super::args::PluginArgs;
use crate::framework::{Plugin, Point, Profile};
use crate::plugins::{Registered, registry};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginSet {
    #[serde(default)]
    enabled: Vec<Named>,
    #[serde(default)]
    disabled: Vec<Named>,
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled
            .iter()
            .any(|known| known.name == name || known.name == "*")
    }

    fn enables(&self, name: &str) -> Option<&Named> {
        self.enabled.iter().find(|known| known.name == name)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Plugins {
    multi_point: PluginSet,
    pre_enqueue: PluginSet,
    queue_sort: PluginSet,
    pre_filter: PluginSet,
    filter: PluginSet,
    post_filter: PluginSet,
    pre_score: PluginSet,
    score: PluginSet,
    reserve: PluginSet,
    permit: PluginSet,
    pre_bind: PluginSet,
    bind: PluginSet,
    post_bind: PluginSet,
}

impl Plugins {
    fn at(&self, point: Point) -> &PluginSet {
        match point {
            Point::PreEnqueue => &self.pre_enqueue,
            Point::QueueSort => &self.queue_sort,
            Point::PreFilter => &self.pre_filter,
            Point::Filter => &self.filter,
            Point::PostFilter => &self.post_filter,
            Point::PreScore => &self.pre_score,
            Point::Score => &self.score,
            Point::Reserve => &self.reserve,
            Point::Permit => &self.permit,
            Point::PreBind => &self.pre_bind,
            Point::Bind => &self.bind,
            Point::PostBind => &self.post_bind,
        }
    }

    /// The default plugins with what the file changes of them, in order (`mergePluginSet`).
    fn multi_point(&self, known: &[Registered]) -> Vec<Named> {
        let own = &self.multi_point;
        let defaults = known.iter().filter(|plugin| !own.disables(plugin.name)).map(|plugin| {
            own.enables(plugin.name).cloned().unwrap_or(Named {
                name: plugin.name.to_owned(),
                weight: plugin.weight,
            })
        });
        let mut all: Vec<Named> = defaults.collect();
        let more = own
            .enabled
            .iter()
            .filter(|named| !all.iter().any(|known| known.name == named.name));
        let more: Vec<Named> = more.cloned().collect();
        all.extend(more);
        all
    }

    /// The profile that results.
    pub(super) fn profile(&self, path: &str, name: &str, args: &PluginArgs, wrong: &mut Vec<String>) -> Profile {
        let known = registry();
        let mut profile = Profile::new(name);
        let mut held: Vec<(String, usize, Arc<dyn Plugin>)> = Vec::new();
        let multi_point = self.multi_point(&known);
        let explicit = Point::ALL.iter().flat_map(|point| self.at(*point).enabled.iter());
        for named in multi_point.iter().chain(explicit) {
            if held.iter().any(|(name, ..)| *name == named.name) {
                continue;
            }
            match known.iter().find(|registered| registered.name == named.name) {
                Some(registered) => {
                    let plugin = (registered.make)(args);
                    held.push((named.name.clone(), profile.hold(plugin.clone()), plugin));
                }
                None => wrong.push(format!("{path}.plugins: plugin {:?} does not exist", named.name)),
            }
        }
        for point in Point::ALL {
            self.enable(path, point, &multi_point, &held, &mut profile, wrong);
        }
        if profile.at(Point::QueueSort).count() != 1 {
            wrong.push(format!(
                "{path}.plugins.queueSort: exactly one queue sort plugin must be enabled"
            ));
        }
        if !profile.has(Point::Bind) {
            wrong.push(format!("{path}.plugins.bind: at least one bind plugin is needed"));
        }
        profile
    }

    /// At one point: plugins that are configured there and by multiPoint first, then the other ones of multiPoint,
    /// then the others that are configured there.
    fn enable(
        &self,
        path: &str,
        point: Point,
        multi_point: &[Named],
        held: &[(String, usize, Arc<dyn Plugin>)],
        profile: &mut Profile,
        wrong: &mut Vec<String>,
    ) {
        let set = self.at(point);
        let in_multi_point = |named: &&Named| multi_point.iter().any(|known| known.name == named.name);
        let overriding = set.enabled.iter().filter(in_multi_point);
        let others = multi_point
            .iter()
            .filter(|named| set.enables(&named.name).is_none() && !set.disables(&named.name));
        let own = set.enabled.iter().filter(|named| !in_multi_point(named));
        let all = overriding
            .map(|named| (named, true))
            .chain(others.map(|named| (named, false)));
        for (named, explicit) in all.chain(own.map(|named| (named, true))) {
            let Some((_, number, plugin)) = held.iter().find(|(name, ..)| *name == named.name) else {
                continue;
            };
            // A plugin that makes filters or scores has the work ahead of them done with them.
            let implied = match point {
                Point::PreFilter => plugin.points().contains(&Point::Filter),
                Point::PreScore => plugin.points().contains(&Point::Score),
                _ => false,
            };
            if plugin.points().contains(&point) || explicit && implied {
                profile.enable(point, *number, if named.weight == 0 { 1 } else { named.weight });
            } else if explicit {
                let (name, point) = (&named.name, point.name());
                wrong.push(format!(
                    "{path}.plugins.{point}: plugin {name:?} does not extend {point} plugin"
                ));
            }
        }
    }
}
