//! DELETE of an object or a collection (upstream `registry/rest/delete.go`,
//! `registry/generic/registry/store.go` Delete).

use std::sync::Arc;

use api::{Details, Status, Value, meta};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};

use super::list::Listing;
use super::options::{DeleteOptions, Propagation};
use super::output;
use super::persist::{Expect, Outcome, Write};
use crate::admission::{Attributes, Operation, Options, Trace};
use crate::cache::Entry;
use crate::call::Call;
use crate::codec;
use crate::kind::Kind;
use crate::resource::Resource;
use crate::respond::{self, Answer};
use crate::state::State;

const ATTEMPTS: usize = 64;

/// A finished delete.
pub(crate) struct Deleted {
    /// The object as it was last, or as it is marked now.
    pub object: Value,
    /// Whether it is gone.
    pub gone: bool,
}

/// Whether a delete still has to pass admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It passes it as a delete.
    Here,
    /// What it is part of has passed (an eviction).
    Already,
}

/// Handles DELETE of one object.
pub(crate) async fn handle(state: &State, call: &Call, resource: &Resource, body: Bytes) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    let options = DeleteOptions::read(call, &body)?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let deleted = delete(state, call, resource, namespace, name, &options, Admitted::Here).await?;
    let accepted = !deleted.gone && options.orphan_dependents == Some(false);
    let code = if accepted { 202 } else { 200 };
    if !deleted.gone || resource.kind.strategy.deletion.returns_object {
        return output::object(call, resource, output, code, &deleted.object);
    }
    let mut status = Status::success(Some(Details {
        name: name.clone(),
        group: resource.kind.gvk.group.clone(),
        kind: resource.kind.plural.clone(),
        uid: meta::uid(&deleted.object).to_owned(),
        ..Details::default()
    }));
    status.code = 0;
    Ok(respond::status(&status, call.plain_output().unwrap_or(output)))
}

/// So many deletes of a collection are under way at once.
const SIDE_BY_SIDE: usize = 16;

/// Handles DELETE of a collection: every object of the selection, several at a time; what is gone
/// already is no error.
pub(crate) async fn handle_collection(
    state: &State,
    call: &Call,
    resource: &Arc<Resource>,
    body: Bytes,
) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    let listing = Listing::read(call, resource)?;
    let options = DeleteOptions::read(call, &body)?;
    let page = listing.fetch(resource).await?;
    delete_all(state, call, resource, &page.entries, &options).await?;
    output::list(call, resource, output, &listing, page)
}

/// Deletes these objects, several at a time. The boxed future's lifetime helps the compiler to see that
/// it is `Send`.
fn delete_all<'a>(
    state: &'a State,
    call: &'a Call,
    resource: &'a Resource,
    entries: &'a [Arc<Entry>],
    options: &'a DeleteOptions,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let mut waiting = entries.iter();
        let mut under_way: FuturesUnordered<BoxFuture<'a, Result<Deleted, Status>>> = FuturesUnordered::new();
        loop {
            for entry in waiting.by_ref().take(SIDE_BY_SIDE - under_way.len()) {
                let (namespace, name) = (entry.namespace(), entry.name());
                let deleting = delete(state, call, resource, namespace, name, options, Admitted::Here);
                under_way.push(Box::pin(deleting));
            }
            match under_way.next().await {
                None => return Ok(()),
                Some(Err(status)) if !status.is_not_found() => return Err(status),
                Some(_) => {}
            }
        }
    })
}

