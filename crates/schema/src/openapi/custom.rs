//! Definitions of custom resources, which are in no arena of types.

use api::Gvk;
use serde_json::{Value, json};

use super::Dialect;
use crate::structural::publish::{Dialect as Published, publish};

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// A version of a custom resource.
#[derive(Clone, Debug)]
pub struct Custom {
    /// Its kind.
    pub gvk: Gvk,
    /// The resource in paths.
    pub plural: String,
    /// The kind of its lists.
    pub list_kind: String,
    /// The schema as it was declared.
    pub schema: Option<Value>,
    /// Unknown members are kept everywhere.
    pub preserves_unknown: bool,
    name: String,
    list_name: String,
}

impl Custom {
    /// A custom resource's definitions.
    pub fn new(gvk: Gvk, plural: &str, list_kind: &str, schema: Option<Value>, preserves_unknown: bool) -> Custom {
        let reversed: Vec<&str> = gvk.group.rsplit('.').collect();
        let prefix = format!("{}.{}", reversed.join("."), gvk.version);
        Custom {
            name: format!("{prefix}.{}", gvk.kind),
            list_name: format!("{prefix}.{list_kind}"),
            plural: plural.to_owned(),
            list_kind: list_kind.to_owned(),
            schema,
            preserves_unknown,
            gvk,
        }
    }

    /// The name of the definition of a kind, if it is this one or its list.
    pub(super) fn name_of(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        if self.gvk.group != group || self.gvk.version != version {
            return None;
        }
        if kind == self.gvk.kind {
            return Some(&self.name);
        }
        let is_list = kind == self.list_kind || kind.strip_suffix("List") == Some(&*self.gvk.kind);
        is_list.then_some(&*self.list_name)
    }

    /// The definition of that name, and the definitions that it refers to.
    pub(super) fn definition(&self, name: &str, dialect: Dialect) -> Option<(Value, Vec<&str>)> {
        let (kind, mut definition, references) = if name == self.name {
            let (dialect, reference) = match dialect {
                Dialect::V2 => (Published::V2, Dialect::V2.reference(OBJECT_META)),
                Dialect::V3 => (Published::V3, Dialect::V3.reference(OBJECT_META)),
            };
            let schema = publish(self.schema.as_ref(), self.preserves_unknown, dialect, &reference);
            (&self.gvk.kind, schema, vec![OBJECT_META])
        } else if name == self.list_name {
            (&self.list_kind, self.list(dialect), vec![LIST_META, &*self.name])
        } else {
            return None;
        };
        let gvk = json!([{"group": self.gvk.group, "kind": kind, "version": self.gvk.version}]);
        definition["x-kubernetes-group-version-kind"] = gvk;
        Some((definition, references))
    }

    fn list(&self, dialect: Dialect) -> Value {
        let reference = |name: &str| json!({"$ref": dialect.reference(name)});
        let described = |name: &str, text: &str| match dialect {
            Dialect::V2 => json!({"description": text, "$ref": dialect.reference(name)}),
            Dialect::V3 => json!({"description": text, "allOf": [reference(name)]}),
        };
        let more = "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
        json!({
            "type": "object",
            "description": format!("{} is a list of {}", self.list_kind, self.gvk.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."},
                "kind": {"type": "string", "description": "Kind is a string value representing the REST resource this object represents."},
                "items": {"type": "array", "items": reference(&self.name),
                    "description": format!("List of {}. {more}", self.plural)},
                "metadata": described(LIST_META, &format!("Standard list metadata. {more}#types-kinds")),
            },
        })
    }
}
