//! `scale`: the replica counts of any kind as an `autoscaling/v1` Scale.

mod owners;

use std::sync::Arc;

use api::field::{Error, Path};
use api::{Gvk, Status, Value, labels, meta};
use schema::managed;
use serde_json::{Map, json};

use owners::Owners;

use crate::body::Body;
use crate::call::Call;
use crate::codec;
use crate::kind::{ScalePaths, Verb, value_at};
use crate::negotiate::Encoding;
use crate::patch::{self, Patch, PatchType};
use crate::resource::Resource;
use crate::respond::Answer;
use crate::server::read_body;
use crate::state::State;
use crate::verbs::options::{WriteOptions, WriteVerb};
use crate::verbs::update::{Source, Target, View, update};
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
    let (wanted, options) = match verb {
        Verb::Get => {
            let entry = get::find(call, resource).await?;
            let object = resource.value(&entry);
            if resource.kind.custom.is_some() && value_at(&object, &paths.spec_replicas).is_none() {
                let path = api::field::go_quote(&format!(".{}", paths.spec_replicas));
                return Err(Status::internal(format!(
                    "the spec replicas field {path} does not exist"
                )));
            }
            return super::answer(call, 200, &gvk(), scale_of(&object, paths));
        }
        Verb::Update => {
            let options = WriteOptions::read(call, WriteVerb::Update)?;
            let scale = super::decode(call, &gvk(), &read_body(body).await?, &options)?;
            check(call, &scale)?;
            (Wanted::Put(scale), options)
        }
        Verb::Patch => {
            let patch_type = PatchType::read(&call.headers, &resource.kind)?;
            let verb = match patch_type {
                PatchType::Apply => WriteVerb::Apply,
                _ => WriteVerb::Patch,
            };
            let options = WriteOptions::read(call, verb)?;
            let patch = Patch::parse(patch_type, &read_body(body).await?)?;
            (Wanted::Patch(patch), options)
        }
        _ => return Err(Status::method_not_allowed()),
    };
    let change = Change {
        wanted,
        paths: paths.clone(),
        resource: resource.clone(),
        call: call.about(&call.info.name, "scale"),
        options: options.clone(),
    };
    let source = Source::Change(Arc::new(move |object: &mut Value| change.run(object)));
    let view = view(paths);
    let updated = update(state, call, resource, Target::Via(&view), &source, &options).await?;
    super::answer(call, 200, &gvk(), scale_of(&updated.object, paths))
}

/// The object as admission sees it: a Scale.
fn view(paths: &ScalePaths) -> View {
    let (show, take) = (paths.clone(), paths.spec_replicas.clone());
    View {
        name: "scale",
        show: Box::new(move |object| {
            let mut scale = scale_of(object, &show);
            gvk().stamp(&mut scale);
            scale
        }),
        take: Box::new(move |object, scale| {
            if let Some(count) = value_at(scale, "spec.replicas").filter(|count| count.is_i64()) {
                set_at(object, &take, count.clone());
            }
        }),
    }
}

/// What the client sent.
enum Wanted {
    Put(Value),
    Patch(Patch),
}

/// A write of a Scale, as a change of the object behind it: object to old Scale, to new Scale, to the
/// object's count and owners (`registry/apps/deployment/storage` scaleUpdatedObjectInfo).
struct Change {
    wanted: Wanted,
    paths: ScalePaths,
    resource: Arc<Resource>,
    call: Call,
    options: WriteOptions,
}

impl Change {
    fn run(&self, object: &mut Value) -> Result<(), Status> {
        let owners = Owners {
            api_version: self.resource.kind.gvk.api_version(),
            path: &self.paths.spec_replicas,
        };
        let mut old = scale_of(object, &self.paths);
        gvk().stamp(&mut old);
        old["metadata"]["managedFields"] = owners.of_scale(object);
        let new = self.new_scale(&old)?;
        check(&self.call, &new)?;
        let (version, uid) = (meta::resource_version(&new), meta::uid(&new));
        if !uid.is_empty() && uid != meta::uid(object) {
            let actual = meta::uid(object);
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}");
            return Err(Status::conflict(
                &self.resource.group_resource(),
                &self.call.info.name,
                why,
            ));
        }
        let count = value_at(&new, "spec.replicas").and_then(Value::as_i64).unwrap_or(0);
        set_at(object, &self.paths.spec_replicas, count.into());
        if !version.is_empty() {
            meta::set_resource_version(object, version);
        }
        owners.back(object, &new);
        Ok(())
    }

    /// The Scale as it is to be, with its managed fields.
    fn new_scale(&self, old: &Value) -> Result<Value, Status> {
        let (schema, gvk) = (schema::builtin(), gvk());
        let root = schema.root(&gvk).ok_or_else(|| Status::internal("no type Scale"))?;
        let ty = schema.get(root);
        let now = api::time::format(self.call.now);
        let writer = patch::writer_as(&gvk, "scale", &self.options);
        if let Wanted::Patch(Patch::Apply(body)) = &self.wanted {
            let decoded = codec::decode(schema, root, &gvk, Encoding::Yaml, body)?;
            create::report_strict(&self.call, self.options.field_validation, &gvk, decoded.strict)?;
            let mut config = decoded.value;
            if value_at(&config, "metadata.managedFields").is_some() {
                return Err(Status::bad_request("metadata.managedFields must be nil"));
            }
            check(&self.call, &config)?;
            meta::set_name(&mut config, &self.call.info.name);
            meta::set_namespace(&mut config, &self.call.info.namespace);
            let resets: [&[&str]; 1] = [&["status"]];
            return managed::apply(
                ty,
                Some(old),
                &config,
                &writer,
                self.options.managed_force(),
                &resets,
                &now,
            )
            .map_err(|conflicts| patch::conflict(&conflicts));
        }
        let mut new = match &self.wanted {
            Wanted::Put(scale) => scale.clone(),
            Wanted::Patch(patch) => self.patched(ty, old, patch)?,
        };
        gvk.stamp(&mut new);
        managed::update(ty, Some(old), &mut new, &writer, &now);
        Ok(new)
    }

    fn patched(&self, ty: schema::TypeRef<'_>, old: &Value, patch: &Patch) -> Result<Value, Status> {
        let mut scale = old.clone();
        let bad = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
        match patch {
            Patch::Json(patch) => json_patch::patch(&mut scale, patch).map_err(|e| bad(&e))?,
            Patch::Merge(patch, _) => json_patch::merge(&mut scale, patch),
            Patch::Strategic(patch, _) => {
                scale = schema::patch::strategic::apply(ty, &scale, patch).map_err(|e| bad(&e))?;
            }
            Patch::Apply(_) => {}
        }
        let decoded = schema::codec::decode_json(ty, &codec::to_json(&scale)).map_err(|e| bad(&e))?;
        create::report_strict(&self.call, self.options.field_validation, &gvk(), decoded.strict)?;
        Ok(decoded.value)
    }
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