/// Deletes one object, or marks it for deletion.
///
/// # Errors
/// 404 if it is not there, 409 if a precondition fails, and whatever admission says.
pub(crate) async fn delete(
    state: &State,
    call: &Call,
    resource: &Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    admitted: Admitted,
) -> Result<Deleted, Status> {
    let gr = resource.group_resource();
    for _ in 0..ATTEMPTS {
        let Some(entry) = resource.latest(namespace, name).await? else {
            return Err(Status::not_found(&gr, name));
        };
        let mut old = resource.value(&entry);
        codec::complete_stored(&resource.kind, &mut old);
        check_preconditions(resource, &old, options)?;
        if admitted == Admitted::Here {
            let trace = Trace::default();
            let is_namespace = resource.kind.gvk.group.is_empty() && resource.kind.plural == "namespaces";
            let attributes = Attributes {
                namespace: if is_namespace { name } else { namespace },
                name,
                old: Some(&old),
                options: Options::Delete(options),
                ..Attributes::new(Operation::Delete, resource, call, &trace)
            };
            state.admission.mutate(state, &attributes, &mut Value::Null).await?;
            state.admission.validate(state, &attributes, None).await?;
        }
        let decision = decide(&resource.kind, &old, options, call.now);
        let (object, gone) = match decision {
            Decision::Pending => {
                return Ok(Deleted {
                    object: old,
                    gone: false,
                });
            }
            Decision::Remove => (old.clone(), true),
            Decision::Mark(marked) => (marked, false),
        };
        if options.dry_run || (!gone && object == old) {
            return Ok(Deleted { object, gone });
        }
        let write = Write {
            resource,
            key: resource.key(namespace, name),
            expect: Expect::Revision(entry.revision),
            object: (!gone).then_some(&object),
            old: Some(&old),
        };
        if let Outcome::Done(revision, _) = write.run(&state.store).await? {
            let mut object = object;
            meta::set_resource_version(&mut object, &revision.to_string());
            return Ok(Deleted { object, gone });
        }
        if options.resource_version.is_some() {
            continue; // the precondition fails at the next look
        }
    }
    Err(Status::stale(&gr, name))
}

/// Deletes an object on the server's own behalf: without admission, as if asked without options. An
/// object that something holds on to is marked.
///
/// # Errors
/// The store's failure.
pub(crate) async fn remove(state: &State, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
    for _ in 0..ATTEMPTS {
        let Some(entry) = resource.latest(namespace, name).await? else {
            return Ok(());
        };
        let old = resource.value(&entry);
        let object = match decide(&resource.kind, &old, &DeleteOptions::default(), Timestamp::now()) {
            Decision::Pending => return Ok(()),
            Decision::Remove => None,
            Decision::Mark(marked) => Some(marked),
        };
        if object.as_ref() == Some(&old) {
            return Ok(());
        }
        let write = Write {
            resource,
            key: resource.key(namespace, name),
            expect: Expect::Revision(entry.revision),
            object: object.as_ref(),
            old: Some(&old),
        };
        if let Outcome::Done(..) = write.run(&state.store).await? {
            return Ok(());
        }
    }
    Err(Status::stale(&resource.group_resource(), name))
}

fn check_preconditions(resource: &Resource, object: &Value, options: &DeleteOptions) -> Result<(), Status> {
    // The kind stands where the resource should (`registry/rest/delete.go`).
    let gr = api::GroupResource::new(&*resource.kind.gvk.group, &*resource.kind.gvk.kind);
    let name = meta::name(object);
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(object)) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            meta::uid(object)
        );
        return Err(Status::conflict(&gr, name, why));
    }
    let actual = meta::resource_version(object);
    if let Some(version) = options.resource_version.as_deref().filter(|v| *v != actual) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({actual}). The object might have been modified"
        );
        return Err(Status::conflict(&gr, name, why));
    }
    Ok(())
}

/// What a delete does to an object.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// It is removed.
    Remove,
    /// It stays, changed like this.
    Mark(Value),
    /// It is already on its way; nothing changes.
    Pending,
}

