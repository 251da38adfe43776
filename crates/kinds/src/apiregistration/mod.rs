//! The group `apiregistration.k8s.io`: `apiservices`, which say where each group and version is
//! served: by this server, or by a service that it passes requests on to.

use api::field::{Error, Path};
use api::{GroupVersion, Value, meta, time, validate};
use apiserver::Kind;
use apiserver::kind::{Column, NameRule, Subresource};
use serde_json::json;

use crate::{cells, checks, parts, tree};

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
/// Says that the server made the object, once.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// (group, its priority, its versions with theirs), as upstream has them
/// (`controlplane/apiserver/aggregator.go`).
const PRIORITIES: &[(&str, i64, &[(&str, i64)])] = &[
    ("", 18000, &[("v1", 1)]),
    ("apps", 17800, &[("v1", 15)]),
    ("events.k8s.io", 17750, &[("v1", 15)]),
    ("authentication.k8s.io", 17700, &[("v1", 15)]),
    ("authorization.k8s.io", 17600, &[("v1", 15)]),
    ("autoscaling", 17500, &[("v1", 15), ("v2", 30)]),
    ("batch", 17400, &[("v1", 15)]),
    ("certificates.k8s.io", 17300, &[("v1", 15)]),
    ("networking.k8s.io", 17200, &[("v1", 15)]),
    ("policy", 17100, &[("v1", 15)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15)]),
    ("storage.k8s.io", 16800, &[("v1", 15)]),
    ("apiextensions.k8s.io", 16700, &[("v1", 15)]),
    ("admissionregistration.k8s.io", 16700, &[("v1", 15)]),
    ("scheduling.k8s.io", 16600, &[("v1", 15)]),
    ("coordination.k8s.io", 16500, &[("v1", 15)]),
    ("node.k8s.io", 16300, &[("v1", 15)]),
    ("discovery.k8s.io", 16200, &[("v1", 15)]),
    ("flowcontrol.apiserver.k8s.io", 16100, &[("v1", 21)]),
    ("resource.k8s.io", 15900, &[("v1", 20)]),
    ("storagemigration.k8s.io", 15800, &[("v1", 15)]),
];

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "APIService", "apiservices")
        .categories(&["api-extensions"])
        .forbid_unconditional_update()
        // Group and version decide the name: see `service`.
        .name_rule(NameRule::PathSegment)
        .default(|service| {
            if let Some(reference) = tree::at_mut(service, "spec.service")
                && tree::int(reference, "port").is_none()
            {
                tree::set(reference, "port", 443);
            }
        })
        .prepare_create(|context, service| {
            if tree::at(service, "spec.service").is_none() {
                tree::set(service, "status", local_status(&time::format(context.now)));
            }
        })
        .validate(service)
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| parts::status_only(new, old))
                .validate(|new, _| status(new)),
        )
        .table(
            vec![
                Column::name(),
                Column::string("Service", "The reference to the service that hosts this API endpoint."),
                Column::string("Available", "Whether this service is available."),
                Column::age(),
            ],
            |service, now| {
                vec![
                    cells::name(service),
                    place(service).into(),
                    availability(service).into(),
                    cells::age(service, now),
                ]
            },
        )
}

fn local_status(now: &str) -> Value {
    json!({"conditions": [{
        "type": "Available",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }]})
}

fn place(service: &Value) -> String {
    let Some(reference) = tree::at(service, "spec.service") else {
        return "Local".to_owned();
    };
    format!(
        "{}/{}",
        tree::text(reference, "namespace"),
        tree::text(reference, "name")
    )
}

fn availability(service: &Value) -> String {
    let mut conditions = tree::list(service, "status.conditions").iter();
    let Some(condition) = conditions.find(|condition| tree::text(condition, "type") == "Available") else {
        return "Unknown".to_owned();
    };
    match (tree::text(condition, "status"), tree::text(condition, "reason")) {
        ("True", _) => "True".to_owned(),
        (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}

fn service(service: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let (group, version) = (tree::text(service, "spec.group"), tree::text(service, "spec.version"));
    let (name, wanted) = (meta::name(service), format!("{version}.{group}"));
    let mut errors = Vec::new();
    if !name.is_empty() && validate::path_segment_name(name).is_empty() && name != wanted {
        let detail = format!(
            "must be `spec.version+\".\"+spec.group`: {}",
            api::field::go_quote(&wanted)
        );
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(Error::required(&path.child("group"), detail));
    }
    if !group.is_empty() {
        errors.extend(checks::dns_subdomain(group, &path.child("group")));
    }
    let messages = validate::dns1035_label(version);
    errors.extend(checks::invalid_each(&path.child("version"), version, messages));
    for (field, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
        let priority = tree::count(service, &format!("spec.{field}"));
        if !(1..=most).contains(&priority) {
            let detail = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&path.child(field), priority, detail));
        }
    }
    errors.extend(reference(service, &path));
    errors
}

