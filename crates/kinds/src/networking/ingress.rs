//! `ingresses`.

use std::net::IpAddr;

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::ingress_class;
use crate::core::service::load_balancer_addresses;
use crate::{cells, checks, tree};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const NOT_AN_ADDRESS: &str = "must be a DNS name, not an IP address";

pub(crate) fn kind() -> Kind {
    Kind::namespaced("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short_names(&["ing"])
        .with_generation()
        .validate(|new| {
            let mut errors = ingress(new, Tolerated::default());
            errors.extend(class_annotation(new));
            errors
        })
        .validate_update(|new, old| ingress(new, Tolerated::by(old)))
        .subresource(Subresource::status().validate(|new, _| status(new)))
        .table(
            vec![
                Column::name(),
                Column::string("Class", "The controller that serves it."),
                Column::string("Hosts", "Hosts of its rules."),
                Column::string("Address", "Where it is served."),
                Column::string("Ports", "Ports it is served on."),
                Column::age(),
            ],
            |object, now| {
                let tls = !tree::list(object, "spec.tls").is_empty();
                vec![
                    cells::name(object),
                    cells::or(tree::text(object, "spec.ingressClassName"), "<none>"),
                    hosts(object).into(),
                    load_balancer_addresses(object).join(",").into(),
                    if tls { "80, 443" } else { "80" }.into(),
                    cells::age(object, now),
                ]
            },
        )
}

fn hosts(object: &Value) -> String {
    let rules = tree::list(object, "spec.rules");
    let mut hosts = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == 3;
        let host = tree::text(rule, "host");
        if !more && !host.is_empty() {
            hosts.push(host);
        }
    }
    match (hosts.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{} + {} more...", hosts.join(","), rules.len() - 3),
        (false, false) => hosts.join(","),
    }
}

/// What an update tolerates because the stored object has it already.
#[derive(Clone, Copy, Debug, Default)]
struct Tolerated {
    secret_names: bool,
    wildcard_rules: bool,
}

impl Tolerated {
    fn by(old: &Value) -> Self {
        let secret = |tls: &Value| tree::text(tls, "secretName").to_owned();
        let bad_secret = |name: String| !name.is_empty() && !validate::dns1123_subdomain(&name).is_empty();
        let bad_rule = |rule: &Value| {
            let http = tree::at(rule, "http");
            tree::text(rule, "host").contains('*') && http.is_some_and(|http| !paths(http, &Path::root()).is_empty())
        };
        Tolerated {
            secret_names: tree::list(old, "spec.tls").iter().map(secret).any(bad_secret),
            wildcard_rules: tree::list(old, "spec.rules").iter().any(bad_rule),
        }
    }
}

