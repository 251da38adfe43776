//! PATCH bodies, and the one place where field ownership (`metadata.managedFields`) is kept.

use std::collections::BTreeMap;

use api::{Status, Value, meta};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use schema::managed;
use schema::patch::PatchError;

use crate::call::Call;
use crate::codec;
use crate::kind::Kind;
use crate::verbs::create::report_strict;
use crate::verbs::metadata;
use crate::verbs::options::{FieldValidation, WriteOptions};
use crate::verbs::update::Target;

/// The media types of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

static TYPES: [(&str, PatchType); 4] = [
    ("application/json-patch+json", PatchType::Json),
    ("application/merge-patch+json", PatchType::Merge),
    ("application/strategic-merge-patch+json", PatchType::Strategic),
    ("application/apply-patch+yaml", PatchType::Apply),
];

/// The most operations of a JSON patch.
const MOST_OPERATIONS: usize = 10_000;

impl PatchType {
    /// Reads the `Content-Type`: custom resources have no strategic merge. A patch in CBOR is none of
    /// them, as upstream's `CBORServingAndStorage` is off by default.
    ///
    /// # Errors
    /// 415 if it is none that the kind takes.
    pub fn read(headers: &HeaderMap, kind: &Kind) -> Result<PatchType, Status> {
        let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let media = header.split(';').next().unwrap_or("").trim();
        let taken = |ty: PatchType| kind.custom.is_none() || ty != PatchType::Strategic;
        let offered = || TYPES.iter().filter(|(_, ty)| taken(*ty));
        let found = offered().find(|(name, _)| *name == media);
        found.map(|(_, ty)| *ty).ok_or_else(|| {
            let names: Vec<&str> = offered().map(|(name, _)| *name).collect();
            Status::unsupported_media_type(&names)
        })
    }
}

/// A parsed patch.
pub(crate) enum Patch {
    Json(json_patch::Patch),
    /// With the fields that it has twice.
    Merge(Value, Vec<String>),
    /// With the fields that it has twice.
    Strategic(Value, Vec<String>),
    Apply(Vec<u8>),
}

impl Patch {
    /// Parses the body.
    ///
    /// # Errors
    /// 400 if it is no patch, 413 if it is too long.
    pub fn parse(kind: PatchType, body: &[u8]) -> Result<Patch, Status> {
        Ok(match kind {
            PatchType::Json => {
                let patch = json_patch(body)?;
                if patch.0.len() > MOST_OPERATIONS {
                    return Err(Status::request_entity_too_large(format!(
                        "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
                        patch.0.len()
                    )));
                }
                Patch::Json(patch)
            }
            PatchType::Merge => {
                let (value, repeated) = tree(body)?;
                if !value.is_object() {
                    return Err(Status::bad_request("Invalid JSON Patch"));
                }
                Patch::Merge(value, repeated)
            }
            PatchType::Strategic => {
                let (value, repeated) = tree(body)?;
                Patch::Strategic(value, repeated)
            }
            PatchType::Apply => Patch::Apply(body.to_vec()),
        })
    }

    /// Whether it creates what does not exist.
    pub fn creates(&self) -> bool {
        matches!(self, Patch::Apply(_))
    }

