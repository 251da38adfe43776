//! PUT and PATCH of an object or a part of it (upstream `endpoints/handlers/{update,patch}.go`,
//! `registry/generic/registry/store.go` Update).

use std::sync::Arc;

use api::{Status, Value, meta};
use bytes::Bytes;

use super::create::{insert, invalid, report_strict, served};
use super::metadata;
use super::options::{WriteOptions, WriteVerb};
use super::output;
use super::persist::{Expect, Outcome, Write};
use crate::admission::{Attributes, Operation, Options, Trace};
use crate::call::Call;
use crate::codec;
use crate::kind::{AllowUnconditionalUpdate, Generation, Kind, Part, value_at};
use crate::negotiate::{self, Output};
use crate::patch::{self, Patch};
use crate::resource::{Resource, store_status};
use crate::respond::Answer;
use crate::state::State;

/// How often an update that may be repeated is, when others write the object too.
const ATTEMPTS: usize = 64;

/// Which part of the object is changed.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// The object, without its status if that is a subresource.
    Main,
    /// The same, by way of a subresource that shows it as another kind (scale).
    Via(&'a View),
    /// Whatever the server itself changes on behalf of a subresource; the kind's rules for clients
    /// do not apply.
    Inner(&'a str),
    /// What a subresource lets change.
    Part(&'a str, &'a Part),
}

/// A subresource's kind, as a view on the object.
pub(crate) struct View {
    pub name: &'static str,
    /// The object as the view shows it.
    pub show: Box<dyn Fn(&Value) -> Value + Send + Sync>,
    /// Puts a changed view (second) into the object.
    pub take: Box<dyn Fn(&mut Value, &Value) + Send + Sync>,
}

impl<'a> Target<'a> {
    /// The subresource, or empty.
    pub fn subresource(self) -> &'a str {
        match self {
            Target::Main => "",
            Target::Via(view) => view.name,
            Target::Inner(name) | Target::Part(name, _) => name,
        }
    }
}

/// Makes the new object from the old one.
pub(crate) enum Source {
    /// The client sent it whole.
    Put(Value),
    /// The client sent a change.
    Patch(Patch),
    /// The server changes it on its own terms (binding, scale).
    Change(Arc<dyn Fn(&mut Value) -> Result<(), Status> + Send + Sync>),
}

/// A finished update.
pub(crate) struct Updated {
    /// The object as it is stored now.
    pub object: Value,
    /// Its JSON, where it is served as it is stored and was written just now.
    json: Option<Bytes>,
    /// Whether it was created.
    pub created: bool,
}

impl Updated {
    fn answer(&self, call: &Call, resource: &Resource, output: Output) -> Result<Answer, Status> {
        let code = if self.created { 201 } else { 200 };
        output::written(call, resource, output, code, &self.object, self.json.as_ref())
    }
}

/// Handles PUT.
pub(crate) async fn handle_put(
    state: &State,
    call: &Call,
    resource: &Resource,
    target: Target<'_>,
    body: Bytes,
) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    let encoding = negotiate::input(&call.headers)?;
    let options = WriteOptions::read(call, WriteVerb::Update)?;
    let kind = &resource.kind;
    let decoded = codec::decode_kind(kind, encoding, &body)?;
    report_strict(call, options.field_validation, &kind.gvk, decoded.strict)?;
    let mut object = decoded.value;
    codec::complete(kind, &mut object);
    metadata::ensure_namespace(kind, &mut object, &call.info.namespace)?;
    let name = meta::name(&object);
    if name != call.info.name {
        return Err(Status::bad_request(if name.is_empty() {
            format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                call.info.name
            )
        } else {
            format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.info.name
            )
        }));
    }
    let repeated = metadata::dedup_owner_references(&mut object);
    call.warnings.extend(metadata::dedup_warning(&repeated, false));
    let source = Source::Put(object);
    let updated = update(state, call, resource, target, &source, &options).await?;
    updated.answer(call, resource, output)
}

