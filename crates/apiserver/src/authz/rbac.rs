//! RBAC over the cached roles and bindings (`plugin/pkg/auth/authorizer/rbac`).
//!
//! The index follows four watches. It is brought up to date with what has arrived before each
//! decision, and with everything acknowledged before a refusal: so a grant is effective for the
//! next request, and a revocation as soon as its event has arrived.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::Value;
use futures_util::FutureExt;
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{Attributes, Decision, Rule};
use crate::cache::{CacheError, ChangeType, Selection, WatchEvent, WatchParams, WatchStart, Watcher};
use crate::resource::Resource;
use crate::state::State;
use crate::user::UserInfo;

/// The API group.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// A role that is referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RoleRef {
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    role_ref: RoleRef,
    subjects: Vec<Subject>,
}

impl Subject {
    fn is(&self, user: &UserInfo, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.in_group(&self.name),
            "ServiceAccount" => {
                let home = if self.namespace.is_empty() {
                    namespace
                } else {
                    &self.namespace
                };
                user.as_service_account() == Some((home, self.name.as_str()))
            }
            _ => false,
        }
    }
}

/// Roles and bindings by (namespace, name); cluster-wide ones have the empty namespace.
#[derive(Default)]
struct Data {
    roles: HashMap<(String, String), Arc<Vec<Rule>>>,
    bindings: BTreeMap<String, HashMap<String, Binding>>,
}

impl Data {
    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Arc<Vec<Rule>>, String> {
        let (kind, home) = match role.kind.as_str() {
            "ClusterRole" => ("clusterrole", ""),
            _ => ("role", namespace),
        };
        let key = (home.to_owned(), role.name.clone());
        self.roles.get(&key).cloned().ok_or_else(|| {
            let name = api::field::go_quote(&role.name);
            format!("{kind}.{GROUP} {name} not found")
        })
    }

    /// The rules that apply to a user in a namespace (and cluster-wide), and what went wrong.
    fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Arc<Vec<Rule>>>, Vec<String>) {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        let homes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for home in homes {
            for binding in self.bindings.get(*home).into_iter().flat_map(HashMap::values) {
                if binding.subjects.iter().any(|subject| subject.is(user, home)) {
                    match self.rules_of(&binding.role_ref, home) {
                        Ok(rules) => found.push(rules),
                        Err(error) => errors.push(error),
                    }
                }
            }
        }
        (found, errors)
    }
}

/// One followed resource.
struct Feed {
    plural: &'static str,
    watcher: Option<Watcher>,
}

/// The authorizer.
pub(crate) struct Rbac {
    data: RwLock<Data>,
    feeds: Mutex<Vec<Feed>>,
}

impl Rbac {
    pub fn new() -> Rbac {
        let feed = |plural| Feed { plural, watcher: None };
        let feeds = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"].map(feed);
        Rbac {
            data: RwLock::default(),
            feeds: Mutex::new(feeds.into()),
        }
    }

    /// Takes in what has changed; if `fresh`, everything that was acknowledged before.
    pub async fn follow(&self, state: &State, fresh: bool) {
        let mut feeds = if fresh {
            self.feeds.lock().await
        } else {
            // Whoever holds it is taking in the same changes.
            let Ok(feeds) = self.feeds.try_lock() else { return };
            feeds
        };
        for feed in feeds.iter_mut() {
            let Some(resource) = state.any_version(GROUP, feed.plural) else {
                continue;
            };
            if let Err(error) = self.advance(feed, &resource, fresh).await {
                tracing::warn!(resource = feed.plural, %error, "RBAC watch ended; starting anew");
                feed.watcher = None;
            }
        }
    }

    async fn advance(&self, feed: &mut Feed, resource: &Resource, fresh: bool) -> Result<(), CacheError> {
        let watcher = match &mut feed.watcher {
            Some(watcher) => watcher,
            none => {
                let params = WatchParams {
                    start: WatchStart::StateLatest,
                    selection: Selection::all(),
                };
                let watcher = resource.cache.watch(params).await?;
                self.forget(feed.plural);
                none.insert(watcher)
            }
        };
        if fresh {
            watcher.bookmark().await?;
        }
        while let Some(events) = watcher.next().now_or_never() {
            let mut data = self.data.write();
            events?.iter().for_each(|event| apply(&mut data, feed.plural, event));
        }
        Ok(())
    }

    fn forget(&self, plural: &str) {
        let mut data = self.data.write();
        match plural {
            "clusterroles" => data.roles.retain(|(namespace, _), _| !namespace.is_empty()),
            "roles" => data.roles.retain(|(namespace, _), _| namespace.is_empty()),
            "clusterrolebindings" => drop(data.bindings.remove("")),
            _ => data.bindings.retain(|namespace, _| namespace.is_empty()),
        }
    }

    /// Whether any rule allows it.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let data = self.data.read();
        let (rules, errors) = data.rules_for(&attributes.user, &attributes.namespace);
        if rules
            .iter()
            .any(|rules| rules.iter().any(|rule| rule.allows(attributes)))
        {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(if errors.is_empty() {
            String::new()
        } else {
            format!("RBAC: [{}]", errors.join(", "))
        })
    }

    /// The rules of a user in a namespace.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let (rules, _) = self.data.read().rules_for(user, namespace);
        rules.iter().flat_map(|rules| rules.iter().cloned()).collect()
    }

    /// The rules of a role; an error says that there is no such role.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Vec<Rule>, String> {
        self.data.read().rules_of(role, namespace).map(|rules| rules.to_vec())
    }

    /// The rules of a cluster role; none if it does not exist.
    pub fn cluster_role(&self, name: &str) -> Option<Arc<Vec<Rule>>> {
        self.data.read().roles.get(&(String::new(), name.to_owned())).cloned()
    }
}

fn apply(data: &mut Data, plural: &str, event: &WatchEvent) {
    let Some(entry) = &event.entry else { return };
    let (namespace, name) = (entry.namespace().to_owned(), entry.name().to_owned());
    let gone = event.change == ChangeType::Deleted;
    let object: Value = serde_json::from_slice(&entry.json).unwrap_or_default();
    if plural.ends_with("roles") {
        let rules = object.get("rules").cloned().unwrap_or_default();
        let rules: Vec<Rule> = serde_json::from_value(rules).unwrap_or_default();
        match gone {
            true => drop(data.roles.remove(&(namespace, name))),
            false => drop(data.roles.insert((namespace, name), Arc::new(rules))),
        }
        return;
    }
    let bindings = data.bindings.entry(namespace).or_default();
    match (gone, serde_json::from_value::<Binding>(object)) {
        (false, Ok(binding)) => drop(bindings.insert(name, binding)),
        _ => drop(bindings.remove(&name)),
    }
}