/// The rules of graceful deletion, finalizers and propagation.
pub fn decide(kind: &Kind, old: &Value, options: &DeleteOptions, now: Timestamp) -> Decision {
    let deletion = &kind.strategy.deletion;
    let mut object = old.clone();
    let mut graceful = false;
    if let Some(grace) = &deletion.grace {
        if meta::is_deleting(old) {
            let current = meta::deletion_grace_period_seconds(old).unwrap_or(0).max(0);
            if current > 0 {
                match options.grace_period_seconds {
                    Some(asked) if asked < current => {
                        shorten(&mut object, current, asked);
                        graceful = asked > 0;
                    }
                    _ => return Decision::Pending,
                }
            }
        } else if let Some(seconds) = grace(old, options.grace_period_seconds).filter(|s| *s > 0) {
            mark(&mut object, now, seconds);
            if let Some(on_mark) = &deletion.on_mark {
                on_mark(&mut object);
            }
            graceful = true;
        }
    }
    let finalizers = gc_finalizers(kind, &object, options);
    meta::set_finalizers(&mut object, &finalizers);
    let held = deletion.held.as_ref().is_some_and(|held| held(&object));
    if graceful {
        return Decision::Mark(object);
    }
    if finalizers.is_empty() && !held {
        return Decision::Remove;
    }
    let first = !meta::is_deleting(old);
    mark_now(&mut object, now, held && deletion.grace.is_none());
    if first && let Some(on_mark) = &deletion.on_mark {
        on_mark(&mut object);
    }
    Decision::Mark(object)
}

/// Sets the deletion time and moves the generation, once.
fn mark(object: &mut Value, now: Timestamp, seconds: i64) {
    let at = now
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX);
    meta::set_deletion_timestamp(object, Some(at));
    meta::set_deletion_grace_period_seconds(object, Some(seconds));
    if meta::generation(object) > 0 {
        let next = meta::generation(object) + 1;
        meta::set_generation(object, next);
    }
}

/// Marks an object that only finalizers keep (`markAsDeleting`). Namespaces get no grace period.
fn mark_now(object: &mut Value, now: Timestamp, without_grace: bool) {
    if !meta::is_deleting(object) && meta::generation(object) > 0 {
        let next = meta::generation(object) + 1;
        meta::set_generation(object, next);
    }
    if meta::deletion_timestamp(object).is_none_or(|at| at > now) {
        meta::set_deletion_timestamp(object, Some(now));
    }
    if !without_grace {
        meta::set_deletion_grace_period_seconds(object, Some(0));
    }
}

/// A shorter grace period counts from when the deletion was asked for.
fn shorten(object: &mut Value, current: i64, asked: i64) {
    let end = meta::deletion_timestamp(object);
    let moved = end.and_then(|at| at.checked_add(SignedDuration::from_secs(asked - current)).ok());
    meta::set_deletion_timestamp(object, moved.or(end));
    meta::set_deletion_grace_period_seconds(object, Some(asked));
}

/// The finalizers with those of the garbage collector as the options want them.
fn gc_finalizers(kind: &Kind, object: &Value, options: &DeleteOptions) -> Vec<String> {
    let current: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    let deletion = &kind.strategy.deletion;
    if deletion.no_garbage_collection {
        return current;
    }
    let has = |name: &str| current.iter().any(|f| f == name);
    let policy = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) => Propagation::Orphan,
        (Some(false), _) => Propagation::Background,
        (None, Some(policy)) => policy,
        (None, None) if has(meta::FINALIZER_ORPHAN) => Propagation::Orphan,
        (None, None) if has(meta::FINALIZER_FOREGROUND) => Propagation::Foreground,
        (None, None) if deletion.orphan_by_default => Propagation::Orphan,
        (None, None) => Propagation::Background,
    };
    let mut kept: Vec<String> = current
        .iter()
        .filter(|f| *f != meta::FINALIZER_ORPHAN && *f != meta::FINALIZER_FOREGROUND)
        .cloned()
        .collect();
    match policy {
        Propagation::Orphan => kept.push(meta::FINALIZER_ORPHAN.to_owned()),
        Propagation::Foreground => kept.push(meta::FINALIZER_FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let same = kept.len() == current.len() && kept.iter().all(|f| current.contains(f));
    if same { current } else { kept }
}
