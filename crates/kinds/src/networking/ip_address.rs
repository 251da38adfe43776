//! `ipaddresses`: each is the claim of a service on its cluster address.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::{Column, NameRule, SelectableField};

use crate::{cells, checks, references, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses")
        .short_names(&["ip"])
        .name_rule(NameRule::Custom(references::canonical_ip))
        .selectable(SelectableField::path("spec.parentRef.group"))
        .selectable(SelectableField::path("spec.parentRef.resource"))
        .selectable(SelectableField::path("spec.parentRef.namespace"))
        .selectable(SelectableField::path("spec.parentRef.name"))
        .validate(address)
        .validate_update(|new, old| {
            let path = Path::new("spec").child("parentRef");
            checks::immutable(new, old, "spec.parentRef", &path)
        })
        .table(
            vec![
                Column::name(),
                Column::string("ParentRef", "What holds the address."),
                Column::age(),
            ],
            |address, now| vec![cells::name(address), parent(address).into(), cells::age(address, now)],
        )
}

fn parent(address: &Value) -> String {
    let Some(parent) = tree::at(address, "spec.parentRef") else {
        return "<none>".to_owned();
    };
    let (group, resource) = (tree::text(parent, "group"), tree::text(parent, "resource"));
    let mut text = match group {
        "" => resource.to_lowercase(),
        group => format!("{resource}.{group}").to_lowercase(),
    };
    for field in ["namespace", "name"] {
        let part = tree::text(parent, field);
        if field == "name" || !part.is_empty() {
            text.push('/');
            text.push_str(part);
        }
    }
    text
}

fn address(address: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("parentRef");
    let Some(parent) = tree::at(address, "spec.parentRef") else {
        return vec![Error::required(&path, "")];
    };
    let mut errors = Vec::new();
    let group = tree::text(parent, "group");
    if !group.is_empty() {
        errors.extend(checks::dns_subdomain(group, &path.child("group")));
    }
    for (field, is_required) in [("resource", true), ("name", true), ("namespace", false)] {
        let value = tree::text(parent, field);
        let path = path.child(field);
        if !value.is_empty() {
            errors.extend(checks::invalid_each(&path, value, validate::path_segment_name(value)));
        } else if is_required {
            errors.push(Error::required(&path, ""));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_has_a_parent() {
        let good = json!({"spec": {"parentRef": {"resource": "services", "namespace": "a", "name": "b"}}});
        assert_eq!(address(&good), []);
        assert_eq!(parent(&good), "services/a/b");
        assert_eq!(address(&json!({})).len(), 1);
        let bad = json!({"spec": {"parentRef": {"group": "A", "namespace": "a/b"}}});
        let fields: Vec<String> = address(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.parentRef.group",
                "spec.parentRef.resource",
                "spec.parentRef.name",
                "spec.parentRef.namespace"
            ]
        );
    }
}