fn ingress(object: &Value, tolerated: Tolerated) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let rules = tree::list(object, "spec.rules");
    let default = tree::at(object, "spec.defaultBackend");
    if rules.is_empty() && default.is_none() {
        errors.push(Error::invalid(
            &path,
            rules.to_vec(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if let Some(default) = default {
        errors.extend(backend(default, &path.child("defaultBackend")));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        let name = tree::text(rule, "host");
        if !name.is_empty() {
            errors.extend(host(name, &path.child("host")));
        }
        let tolerated = tolerated.wildcard_rules && name.contains('*');
        if let Some(http) = tree::at(rule, "http").filter(|_| !tolerated) {
            errors.extend(paths(http, &path.child("http")));
        }
    }
    for (index, tls) in tree::list(object, "spec.tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, name) in tree::strings(tls, "hosts").into_iter().enumerate() {
            let path = path.child("hosts").index(index);
            errors.extend(checks::invalid_each(&path, name, host_faults(name)));
        }
        let secret = tree::text(tls, "secretName");
        if !secret.is_empty() && !tolerated.secret_names {
            errors.extend(checks::dns_subdomain(secret, &path.child("secretName")));
        }
    }
    if let Some(class) = tree::text_opt(object, "spec.ingressClassName") {
        errors.extend(checks::dns_subdomain(class, &path.child("ingressClassName")));
    }
    errors
}

/// The annotation that named the class before the field did must agree with it.
fn class_annotation(object: &Value) -> Option<Error> {
    let annotation = meta::annotation(object, CLASS_ANNOTATION)?;
    let class = tree::text_opt(object, "spec.ingressClassName")?;
    let path = Path::new("annotations").child(CLASS_ANNOTATION);
    let detail = "must match `ingressClassName` when both are specified";
    (annotation != class).then(|| Error::invalid(&path, annotation, detail))
}

fn status(object: &Value) -> Vec<Error> {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let mut errors = Vec::new();
    for (index, point) in tree::list(object, "status.loadBalancer.ingress").iter().enumerate() {
        let path = path.index(index);
        let (ip, hostname) = (tree::text(point, "ip"), tree::text(point, "hostname"));
        if !ip.is_empty() {
            errors.extend(validate::ip_for_legacy_field(&path.child("ip"), ip));
        }
        if !hostname.is_empty() {
            let path = path.child("hostname");
            errors.extend(checks::dns_subdomain(hostname, &path));
            if hostname.parse::<IpAddr>().is_ok() {
                errors.push(Error::invalid(&path, hostname, NOT_AN_ADDRESS));
            }
        }
    }
    errors
}

fn host(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.parse::<IpAddr>().is_ok() {
        errors.push(Error::invalid(path, name, NOT_AN_ADDRESS));
    }
    errors.extend(checks::invalid_each(path, name, host_faults(name)));
    errors
}

fn host_faults(name: &str) -> Vec<String> {
    match name.contains('*') {
        true => validate::wildcard_dns1123_subdomain(name),
        false => validate::dns1123_subdomain(name),
    }
}

fn paths(http: &Value, path: &Path) -> Vec<Error> {
    let list = tree::list(http, "paths");
    let path = path.child("paths");
    if list.is_empty() {
        return vec![Error::required(&path, "")];
    }
    let mut errors = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text_opt(item, "pathType");
        let (value, value_path) = (tree::text(item, "path"), path.child("path"));
        match kind {
            None => {
                errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
                continue;
            }
            Some("Exact" | "Prefix") => {
                if !value.starts_with('/') {
                    errors.push(Error::invalid(&value_path, value, "must be an absolute path"));
                }
                for part in ["//", "/./", "/../", "%2f", "%2F"]
                    .iter()
                    .filter(|part| value.contains(**part))
                {
                    errors.push(Error::invalid(&value_path, value, format!("must not contain '{part}'")));
                }
                for end in ["/..", "/."].iter().filter(|end| value.ends_with(**end)) {
                    errors.push(Error::invalid(&value_path, value, format!("cannot end with '{end}'")));
                }
            }
            Some("ImplementationSpecific") => {
                if !value.is_empty() && !value.starts_with('/') {
                    errors.push(Error::invalid(&value_path, value, "must be an absolute path"));
                }
            }
            Some(other) => {
                let known = &["Exact", "ImplementationSpecific", "Prefix"];
                errors.push(Error::not_supported(&path.child("pathType"), other, known));
            }
        }
        let target = tree::at(item, "backend").unwrap_or(&Value::Null);
        errors.extend(backend(target, &path.child("backend")));
    }
    errors
}

fn backend(backend: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let service = tree::at(backend, "service");
    let resource = tree::at(backend, "resource");
    match (service, resource) {
        (Some(_), Some(_)) => {
            return vec![Error::invalid(
                path,
                "",
                "cannot set both resource and service backends",
            )];
        }
        (None, None) => {
            return vec![Error::invalid(path, "", "resource or service backend is required")];
        }
        (None, Some(resource)) => {
            errors.extend(ingress_class::typed_reference(resource, &path.child("resource")));
        }
        (Some(service), None) => errors.extend(service_backend(service, path)),
    }
    errors
}

fn service_backend(service: &Value, path: &Path) -> Vec<Error> {
    let service_path = path.child("service");
    let mut errors = match tree::text(service, "name") {
        "" => vec![Error::required(&service_path.child("name"), "")],
        name => checks::invalid_each(&service_path.child("name"), name, validate::dns1123_label(name)),
    };
    let (name, number) = (tree::text(service, "port.name"), tree::count(service, "port.number"));
    let port = service_path.child("port");
    match (name, number) {
        ("", 0) => errors.push(Error::required(path, "port name or number is required")),
        ("", number) => errors.extend(checks::port_number(number, &port.child("number"))),
        (name, 0) => {
            let messages = validate::port_name(name);
            errors.extend(checks::invalid_each(&port.child("name"), name, messages));
        }
        _ => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn faults_have_their_paths() {
        let bad = json!({"spec": {"ingressClassName": "A", "defaultBackend": {},
            "rules": [{"host": "10.0.0.1", "http": {"paths": []}},
                {"host": "*.a.b", "http": {"paths": [{}, {"path": "a//b/..", "pathType": "Exact",
                    "backend": {"service": {"name": "A", "port": {"name": "p", "number": 1}}}}]}}],
            "tls": [{"hosts": ["A"], "secretName": "A"}]}});
        assert_eq!(
            fields(ingress(&bad, Tolerated::default())),
            [
                "spec.defaultBackend",
                "spec.rules[0].host",
                "spec.rules[0].http.paths",
                "spec.rules[1].http.paths[0].pathType",
                "spec.rules[1].http.paths[1].path",
                "spec.rules[1].http.paths[1].path",
                "spec.rules[1].http.paths[1].path",
                "spec.rules[1].http.paths[1].backend.service.name",
                "spec.rules[1].http.paths[1].backend",
                "spec.tls[0].hosts[0]",
                "spec.tls[0].secretName",
                "spec.ingressClassName",
            ]
        );
        let tolerated = fields(ingress(&bad, Tolerated::by(&bad)));
        assert!(
            !tolerated
                .iter()
                .any(|field| field.contains("secretName") || field.contains("rules[1]"))
        );
    }

    #[test]
    fn class_and_status_are_checked() {
        let object = json!({"metadata": {"annotations": {CLASS_ANNOTATION: "a"}}, "spec": {"ingressClassName": "b"},
            "status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "10.0.0.1"}, {"ip": "10.0.0.1"}]}}});
        assert!(class_annotation(&object).is_some());
        assert_eq!(
            fields(status(&object)),
            [
                "status.loadBalancer.ingress[0].ip",
                "status.loadBalancer.ingress[1].hostname"
            ]
        );
    }
}
