//! Executes plans as one identity.

use std::sync::Arc;

use api::{Gvr, Status, Value, meta};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{
    Client, ClientError, DeleteParams, Deleted, EventRecorder, EventSpec, Handle, ListParams, PatchKind, Preconditions,
    WriteParams,
};
use controllers::{Action, Confirm, Failure, Mint, Plan, Propagation, Step, Target, Told, Verb};
use serde_json::json;
use tokio::task::JoinSet;

use crate::expectation::Expectation;
use crate::keys::Keys;
use crate::rewrite::rewrite;
use crate::volume_disk::{DiskError, LocalDisk, Work};

/// Field manager of all controllers, as upstream's.
pub(crate) const FIELD_MANAGER: &str = "kube-controller-manager";

/// What upstream's controllers update, and may not patch (their roles say so): resource and
/// subresource. Here the patch is made on the live object, which is then put.
const UPDATED: [(&str, &str); 10] = [
    ("persistentvolumes", ""),
    ("persistentvolumes", "status"),
    ("persistentvolumeclaims", ""),
    ("persistentvolumeclaims", "status"),
    ("deployments", ""),
    ("deployments", "status"),
    ("replicasets", "status"),
    ("endpoints", ""),
    ("endpointslices", ""),
    ("namespaces", "status"),
];

/// Updates that meet another's write are made anew this often at once.
const UPDATE_ATTEMPTS: u32 = 3;

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the caches will show.
    pub(crate) expectations: Vec<Expectation>,
    /// The first failure.
    pub(crate) failure: Option<Failure>,
}

