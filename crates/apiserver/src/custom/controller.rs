//! Follows the definitions: names, conditions, the registry, cleanup. Level-triggered: a change wakes
//! it, and it looks at everything anew; what did not change costs a comparison.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{Status, Value, meta};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use jiff::Timestamp;

use super::definition::{self, Served};
use super::finalizer;
use super::naming::{self, Taken, is_true};
use crate::cache::{At, CacheError, ListParams, Selection, WatchParams, WatchStart};
use crate::codec;
use crate::resource::Resource;
use crate::server::ApiServer;
use crate::state::State;
use crate::user::UserInfo;

pub(super) const GROUP: &str = "apiextensions.k8s.io";
pub(super) const PLURAL: &str = "customresourcedefinitions";
pub(super) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long to wait before what failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A definition and what it is served as.
struct Known {
    revision: i64,
    object: Arc<Value>,
    /// What the resources were made from.
    served: Option<Installed>,
}

struct Installed {
    uid: String,
    spec: Value,
    names: Value,
    resources: Vec<Arc<Resource>>,
    /// The version that objects are stored in.
    stored: Option<Arc<Resource>>,
    ends: tokio_util::sync::CancellationToken,
}

/// Follows definitions until the server ends. Does nothing if they are not among the kinds.
pub(crate) fn start(server: &ApiServer) {
    let state = &server.state;
    if state.any_version(GROUP, PLURAL).is_none() {
        state.customs_served.cancel();
        return;
    }
    let (weak, shutdown) = (Arc::downgrade(state), state.shutdown.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = Controller::new(weak).run() => {}
        }
    });
}

struct Controller {
    state: Weak<State>,
    known: BTreeMap<String, Known>,
    /// Definitions whose instances are being deleted, by uid.
    cleaning: HashSet<String>,
    /// Told when a cleanup is over.
    done: tokio::sync::mpsc::UnboundedReceiver<String>,
    tell: tokio::sync::mpsc::UnboundedSender<String>,
}

impl Controller {
    fn new(state: Weak<State>) -> Controller {
        let (tell, done) = tokio::sync::mpsc::unbounded_channel();
        Controller {
            state,
            known: BTreeMap::new(),
            cleaning: HashSet::new(),
            done,
            tell,
        }
    }