    /// The patched object, in the type's shape and with defaults.
    ///
    /// # Errors
    /// 400, 409 or 422 if the patch does not fit the object.
    pub fn apply(
        &self,
        call: &Call,
        kind: &Kind,
        target: Target<'_>,
        old: &Value,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        if let Patch::Apply(body) = self {
            return server_side_apply(call, kind, target, Some(old), body, options);
        }
        let quiet = match self {
            Patch::Merge(_, repeated) | Patch::Strategic(_, repeated) => repeated.is_empty(),
            _ => true,
        };
        let mut patched = self.patched(kind, old)?;
        let mut new =
            if quiet && other_kind(kind, &patched).is_none() && codec::reshape_changes(kind, old, &mut patched) {
                patched
            } else {
                self.reshaped(call, kind, old, options)?
            };
        let name = meta::name(&new);
        if !name.is_empty() && name != call.info.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.info.name
            )));
        }
        kind.gvk.stamp(&mut new);
        codec::complete(kind, &mut new);
        Ok(new)
    }

    /// The patched object as the patch leaves it.
    fn patched(&self, kind: &Kind, old: &Value) -> Result<Value, Status> {
        match self {
            Patch::Json(patch) => {
                let mut patched = old.clone();
                json_patch::patch(&mut patched, patch).map_err(|error| {
                    tracing::debug!(%error, "a JSON patch does not fit its object");
                    does_not_fit()
                })?;
                Ok(patched)
            }
            Patch::Merge(patch, _) => {
                let mut patched = old.clone();
                json_patch::merge(&mut patched, patch);
                Ok(patched)
            }
            Patch::Strategic(patch, _) => strategic(kind, old, patch),
            Patch::Apply(_) => Err(Status::internal("an apply configuration is no patch of a tree")),
        }
    }

    /// The patched object in the type's shape, with all that there is to say about it.
    fn reshaped(&self, call: &Call, kind: &Kind, old: &Value, options: &WriteOptions) -> Result<Value, Status> {
        let patched = self.patched(kind, old)?;
        let refused = |error: String| {
            let path = api::field::Path::new("patch");
            // Of a strategic patch only the patch is named, as Go prints maps; else the result
            // (`endpoints/handlers/patch.go`).
            let value = match self {
                Patch::Strategic(patch, _) => go_value(patch),
                _ => String::from_utf8_lossy(&codec::to_object_json(&patched)).into_owned(),
            };
            Status::invalid("", "", "", vec![api::field::Error::invalid(&path, value, error)])
        };
        if let Some(other) = other_kind(kind, &patched) {
            return Err(refused(other));
        }
        let reshaped = codec::reshape(kind, &patched).map_err(|error| match self {
            Patch::Strategic(..) => refused(unrestored(&error).unwrap_or(error)),
            _ => refused(error),
        })?;
        let mut strict = match self {
            Patch::Merge(_, repeated) | Patch::Strategic(_, repeated) => repeated.clone(),
            _ => Vec::new(),
        };
        strict.extend(reshaped.strict);
        if !strict.is_empty() && options.field_validation == FieldValidation::Strict {
            return Err(refused(format!("strict decoding error: {}", strict.join(", "))));
        }
        report_strict(call, options.field_validation, &kind.gvk, strict)?;
        Ok(reshaped.value)
    }

    /// The object that an apply creates.
    ///
    /// # Errors
    /// As [`Patch::apply`].
    pub fn create(&self, call: &Call, kind: &Kind, options: &WriteOptions) -> Result<Value, Status> {
        match self {
            Patch::Apply(body) => server_side_apply(call, kind, Target::Main, None, body, options),
            _ => Err(Status::bad_request("only apply patches create objects")),
        }
    }
}

fn undecodable(error: &serde_json::Error) -> Status {
    let said = match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input".to_owned(),
        _ => error.to_string(),
    };
    Status::bad_request(format!("error decoding patch: {said}"))
}

/// The operations of a JSON patch; what no operation is does not fit any object.
fn json_patch(body: &[u8]) -> Result<json_patch::Patch, Status> {
    let value: Value = serde_json::from_slice(body).map_err(|error| undecodable(&error))?;
    let shape = match &value {
        Value::Array(_) => None,
        Value::Object(_) => Some("object"),
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("bool"),
        Value::Number(_) => Some("number"),
        Value::Null => None,
    };
    if let Some(shape) = shape {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {shape} into Go value of type []handlers.jsonPatchOp"
        )));
    }
    if value.is_null() {
        return Ok(json_patch::Patch(Vec::new()));
    }
    serde_json::from_value(value).map_err(|error| {
        tracing::debug!(%error, "a JSON patch has an operation that is none");
        does_not_fit()
    })
}

fn does_not_fit() -> Status {
    Status::failure(
        422,
        api::reason::INVALID,
        "the server rejected our request due to an error in our request",
    )
}

/// A patch of JSON, with a text for every field that it has twice.
fn tree(body: &[u8]) -> Result<(Value, Vec<String>), Status> {
    let value = serde_json::from_slice(body).map_err(|error| undecodable(&error))?;
    let repeated = schema::codec::repeated_fields(body).unwrap_or_default();
    Ok((value, repeated))
}