/// Executes actions and tells of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) recorder: EventRecorder,
    /// What makes what only holders of keys can; nothing is made without.
    pub(crate) keys: Option<Arc<dyn Keys>>,
    pub(crate) local_disk: Option<LocalDisk>,
}

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
enum ActionError {
    #[error(transparent)]
    Request(#[from] ClientError),
    #[error("{0}")]
    NotMade(String),
    #[error("namespace {namespace} still has {resource}")]
    NotEmpty { namespace: String, resource: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ActionError {
    /// As the API server said it.
    fn message(&self) -> String {
        match self {
            Self::Request(error) => error.report(),
            Self::NotEmpty { .. } | Self::NotMade(_) | Self::Disk(_) => self.to_string(),
        }
    }
}

impl Executor {
    /// Executes a plan.
    pub(crate) async fn execute(&self, plan: Plan) -> Outcome {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            match step {
                Step::One(action) => self.one(*action, &mut outcome).await,
                Step::All(actions) => self.all(actions, &mut outcome).await,
                Step::SlowStart(actions) => self.slow_start(actions, &mut outcome).await,
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        for action in plan.last {
            self.one(action, &mut outcome).await;
        }
        outcome
    }

    async fn one(&self, action: Action, outcome: &mut Outcome) {
        match self.act(action).await {
            Ok(expectations) => outcome.expectations.extend(expectations),
            Err(failure) => outcome.failure = outcome.failure.take().or(Some(failure)),
        }
    }

    async fn all(&self, actions: Vec<Action>, outcome: &mut Outcome) {
        let mut running = JoinSet::new();
        for action in actions {
            let executor = self.clone();
            running.spawn(async move { executor.act(action).await });
        }
        while let Some(result) = running.join_next().await {
            match result {
                Ok(Ok(expectations)) => outcome.expectations.extend(expectations),
                Ok(Err(failure)) => outcome.failure = outcome.failure.take().or(Some(failure)),
                Err(error) => tracing::error!(%error, "an action panicked"),
            }
        }
    }

    async fn slow_start(&self, mut actions: Vec<Action>, outcome: &mut Outcome) {
        let mut batch = 1;
        while !actions.is_empty() && outcome.failure.is_none() {
            let rest = actions.split_off(batch.min(actions.len()));
            self.all(std::mem::replace(&mut actions, rest), outcome).await;
            batch *= 2;
        }
    }

    async fn act(&self, action: Action) -> Result<Vec<Expectation>, Failure> {
        let resource = resource_of(&action.verb);
        for confirm in &action.confirm {
            match self.holds(confirm).await {
                Ok(true) => {}
                Ok(false) => return Ok(Vec::new()),
                Err(error) => {
                    return Err(Failure {
                        resource,
                        message: error.report(),
                    });
                }
            }
        }
        match self.do_it(&action.verb).await {
            Ok(done) => {
                if let Some(told) = &action.told
                    && !done.moot
                {
                    self.tell(told, told.success.as_ref(), told.warning, &done.name, "");
                }
                Ok(done.expectations)
            }
            Err(error) => {
                let message = error.message();
                if let Some(told) = &action.told {
                    self.tell(told, told.failure.as_ref(), true, "", &message);
                }
                Err(Failure { resource, message })
            }
        }
    }

    fn tell(&self, told: &Told, text: Option<&controllers::Text>, warning: bool, name: &str, error: &str) {
        let Some(text) = text else { return };
        let about = told.about.clone();
        self.recorder.record(EventSpec {
            api_version: about.api_version,
            kind: about.kind,
            namespace: about.namespace,
            name: about.name,
            uid: about.uid,
            resource_version: about.resource_version,
            field_path: String::new(),
            warning,
            reason: text.reason.to_owned(),
            message: text.message.replace("{name}", name).replace("{error}", error),
        });
    }

    async fn holds(&self, confirm: &Confirm) -> Result<bool, ClientError> {
        let (Confirm::Absent(target) | Confirm::Alive(target)) = (match confirm {
            Confirm::Review { spec, allowed } => return Ok(self.review(spec).await? == *allowed),
            other => other,
        }) else {
            return Ok(false);
        };
        let live = match self.handle(&target.resource).get(&target.namespace, &target.name).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let same = live.filter(|object| target.uid.as_deref().is_none_or(|uid| meta::uid(object) == uid));
        Ok(match confirm {
            Confirm::Absent(_) => same.is_none(),
            _ => same.is_some_and(|object| !meta::is_deleting(&object)),
        })
    }

    async fn review(&self, spec: &Value) -> Result<bool, ClientError> {
        let reviews = self.handle(&Gvr::new("authorization.k8s.io", "v1", "subjectaccessreviews"));
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer = reviews.create("", &review, &params()).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// Puts what a key makes into an object.
    fn make(&self, object: &Value, pointer: &str, mint: &Mint) -> Result<Value, ActionError> {
        let keys = self
            .keys
            .as_ref()
            .ok_or_else(|| ActionError::NotMade("there are no keys to sign with".to_owned()))?;
        let made = match mint {
            Mint::Certificate {
                request,
                usages,
                lifetime,
            } => keys.certificate(request, usages, *lifetime),
            Mint::Token { claims } => keys.token(claims),
        };
        let text = made.map_err(ActionError::NotMade)?;
        let mut object = object.clone();
        let place = pointer.rsplit_once('/').and_then(|(parent, field)| {
            let parent = object.pointer_mut(parent)?;
            Some(&mut parent[field])
        });
        if let Some(place) = place {
            *place = STANDARD.encode(text).into();
        }
        Ok(object)
    }

    fn handle(&self, resource: &Gvr) -> Handle<Value> {
        self.client.dynamic(resource)
    }

    async fn do_it(&self, verb: &Verb) -> Result<Done, ActionError> {
        match verb {
            Verb::Create {
                resource,
                namespace,
                object,
                if_absent,
            } => self.create(resource, namespace, object, *if_absent).await,
            Verb::Patch {
                target,
                subresource,
                body,
            } => self.patch(target, subresource, body).await,
            Verb::Replace {
                target,
                subresource,
                object,
            } => {
                let (handle, params) = (self.handle(&target.resource), params());
                let (namespace, name) = (&target.namespace, &target.name);
                let put = handle.update_sub(namespace, name, subresource, object, &params).await;
                wrote_or_gone(&target.resource, put)
            }
            Verb::Mint {
                target,
                subresource,
                object,
                pointer,
                mint,
            } => {
                let object = self.make(object, pointer, mint)?;
                let (handle, params) = (self.handle(&target.resource), params());
                let (namespace, name) = (&target.namespace, &target.name);
                let put = handle.update_sub(namespace, name, subresource, &object, &params).await;
                wrote_or_gone(&target.resource, put)
            }
            Verb::Delete {
                target,
                grace_period_seconds,
                propagation,
            } => self.delete(target, *grace_period_seconds, *propagation).await,
            Verb::DeleteAll { resource, namespace } => self.delete_all(resource, namespace).await,
            Verb::FinalizeNamespace {
                target,
                empty_of,
                finalizers,
            } => self.finalize(target, empty_of, finalizers).await,
            Verb::Rewrite { resource } => {
                rewrite(&self.client, resource, &params()).await?;
                Ok(Done::default())
            }
            Verb::MakeVolume { name, bytes } => self.on_disk(name, Work::Make(*bytes)).await,
            Verb::RemoveVolume { name } => self.on_disk(name, Work::Remove).await,
            Verb::Tell => Ok(Done::default()),
        }
    }

    async fn on_disk(&self, name: &str, work: Work) -> Result<Done, ActionError> {
        if let Some(disk) = &self.local_disk {
            disk.work(name, work).await?;
        }
        Ok(Done::default())
    }

    async fn create(
        &self,
        resource: &Gvr,
        namespace: &str,
        object: &Value,
        if_absent: bool,
    ) -> Result<Done, ActionError> {
        match self.handle(resource).create(namespace, object, &params()).await {
            Ok(created) => Ok(Done::wrote(resource, &created)),
            Err(error) if if_absent && error.is_already_exists() => Ok(Done::moot()),
            // All further creations there fail as well, and its content goes with it.
            Err(error) if error.is_namespace_terminating() => Ok(Done::moot()),
            Err(error) => Err(error.into()),
        }
    }

    async fn patch(&self, target: &Target, subresource: &str, body: &Value) -> Result<Done, ActionError> {
        if UPDATED.contains(&(target.resource.resource.as_str(), subresource)) {
            return self.update(target, subresource, body).await;
        }
        let mut body = body.clone();
        for (field, value) in [("uid", &target.uid), ("resourceVersion", &target.resource_version)] {
            if let Some(value) = value {
                body["metadata"][field] = json!(value);
            }
        }
        let handle = self.handle(&target.resource);
        let patched = handle
            .patch_sub(
                &target.namespace,
                &target.name,
                subresource,
                PatchKind::Merge,
                &body,
                &params(),
            )
            .await;
        wrote_or_gone(&target.resource, patched)
    }

    /// Applies a merge patch by reading and putting.
    async fn update(&self, target: &Target, subresource: &str, patch: &Value) -> Result<Done, ActionError> {
        let handle = self.handle(&target.resource);
        let mut attempt = 1;
        loop {
            let live = match handle.get(&target.namespace, &target.name).await {
                Ok(live) => live,
                Err(error) if error.is_not_found() => return Ok(Done::moot()),
                Err(error) => return Err(error.into()),
            };
            let differs =
                |wanted: &Option<String>, found: &str| wanted.as_deref().is_some_and(|wanted| wanted != found);
            if differs(&target.uid, meta::uid(&live))
                || differs(&target.resource_version, meta::resource_version(&live))
            {
                return Err(ClientError::from(Status::stale(&target.resource.group_resource(), &target.name)).into());
            }
            let mut wanted = live.clone();
            merge(&mut wanted, patch);
            if wanted == live {
                return Ok(Done::wrote(&target.resource, &live));
            }
            match handle
                .update_sub(&target.namespace, &target.name, subresource, &wanted, &params())
                .await
            {
                Err(error) if error.is_conflict() && attempt < UPDATE_ATTEMPTS => attempt += 1,
                put => return wrote_or_gone(&target.resource, put),
            }
        }
    }

    async fn delete(
        &self,
        target: &Target,
        grace: Option<i64>,
        propagation: Option<Propagation>,
    ) -> Result<Done, ActionError> {
        let preconditions = Preconditions {
            uid: target.uid.clone(),
            resource_version: target.resource_version.clone(),
        };
        let params = DeleteParams {
            grace_period_seconds: grace,
            propagation_policy: propagation.map(|policy| match policy {
                Propagation::Orphan => client::Propagation::Orphan,
                Propagation::Background => client::Propagation::Background,
                Propagation::Foreground => client::Propagation::Foreground,
            }),
            preconditions: Some(preconditions).filter(|p| *p != Preconditions::default()),
            dry_run: Vec::new(),
        };
        let done = Done {
            name: target.name.clone(),
            moot: false,
            expectations: vec![Expectation::Going {
                resource: target.resource.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                uid: target.uid.clone().unwrap_or_default(),
            }],
        };
        match self
            .handle(&target.resource)
            .delete(&target.namespace, &target.name, &params)
            .await
        {
            Ok(Deleted::Object(_) | Deleted::Status(_)) => Ok(done),
            Err(error) if error.is_not_found() => Ok(Done { moot: true, ..done }),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete_all(&self, resource: &Gvr, namespace: &str) -> Result<Done, ActionError> {
        let handle = self.handle(resource);
        match handle
            .delete_collection(namespace, &DeleteParams::default(), &ListParams::default())
            .await
        {
            Ok(()) => Ok(Done::default()),
            Err(error) if error.is_not_found() => Ok(Done::moot()),
            Err(error) if error.code() == Some(405) => {
                for object in handle.list_all(namespace, &ListParams::default()).await?.items {
                    match handle
                        .delete(namespace, meta::name(&object), &DeleteParams::default())
                        .await
                    {
                        Err(error) if !error.is_not_found() => return Err(error.into()),
                        _ => {}
                    }
                }
                Ok(Done::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn finalize(&self, target: &Target, empty_of: &[Gvr], finalizers: &[String]) -> Result<Done, ActionError> {
        let one = ListParams {
            limit: 1,
            ..ListParams::default()
        };
        for resource in empty_of {
            match self.handle(resource).metadata_only().list(&target.name, &one).await {
                Ok(list) if list.items.is_empty() => {}
                Ok(_) => {
                    let (namespace, resource) = (target.name.clone(), resource.resource.clone());
                    return Err(ActionError::NotEmpty { namespace, resource });
                }
                Err(error) if error.is_not_found() || error.code() == Some(405) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let handle = self.handle(&target.resource);
        let mut namespace = match handle.get("", &target.name).await {
            Ok(namespace) => namespace,
            Err(error) if error.is_not_found() => return Ok(Done::moot()),
            Err(error) => return Err(error.into()),
        };
        if target.uid.as_deref().is_some_and(|uid| meta::uid(&namespace) != uid) {
            return Ok(Done::moot());
        }
        namespace["spec"]["finalizers"] = json!(finalizers);
        match handle
            .update_sub::<_, Value>("", &target.name, "finalize", &namespace, &params())
            .await
        {
            Ok(_) => Ok(Done::default()),
            Err(error) if error.is_not_found() => Ok(Done::moot()),
            Err(error) => Err(error.into()),
        }
    }
}

fn params() -> WriteParams {
    WriteParams::manager(FIELD_MANAGER)
}

fn wrote_or_gone(resource: &Gvr, written: Result<Value, ClientError>) -> Result<Done, ActionError> {
    match written {
        Ok(object) => Ok(Done::wrote(resource, &object)),
        Err(error) if error.is_not_found() => Ok(Done::moot()),
        Err(error) => Err(error.into()),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(api::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn resource_of(verb: &Verb) -> String {
    match verb {
        Verb::Create { resource, .. } | Verb::DeleteAll { resource, .. } | Verb::Rewrite { resource } => {
            resource.resource.clone()
        }
        Verb::Patch { target, .. }
        | Verb::Replace { target, .. }
        | Verb::Mint { target, .. }
        | Verb::Delete { target, .. }
        | Verb::FinalizeNamespace { target, .. } => target.resource.resource.clone(),
        Verb::MakeVolume { .. } | Verb::RemoveVolume { .. } => "persistentvolumes".to_owned(),
        Verb::Tell => String::new(),
    }
}

#[derive(Default)]
struct Done {
    /// The object's name, as the server made it.
    name: String,
    /// There was nothing to do (or to say) any more.
    moot: bool,
    expectations: Vec<Expectation>,
}

impl Done {
    fn moot() -> Self {
        Self {
            moot: true,
            ..Self::default()
        }
    }

    fn wrote(resource: &Gvr, object: &Value) -> Self {
        let revision = meta::resource_version(object).parse().ok();
        let seen = revision.map(|revision| Expectation::Seen {
            resource: resource.clone(),
            revision,
        });
        Self {
            name: meta::name(object).to_owned(),
            moot: false,
            expectations: seen.into_iter().collect(),
        }
    }
}
