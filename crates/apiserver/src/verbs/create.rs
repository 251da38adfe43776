//! POST: a new object (upstream `endpoints/handlers/create.go`, `registry/rest/create.go`).

use api::{Status, Value, meta};
use bytes::Bytes;

use super::metadata;
use super::options::{FieldValidation, WriteOptions, WriteVerb};
use super::output;
use super::persist::{Expect, Outcome, Write};
use crate::admission::{Attributes, Operation, Options, Trace};
use crate::cache::stamp_resource_version;
use crate::call::Call;
use crate::codec;
use crate::kind::{Generation, Kind};
use crate::negotiate;
use crate::patch;
use crate::resource::{Resource, is_cached_version};
use crate::respond::Answer;
use crate::state::State;

/// How often a generated name that is taken is replaced by another (`maxNameGenerationCreateAttempts`).
const NAME_ATTEMPTS: usize = 8;
/// How often values that were taken in between are picked anew.
const CLAIM_ATTEMPTS: usize = 16;

/// Handles the request.
pub(crate) async fn handle(state: &State, call: &Call, resource: &Resource, body: Bytes) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    let encoding = negotiate::input(&call.headers)?;
    let options = WriteOptions::read(call, WriteVerb::Create)?;
    let kind = &resource.kind;
    let decoded = codec::decode_kind(kind, encoding, &body)?;
    report_strict(call, options.field_validation, &kind.gvk, decoded.strict)?;
    let mut object = decoded.value;
    codec::complete(kind, &mut object);
    metadata::wipe_system_fields(&mut object);
    let written = insert(state, call, resource, object, &options).await?;
    output::written(call, resource, output, 201, &written.object, written.json.as_ref())
}

/// Refuses unknown fields, warns of them, or neither.
///
/// # Errors
/// 400 in strict validation.
pub(crate) fn report_strict(
    call: &Call,
    validation: FieldValidation,
    gvk: &api::Gvk,
    strict: Vec<String>,
) -> Result<(), Status> {
    if strict.is_empty() {
        return Ok(());
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => call.warnings.extend(strict.iter().flat_map(|text| yaml_warnings(text))),
        FieldValidation::Strict => {
            return Err(Status::bad_request(format!(
                "{} in version {} cannot be handled as a {}: strict decoding error: {}",
                gvk.kind,
                api::field::go_quote(&gvk.version),
                gvk.kind,
                strict.join(", ")
            )));
        }
    }
    Ok(())
}

/// What YAML's reader says of several lines is a warning each (`parseYAMLWarnings`).
fn yaml_warnings(text: &str) -> Vec<String> {
    let said = [
        "yaml: unmarshal errors:\n",
        "error converting YAML to JSON: yaml: unmarshal errors:\n",
    ];
    match said.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        Some(lines) => lines.lines().map(|line| line.trim().to_owned()).collect(),
        None => vec![text.to_owned()],
    }
}

/// What became of a new object.
pub(crate) struct Written {
    /// As it is stored; as it would be, if it was a dry run.
    pub object: Value,
    /// Its JSON, where it is served as it is stored.
    pub json: Option<Bytes>,
}

/// The JSON of what was stored at a revision, where it is served as it is stored.
pub(crate) fn served(resource: &Resource, stored: Option<Bytes>, revision: i64) -> Option<Bytes> {
    let same = resource.kind.custom.is_none() && is_cached_version(&resource.kind);
    stored
        .filter(|_| same)
        .map(|stored| stamp_resource_version(&stored, revision))
}

