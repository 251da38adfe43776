//! Defaults of pods and pod templates (`pkg/apis/core/v1/defaults.go`).

use api::{Map, Quantity, Value};

use crate::tree;

const DEFAULT_MODE: i64 = 0o644;

/// The lists of containers in a pod spec.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of the pod template at a path such as `spec.template`, if there is one.
pub fn template(object: &mut Value, path: &str) {
    if let Some(template) = tree::at_mut(object, path) {
        pod_spec(tree::child(template, "spec"));
    }
}

/// Defaults that templates and pods share.
pub fn pod_spec(spec: &mut Value) {
    tree::fill(spec, "dnsPolicy", "ClusterFirst");
    tree::fill(spec, "restartPolicy", "Always");
    tree::fill(spec, "schedulerName", "default-scheduler");
    tree::fill(spec, "terminationGracePeriodSeconds", 30);
    if tree::is_unset(spec, "securityContext") {
        tree::set(spec, "securityContext", Map::new());
    }
    alias_service_account(spec);
    for volume in tree::items_mut(spec, "volumes") {
        defaults_of_volume(volume);
    }
    for list in CONTAINER_LISTS {
        for container in tree::items_mut(spec, list) {
            defaults_of_container(container);
        }
    }
    round_up(spec, "overhead");
    if let Some(resources) = tree::at_mut(spec, "resources") {
        round_up(resources, "limits");
        round_up(resources, "requests");
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always served.
pub fn alias_service_account(spec: &mut Value) {
    let mut name = tree::text(spec, "serviceAccountName").to_owned();
    if name.is_empty() {
        name = tree::text(spec, "serviceAccount").to_owned();
    }
    if !name.is_empty() {
        tree::set(spec, "serviceAccountName", name.clone());
        tree::set(spec, "serviceAccount", name);
    }
}

fn defaults_of_container(container: &mut Value) {
    if tree::is_unset(container, "imagePullPolicy") {
        let policy = pull_policy(tree::text(container, "image"));
        tree::set(container, "imagePullPolicy", policy);
    }
    tree::fill(container, "terminationMessagePath", "/dev/termination-log");
    tree::fill(container, "terminationMessagePolicy", "File");
    for port in tree::items_mut(container, "ports") {
        tree::fill(port, "protocol", "TCP");
    }
    for variable in tree::items_mut(container, "env") {
        if let Some(field) = tree::at_mut(variable, "valueFrom.fieldRef") {
            tree::fill(field, "apiVersion", "v1");
        }
        if let Some(file) = tree::at_mut(variable, "valueFrom.fileKeyRef") {
            tree::fill(file, "optional", false);
        }
    }
    if let Some(resources) = tree::at_mut(container, "resources") {
        round_up(resources, "limits");
        round_up(resources, "requests");
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = tree::at_mut(container, name) {
            tree::fill_zero(probe, "timeoutSeconds", 1);
            tree::fill_zero(probe, "periodSeconds", 10);
            tree::fill_zero(probe, "successThreshold", 1);
            tree::fill_zero(probe, "failureThreshold", 3);
            defaults_of_handler(probe);
            if let Some(grpc) = tree::at_mut(probe, "grpc")
                && grpc.get("service").is_none_or(Value::is_null)
            {
                tree::set(grpc, "service", "");
            }
        }
    }
    for name in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(handler) = tree::at_mut(container, name) {
            defaults_of_handler(handler);
        }
    }
}

fn defaults_of_handler(handler: &mut Value) {
    if let Some(get) = tree::at_mut(handler, "httpGet") {
        tree::fill(get, "path", "/");
        tree::fill(get, "scheme", "HTTP");
    }
}

/// Whether a text can name an image (`distribution/reference`), as far as its policy depends on it.
fn names_an_image(image: &str) -> bool {
    const LONGEST: usize = 255;
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[slash..].split_once(':') {
        Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
        None => (name, None),
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("", name),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(inner)
            && part.ends_with(inner)
            && part.chars().all(|c| inner(c) || matches!(c, '_' | '.' | '-'))
    };
    let digest_is_good = digest.is_none_or(|digest| {
        digest
            .split_once(':')
            .is_some_and(|(_, hex)| hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    name.len() <= LONGEST
        && path.split('/').all(part)
        && domain.chars().all(|c| word(c) || matches!(c, ':' | '[' | ']'))
        && tag.is_none_or(|tag| (1..=128).contains(&tag.len()) && tag.chars().all(word) && !tag.starts_with(['.', '-']))
        && digest_is_good
}

/// `Always` for the tag `latest`, named or implied; otherwise `IfNotPresent`.
pub fn pull_policy(image: &str) -> &'static str {
    if !names_an_image(image) {
        return "IfNotPresent";
    }
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or("");
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let latest = match (tag, digest) {
        (Some(tag), _) => tag == "latest",
        (None, Some(_)) => false,
        (None, None) => !name.is_empty(),
    };
    if latest { "Always" } else { "IfNotPresent" }
}

fn defaults_of_volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        tree::set(volume, "emptyDir", Map::new());
    }
    if let Some(path) = tree::at_mut(volume, "hostPath")
        && path.get("type").is_none_or(Value::is_null)
    {
        tree::set(path, "type", "");
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = tree::at_mut(volume, name) {
            tree::fill(source, "defaultMode", DEFAULT_MODE);
        }
    }
    if let Some(image) = tree::at_mut(volume, "image")
        && tree::is_unset(image, "pullPolicy")
    {
        let policy = pull_policy(tree::text(image, "reference"));
        tree::set(image, "pullPolicy", policy);
    }
    for item in tree::items_mut(volume, "downwardAPI.items") {
        defaults_of_downward_file(item);
    }
    for source in tree::items_mut(volume, "projected.sources") {
        for item in tree::items_mut(source, "downwardAPI.items") {
            defaults_of_downward_file(item);
        }
        if let Some(token) = tree::at_mut(source, "serviceAccountToken") {
            tree::fill(token, "expirationSeconds", 3600);
        }
    }
    if let Some(template) = tree::at_mut(volume, "ephemeral.volumeClaimTemplate") {
        tree::fill_absent(tree::child(template, "spec"), "volumeMode", "Filesystem");
    }
    legacy_volume(volume);
}

fn defaults_of_downward_file(item: &mut Value) {
    if let Some(field) = tree::at_mut(item, "fieldRef") {
        tree::fill(field, "apiVersion", "v1");
    }
}

/// Volume types of old in-tree drivers; the same in volumes and PersistentVolumes.
pub fn legacy_volume(volume: &mut Value) {
    if let Some(iscsi) = tree::at_mut(volume, "iscsi") {
        tree::fill(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = tree::at_mut(volume, "rbd") {
        tree::fill(rbd, "pool", "rbd");
        tree::fill(rbd, "user", "admin");
        tree::fill(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = tree::at_mut(volume, "azureDisk") {
        tree::fill_absent(disk, "cachingMode", "ReadWrite");
        tree::fill_absent(disk, "kind", "Shared");
        tree::fill_absent(disk, "fsType", "ext4");
        tree::fill(disk, "readOnly", false);
    }
    if let Some(io) = tree::at_mut(volume, "scaleIO") {
        tree::fill(io, "storageMode", "ThinProvisioned");
        tree::fill(io, "fsType", "xfs");
    }
}

/// Rounds every quantity of a resource list up to thousandths, as the API always did.
pub fn round_up(object: &mut Value, key: &str) {
    let Some(list) = object.get_mut(key).and_then(Value::as_object_mut) else {
        return;
    };
    for value in list.values_mut() {
        if let Some(quantity) = tree::quantity(value)
            && !quantity.is_milli_exact()
        {
            let rounded = Quantity::from_milli(quantity.milli_value(), quantity.format());
            *value = Value::from(rounded.to_string());
        }
    }
}

/// Defaults of pods alone, after [`pod_spec`].
pub fn pod(pod: &mut Value) {
    let spec = tree::child(pod, "spec");
    pod_spec(spec);
    tree::fill(spec, "enableServiceLinks", true);
    for list in ["containers", "initContainers"] {
        for container in tree::items_mut(spec, list) {
            requests_from_limits(container);
        }
    }
    pod_level_requests(spec);
    if tree::flag(spec, "hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in tree::items_mut(spec, list) {
                for port in tree::items_mut(container, "ports") {
                    let number = tree::count(port, "containerPort");
                    tree::fill_zero(port, "hostPort", number);
                }
            }
        }
    }
}

/// A limit without a request requests as much as it limits.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = tree::map(container, "resources.limits").cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let requests = tree::object(tree::child(tree::child(container, "resources"), "requests"));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// Resources that may be set for a pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Requests of the pod as a whole: what its containers request, else what the pod limits.
fn pod_level_requests(spec: &mut Value) {
    let has = |path| tree::map(spec, path).is_some_and(|map| !map.is_empty());
    if !has("resources.limits") && !has("resources.requests") {
        return;
    }
    let aggregate = container_requests(spec);
    let limits = tree::map(spec, "resources.limits").cloned().unwrap_or_default();
    let requests = tree::object(tree::child(tree::child(spec, "resources"), "requests"));
    for (name, quantity) in aggregate {
        if is_pod_level(&name) {
            requests
                .entry(name)
                .or_insert_with(|| Value::from(quantity.to_string()));
        }
    }
    for (name, limit) in limits {
        if is_pod_level(&name) {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// What the containers request together: the sum of those that run at once, or the largest init
/// container on top of the sidecars started before it.
pub fn container_requests(spec: &Value) -> Vec<(String, Quantity)> {
    container_amounts(spec, "resources.requests")
}

/// What the containers are limited to together.
pub fn container_limits(spec: &Value) -> Vec<(String, Quantity)> {
    container_amounts(spec, "resources.limits")
}

fn container_amounts(spec: &Value, amounts: &str) -> Vec<(String, Quantity)> {
    let mut names: Vec<&str> = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in tree::list(spec, list) {
            for (name, _) in tree::entries(container, amounts) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    let request = |container: &Value, name: &str| {
        let list = tree::map(container, amounts);
        list.and_then(|list| tree::quantity(list.get(name)?))
            .unwrap_or_default()
    };
    let total = |name: &str| {
        let mut running = Quantity::zero();
        for container in tree::list(spec, "containers") {
            running = running.add(&request(container, name));
        }
        let (mut sidecars, mut peak) = (Quantity::zero(), Quantity::zero());
        for container in tree::list(spec, "initContainers") {
            let own = request(container, name);
            let during = sidecars.add(&own);
            if tree::text(container, "restartPolicy") == "Always" {
                sidecars = during.clone();
            }
            peak = peak.max(during);
        }
        running.add(&sidecars).max(peak)
    };
    names.into_iter().map(|name| (name.to_owned(), total(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pull_policies_follow_the_tag() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1", "IfNotPresent"),
            ("reg:5000/nginx", "Always"),
            ("reg:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:ab", "IfNotPresent"),
            ("nginx:latest@sha256:0123456789abcdef0123456789abcdef", "Always"),
            ("-Bad Name!", "IfNotPresent"),
            ("Nginx", "IfNotPresent"),
            ("REG.example.com/a/b__c", "Always"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }

    #[test]
    fn a_pod_gets_its_defaults_once() {
        let mut object = json!({"spec": {
            "hostNetwork": true,
            "serviceAccount": "robot",
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
            "containers": [{
                "name": "c", "image": "a:1",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "0.0001", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0},
            }],
        }});
        pod(&mut object);
        let once = object.clone();
        pod(&mut object);
        assert_eq!(object, once);
        let spec = &object["spec"];
        assert_eq!(spec["serviceAccountName"], "robot");
        assert_eq!(
            spec["volumes"],
            json!([{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}])
        );
        let container = &spec["containers"][0];
        assert_eq!(
            container["ports"],
            json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])
        );
        assert_eq!(
            container["resources"],
            json!({"limits": {"cpu": "1m", "memory": "1Gi"}, "requests": {"cpu": "1m", "memory": "1Gi"}})
        );
        assert_eq!(
            container["livenessProbe"],
            json!({
                "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            })
        );
        assert_eq!(spec["enableServiceLinks"], true);
    }

    #[test]
    fn init_containers_peak_over_sidecars() {
        let spec = json!({
            "containers": [{"resources": {"requests": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m"}}}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}},
            ],
        });
        let totals: Vec<(String, String)> = container_requests(&spec)
            .into_iter()
            .map(|(n, q)| (n, q.to_string()))
            .collect();
        assert_eq!(
            totals,
            [
                ("cpu".to_owned(), "4".to_owned()),
                ("memory".to_owned(), "1Gi".to_owned())
            ]
        );
    }
}
