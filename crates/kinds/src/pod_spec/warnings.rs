//! What is accepted in pod specs but hardly meant: Warning headers (`pkg/api/pod/warnings.go`).

use std::collections::BTreeSet;

use api::field::{Path, go_quote};
use api::{Value, meta, validate};

use super::annotations::APP_ARMOR;
use super::containers;
use crate::tree;

/// The message about a label that nodes no longer have.
pub fn old_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        _ => return None,
    })
}

/// Warnings for a term of a node selector.
pub fn node_selector_term(term: &Value, path: &Path) -> Vec<String> {
    let expressions = tree::list(term, "matchExpressions").iter().enumerate();
    let warnings = expressions.filter_map(|(index, expression)| {
        let key = tree::text(expression, "key");
        let path = path.child("matchExpressions").index(index).child("key");
        old_node_label(key).map(|message| format!("{path}: {key} is {message}"))
    });
    warnings.collect()
}

/// Warnings for volumes and claims whose sizes are no whole bytes.
pub fn claim_spec(spec: &Value, path: &Path) -> Vec<String> {
    let path = path.child("resources");
    let lists = ["requests", "limits"].into_iter();
    lists
        .filter_map(|list| fraction(tree::at(spec, "resources")?, list, "storage", &path))
        .collect()
}

fn fraction(resources: &Value, list: &str, name: &str, path: &Path) -> Option<String> {
    let quantity = tree::quantity(tree::map(resources, list)?.get(name)?)?;
    (!quantity.is_whole()).then(|| {
        let path = path.child(list).key(name);
        let shown = go_quote(&quantity.to_string());
        format!("{path}: fractional byte value {shown} is invalid, must be an integer")
    })
}