/// Handles PATCH.
pub(crate) async fn handle_patch(
    state: &State,
    call: &Call,
    resource: &Resource,
    target: Target<'_>,
    body: Bytes,
) -> Result<Answer, Status> {
    let patch_type = patch::PatchType::read(&call.headers, &resource.kind)?;
    let output = call.output_of(resource)?;
    let verb = if patch_type == patch::PatchType::Apply {
        WriteVerb::Apply
    } else {
        WriteVerb::Patch
    };
    let options = WriteOptions::read(call, verb)?;
    let source = Source::Patch(Patch::parse(patch_type, &body)?);
    let updated = update(state, call, resource, target, &source, &options).await?;
    updated.answer(call, resource, output)
}

/// Reads, changes, admits, validates and stores an object, again if others were faster.
///
/// # Errors
/// Whatever keeps it from being stored.
pub(crate) async fn update(
    state: &State,
    call: &Call,
    resource: &Resource,
    target: Target<'_>,
    source: &Source,
    options: &WriteOptions,
) -> Result<Updated, Status> {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    for attempt in 0..ATTEMPTS {
        // The first time what is at hand will do: if it was old, nothing comes of it.
        let (at_hand, is_newest) = match attempt {
            0 if !options.dry_run => resource.cache.get_at_hand(&resource.key(namespace, name)),
            _ => (None, false),
        };
        let is_newest = is_newest || at_hand.is_none();
        let found = match at_hand {
            Some(entry) => Some(entry),
            None => resource.latest(namespace, name).await?,
        };
        let Some(entry) = found else {
            let written = create_instead(state, call, resource, target, source, options).await;
            match written {
                Err(status) if status.is_already_exists() => continue,
                other => return other,
            }
        };
        let mut old = resource.value(&entry);
        codec::complete_stored(&resource.kind, &mut old);
        let attempt = Attempt {
            state,
            call,
            resource,
            target,
            source,
            options,
            old: &old,
            is_newest,
        };
        if resource.kind.allocation.is_some() {
            state.pools.catch_up(state.store.revision()).await?;
        }
        match attempt.run(entry.revision).await {
            Ok(Some(updated)) => return Ok(updated),
            Ok(None) => {}
            Err(_) if !is_newest => {}
            Err(status) => return Err(status),
        }
    }
    Err(Status::stale(&resource.group_resource(), name))
}

/// The object does not exist: PUT and apply may create it.
async fn create_instead(
    state: &State,
    call: &Call,
    resource: &Resource,
    target: Target<'_>,
    source: &Source,
    options: &WriteOptions,
) -> Result<Updated, Status> {
    let gr = resource.group_resource();
    let missing = || Status::not_found(&gr, &call.info.name);
    let (object, unconditional) = match (target, source) {
        (Target::Main, Source::Put(object)) if resource.kind.strategy.allow_create_on_update => (object.clone(), false),
        (Target::Main, Source::Patch(patch)) if patch.creates() => {
            let object = patch.create(call, &resource.kind, options)?;
            (object, true)
        }
        _ => return Err(missing()),
    };
    if unconditional && !meta::uid(&object).is_empty() {
        let uid = meta::uid(&object);
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(&gr, &call.info.name, why));
    }
    if !unconditional && !meta::uid(&object).is_empty() {
        return Err(other_uid(resource, call, &object, &Value::Null));
    }
    state.authorize_create(call, resource).await?;
    let mut object = object;
    meta::remove(&mut object, "resourceVersion");
    let written = insert(state, call, resource, object, options).await?;
    Ok(Updated {
        object: written.object,
        json: written.json,
        created: true,
    })
}

/// The store's words for an object that is not the one that was meant (`storage/interfaces.go`).
fn other_uid(resource: &Resource, call: &Call, new: &Value, old: &Value) -> Status {
    let name = &call.info.name;
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {}, UID in object meta: {}",
        resource.key(&call.info.namespace, name),
        meta::uid(new),
        meta::uid(old)
    );
    Status::conflict(&resource.group_resource(), name, why)
}

