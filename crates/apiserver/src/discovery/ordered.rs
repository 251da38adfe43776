//! The members of discovery's documents in upstream's order. JSON has none, but scripts that look at the text do.

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// APIGroupList, APIGroup, APIResourceList, APIVersions.
const DOCUMENT: &[&str] = &["kind", "apiVersion", "groupVersion", "name", "versions"];
/// APIResource, and what else is listed.
const ITEM: &[&str] = &[
    "name",
    "singularName",
    "namespaced",
    "groupVersion",
    "group",
    "version",
    "versions",
    "kind",
    "verbs",
    "shortNames",
    "categories",
];

struct Ordered<'v> {
    value: &'v Value,
    /// Come first, in this order; the rest follows by name.
    first: &'static [&'static str],
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = |value| Ordered { value, first: ITEM };
        match self.value {
            Value::Object(members) => {
                let first = self.first.iter().filter_map(|name| members.get_key_value(*name));
                let rest = members.iter().filter(|(name, _)| !self.first.contains(&name.as_str()));
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in first.chain(rest) {
                    map.serialize_entry(name, &inner(value))?;
                }
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(inner)),
            other => other.serialize(serializer),
        }
    }
}

/// A document as JSON.
pub(super) fn json(document: &Value, pretty: bool) -> Bytes {
    let ordered = Ordered {
        value: document,
        first: DOCUMENT,
    };
    let written = if pretty {
        serde_json::to_vec_pretty(&ordered)
    } else {
        serde_json::to_vec(&ordered)
    };
    written.expect("documents have only texts as keys").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn members_are_in_the_order_of_upstreams_types() {
        let resource = json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
            "verbs": ["get"], "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "x="});
        let list = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]});
        assert_eq!(
            super::json(&list, false),
            concat!(
                r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","#,
                r#""namespaced":true,"kind":"Pod","verbs":["get"],"shortNames":["po"],"categories":["all"],"#,
                r#""storageVersionHash":"x="}]}"#,
            )
        );
    }
}
