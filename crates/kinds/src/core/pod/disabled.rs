//! Fields of features that v1.37 has off by default (`DropDisabledPodFields`): they are dropped
//! unless the old object has them already.

use api::Value;

use crate::pod_spec::defaults::CONTAINER_LISTS;
use crate::tree;

/// Drops what is off from a pod's spec or a template's.
pub fn pod_spec(spec: &mut Value, old: Option<&Value>) {
    let had = |used: fn(&Value) -> bool| old.is_some_and(used);
    if !had(|spec| tree::at(spec, "evictionResponders").is_some()) {
        tree::unset(spec, "evictionResponders");
    }
    if !had(owners_in_use) {
        volume_owners(spec);
    }
    if !had(|spec| volumes(spec).any(|volume| tree::at(volume, "emptyDir.mode").is_some())) {
        for volume in tree::items_mut(spec, "volumes") {
            drop_at(volume, "emptyDir", "mode");
        }
    }
    if !had(|spec| mounts(spec).any(|mount| tree::at(mount, "bindMountOptions").is_some())) {
        for list in CONTAINER_LISTS {
            for container in tree::items_mut(spec, list) {
                for mount in tree::items_mut(container, "volumeMounts") {
                    tree::unset(mount, "bindMountOptions");
                }
            }
        }
    }
    for (handler, field) in [("httpGet", "protocol"), ("grpc", "mode")] {
        let used = |spec: &Value| handlers(spec, handler).any(|handler| tree::at(handler, field).is_some());
        if !old.is_some_and(used) {
            drop_from_handlers(spec, handler, field);
        }
    }
}

/// The same of the template at a path such as `spec.template`.
pub fn template(object: &mut Value, old: Option<&Value>, at: &str) {
    let at = format!("{at}.spec");
    let old = old.and_then(|old| tree::at(old, &at));
    if let Some(spec) = tree::at_mut(object, &at) {
        pod_spec(spec, old);
    }
}

fn drop_at(value: &mut Value, path: &str, field: &str) {
    if let Some(holder) = tree::at_mut(value, path) {
        tree::unset(holder, field);
    }
}

fn volumes(spec: &Value) -> impl Iterator<Item = &Value> {
    tree::list(spec, "volumes").iter()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINER_LISTS.into_iter().flat_map(|list| tree::list(spec, list))
}

fn mounts(spec: &Value) -> impl Iterator<Item = &Value> {
    containers(spec).flat_map(|container| tree::list(container, "volumeMounts"))
}

const HANDLERS: [&str; 5] = [
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle.postStart",
    "lifecycle.preStop",
];

fn handlers<'v>(spec: &'v Value, kind: &'v str) -> impl Iterator<Item = &'v Value> {
    containers(spec).flat_map(move |container| {
        HANDLERS
            .into_iter()
            .filter_map(move |handler| tree::at(container, handler)?.get(kind))
    })
}

fn drop_from_handlers(spec: &mut Value, kind: &str, field: &str) {
    for list in CONTAINER_LISTS {
        for container in tree::items_mut(spec, list) {
            for handler in HANDLERS {
                if let Some(handler) = tree::at_mut(container, handler) {
                    drop_at(handler, kind, field);
                }
            }
        }
    }
}

/// Whether files of volumes have owners of their own.
fn owners_in_use(spec: &Value) -> bool {
    let mut copy = spec.clone();
    volume_owners(&mut copy);
    !tree::same(copy.get("volumes"), spec.get("volumes"))
}

fn volume_owners(spec: &mut Value) {
    for volume in tree::items_mut(spec, "volumes") {
        for source in ["configMap", "secret", "downwardAPI", "projected"] {
            let Some(source) = tree::at_mut(volume, source) else {
                continue;
            };
            tree::unset(source, "defaultUser");
            for item in tree::items_mut(source, "items") {
                tree::unset(item, "user");
            }
        }
        for source in tree::items_mut(volume, "projected.sources") {
            for part in ["configMap", "secret", "downwardAPI"] {
                let Some(part) = tree::at_mut(source, part) else {
                    continue;
                };
                for item in tree::items_mut(part, "items") {
                    tree::unset(item, "user");
                }
            }
            for part in ["serviceAccountToken", "clusterTrustBundle", "podCertificate"] {
                drop_at(source, part, "user");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_that_are_off_go_unless_they_were_there() {
        let full = json!({
            "evictionResponders": [{"name": "x"}],
            "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultUser": 1}}, {"name": "e", "emptyDir": {"mode": 1}}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "bindMountOptions": ["noexec"]}],
                "livenessProbe": {"httpGet": {"port": 1, "protocol": "HTTP2"}}}],
        });
        let mut spec = full.clone();
        pod_spec(&mut spec, None);
        assert_eq!(
            spec,
            json!({
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "v"}], "livenessProbe": {"httpGet": {"port": 1}}}],
            })
        );
        let mut spec = full.clone();
        pod_spec(&mut spec, Some(&full));
        assert_eq!(spec, full);
    }
}