/// What upstream says when a patch makes an object of another kind.
fn other_kind(kind: &Kind, patched: &Value) -> Option<String> {
    let (version, named) = (meta::api_version(patched), meta::kind(patched));
    let changed =
        (!version.is_empty() && version != kind.gvk.api_version()) || (!named.is_empty() && named != kind.gvk.kind);
    (changed && kind.custom.is_none()).then(|| codec::foreign_kind(&kind.gvk, version, named))
}

/// What upstream says of a strategic patch instead of `json: cannot unmarshal …`: its result is not decoded from JSON
/// but restored from a tree (`runtime/converter.go`).
fn unrestored(error: &str) -> Option<String> {
    let (found, place) = error.strip_prefix("json: cannot unmarshal ")?.split_once(" into Go ")?;
    let (_, wanted) = place.rsplit_once(" of type ")?;
    let found = match found {
        "array" => "slice",
        "object" => "map",
        "number" => "int64",
        other => other,
    };
    Some(match wanted {
        _ if wanted.starts_with("map[") => format!("cannot restore map from {found}"),
        _ if wanted.starts_with("[]") => format!("cannot restore slice from {found}"),
        "string" if found == "int64" => "cannot convert int64 to string".to_owned(),
        "string" | "bool" | "int32" | "int64" => format!("unrecognized type: {wanted}"),
        // A text does for every type with a name but those of structs.
        _ if wanted.contains('.') && found == "string" => "cannot restore struct from: string".to_owned(),
        _ => return None,
    })
}

/// A tree as Go's `%+v` prints it: `map[spec:map[replicas:3]]`.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, v)| format!("{key}:{}", go_value(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// Strategic merge, by the type's merge keys.
fn strategic(kind: &Kind, original: &Value, patch: &Value) -> Result<Value, Status> {
    schema::patch::strategic::apply(kind.schema.get(kind.root), original, patch).map_err(|error| not_merged(&error))
}

/// Some faults of a patch have a code of their own, the others none (`interpretStrategicMergePatchError`).
fn not_merged(error: &PatchError) -> Status {
    match error {
        PatchError::NoMergeKey { element, key } => {
            let element = go_value(element);
            let message = format!("map: {element} does not contain declared merge key: {key}");
            Status::failure(500, "", message)
        }
        PatchError::UnknownDirective { directive, element } => {
            let (directive, element) = (go_value(directive), go_value(element));
            let message = format!("unknown patch type: {directive} in map: {element}");
            Status::failure(500, "", message)
        }
        other => Status::bad_request(other.to_string()),
    }
}

/// Server-side apply: `old` is absent when the object is created.
fn server_side_apply(
    call: &Call,
    kind: &Kind,
    target: Target<'_>,
    old: Option<&Value>,
    body: &[u8],
    options: &WriteOptions,
) -> Result<Value, Status> {
    applied(kind, body)?;
    let decoded = codec::decode_kind(kind, crate::negotiate::Encoding::Yaml, body)?;
    report_strict(call, options.field_validation, &kind.gvk, decoded.strict)?;
    let mut config = decoded.value;
    let name = meta::name(&config);
    if !name.is_empty() && name != call.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    meta::set_name(&mut config, &call.info.name);
    metadata::ensure_namespace(kind, &mut config, &call.info.namespace)?;
    let resets = resets(kind, target);
    let resets: Vec<&[&str]> = resets.iter().map(Vec::as_slice).collect();
    let force = options.managed_force();
    let now = api::time::format(call.now);
    let ty = kind.schema.get(kind.root);
    let writer = writer(kind, target.subresource(), options);
    let mut new =
        managed::apply(ty, old, &config, &writer, force, &resets, &now).map_err(|conflicts| conflict(&conflicts))?;
    kind.gvk.stamp(&mut new);
    codec::complete(kind, &mut new);
    Ok(new)
}

