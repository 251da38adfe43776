//! What node agents may do: the rules of the `system:node` role, where objects that belong to
//! pods are narrowed to those of the node's own pods
//! (`plugin/pkg/auth/authorizer/node/node_authorizer.go`).

use api::Value;

use super::{Attributes, Decision};
use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::state::State;

const LEASE_NAMESPACE: &str = "kube-node-lease";

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

/// Decides for node agents; has no opinion of others.
pub(super) async fn authorize(state: &State, attributes: &Attributes) -> Decision {
    let Some(node) = attributes.user.as_node() else {
        return no("");
    };
    if attributes.is_resource {
        let (verb, sub) = (attributes.verb.as_str(), attributes.subresource.as_str());
        match (attributes.group.as_str(), attributes.resource.as_str()) {
            ("", "secrets" | "configmaps") => {
                if !matches!(verb, "get" | "list" | "watch") {
                    return no("can only read resources of this type");
                }
                if !sub.is_empty() {
                    return no("cannot read subresource");
                }
                if attributes.namespace.is_empty() {
                    return no("can only read namespaced object of this type");
                }
                return related(state, node, attributes).await;
            }
            ("", "persistentvolumeclaims" | "persistentvolumes")
            | ("storage.k8s.io", "volumeattachments")
            | ("resource.k8s.io", "resourceclaims") => {
                let status = sub == "status" && matches!(verb, "update" | "patch");
                if verb != "get" && !status {
                    return no("can only get individual resources of this type");
                }
                return related(state, node, attributes).await;
            }
            ("", "serviceaccounts") => {
                if verb != "create" || attributes.name.is_empty() {
                    return no("can only create tokens for individual service accounts");
                }
                if sub != "token" {
                    return no("can only create token subresource of serviceaccount");
                }
                return related(state, node, attributes).await;
            }
            ("coordination.k8s.io", "leases") => return lease(node, attributes),
            ("storage.k8s.io", "csinodes") => return own(node, attributes, "CSINode"),
            _ => {}
        }
    }
    let rules = state.rbac.cluster_role("system:node");
    if rules.is_some_and(|rules| rules.iter().any(|rule| rule.allows(attributes))) {
        return Decision::Allow(String::new());
    }
    no("")
}

fn lease(node: &str, attributes: &Attributes) -> Decision {
    if !matches!(
        attributes.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if attributes.namespace != LEASE_NAMESPACE {
        return no(format!(
            "can only access leases in the \"{LEASE_NAMESPACE}\" system namespace"
        ));
    }
    if attributes.verb != "create" && attributes.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Decision::Allow(String::new())
}

fn own(node: &str, attributes: &Attributes, kind: &str) -> Decision {
    if !matches!(
        attributes.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return no(format!("can only get, create, update, patch, or delete a {kind}"));
    }
    if !attributes.subresource.is_empty() {
        return no(format!("cannot authorize {kind} subresources"));
    }
    if attributes.verb != "create" && attributes.name != node {
        return no(format!(
            "can only access {kind} with the same name as the requesting node"
        ));
    }
    Decision::Allow(String::new())
}

/// Whether a pod on the node refers to the object.
async fn related(state: &State, node: &str, attributes: &Attributes) -> Decision {
    if attributes.name.is_empty() {
        return no("No Object name found");
    }
    let unrelated = || no(format!("no relationship found between node '{node}' and this object"));
    let Some(pods) = state.resource("", "v1", "pods") else {
        return unrelated();
    };
    let namespaced = attributes.resource != "persistentvolumes";
    let params = ListParams {
        at: At::Latest,
        selection: Selection {
            namespace: (namespaced && !attributes.namespace.is_empty()).then(|| attributes.namespace.clone()),
            field: Some(("spec.nodeName".to_owned(), node.to_owned())),
            ..Selection::default()
        },
        limit: 0,
        start_after: None,
    };
    let Ok(page) = pods.cache.list(params).await else {
        return unrelated();
    };
    let found = page.entries.iter().any(|entry| {
        let pod = pods.value(entry);
        match attributes.resource.as_str() {
            "persistentvolumes" => claims(&pod).any(|claim| {
                let bound = state.resource("", "v1", "persistentvolumeclaims").and_then(|r| {
                    let claim = r.cached(entry.namespace(), &claim)?;
                    value_at(&claim, "spec.volumeName")?.as_str().map(str::to_owned)
                });
                bound.as_deref() == Some(attributes.name.as_str())
            }),
            resource => refers(&pod, resource, &attributes.name),
        }
    });
    if found {
        Decision::Allow(String::new())
    } else {
        unrelated()
    }
}

fn list<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> {
    value_at(value, path).and_then(Value::as_array).into_iter().flatten()
}

fn is_named(value: &Value, path: &str, name: &str) -> bool {
    value_at(value, path).and_then(Value::as_str) == Some(name)
}

/// The claims that a pod names, and those of its ephemeral volumes.
fn claims(pod: &Value) -> impl Iterator<Item = String> {
    list(pod, "spec.volumes").filter_map(|volume| {
        let named = value_at(volume, "persistentVolumeClaim.claimName").and_then(Value::as_str);
        let generated = || {
            volume.get("ephemeral")?;
            Some(format!("{}-{}", api::meta::name(pod), volume.get("name")?.as_str()?))
        };
        named.map(str::to_owned).or_else(generated)
    })
}

/// Whether the pod needs the object of that name.
fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    match resource {
        "serviceaccounts" => is_named(pod, "spec.serviceAccountName", name),
        "persistentvolumeclaims" => claims(pod).any(|claim| claim == name),
        "secrets" => {
            list(pod, "spec.imagePullSecrets").any(|s| is_named(s, "name", name))
                || list(pod, "spec.volumes").any(|v| {
                    is_named(v, "secret.secretName", name)
                        || list(v, "projected.sources").any(|s| is_named(s, "secret.name", name))
                })
                || in_environment(pod, "secretRef", "secretKeyRef", name)
        }
        "configmaps" => {
            list(pod, "spec.volumes").any(|v| {
                is_named(v, "configMap.name", name)
                    || list(v, "projected.sources").any(|s| is_named(s, "configMap.name", name))
            }) || in_environment(pod, "configMapRef", "configMapKeyRef", name)
        }
        _ => false,
    }
}

fn in_environment(pod: &Value, whole: &str, key: &str, name: &str) -> bool {
    ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"]
        .iter()
        .any(|path| {
            list(pod, path).any(|container| {
                list(container, "envFrom").any(|e| is_named(e, &format!("{whole}.name"), name))
                    || list(container, "env").any(|e| is_named(e, &format!("valueFrom.{key}.name"), name))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_pod_needs() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key"}}}],
                "envFrom": [{"configMapRef": {"name": "env"}}]}],
            "volumes": [
                {"name": "a", "projected": {"sources": [{"configMap": {"name": "root-ca"}}]}},
                {"name": "b", "secret": {"secretName": "vol"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "d", "ephemeral": {}},
            ],
        }});
        for (resource, name) in [
            ("serviceaccounts", "sa"),
            ("secrets", "pull"),
            ("secrets", "key"),
            ("secrets", "vol"),
            ("configmaps", "env"),
            ("configmaps", "root-ca"),
            ("persistentvolumeclaims", "claim"),
            ("persistentvolumeclaims", "p-d"),
        ] {
            assert!(refers(&pod, resource, name), "{resource} {name}");
            assert!(!refers(&pod, resource, "other"), "{resource}");
        }
    }
}
