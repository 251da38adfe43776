//! The API server's semantics over the store in memory, by the server's own rules and the kinds' own strategies.

use api::{GroupResource, Status, Value, labels, meta};
use apiserver::kind::{AllowUnconditionalUpdate, Behaviour, Context, Generation, Part};
use apiserver::{Kind, UserInfo, rules};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::registry::{Resource, registry};
use crate::rng::Rng;
use crate::store::{Event, Store};

/// How an update makes the new object.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The whole object.
    Put(&'a Value),
    /// A JSON merge patch.
    Merge(&'a Value),
    /// A strategic merge patch.
    Strategic(&'a Value),
}

/// The server.
pub struct Server {
    /// What there is and was.
    pub store: Store,
    /// The world's time.
    pub now: Timestamp,
    /// Changes that the invariants have not looked at yet.
    pub fresh: Vec<(Resource, Event)>,
    names: Rng,
    user: UserInfo,
    uids: u64,
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("made one");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn group_resource(resource: Resource) -> GroupResource {
    registry().resources[resource].group_resource()
}

fn invalid(kind: &Kind, object: &Value, errors: Vec<api::field::Error>) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        &kind.gvk.group,
        &kind.gvk.kind,
        meta::name(object),
        errors,
    ))
}

impl Server {
    /// An empty cluster at a time; generated names follow from the seed.
    pub fn new(seed: u64, now: Timestamp) -> Self {
        Self {
            store: Store::new(),
            now,
            fresh: Vec::new(),
            names: Rng::new(seed, 1),
            user: UserInfo::new("system:admin", &["system:masters"]),
            uids: 0,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            now: self.now,
            user: &self.user,
            dry_run: false,
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: SignedDuration) {
        self.now += time;
    }

    /// An object, or 404.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Result<&Value, Status> {
        let live = self.store.live(resource, namespace, name);
        live.map(|object| &object.value)
            .ok_or_else(|| Status::not_found(&group_resource(resource), name))
    }

    fn put(&mut self, resource: Resource, namespace: &str, name: &str, value: Option<Value>) -> Value {
        let event = self.store.put(resource, namespace, name, value);
        let shown = event.object().value.clone();
        self.fresh.push((resource, event));
        shown
    }

    fn generated(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let cut = prefix.floor_char_boundary(58.min(prefix.len()));
        let suffix: String = (0..5).map(|_| char::from(*self.names.pick(ALPHABET))).collect();
        format!("{}{suffix}", &prefix[..cut])
    }