struct Attempt<'a> {
    state: &'a State,
    call: &'a Call,
    resource: &'a Resource,
    target: Target<'a>,
    source: &'a Source,
    options: &'a WriteOptions,
    old: &'a Value,
    /// Whether every write that was acknowledged before is in `old`.
    is_newest: bool,
}

impl Attempt<'_> {
    /// What was stored, or `None` if it has to be tried again.
    async fn run(&self, revision: i64) -> Result<Option<Updated>, Status> {
        let (call, resource, kind) = (self.call, self.resource, &self.resource.kind);
        let mut new = self.make_new()?;
        let trace = Trace::default();
        let view = match self.target {
            Target::Via(view) => Some(view),
            _ => None,
        };
        let shown = view.map(|view| (view.show)(self.old));
        let attributes = Attributes {
            old: Some(shown.as_ref().unwrap_or(self.old)),
            options: Options::Write(self.options),
            ..Attributes::new(Operation::Update, resource, call, &trace).subresource(self.target.subresource())
        };
        // What the server does on its own behalf was admitted as what it was asked for.
        let admitted = !matches!(self.target, Target::Inner(_));
        let admission = &self.state.admission;
        match view {
            Some(view) => {
                let mut shown = (view.show)(&new);
                admission.mutate(self.state, &attributes, &mut shown).await?;
                (view.take)(&mut new, &shown);
            }
            None if admitted => admission.mutate(self.state, &attributes, &mut new).await?,
            None => {}
        }
        let repeated = metadata::dedup_owner_references(&mut new);
        call.warnings.extend(metadata::dedup_warning(&repeated, true));
        codec::complete(kind, &mut new);
        self.prepare_and_validate(&mut new)?;
        if admitted {
            let shown = view.map(|view| (view.show)(&new));
            let object = shown.as_ref().unwrap_or(&new);
            admission.validate(self.state, &attributes, Some(object)).await?;
        }
        patch::ignore_timestamps(&mut new, self.old);
        let gone = deletes(kind, &new, self.old);
        let unchanged = !gone && new == *self.old;
        if unchanged && !self.is_newest {
            return Ok(None);
        }
        if self.options.dry_run || unchanged && !self.is_stored_elsewise().await? {
            return Ok(Some(Updated {
                object: new,
                json: None,
                created: false,
            }));
        }
        let write = Write {
            resource,
            key: resource.key(&call.info.namespace, &call.info.name),
            expect: Expect::Revision(revision),
            object: (!gone).then_some(&new),
            old: Some(self.old),
        };
        match write.run(&self.state.store).await? {
            Outcome::Done(revision, stored) => {
                meta::set_resource_version(&mut new, &revision.to_string());
                Ok(Some(Updated {
                    json: served(resource, stored, revision),
                    object: new,
                    created: false,
                }))
            }
            Outcome::Conflict(_) | Outcome::ClaimTaken => Ok(None),
        }
    }

    /// Whether a write that changes nothing moves the object to the version that is stored now: that is how custom
    /// resources are migrated.
    async fn is_stored_elsewise(&self) -> Result<bool, Status> {
        let kind = &self.resource.kind;
        if kind
            .custom
            .as_ref()
            .is_none_or(|custom| custom.definition.versions.len() < 2)
        {
            return Ok(false);
        }
        let key = self.resource.key(&self.call.info.namespace, &self.call.info.name);
        let stored = self.state.store.get(&key).await.map_err(store_status)?;
        let stored = stored.and_then(|kv| serde_json::from_slice::<Value>(&kv.value).ok());
        Ok(stored.is_some_and(|object| meta::api_version(&object) != kind.storage.gvk.api_version()))
    }

    /// The object as the client wants it, with its preconditions checked.
    fn make_new(&self) -> Result<Value, Status> {
        let (kind, old) = (&self.resource.kind, self.old);
        let mut new = match self.source {
            Source::Put(object) => object.clone(),
            Source::Patch(patch) => patch.apply(self.call, kind, self.target, old, self.options)?,
            Source::Change(change) => {
                let mut new = old.clone();
                change(&mut new)?;
                new
            }
        };
        self.check_preconditions(&mut new)?;
        match self.target {
            Target::Main | Target::Via(_) if kind.has_status() => {
                put_back(&mut new, old, "status");
            }
            Target::Part(_, part) => {
                prepare_part(part, &self.call.context(self.options.dry_run), &mut new, old);
            }
            _ => {}
        }
        let applied = matches!(self.source, Source::Patch(patch) if patch.creates());
        // What changes through a Scale brings the owners that the Scale's writer makes.
        if !applied && !matches!(self.target, Target::Inner(_) | Target::Via(_)) {
            let subresource = self.target.subresource();
            patch::manage(self.call, kind, subresource, Some(old), &mut new, self.options);
        }
        Ok(new)
    }

    fn check_preconditions(&self, new: &mut Value) -> Result<(), Status> {
        let (name, old) = (&self.call.info.name, self.old);
        let is_put = matches!(self.source, Source::Put(_));
        if is_put && !meta::uid(new).is_empty() && meta::uid(new) != meta::uid(old) {
            return Err(other_uid(self.resource, self.call, new, old));
        }
        let gr = self.resource.group_resource();
        let (wanted, actual) = (meta::resource_version(new), meta::resource_version(old));
        if wanted.is_empty() || wanted == "0" {
            let strategy = &self.resource.kind.strategy;
            if strategy.allow_unconditional_update == AllowUnconditionalUpdate::No && is_put {
                let path = api::field::Path::new("metadata").child("resourceVersion");
                let detail = "must be specified for an update";
                let errors = vec![api::field::Error::invalid(&path, 0, detail)];
                return Err(Status::invalid(&gr.group, &gr.resource, name, errors));
            }
            let actual = actual.to_owned();
            meta::set_resource_version(new, &actual);
        } else if wanted.parse::<u64>().is_err() {
            // An error without a reason (`storage/api_object_versioner.go`).
            let wanted = api::field::go_quote(wanted);
            let message = format!("strconv.ParseUint: parsing {wanted}: invalid syntax");
            return Err(Status::failure(500, "", message));
        } else if wanted != actual {
            return Err(Status::stale(&gr, name));
        }
        Ok(())
    }

    /// `BeforeUpdate`: what may not change is put back, the rest is validated.
    fn prepare_and_validate(&self, new: &mut Value) -> Result<(), Status> {
        let (kind, old) = (&self.resource.kind, self.old);
        let context = self.call.context(self.options.dry_run);
        metadata::ensure_namespace(kind, new, &self.call.info.namespace)?;
        meta::set_generation(new, meta::generation(old));
        match self.target {
            Target::Inner(_) => {}
            Target::Main | Target::Via(_) => {
                if kind.has_status() {
                    put_back(new, old, "status");
                }
                if let Some(prepare) = &kind.strategy.prepare_update {
                    prepare(&context, new, old);
                }
                if let Some(allocation) = &kind.allocation {
                    let mut picker = self.state.pools.picker(self.resource, Some(old));
                    picker.dry_run = self.options.dry_run;
                    let errors = (allocation.fill)(new, Some(old), &mut picker);
                    // Upstream allocates before it checks anything, and stops there.
                    if !errors.is_empty() {
                        return Err(invalid(kind, new, errors));
                    }
                }
            }
            Target::Part(_, part) => prepare_part(part, &context, new, old),
        }
        codec::normalize(kind, new);
        keep_metadata(new, old);
        // A status write never moves it, whatever else the kind counts.
        let is_status = matches!(self.target, Target::Part("status", _));
        if !is_status && generation_moves(kind, new, old) {
            meta::set_generation(new, meta::generation(old) + 1);
        }
        let mut errors = metadata::validate_update(kind, new, old);
        for error in self.validate(new) {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        if !errors.is_empty() {
            return Err(invalid(kind, new, errors));
        }
        if let (Target::Main, Some(warnings)) = (self.target, &kind.strategy.warnings) {
            self.call.warnings.extend(warnings(new, Some(old)));
        }
        if let Some(canonicalize) = &kind.strategy.canonicalize {
            canonicalize(new);
        }
        Ok(())
    }

    fn validate(&self, new: &Value) -> Vec<api::field::Error> {
        let strategy = &self.resource.kind.strategy;
        match self.target {
            Target::Part(_, part) => part.validate.as_ref().map(|f| f(new, self.old)).unwrap_or_default(),
            Target::Inner(_) => Vec::new(),
            Target::Main | Target::Via(_) => match (&strategy.validate_update, &strategy.validate) {
                (Some(validate), _) => validate(new, self.old),
                (None, Some(validate)) => validate(new),
                (None, None) => Vec::new(),
            },
        }
    }
}

