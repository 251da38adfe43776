//! The types of the variables that every admission expression has
//! (upstream `admission/plugin/cel/compile.go`).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cel::{Decl, DeclTypes, ListKind, Shape, Type, TypeProvider};

use super::VARIABLES_TYPE;

fn simple(shape: Shape) -> Arc<Decl> {
    Arc::new(Decl::simple(shape, 1))
}

fn text() -> Arc<Decl> {
    simple(Shape::String)
}

fn list(element: Arc<Decl>) -> Arc<Decl> {
    simple(Shape::List {
        element,
        kind: ListKind::Atomic,
    })
}

fn map(value: Arc<Decl>) -> Arc<Decl> {
    simple(Shape::Map(value))
}

fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Arc<Decl>)>) -> Arc<Decl> {
    let fields: BTreeMap<String, Arc<Decl>> = fields.into_iter().map(|(n, d)| (n.to_owned(), d)).collect();
    simple(Shape::Object {
        name: name.into(),
        fields,
    })
}

fn texts<const N: usize>(names: [&'static str; N]) -> impl Iterator<Item = (&'static str, Arc<Decl>)> {
    names.into_iter().map(|name| (name, text()))
}

/// `request`.
pub(super) static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let gvk = object("kubernetes.GroupVersionKind", texts(["group", "version", "kind"]));
    let gvr = object(
        "kubernetes.GroupVersionResource",
        texts(["group", "version", "resource"]),
    );
    let user = texts(["username", "uid"]).chain([("groups", list(text())), ("extra", map(list(text())))]);
    let fields = texts(["subResource", "requestSubResource", "name", "namespace", "operation"]).chain([
        ("kind", gvk.clone()),
        ("resource", gvr.clone()),
        ("requestKind", gvk),
        ("requestResource", gvr),
        ("userInfo", object("kubernetes.UserInfo", user)),
        ("dryRun", simple(Shape::Bool)),
        ("options", Decl::any()),
    ]);
    object("kubernetes.AdmissionRequest", fields)
});

/// `namespaceObject`.
pub(super) static NAMESPACE: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let time = || simple(Shape::DateTime);
    let spec = object("kubernetes.NamespaceSpec", [("finalizers", list(text()))]);
    let condition = texts(["status", "type", "message", "reason"]).chain([("lastTransitionTime", time())]);
    let condition = object("kubernetes.NamespaceCondition", condition);
    let status = texts(["phase"]).chain([("conditions", list(condition))]);
    let metadata = texts(["name", "generateName", "namespace", "UID", "resourceVersion"]).chain([
        ("labels", map(text())),
        ("annotations", map(text())),
        ("creationTimestamp", time()),
        ("deletionTimestamp", time()),
        ("deletionGracePeriodSeconds", simple(Shape::Int)),
        ("generation", simple(Shape::Int)),
        ("finalizers", list(text())),
    ]);
    let fields = [
        ("metadata", object("kubernetes.NamespaceMetadata", metadata)),
        ("spec", spec),
        ("status", object("kubernetes.NamespaceStatus", status)),
    ];
    object("kubernetes.Namespace", fields)
});

/// The object types of these variables.
pub(super) fn types() -> DeclTypes {
    DeclTypes::new([&*REQUEST, &*NAMESPACE]).with_keywords_as_fields()
}

/// The type of `variables`: a policy's own, by name.
#[derive(Debug)]
pub(super) struct VariableTypes(pub BTreeMap<String, Type>);

impl TypeProvider for VariableTypes {
    fn has_type(&self, name: &str) -> bool {
        name == VARIABLES_TYPE
    }

    fn field_type(&self, name: &str, field: &str) -> Option<Type> {
        self.0.get(field).filter(|_| name == VARIABLES_TYPE).cloned()
    }
}
