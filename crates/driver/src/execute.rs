//! Executes plans as one identity.

use std::sync::Arc;

use api::{Gvr, Status, Value, meta};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{ClientError, DeleteParams, EventSpec, Preconditions};
use controllers::{Action, Confirm, Failure, Mint, Plan, Propagation, Step, Target, Told, Verb};
use serde_json::json;

use crate::expectation::Expectation;
use crate::hands::{Hands, Place};
use crate::keys::Keys;
use crate::volume_disk::{DiskError, LocalDisk, Work};

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
pub struct Outcome {
    /// What the caches will show.
    pub expectations: Vec<Expectation>,
    /// The first failure.
    pub failure: Option<Failure>,
}

/// Executes actions and tells of them. Cheap to clone.
#[derive(Clone)]
pub struct Executor<H> {
    /// What it reaches the API with.
    pub hands: H,
    /// What makes what only holders of keys can; nothing is made without.
    pub keys: Option<Arc<dyn Keys>>,
    /// Where volumes are made; none are without.
    pub local_disk: Option<LocalDisk>,
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

impl<H: Hands> Executor<H> {
    /// Executes a plan.
    pub async fn execute(&self, plan: Plan) -> Outcome {
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
        let acting = actions.into_iter().map(|action| {
            let executor = self.clone();
            async move { executor.act(action).await }
        });
        for result in self.hands.together(acting.collect()).await {
            match result {
                Ok(expectations) => outcome.expectations.extend(expectations),
                Err(failure) => outcome.failure = outcome.failure.take().or(Some(failure)),
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
        self.hands.tell(EventSpec {
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
        let live = match self.hands.get(place(target)).await {
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
        let reviews = Gvr::new("authorization.k8s.io", "v1", "subjectaccessreviews");
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer = self.hands.create(&reviews, "", &review).await?;
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
                let put = self.hands.update(place(target), subresource, object).await;
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
                let put = self.hands.update(place(target), subresource, &object).await;
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
                self.hands.rewrite(resource).await?;
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
        match self.hands.create(resource, namespace, object).await {
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
        let patched = self.hands.merge(place(target), subresource, &body).await;
        wrote_or_gone(&target.resource, patched)
    }

    /// Applies a merge patch by reading and putting.
    async fn update(&self, target: &Target, subresource: &str, patch: &Value) -> Result<Done, ActionError> {
        let mut attempt = 1;
        loop {
            let live = match self.hands.get(place(target)).await {
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
            match self.hands.update(place(target), subresource, &wanted).await {
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
        match self.hands.delete(place(target), &params).await {
            Ok(()) => Ok(done),
            Err(error) if error.is_not_found() => Ok(Done { moot: true, ..done }),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete_all(&self, resource: &Gvr, namespace: &str) -> Result<Done, ActionError> {
        match self.hands.delete_all(resource, namespace).await {
            Ok(()) => Ok(Done::default()),
            Err(error) if error.is_not_found() => Ok(Done::moot()),
            Err(error) if error.code() == Some(405) => {
                for object in self.hands.list(resource, namespace).await? {
                    let at = Place {
                        resource,
                        namespace,
                        name: meta::name(&object),
                    };
                    match self.hands.delete(at, &DeleteParams::default()).await {
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
        for resource in empty_of {
            match self.hands.any(resource, &target.name).await {
                Ok(false) => {}
                Ok(true) => {
                    let (namespace, resource) = (target.name.clone(), resource.resource.clone());
                    return Err(ActionError::NotEmpty { namespace, resource });
                }
                Err(error) if error.is_not_found() || error.code() == Some(405) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut namespace = match self.hands.get(place(target)).await {
            Ok(namespace) => namespace,
            Err(error) if error.is_not_found() => return Ok(Done::moot()),
            Err(error) => return Err(error.into()),
        };
        if target.uid.as_deref().is_some_and(|uid| meta::uid(&namespace) != uid) {
            return Ok(Done::moot());
        }
        namespace["spec"]["finalizers"] = json!(finalizers);
        match self.hands.update(place(target), "finalize", &namespace).await {
            Ok(_) => Ok(Done::default()),
            Err(error) if error.is_not_found() => Ok(Done::moot()),
            Err(error) => Err(error.into()),
        }
    }
}

fn place(target: &Target) -> Place<'_> {
    Place {
        resource: &target.resource,
        namespace: &target.namespace,
        name: &target.name,
    }
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