/// A name that becomes part of host names but is no label.
pub fn host_name(name: &str, used: &str) -> Option<String> {
    let messages = validate::dns1123_label(name);
    (!messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// Whether a workload's name becomes part of host names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Its pods have it in their names.
    Yes,
    /// It is only its own.
    No,
}

/// Warnings for a workload with a template.
pub fn workload(new: &Value, old: Option<&Value>, named: Named, at: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if named == Named::Yes && old.is_none() {
        warnings.extend(host_name(meta::name(new), "Pod names and hostnames"));
    }
    warnings.extend(template(new, old, at));
    warnings
}

/// Warnings for the template at a path such as `spec.template`: of a new object, and of one whose
/// template changed.
pub fn template(new: &Value, old: Option<&Value>, at: &str) -> Vec<String> {
    let template = tree::at(new, at);
    if old.is_some_and(|old| tree::same(tree::at(old, at), template)) {
        return Vec::new();
    }
    let path = at.split('.').fold(Path::root(), |path, step| path.child(step));
    template.map_or(Vec::new(), |template| pod(template, &path))
}

/// Warnings for a pod (at the root) or a template.
pub fn pod(pod: &Value, path: &Path) -> Vec<String> {
    let spec = tree::at(pod, "spec").unwrap_or(&Value::Null);
    let spec_path = path.child("spec");
    let annotations_path = path.child("metadata").child("annotations");
    let mut warnings = placement(spec, &spec_path);
    for (key, message) in [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "non-functional in v1.11+; use the \"sysctls\" field instead",
        ),
    ] {
        if meta::annotation(pod, key).is_some() {
            warnings.push(format!("{}: {message}", annotations_path.key(key)));
        }
    }
    warnings.extend(volumes(spec, &spec_path));
    warnings.extend(overlapping_paths(spec));
    warnings.extend(repeated(spec, &spec_path));
    for name in ["memory", "ephemeral-storage"] {
        warnings.extend(fraction(spec, "overhead", name, &spec_path));
    }
    const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
    if tree::at(spec, "securityContext.seccompProfile").is_none() && meta::annotation(pod, SECCOMP).is_some() {
        let path = annotations_path.key(SECCOMP);
        warnings.push(format!(
            "{path}: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    for (container, path) in containers::visit(spec, &spec_path) {
        warnings.extend(profiles(pod, container, &annotations_path));
        if let Some(resources) = tree::at(container, "resources") {
            for name in ["memory", "ephemeral-storage"] {
                for list in ["limits", "requests"] {
                    warnings.extend(fraction(resources, list, name, &path.child("resources")));
                }
            }
        }
        warnings.extend(hidden_variables(container, &path.child("env")));
    }
    warnings.extend(ports(spec, &spec_path));
    if tree::count(spec, "terminationGracePeriodSeconds") < 0 {
        let path = spec_path.child("terminationGracePeriodSeconds");
        warnings.push(format!(
            "{path}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    warnings.extend(affinity_selectors(spec, &spec_path));
    warnings.extend(addresses(spec, &spec_path));
    warnings
}

fn addresses(spec: &Value, path: &Path) -> Vec<String> {
    let servers_path = path.child("dnsConfig").child("nameservers");
    let servers = tree::strings(spec, "dnsConfig.nameservers").into_iter().enumerate();
    let servers = servers.filter_map(|(index, server)| validate::ip_warning(&servers_path.index(index), server));
    let aliases = tree::list(spec, "hostAliases").iter().enumerate();
    let aliases = aliases.filter_map(|(index, alias)| {
        let path = path.child("hostAliases").index(index).child("ip");
        validate::ip_warning(&path, tree::text(alias, "ip"))
    });
    servers.chain(aliases).collect()
}

fn placement(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (key, _) in tree::entries(spec, "nodeSelector") {
        let path = path.child("nodeSelector").key(key);
        warnings.extend(old_node_label(key).map(|message| format!("{path}: {message}")));
    }
    let affinity = path.child("affinity").child("nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = format!("affinity.nodeAffinity.{required}.nodeSelectorTerms");
    let terms_path = affinity.child(required).child("nodeSelectorTerms");
    for (index, term) in tree::list(spec, &terms).iter().enumerate() {
        warnings.extend(node_selector_term(term, &terms_path.index(index)));
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let terms = tree::list(spec, &format!("affinity.nodeAffinity.{preferred}"));
    for (index, term) in terms.iter().enumerate() {
        let path = affinity.child(preferred).index(index).child("preference");
        let preference = tree::at(term, "preference").unwrap_or(&Value::Null);
        warnings.extend(node_selector_term(preference, &path));
    }
    for (index, constraint) in tree::list(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = tree::text(constraint, "topologyKey");
        let old = old_node_label(key);
        warnings.extend(old.map(|message| format!("{}: {key} is {message}", path.child("topologyKey"))));
        if tree::at(constraint, "labelSelector").is_none() {
            warnings.push(selects_nothing(&path.child("labelSelector")));
        }
    }
    warnings
}

fn selects_nothing(path: &Path) -> String {
    format!("{path}: a null labelSelector results in matching no pod")
}

fn affinity_selectors(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = path.child("affinity").child(kind);
        for list in [
            "requiredDuringSchedulingIgnoredDuringExecution",
            "preferredDuringSchedulingIgnoredDuringExecution",
        ] {
            let terms = tree::list(spec, &format!("affinity.{kind}.{list}"));
            for (index, term) in terms.iter().enumerate() {
                let path = path.child(list).index(index);
                let (term, path) = match list.starts_with("preferred") {
                    true => (
                        tree::at(term, "podAffinityTerm").unwrap_or(&Value::Null),
                        path.child("podAffinityTerm"),
                    ),
                    false => (term, path),
                };
                if tree::at(term, "labelSelector").is_none() {
                    warnings.push(selects_nothing(&path.child("labelSelector")));
                }
            }
        }
    }
    warnings
}

fn volumes(spec: &Value, path: &Path) -> Vec<String> {
    const GONE: &[(&str, &str, &str)] = &[
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "gitRepo",
            "gitRepo",
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let mut warnings = Vec::new();
    for (index, volume) in tree::list(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(index);
        for (field, shown, message) in GONE {
            if tree::at(volume, field).is_some() {
                warnings.push(format!("{}: {message}", path.child(shown)));
            }
        }
        if let Some(claim) = tree::at(volume, "ephemeral.volumeClaimTemplate.spec") {
            let path = path.child("ephemeral").child("volumeClaimTemplate").child("spec");
            warnings.extend(claim_spec(claim, &path));
        }
    }
    warnings
}

fn repeated(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let duplicates = |list: &str, field: &str, what: &str| -> Vec<String> {
        let items = tree::list(spec, list);
        let again = items.iter().enumerate().filter(|(index, item)| {
            let text = tree::text(item, field);
            items[..*index].iter().any(|other| tree::text(other, field) == text)
        });
        let show = |(index, item): (usize, &Value)| {
            let path = path.child(list).index(index).child(field);
            format!("{path}: duplicate {what} {}", go_quote(tree::text(item, field)))
        };
        again.map(show).collect()
    };
    warnings.extend(duplicates("hostAliases", "ip", "ip"));
    warnings.extend(duplicates("imagePullSecrets", "name", "name"));
    for (index, secret) in tree::list(spec, "imagePullSecrets").iter().enumerate() {
        if tree::text(secret, "name").is_empty() {
            let path = path.child("imagePullSecrets").index(index).child("name");
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
    warnings
}

/// Profiles that are in annotations alone.
fn profiles(pod: &Value, container: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = tree::text(container, "name");
    let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
    if tree::at(container, "securityContext.seccompProfile").is_none() && meta::annotation(pod, &key).is_some() {
        let path = path.key(&key);
        warnings.push(format!(
            "{path}: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    let key = format!("{APP_ARMOR}{name}");
    let has_field = tree::at(pod, "spec.securityContext.appArmorProfile").is_some()
        || tree::at(container, "securityContext.appArmorProfile").is_some();
    if !has_field && meta::annotation(pod, &key).is_some() {
        let path = path.key(&key);
        warnings.push(format!(
            "{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        ));
    }
    warnings
}

/// A variable that is defined again is fine when it builds on its first definition.
fn hidden_variables(container: &Value, path: &Path) -> Vec<String> {
    let variables = tree::list(container, "env");
    let hides = |(index, variable): &(usize, &Value)| {
        let name = tree::text(variable, "name");
        let mut earlier = variables[..*index].iter();
        let hides = || {
            let reference = format!("$({name})");
            let value = tree::text(variable, "value");
            tree::at(variable, "valueFrom").is_some() || value == reference || !value.contains(&reference)
        };
        earlier.any(|other| tree::text(other, "name") == name) && hides()
    };
    let hiding = variables.iter().enumerate().filter(hides);
    hiding
        .map(|(index, variable)| {
            format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(index),
                go_quote(tree::text(variable, "name"))
            )
        })
        .collect()
}

fn ports(spec: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen: Vec<(String, Path, &Value)> = Vec::new();
    for (container, path) in containers::visit(spec, path) {
        for (index, port) in tree::list(container, "ports").iter().enumerate() {
            let path = path.child("ports").index(index);
            let number = tree::count(port, "containerPort");
            let (host_ip, host_port) = (tree::text(port, "hostIP"), tree::count(port, "hostPort"));
            let protocol = tree::text(port, "protocol");
            if !host_ip.is_empty() && host_port == 0 {
                let name = tree::text(port, "name");
                warnings.push(format!(
                    "{path}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{host_ip}}}"
                ));
            }
            let key = format!("{number}/{protocol}");
            for (_, other_path, other) in seen.iter().filter(|(other, ..)| *other == key) {
                let (other_ip, other_port) = (tree::text(other, "hostIP"), tree::count(other, "hostPort"));
                let what = if host_ip == other_ip && host_port == other_port {
                    "duplicate"
                } else if host_port == 0 || other_port == 0 {
                    "overlapping"
                } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{path}: {what} port definition with {other_path}"));
            }
            seen.push((key, path, port));
        }
    }
    warnings
}

/// Files of one volume that would be written over each other.
fn overlapping_paths(spec: &Value) -> Vec<String> {
    let paths_of = |source: &Value| -> Vec<String> {
        let items = tree::list(source, "items").iter();
        items.map(|item| tree::text(item, "path").to_owned()).collect()
    };
    let mut warnings = Vec::new();
    for volume in tree::list(spec, "volumes") {
        let name = go_quote(tree::text(volume, "name"));
        for (field, kind, named) in [
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let Some(source) = tree::at(volume, field) else {
                continue;
            };
            let what = match named {
                "" => kind.to_owned(),
                named => format!("{kind} {}", go_quote(tree::text(source, named))),
            };
            let prefix = format!("volume {name} ({what}): overlapping paths");
            warnings.extend(overlaps(&paths_of(source), &prefix));
        }
        warnings.extend(overlaps_of_projected(volume, &name));
    }
    warnings
}

fn overlaps_of_projected(volume: &Value, name: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut all: BTreeSet<String> = BTreeSet::new();
    for source in tree::list(volume, "projected.sources") {
        let items = |part: &Value| -> Vec<String> {
            let items = tree::list(part, "items").iter();
            items.map(|item| tree::text(item, "path").to_owned()).collect()
        };
        let part = |field: &str| tree::at(source, field);
        let (paths, what) = if let Some(part) = part("configMap") {
            (items(part), format!("ConfigMap {}", go_quote(tree::text(part, "name"))))
        } else if let Some(part) = part("secret") {
            (items(part), format!("Secret {}", go_quote(tree::text(part, "name"))))
        } else if let Some(part) = part("downwardAPI") {
            (items(part), "DownwardAPI".to_owned())
        } else if let Some(part) = part("serviceAccountToken") {
            (
                vec![tree::text(part, "path").to_owned()],
                "ServiceAccountToken".to_owned(),
            )
        } else if let Some(part) = part("clusterTrustBundle") {
            let shown = tree::text_opt(part, "name").unwrap_or_else(|| tree::text(part, "signerName"));
            let what = format!("ClusterTrustBundle {}", go_quote(shown));
            (vec![tree::text(part, "path").to_owned()], what)
        } else if part("podCertificate").is_some() {
            continue;
        } else {
            warnings.push(format!("volume {name} (Projected) has no sources provided"));
            continue;
        };
        if paths.is_empty() {
            continue;
        }
        let prefix = format!("volume {name} (Projected {what}): overlapping paths");
        warnings.extend(overlaps(&paths, &prefix));
        let own: BTreeSet<String> = paths.into_iter().collect();
        let mut ordered: Vec<String> = own.iter().chain(&all).cloned().collect();
        ordered.sort();
        warnings.extend(overlaps(&ordered, &prefix));
        all.extend(own);
    }
    warnings
}

fn overlaps(paths: &[String], prefix: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for path in paths {
        let path = path.trim_end_matches('/');
        let collides = |item: &&&str| {
            !item.is_empty()
                && !path.is_empty()
                && (format!("{item}/").starts_with(path) || format!("{path}/").starts_with(**item))
        };
        if let Some(item) = seen.iter().find(collides) {
            warnings.push(format!("{prefix}: {} with {}", go_quote(path), go_quote(item)));
        }
        if !seen.contains(&path) {
            seen.push(path);
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_hardly_meant_is_told() {
        let object = json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "x"}}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}],
            "imagePullSecrets": [{"name": ""}],
            "volumes": [{"name": "v", "gitRepo": {}}, {"name": "w", "configMap": {"name": "m", "items": [{"path": "a"}, {"path": "a/b"}]}}],
            "topologySpreadConstraints": [{"topologyKey": "k"}],
            "containers": [{"name": "c", "resources": {"limits": {"memory": "1500m"}},
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP", "hostPort": 8080}]}],
        }});
        assert_eq!(
            pod(&object, &Path::new("spec").child("template")),
            [
                r#"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
                "spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                r#"volume "w" (ConfigMap "m"): overlapping paths: "a/b" with "a""#,
                r#"spec.template.spec.hostAliases[1].ip: duplicate ip "1.1.1.1""#,
                r#"spec.template.spec.imagePullSecrets[0].name: invalid empty name """#,
                r#"spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead"#,
                r#"spec.template.spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer"#,
                r#"spec.template.spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#,
                "spec.template.spec.containers[0].ports[1]: overlapping port definition with spec.template.spec.containers[0].ports[0]",
            ]
        );
    }
}