/// Admits, completes, validates and stores a new object; answers it as it is stored.
///
/// # Errors
/// Whatever keeps it from being stored.
pub(crate) async fn insert(
    state: &State,
    call: &Call,
    resource: &Resource,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Written, Status> {
    let kind = &resource.kind;
    metadata::ensure_namespace(kind, &mut object, &call.info.namespace)?;
    let repeated = metadata::dedup_owner_references(&mut object);
    call.warnings.extend(metadata::dedup_warning(&repeated, false));
    if kind.clears_status()
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    // What an apply creates brings its managed fields.
    if !options.applied {
        patch::manage(call, kind, "", None, &mut object, options);
    }
    let name = meta::name(&object).to_owned();
    let is_namespace = kind.gvk.group.is_empty() && kind.plural == "namespaces";
    let trace = Trace::default();
    let attributes = Attributes {
        namespace: if is_namespace { &name } else { &call.info.namespace },
        name: &name,
        options: Options::Write(options),
        ..Attributes::new(Operation::Create, resource, call, &trace)
    };
    state.admission.mutate(state, &attributes, &mut object).await?;
    let repeated = metadata::dedup_owner_references(&mut object);
    call.warnings.extend(metadata::dedup_warning(&repeated, true));
    codec::complete(kind, &mut object);
    insert_admitted(state, &attributes, object, options).await
}

async fn insert_admitted(
    state: &State,
    attributes: &Attributes<'_>,
    object: Value,
    options: &WriteOptions,
) -> Result<Written, Status> {
    let (call, resource) = (attributes.call, attributes.resource);
    let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
    // Only what may be tried again is kept as it came.
    let kept = (generated || resource.kind.allocation.is_some()).then(|| object.clone());
    let mut next = Some(object);
    let mut name_attempts = 0;
    let mut claim_attempts = 0;
    loop {
        if resource.kind.allocation.is_some() {
            // A value that was just released must be seen as free.
            state.pools.catch_up(state.store.revision()).await?;
        }
        let Some(mut object) = next.take().or_else(|| kept.clone()) else {
            return Err(Status::internal("a create that cannot be repeated was to be repeated"));
        };
        metadata::fill_system_fields(&mut object, call.now);
        if generated {
            let name = metadata::generate_name(meta::generate_name(&object));
            meta::set_name(&mut object, &name);
        }
        prepare_and_validate(state, call, resource, &mut object, options)?;
        let name = meta::name(&object).to_owned();
        let attributes = Attributes {
            name: &name,
            ..attributes.clone()
        };
        state.admission.validate(state, &attributes, Some(&object)).await?;
        let key = resource.key(&call.info.namespace, &name);
        if options.dry_run {
            if let Some(found) = resource.latest(&call.info.namespace, &name).await? {
                return Err(exists(resource, &name, generated, &resource.value(&found)));
            }
            return Ok(Written { object, json: None });
        }
        // Looked at by the store only, as upstream's: after all checks, and not in a dry run.
        if meta::resource_version(&object)
            .parse::<u64>()
            .is_ok_and(|version| version != 0)
        {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Status::failure(500, "", message));
        }
        let write = Write {
            resource,
            key,
            expect: Expect::Absent,
            object: Some(&object),
            old: None,
        };
        match write.run(&state.store).await? {
            Outcome::Done(revision, stored) => {
                meta::set_resource_version(&mut object, &revision.to_string());
                let json = served(resource, stored, revision);
                return Ok(Written { object, json });
            }
            Outcome::Conflict(found) => {
                name_attempts += 1;
                if generated && name_attempts < NAME_ATTEMPTS {
                    continue;
                }
                let found = found.and_then(|kv| serde_json::from_slice(&kv.value).ok());
                return Err(exists(resource, &name, generated, &found.unwrap_or_default()));
            }
            Outcome::ClaimTaken => {
                claim_attempts += 1;
                if claim_attempts >= CLAIM_ATTEMPTS {
                    let gr = resource.group_resource();
                    return Err(Status::server_timeout(&gr, "create", 1));
                }
            }
        }
    }
}

fn exists(resource: &Resource, name: &str, generated: bool, found: &Value) -> Status {
    let gr = resource.group_resource();
    let mut status = if generated {
        Status::generate_name_conflict(&gr, name)
    } else {
        Status::already_exists(&gr, name)
    };
    if meta::is_deleting(found) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// `BeforeCreate`: prepare, allocate, validate, warn, canonicalize.
fn prepare_and_validate(
    state: &State,
    call: &Call,
    resource: &Resource,
    object: &mut Value,
    options: &WriteOptions,
) -> Result<(), Status> {
    let kind = &resource.kind;
    if kind.clears_status()
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    // Whoever does not count keeps what the client counted.
    if !matches!(kind.strategy.generation, Generation::Unused) {
        meta::set_generation(object, 1);
    }
    if let Some(prepare) = &kind.strategy.prepare_create {
        prepare(&call.context(options.dry_run), object);
    }
    if let Some(allocation) = &kind.allocation {
        let mut picker = state.pools.picker(resource, None);
        picker.dry_run = options.dry_run;
        let errors = (allocation.fill)(object, None, &mut picker);
        // Upstream allocates before it checks anything, and stops there.
        if !errors.is_empty() {
            return Err(invalid(kind, object, errors));
        }
    }
    codec::normalize(kind, object);
    let errors = validate(kind, object);
    if !errors.is_empty() {
        return Err(invalid(kind, object, errors));
    }
    if let Some(warnings) = &kind.strategy.warnings {
        call.warnings.extend(warnings(object, None));
    }
    if let Some(canonicalize) = &kind.strategy.canonicalize {
        canonicalize(object);
    }
    Ok(())
}

/// Errors of metadata first, then those of the kind, as nearly every kind of upstream's has them.
fn validate(kind: &Kind, object: &Value) -> Vec<api::field::Error> {
    let mut errors = metadata::validate(kind, object);
    for error in kind.strategy.validate.as_ref().map(|f| f(object)).unwrap_or_default() {
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
    if errors.is_empty() {
        errors = metadata::validate_path(kind, object);
    }
    errors
}

/// 422 for an object of this kind.
pub(crate) fn invalid(kind: &Kind, object: &Value, errors: Vec<api::field::Error>) -> Status {
    // Upstream names the kind that it stores: an event is the core group's, whoever's version is asked for.
    let gvk = &kind.storage.gvk;
    Status::invalid(&gvk.group, &gvk.kind, meta::name(object), errors)
}
