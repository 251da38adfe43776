//! `scale`: the replica counts of any kind as an `autoscaling/v1` Scale.

use std::sync::Arc;

use api::field::{Error, Path};
use api::{Gvk, Status, Value, labels, meta};
use serde_json::{Map, json};

use crate::body::Body;
use crate::call::Call;
use crate::codec;
use crate::kind::{ScalePaths, Verb, value_at};
use crate::patch::{Patch, PatchType};
use crate::resource::Resource;
use crate::respond::Answer;
use crate::server::read_body;
use crate::state::State;
use crate::verbs::options::{WriteOptions, WriteVerb};
use crate::verbs::update::{Source, Target, update};
use crate::verbs::{create, get};

fn gvk() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

/// Answers get, update and patch.
pub(super) async fn handle(
    state: &Arc<State>,
    call: &Call,
    resource: &Arc<Resource>,
    paths: &ScalePaths,
    verb: Verb,
    body: Body,
) -> Result<Answer, Status> {
    let current = || async {
        let entry = get::find(call, resource).await?;
        Ok::<_, Status>(scale_of(&resource.value(&entry), paths))
    };
    let (wanted, options) = match verb {
        Verb::Get => return super::answer(call, 200, &gvk(), current().await?),
        Verb::Update => {
            let options = WriteOptions::read(call, WriteVerb::Update)?;
            let body = read_body(body).await?;
            (super::decode(call, &gvk(), &body, &options)?, options)
        }
        Verb::Patch => {
            let patch_type = PatchType::read(&call.headers)?;
            let options = WriteOptions::read(call, WriteVerb::Patch)?;
            let body = read_body(body).await?;
            (patched(call, patch_type, &body, current().await?, &options)?, options)
        }
        _ => return Err(Status::method_not_allowed()),
    };
    check(call, &wanted)?;
    let count = value_at(&wanted, "spec.replicas").and_then(Value::as_i64).unwrap_or(0);
    let version = meta::resource_version(&wanted).to_owned();
    let uid = meta::uid(&wanted).to_owned();
    let path = paths.spec_replicas.clone();
    let gr = resource.group_resource();
    let name = call.info.name.clone();
    let change = move |object: &mut Value| {
        if !uid.is_empty() && uid != meta::uid(object) {
            let actual = meta::uid(object);
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}");
            return Err(Status::conflict(&gr, &name, why));
        }
        set_at(object, &path, count.into());
        if !version.is_empty() {
            meta::set_resource_version(object, &version);
        }
        Ok(())
    };
    let source = Source::Change(Arc::new(change));
    let updated = update(state, call, resource, Target::Via("scale"), &source, &options).await?;
    super::answer(call, 200, &gvk(), scale_of(&updated.object, paths))
}

fn patched(
    call: &Call,
    patch_type: PatchType,
    body: &[u8],
    current: Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let schema = schema::builtin();
    let root = schema.root(&gvk()).ok_or_else(|| Status::internal("no type Scale"))?;
    let ty = schema.get(root);
    let mut scale = current;
    gvk().stamp(&mut scale);
    match Patch::parse(patch_type, body)? {
        Patch::Json(patch) => {
            json_patch::patch(&mut scale, &patch).map_err(|error| Status::bad_request(error.to_string()))?
        }
        Patch::Merge(patch) => json_patch::merge(&mut scale, &patch),
        Patch::Strategic(patch) => {
            scale = schema::patch::strategic::apply(ty, &scale, &patch)
                .map_err(|error| Status::bad_request(error.to_string()))?;
        }
        // The fields of a Scale are owned through the object's own; an apply merges.
        Patch::Apply(body) => {
            let patch =
                schema::codec::decode_yaml(ty, &body).map_err(|error| Status::bad_request(error.to_string()))?;
            json_patch::merge(&mut scale, &patch.value);
        }
    }
    let decoded = schema::codec::decode_json(ty, &codec::to_json(&scale))
        .map_err(|error| Status::bad_request(error.to_string()))?;
    create::report_strict(call, options.field_validation, &gvk(), decoded.strict)?;
    Ok(decoded.value)
}

fn check(call: &Call, scale: &Value) -> Result<(), Status> {
    let name = meta::name(scale);
    if !name.is_empty() && name != call.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.info.name
        )));
    }
    let count = value_at(scale, "spec.replicas").and_then(Value::as_i64).unwrap_or(0);
    if count < 0 {
        let path = Path::new("spec").child("replicas");
        let errors = vec![Error::invalid(&path, count, "must be greater than or equal to 0")];
        return Err(Status::invalid("autoscaling", "Scale", name, errors));
    }
    Ok(())
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let count = |path: &str| value_at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|m| m.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut scale = json!({
        "metadata": metadata,
        "spec": {"replicas": count(&paths.spec_replicas)},
        "status": {"replicas": count(&paths.status_replicas)},
    });
    let selector = paths.selector.as_deref().and_then(|path| value_at(object, path));
    let text = selector.map(selector_text).unwrap_or_default();
    if !text.is_empty() {
        scale["status"]["selector"] = text.into();
    }
    scale
}

/// A selector in its string form, whatever form the kind keeps it in.
fn selector_text(selector: &Value) -> String {
    let is_label_selector = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    match selector {
        Value::String(text) => text.clone(),
        Value::Object(_) if is_label_selector => labels::Selector::from_label_selector(Some(selector))
            .map(|s| s.to_string())
            .unwrap_or_default(),
        Value::Object(map) => labels::Selector::from_json_map(map).to_string(),
        _ => String::new(),
    }
}

/// Writes at a dotted path, making objects on the way.
fn set_at(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for step in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[step];
    }
    *place = value;
}