fn reference(service: &Value, path: &Path) -> Vec<Error> {
    let bundle = tree::text(service, "spec.caBundle");
    let insecure = tree::flag(service, "spec.insecureSkipTLSVerify");
    let insecure_path = path.child("insecureSkipTLSVerify");
    let mut errors = Vec::new();
    let Some(reference) = tree::at(service, "spec.service") else {
        if !bundle.is_empty() {
            let bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            let detail = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(
                &path.child("caBundle"),
                format!("{bytes} bytes"),
                detail,
            ));
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Error::invalid(&insecure_path, true, detail));
        }
        return errors;
    };
    let service_path = path.child("service");
    for field in ["namespace", "name"] {
        if tree::text(reference, field).is_empty() {
            errors.push(Error::required(&service_path.child(field), ""));
        }
    }
    let port = tree::count(reference, "port");
    let messages = validate::port_number(port);
    if !messages.is_empty() {
        let detail = format!("port is not valid: {}", messages.join(", "));
        errors.push(Error::invalid(&service_path.child("port"), port, detail));
    }
    if insecure && !bundle.is_empty() {
        errors.push(Error::invalid(
            &insecure_path,
            true,
            "may not be true if caBundle is present",
        ));
    }
    errors
}

fn status(service: &Value) -> Vec<Error> {
    let known = &["True", "False", "Unknown"];
    let mut errors = Vec::new();
    for (index, condition) in tree::list(service, "status.conditions").iter().enumerate() {
        let status = tree::text(condition, "status");
        if !known.contains(&status) {
            let path = Path::new("status").child("conditions").index(index).child("status");
            errors.push(Error::not_supported(&path, status, known));
        }
    }
    errors
}

/// The object that says that this server serves a group and version itself; `None` if upstream has
/// no priorities for it.
pub fn local(served: &GroupVersion) -> Option<Value> {
    let (group, group_priority, versions) = PRIORITIES.iter().find(|(group, ..)| *group == served.group)?;
    let (version, version_priority) = versions.iter().find(|(version, _)| *version == served.version)?;
    let mut spec = json!({
        "version": version,
        "groupPriorityMinimum": group_priority,
        "versionPriority": version_priority,
    });
    if !group.is_empty() {
        spec["group"] = (*group).into();
    }
    Some(json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "APIService",
        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: "onstart"}},
        "spec": spec,
    }))
}

/// The objects of every group and version that this server serves itself.
pub fn local_services() -> Vec<Value> {
    let served = PRIORITIES.iter().flat_map(|(group, _, versions)| {
        let versions = versions.iter();
        versions.map(move |(version, _)| GroupVersion::new(*group, *version))
    });
    served.filter_map(|served| local(&served)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_services_are_valid() {
        for (group, _, versions) in PRIORITIES {
            for (version, _) in *versions {
                let object = local(&GroupVersion::new(*group, *version)).unwrap();
                assert_eq!(service(&object), [], "{group}/{version}");
                assert_eq!(place(&object), "Local");
            }
        }
    }

    #[test]
    fn faults_have_their_paths() {
        let bad = json!({"metadata": {"name": "x"}, "spec": {"version": "V1", "service": {"port": 0},
            "insecureSkipTLSVerify": true, "caBundle": "YQ=="}});
        let fields: Vec<String> = service(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "metadata.name",
                "spec.group",
                "spec.version",
                "spec.groupPriorityMinimum",
                "spec.versionPriority",
                "spec.service.namespace",
                "spec.service.name",
                "spec.service.port",
                "spec.insecureSkipTLSVerify",
            ]
        );
    }
}