/// What an apply states, if it can be told apart into fields (`managedfields/internal/{versioncheck,structuredmerge}.go`:
/// most faults have no reason, for ownership is kept by field whatever the field validation).
fn applied(kind: &Kind, body: &[u8]) -> Result<Value, Status> {
    let decoded = schema::codec::yaml::to_value(body);
    let config = decoded.map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let config = config.value;
    let (version, named) = (meta::api_version(&config), meta::kind(&config));
    if version != kind.gvk.api_version() || named != kind.gvk.kind {
        let version = if version.contains('/') {
            version.to_owned()
        } else {
            format!("/{version}")
        };
        return Err(Status::bad_request(format!(
            "invalid object type: {version}, Kind={named}"
        )));
    }
    if config.pointer("/metadata/managedFields").is_some() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let faults = managed::faults(kind.schema.get(kind.root), &config);
    let said = match faults.as_slice() {
        [] => return Ok(config),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let message = format!(
        "failed to create typed patch object ({}/{}; {}/{}, Kind={named}): {said}",
        meta::namespace(&config),
        meta::name(&config),
        kind.gvk.group,
        kind.gvk.version
    );
    Err(Status::failure(500, "", message))
}

/// What an apply to this part does not own.
fn resets<'k>(kind: &'k Kind, target: Target<'k>) -> Vec<Vec<&'k str>> {
    let mut paths: Vec<&str> = match target {
        Target::Part(_, part) if part.resets.is_empty() => vec!["spec"],
        Target::Part(_, part) => part.resets.clone(),
        _ => kind.strategy.resets.clone(),
    };
    if !matches!(target, Target::Part(..)) && kind.has_status() {
        paths.push("status");
    }
    paths.into_iter().map(|path| path.split('.').collect()).collect()
}

fn writer(kind: &Kind, subresource: &str, options: &WriteOptions) -> managed::Writer {
    writer_as(&kind.gvk, subresource, options)
}

/// Who writes an object of that version.
pub(crate) fn writer_as(gvk: &api::Gvk, subresource: &str, options: &WriteOptions) -> managed::Writer {
    managed::Writer {
        manager: if options.field_manager.is_empty() {
            "unknown".to_owned()
        } else {
            options.field_manager.clone()
        },
        api_version: gvk.api_version(),
        subresource: subresource.to_owned(),
    }
}

/// 409 in upstream's words (`managedfields/internal/conflict.go`).
pub(crate) fn conflict(conflicts: &[managed::Conflict]) -> Status {
    let causes = conflicts.iter().map(|conflict| api::Cause {
        reason: "FieldManagerConflict".to_owned(),
        message: format!("conflict with {}", conflict.owner),
        field: conflict.field.clone(),
    });
    let message = match conflicts {
        [only] => {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                only.owner, only.field
            )
        }
        _ => {
            let mut by_owner: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for conflict in conflicts {
                by_owner.entry(&conflict.owner).or_default().push(&conflict.field);
            }
            let mut lines = Vec::new();
            for (owner, fields) in by_owner {
                lines.push(format!("conflicts with {owner}:"));
                lines.extend(fields.iter().map(|field| format!("- {field}")));
            }
            let count = conflicts.len();
            format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
        }
    };
    Status::apply_conflict(causes.collect(), message)
}

/// Brings `metadata.managedFields` of a written object up to date; for every write but apply.
pub(crate) fn manage(
    call: &Call,
    kind: &Kind,
    subresource: &str,
    live: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
) {
    let ty = kind.schema.get(kind.root);
    let now = api::time::format(call.now);
    managed::update(ty, live, new, &writer(kind, subresource, options), &now);
}

/// A write that changes nothing but the times in managedFields changes nothing
/// (`IgnoreManagedFieldsTimestampsTransformer`).
pub(crate) fn ignore_timestamps(new: &mut Value, old: &Value) {
    if new != old && differ_in_times_only(new, old) {
        *new = old.clone();
    }
}

fn differ_in_times_only(new: &Value, old: &Value) -> bool {
    same_members(new, old, "metadata", |new, old| {
        same_members(new, old, "managedFields", |new, old| {
            let (Some(new), Some(old)) = (new.as_array(), old.as_array()) else {
                return new == old;
            };
            let same = |(new, old)| same_members(new, old, "time", |_, _| true);
            new.len() == old.len() && new.iter().zip(old).all(same)
        })
    })
}

/// Whether two objects have equal members, but for one that is looked at in another way.
fn same_members(new: &Value, old: &Value, other: &str, same: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new == old;
    };
    let rest = |map: &'_ serde_json::Map<String, Value>| map.len() - usize::from(map.contains_key(other));
    let equal = |(name, value): (&String, &Value)| name == other || old.get(name) == Some(value);
    rest(new) == rest(old)
        && new.iter().all(equal)
        && match (new.get(other), old.get(other)) {
            (Some(new), Some(old)) => same(new, old),
            (new, old) => other == "time" || new == old,
        }
}
