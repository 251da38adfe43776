//! From a CustomResourceDefinition to the kinds it serves.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use api::{Gvk, Value};
use schema::structural::{self, Node};

use super::columns::Columns;
use super::conversion::Converter;
use super::rules::Rules;
use super::{Custom, Shared, strategy};
use crate::kind::{AllowUnconditionalUpdate, Generation, Kind, Part, ScalePaths, Scope, SelectableField, Subresource};
use crate::state::State;

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

pub(super) fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["spec"]["versions"].as_array().into_iter().flatten()
}

/// The version that objects are stored in.
pub(super) fn storage_version(definition: &Value) -> Option<&str> {
    versions(definition)
        .find(|v| v["storage"] == Value::Bool(true))
        .map(|v| text(v, "name"))
}

/// The schema of a version; a version without one has an empty one.
fn node(version: &Value, preserve: bool) -> Node {
    let mut node = Node::parse(&version["schema"]["openAPIV3Schema"]).into_resource();
    structural::prune_defaults(&mut node);
    node.preserve_unknown |= preserve;
    node
}

/// The kinds that a definition serves under the accepted names, one a served version.
///
/// The version that objects are stored in is there even if it is not served.
pub(super) fn kinds(definition: &Value, names: &Value, state: &Weak<State>) -> Vec<(Served, Kind)> {
    let spec = &definition["spec"];
    let (group, kind) = (text(spec, "group"), text(names, "kind"));
    let preserve = spec["preserveUnknownFields"] == Value::Bool(true);
    let Some(storage) = storage_version(definition) else {
        return Vec::new();
    };
    let nodes: BTreeMap<String, Node> = versions(definition)
        .map(|version| (text(version, "name").to_owned(), node(version, preserve)))
        .collect();
    let shared = Arc::new(Shared {
        converter: Converter::of(definition, state.clone()),
        terminating: AtomicBool::new(false),
        versions: nodes,
    });
    let stored = Gvk::new(group, storage, kind);
    versions(definition)
        .filter_map(|version| {
            let served = match (&version["served"], text(version, "name") == storage) {
                (Value::Bool(true), _) => Served::Yes,
                (_, true) => Served::No,
                _ => return None,
            };
            Some((served, one(spec, names, version, &stored, &shared)))
        })
        .collect()
}

/// Whether clients see a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    No,
}

fn one(spec: &Value, names: &Value, version: &Value, stored: &Gvk, shared: &Arc<Shared>) -> Kind {
    let gvk = Gvk::new(&*stored.group, text(version, "name"), &*stored.kind);
    let node = shared.versions[&gvk.version].clone();
    let (schema, root) = structural::build(&gvk, &node);
    let scope = if text(spec, "scope") == "Cluster" {
        Scope::Cluster
    } else {
        Scope::Namespaced
    };
    let deprecated = version["deprecated"] == Value::Bool(true);
    let warning = deprecated.then(|| match version["deprecationWarning"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("{}/{} {} is deprecated", gvk.group, gvk.version, gvk.kind),
    });
    let declared = version["schema"]["openAPIV3Schema"].is_object();
    let custom = Arc::new(Custom {
        node,
        declared: declared.then(|| version["schema"]["openAPIV3Schema"].clone()),
        rules: Rules::compile(&version["schema"]["openAPIV3Schema"]),
        columns: Columns::of(&version["additionalPrinterColumns"]),
        warning,
        definition: shared.clone(),
    });
    let mut kind = Kind::new(gvk, text(names, "plural"), scope, Arc::new(schema), root);
    kind.storage.gvk = stored.clone();
    kind.singular = text(names, "singular").to_owned();
    kind.list_kind = text(names, "listKind").to_owned();
    kind.short_names = texts(&names["shortNames"]);
    kind.categories = texts(&names["categories"]);
    for field in version["selectableFields"].as_array().into_iter().flatten() {
        let path = text(field, "jsonPath").trim_start_matches('.').to_owned();
        kind.selectable.push(SelectableField::path(path));
    }
    let table = custom.clone();
    kind.row = Some(Arc::new(move |object, now| table.columns.row(object, now)));
    let scale = scale_paths(&version["subresources"]["scale"]);
    kind.strategy.generation = Generation::When(Arc::new(strategy::spec_changed));
    kind.strategy.allow_unconditional_update = AllowUnconditionalUpdate::No;
    let rules = Arc::new(strategy::Checks::new(custom.clone(), scale.clone()));
    let (create, update, status) = (rules.clone(), rules.clone(), rules);
    kind.strategy.validate = Some(Arc::new(move |object| create.validate(object)));
    kind.strategy.validate_update = Some(Arc::new(move |new, old| update.validate_update(new, old)));
    if version["subresources"]["status"].is_object() {
        kind.subresources.push(Subresource::part(
            "status",
            Part {
                prepare: Some(Arc::new(|_, new, old| strategy::keep_but_status(new, old))),
                validate: Some(Arc::new(move |new, old| status.validate_status(new, old))),
                resets: vec!["spec"],
            },
        ));
    }
    if let Some(paths) = scale {
        kind.subresources.push(Subresource::scale_at(paths));
    }
    kind.custom = Some(custom);
    kind
}

fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    let path = |field: &str| text(scale, field).trim_start_matches('.').to_owned();
    scale.is_object().then(|| ScalePaths {
        spec_replicas: path("specReplicasPath"),
        status_replicas: path("statusReplicasPath"),
        selector: Some(path("labelSelectorPath")).filter(|path| !path.is_empty()),
    })
}