    /// Creates an object.
    ///
    /// # Errors
    /// Whatever the server refuses it for.
    pub fn create(&mut self, resource: Resource, namespace: &str, object: &Value) -> Result<Value, Status> {
        let kind = &registry().kinds[resource];
        let mut object = object.clone();
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            meta::remove(&mut object, field);
        }
        object["apiVersion"] = kind.gvk.api_version().into();
        object["kind"] = kind.gvk.kind.clone().into();
        rules::complete(kind, &mut object);
        rules::ensure_namespace(kind, &mut object, namespace)?;
        rules::dedup_owner_references(&mut object);
        let clear = |object: &mut Value| {
            if kind.clears_status() {
                object.as_object_mut().expect("objects are").remove("status");
            }
        };
        clear(&mut object);
        self.admit_new(resource, namespace, &mut object)?;
        rules::complete(kind, &mut object);
        if meta::name(&object).is_empty() {
            let name = self.generated(meta::generate_name(&object));
            meta::set_name(&mut object, &name);
        }
        let name = meta::name(&object).to_owned();
        meta::set_creation_timestamp(&mut object, Some(self.now));
        self.uids += 1;
        meta::set_uid(&mut object, &format!("00000000-0000-4000-8000-{:012}", self.uids));
        clear(&mut object);
        let generation = i64::from(!matches!(kind.strategy.generation, Generation::Unused));
        meta::set_generation(&mut object, generation);
        if let Some(prepare) = &kind.strategy.prepare_create {
            prepare(&self.context(), &mut object);
        }
        rules::normalize(kind, &mut object);
        let mut errors = rules::validate(kind, &object);
        errors.extend(
            kind.strategy
                .validate
                .as_ref()
                .map(|check| check(&object))
                .unwrap_or_default(),
        );
        invalid(kind, &object, errors)?;
        if let Some(canonicalize) = &kind.strategy.canonicalize {
            canonicalize(&mut object);
        }
        if self.store.live(resource, namespace, &name).is_some() {
            return Err(Status::already_exists(&group_resource(resource), &name));
        }
        self.charge(resource, namespace, "", quota::Operation::Create, &object, None)?;
        Ok(self.put(resource, namespace, &name, Some(object)))
    }

    /// Updates an object or a part of it.
    ///
    /// # Errors
    /// Whatever the server refuses it for.
    pub fn update(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        change: Change<'_>,
    ) -> Result<Value, Status> {
        let kind = &registry().kinds[resource];
        let gr = group_resource(resource);
        let old = self.get(resource, namespace, name)?.clone();
        let mut new = match change {
            Change::Put(object) => object.clone(),
            Change::Merge(patch) => {
                let mut new = old.clone();
                merge(&mut new, patch);
                new
            }
            Change::Strategic(patch) => schema::patch::strategic::apply(kind.schema.get(kind.root), &old, patch)
                .map_err(|error| Status::bad_request(error.to_string()))?,
        };
        let wanted = meta::resource_version(&new).to_owned();
        if wanted.is_empty() || wanted == "0" {
            let strict = kind.strategy.allow_unconditional_update == AllowUnconditionalUpdate::No;
            if strict && matches!(change, Change::Put(_)) {
                return Err(Status::bad_request(
                    "metadata.resourceVersion: must be specified for an update",
                ));
            }
            meta::set_resource_version(&mut new, meta::resource_version(&old));
        } else if wanted != meta::resource_version(&old) {
            return Err(Status::stale(&gr, name));
        }
        if !meta::uid(&new).is_empty() && meta::uid(&new) != meta::uid(&old) {
            return Err(Status::conflict(&gr, name, "Precondition failed: UID in precondition"));
        }
        let part = self.part(kind, subresource)?;
        rules::dedup_owner_references(&mut new);
        rules::complete(kind, &mut new);
        self.shape_update(kind, part, &mut new, &old, namespace)?;
        let operation = quota::Operation::Update;
        self.charge(resource, namespace, subresource, operation, &new, Some(&old))?;
        if rules::deletes(kind, &new, &old) {
            return Ok(self.put(resource, namespace, name, None));
        }
        if new == old {
            return Ok(new);
        }
        Ok(self.put(resource, namespace, name, Some(new)))
    }

    fn part<'k>(&self, kind: &'k Kind, subresource: &str) -> Result<Option<&'k Part>, Status> {
        if subresource.is_empty() {
            return Ok(None);
        }
        match kind.find_subresource(subresource).map(|found| &found.behaviour) {
            Some(Behaviour::Part(part)) => Ok(Some(part)),
            _ => Err(Status::unknown_resource()),
        }
    }

    fn shape_update(
        &self,
        kind: &Kind,
        part: Option<&Part>,
        new: &mut Value,
        old: &Value,
        namespace: &str,
    ) -> Result<(), Status> {
        let context = self.context();
        rules::ensure_namespace(kind, new, namespace)?;
        meta::set_generation(new, meta::generation(old));
        match part {
            Some(part) => rules::prepare_part(part, &context, new, old),
            None => {
                if kind.has_status() {
                    rules::put_back(new, old, "status");
                }
                if let Some(prepare) = &kind.strategy.prepare_update {
                    prepare(&context, new, old);
                }
            }
        }
        rules::normalize(kind, new);
        rules::keep_metadata(new, old);
        if part.is_none() && rules::generation_moves(kind, new, old) {
            meta::set_generation(new, meta::generation(old) + 1);
        }
        let mut errors = rules::validate_update(kind, new, old);
        errors.extend(match (part, &kind.strategy.validate_update, &kind.strategy.validate) {
            (Some(part), ..) => part.validate.as_ref().map(|check| check(new, old)).unwrap_or_default(),
            (None, Some(check), _) => check(new, old),
            (None, None, Some(check)) => check(new),
            (None, None, None) => Vec::new(),
        });
        invalid(kind, new, errors)?;
        if let Some(canonicalize) = &kind.strategy.canonicalize {
            canonicalize(new);
        }
        Ok(())
    }

    /// Changes an object beside the rules for clients: what the server does itself, or what is corrupted.
    ///
    /// # Errors
    /// 404, or what `change` refuses.
    pub fn change(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<(), Status>,
    ) -> Result<Value, Status> {
        let mut new = self.get(resource, namespace, name)?.clone();
        change(&mut new)?;
        Ok(self.put(resource, namespace, name, Some(new)))
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// 404, 409.
    pub fn delete(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        options: &rules::DeleteOptions,
    ) -> Result<Value, Status> {
        let old = self.get(resource, namespace, name)?.clone();
        let gr = group_resource(resource);
        if options.uid.as_deref().is_some_and(|uid| uid != meta::uid(&old)) {
            return Err(Status::conflict(
                &gr,
                name,
                "the UID in the precondition does not match",
            ));
        }
        let version = options.resource_version.as_deref();
        if version.is_some_and(|version| version != meta::resource_version(&old)) {
            return Err(Status::conflict(
                &gr,
                name,
                "the ResourceVersion in the precondition does not match",
            ));
        }
        Ok(
            match rules::decide(&registry().kinds[resource], &old, options, self.now) {
                rules::Decision::Pending => old,
                rules::Decision::Mark(marked) if marked == old => old,
                rules::Decision::Mark(marked) => self.put(resource, namespace, name, Some(marked)),
                rules::Decision::Remove => self.put(resource, namespace, name, None),
            },
        )
    }

    /// Binds a pod to a node.
    ///
    /// # Errors
    /// 404; 409 if it cannot be bound (again).
    pub fn bind(&mut self, namespace: &str, name: &str, uid: &str, node: &str) -> Result<Value, Status> {
        let pods = registry().known("", "pods");
        let now = api::time::format(self.now);
        self.change(pods, namespace, name, |pod| {
            let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
            if meta::uid(pod) != uid || meta::is_deleting(pod) || bound {
                return Err(Status::conflict(
                    &GroupResource::new("", "pods/binding"),
                    name,
                    "it cannot be bound",
                ));
            }
            pod["spec"]["nodeName"] = node.into();
            set_condition(pod, "PodScheduled", "True", "", &now);
            Ok(())
        })
    }

    /// Evicts a pod, if its budget allows.
    ///
    /// # Errors
    /// 404; 429 if a budget does not allow it now.
    pub fn evict(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let (pods, budgets) = (
            registry().known("", "pods"),
            registry().known("policy", "poddisruptionbudgets"),
        );
        let pod = self.get(pods, namespace, name)?.clone();
        let phase = pod["status"]["phase"].as_str().unwrap_or("");
        let ready = is_ready(&pod);
        if !meta::is_deleting(&pod) && phase == "Running" {
            let pod_labels = meta::labels(&pod);
            let selects = |budget: &Value| {
                let selector = budget["spec"].get("selector").filter(|selector| selector.is_object());
                selector.is_some()
                    && labels::Selector::from_label_selector(selector).is_ok_and(|found| found.matches(&pod_labels))
            };
            let found = self.store.list(budgets, namespace, u64::MAX);
            let found: Vec<_> = found.iter().filter(|budget| selects(&budget.value)).collect();
            match found.as_slice() {
                [] => {}
                [budget] if !ready && spares_unhealthy(&budget.value) => {}
                [budget] => {
                    let (now, budget) = (api::time::format(self.now), meta::name(&budget.value).to_owned());
                    self.change(budgets, namespace, &budget, |budget| spend(budget, name, &now))?;
                }
                _ => return Err(Status::internal("more than one budget")),
            }
        }
        let now = api::time::format(self.now);
        self.change(pods, namespace, name, |pod| {
            set_condition(pod, "DisruptionTarget", "True", "EvictionByEvictionAPI", &now);
            Ok(())
        })?;
        let options = rules::DeleteOptions {
            uid: Some(meta::uid(&pod).to_owned()),
            ..rules::DeleteOptions::default()
        };
        self.delete(pods, namespace, name, &options).map(drop)
    }
}

fn spares_unhealthy(budget: &Value) -> bool {
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0)
}

fn spend(budget: &mut Value, pod: &str, now: &str) -> Result<(), Status> {
    let refuse = || Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10);
    let allowed = budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
    let observed = budget["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if observed < meta::generation(budget) || allowed <= 0 {
        return Err(refuse());
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = now.into();
    Ok(())
}

/// Whether a pod's Ready condition is true.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Sets a condition; its transition time moves with its status.
pub fn set_condition(object: &mut Value, kind: &str, status: &str, reason: &str, now: &str) {
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": now});
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    let list = object["status"]["conditions"].as_array_mut().expect("made one");
    match list.iter_mut().find(|known| known["type"] == kind) {
        Some(known) => {
            if known["status"] == status {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => list.push(condition),
    }
}