    async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(()) | Err(CacheError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot follow the definitions of custom resources; starting anew");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Until the server has gone.
    async fn follow(&mut self) -> Result<(), CacheError> {
        let Some(resource) = self.state.upgrade().and_then(|s| s.any_version(GROUP, PLURAL)) else {
            return Ok(());
        };
        let params = WatchParams {
            start: WatchStart::StateLatest,
            selection: Selection::all(),
        };
        let mut watcher = resource.cache.watch(params).await?;
        loop {
            let again = {
                let Some(state) = self.state.upgrade() else {
                    return Ok(());
                };
                let settled = self.look(&state, &resource).await?;
                state.customs_served.cancel();
                !settled
            };
            tokio::select! {
                events = watcher.next() => drop(events?),
                Some(uid) = self.done.recv() => drop(self.cleaning.remove(&uid)),
                () = tokio::time::sleep(RETRY), if again => {}
            }
        }
    }

    /// Brings everything in line; whether all of it worked.
    async fn look(&mut self, state: &Arc<State>, resource: &Resource) -> Result<bool, CacheError> {
        let page = resource
            .cache
            .list(ListParams {
                at: At::Any,
                selection: Selection::all(),
                limit: 0,
                start_after: None,
            })
            .await?;
        let mut present = HashSet::new();
        for entry in &page.entries {
            present.insert(entry.name().to_owned());
            let known = self.known.get_mut(entry.name());
            if known.as_ref().is_some_and(|k| k.revision == entry.revision) {
                continue;
            }
            let object = Arc::new(resource.value(entry));
            match known {
                Some(known) => {
                    known.revision = entry.revision;
                    known.object = object;
                }
                None => {
                    let fresh = Known {
                        revision: entry.revision,
                        object,
                        served: None,
                    };
                    self.known.insert(entry.name().to_owned(), fresh);
                }
            }
        }
        let gone: Vec<String> = self
            .known
            .keys()
            .filter(|name| !present.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(served) = self.known.remove(&name).and_then(|known| known.served) {
                served.ends.cancel();
            }
        }
        let writes = self.settle(state);
        let mut settled = true;
        for object in writes {
            settled &= write_status(state, &object).await;
        }
        self.clean(state);
        Ok(settled)
    }

    /// Decides on names, swaps the registry, and returns the definitions whose status has to change.
    fn settle(&mut self, state: &Arc<State>) -> Vec<Value> {
        let now = api::time::format(Timestamp::now());
        let mut granted: HashMap<String, Value> = HashMap::new();
        for (name, known) in &self.known {
            granted.insert(name.clone(), known.object["status"]["acceptedNames"].clone());
        }
        // Older definitions choose first.
        let mut order: Vec<&String> = self.known.keys().collect();
        order.sort_by_key(|name| (meta::creation_timestamp(&self.known[*name].object), *name));
        let order: Vec<String> = order.into_iter().cloned().collect();
        let mut writes = Vec::new();
        let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
        for name in order {
            let object = self.known[&name].object.clone();
            let mut taken = Taken::default();
            for (other, names) in &granted {
                if *other != name && self.known[other].object["spec"]["group"] == object["spec"]["group"] {
                    taken.add(names);
                }
            }
            let new = naming::settle(&object, &taken, &now);
            granted.insert(name.clone(), new["status"]["acceptedNames"].clone());
            if new != *object && !meta::is_deleting(&object) {
                writes.push(new.clone());
            }
            wanted.insert(name, new);
        }
        self.serve(state, &wanted);
        writes
    }

    fn serve(&mut self, state: &Arc<State>, wanted: &BTreeMap<String, Value>) {
        let mut changed = false;
        let mut all: Vec<Arc<Resource>> = Vec::new();
        for (name, known) in &mut self.known {
            let object = &wanted[name];
            let serves = is_true(object, "Established") || is_true(object, "NamesAccepted");
            if !serves {
                if let Some(served) = known.served.take() {
                    served.ends.cancel();
                    changed = true;
                }
                continue;
            }
            let (uid, spec, names) = (meta::uid(object), &object["spec"], &object["status"]["acceptedNames"]);
            let same = known
                .served
                .as_ref()
                .is_some_and(|s| s.uid == uid && s.spec == *spec && s.names == *names);
            if !same {
                changed = true;
                let ends = state.shutdown.child_token();
                let kinds = definition::kinds(object, names, &self.state);
                let resources: Vec<(Served, Arc<Resource>)> = kinds
                    .into_iter()
                    .map(|(served, kind)| (served, Arc::new(Resource::custom(kind, &state.store, ends.clone()))))
                    .collect();
                let stored = resources.iter().find(|(_, r)| r.kind.gvk == r.kind.storage.gvk);
                let stored = stored.map(|(_, r)| r.clone());
                let resources = resources.into_iter().filter(|(served, _)| *served == Served::Yes);
                let fresh = Installed {
                    uid: uid.to_owned(),
                    spec: spec.clone(),
                    names: names.clone(),
                    resources: resources.map(|(_, r)| r).collect(),
                    stored,
                    ends,
                };
                if let Some(before) = known.served.replace(fresh) {
                    before.ends.cancel();
                }
            }
            if let Some(served) = &known.served {
                for resource in &served.resources {
                    if let Some(custom) = &resource.kind.custom {
                        let terminating = meta::is_deleting(object);
                        custom.definition.terminating.store(terminating, Ordering::Relaxed);
                    }
                }
                all.extend(served.resources.iter().cloned());
            }
        }
        let registry = state.registry.load();
        let before = registry.all().iter().filter(|r| r.kind.custom.is_some()).count();
        if changed || before != all.len() {
            // A built-in kind is never replaced.
            let built_in = |r: &Arc<Resource>| {
                let gvr = r.gvr();
                registry
                    .get(&gvr.group, &gvr.version, &gvr.resource)
                    .is_some_and(|known| known.kind.custom.is_none())
            };
            all.retain(|r| !built_in(r));
            drop(registry);
            state.registry.rcu(|registry| registry.with_custom(all.clone()));
            state.kinds_changed.notify_one();
            tracing::debug!("the kinds of custom resources have changed");
        }
    }

    /// Begins the cleanup of definitions that are being deleted.
    fn clean(&mut self, state: &Arc<State>) {
        for known in self.known.values() {
            let object = &known.object;
            let uid = meta::uid(object);
            if !meta::is_deleting(object) || !meta::finalizers(object).contains(&FINALIZER) {
                continue;
            }
            if !self.cleaning.insert(uid.to_owned()) {
                continue;
            }
            let resource = known.served.as_ref().and_then(|s| s.stored.clone());
            let (state, object, tell) = (state.clone(), object.clone(), self.tell.clone());
            let (uid, shutdown) = (uid.to_owned(), state.shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = finalizer::finalize(&state, &object, resource) => {}
                }
                // The receiver is gone only when the server is.
                let _ = tell.send(uid);
            });
        }
    }
}

/// Writes a definition's status, as the server itself; whether that worked or will be asked again
/// anyway.
async fn write_status(state: &Arc<State>, object: &Value) -> bool {
    match put(state, object, "/status").await {
        Ok(_) => true,
        // It has changed or gone: the change wakes the controller.
        Err(status) if status.is_conflict() || status.is_not_found() => true,
        Err(error) => {
            tracing::warn!(name = meta::name(object), %error, "cannot write a definition's status; will try again");
            false
        }
    }
}

/// PUT of a definition or a part of it.
///
/// # Errors
/// What the server says.
pub(super) async fn put(state: &Arc<State>, object: &Value, part: &str) -> Result<Value, Status> {
    let path = format!("/apis/{GROUP}/v1/{PLURAL}/{}{part}", meta::name(object));
    request(state, Method::PUT, &path, codec::to_json(object)).await
}

/// A request of the server to itself.
///
/// # Errors
/// What the server says.
pub(crate) async fn request(state: &Arc<State>, method: Method, path: &str, body: Bytes) -> Result<Value, Status> {
    let server = ApiServer { state: state.clone() };
    let content_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(http::header::USER_AGENT, "apiserver")
        .header(http::header::CONTENT_TYPE, content_type)
        .body(body)
        .map_err(Status::internal)?;
    let answer = Box::pin(server.in_process(UserInfo::api_server()).call(request)).await;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(Status::internal)?.to_bytes();
    if code >= 400 {
        return Err(Status::from_http(
            code,
            method.as_str(),
            &String::from_utf8_lossy(&body),
        ));
    }
    serde_json::from_slice(&body).map_err(Status::internal)
}