/// Takes a top-level field from the old object.
pub fn put_back(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else { return };
    // Mostly it is there already.
    if map.get(field) == old.get(field) {
        return;
    }
    match old.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

/// A part update keeps everything but the part and metadata.
pub fn prepare_part(part: &Part, context: &crate::kind::Context<'_>, new: &mut Value, old: &Value) {
    if let Some(prepare) = &part.prepare {
        prepare(context, new, old);
        return;
    }
    let fields: Vec<String> = [new, old]
        .iter()
        .filter_map(|object| object.as_object())
        .flat_map(|map| map.keys().cloned())
        .filter(|field| field != "metadata" && field != "status")
        .collect();
    for field in fields {
        put_back(new, old, &field);
    }
    let owners = value_at(old, "metadata.ownerReferences").cloned();
    if let Some(map) = meta::metadata_mut(new) {
        match owners {
            Some(owners) => drop(map.insert("ownerReferences".to_owned(), owners)),
            None => drop(map.remove("ownerReferences")),
        }
    }
}

/// Metadata that only the server writes.
pub fn keep_metadata(new: &mut Value, old: &Value) {
    if meta::uid(new).is_empty() {
        meta::set_uid(new, meta::uid(old));
    }
    let keep = |new: &mut Value, field: &str| {
        let value = value_at(old, "metadata").and_then(|m| m.get(field)).cloned();
        if let (Some(value), Some(map)) = (value, meta::metadata_mut(new)) {
            map.insert(field.to_owned(), value);
        }
    };
    keep(new, "creationTimestamp");
    if meta::is_deleting(old) {
        keep(new, "deletionTimestamp");
    }
    if meta::deletion_grace_period_seconds(new).is_none() {
        keep(new, "deletionGracePeriodSeconds");
    }
    meta::remove(new, "selfLink");
}

/// Whether an update moves the generation.
pub fn generation_moves(kind: &Kind, new: &Value, old: &Value) -> bool {
    match &kind.strategy.generation {
        Generation::Unused => false,
        Generation::When(changed) => changed(new, old),
        Generation::Spec => {
            let others = ["apiVersion", "kind", "metadata", "status"];
            fn fields<'v>(object: &'v Value, others: &[&str]) -> impl Iterator<Item = (&'v String, &'v Value)> {
                let map = object.as_object().into_iter().flatten();
                map.filter(|(name, _)| !others.contains(&name.as_str()))
            }
            !fields(new, &others).eq(fields(old, &others))
        }
    }
}

/// Whether this update takes away the last thing that kept a deleted object
/// (`ShouldDeleteDuringUpdate`).
pub fn deletes(kind: &Kind, new: &Value, old: &Value) -> bool {
    meta::finalizers(new).is_empty()
        && meta::is_deleting(old)
        && meta::deletion_grace_period_seconds(old).unwrap_or(0) == 0
        && !kind.strategy.deletion.held.as_ref().is_some_and(|held| held(new))
}
