//! `ingresses`.

use std::net::IpAddr;

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::core::service::load_balancer_addresses;
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short_names(&["ing"])
        .with_generation()
        .validate(ingress)
        .subresource(Subresource::status())
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

fn ingress(object: &Value) -> Vec<Error> {
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
        if let Some(http) = tree::at(rule, "http") {
            errors.extend(paths(http, &path.child("http")));
        }
    }
    for (index, tls) in tree::list(object, "spec.tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, name) in tree::strings(tls, "hosts").into_iter().enumerate() {
            let messages = match name.contains('*') {
                true => validate::wildcard_dns1123_subdomain(name),
                false => validate::dns1123_subdomain(name),
            };
            errors.extend(checks::invalid_each(&path.child("hosts").index(index), name, messages));
        }
        let secret = tree::text(tls, "secretName");
        if !secret.is_empty() {
            errors.extend(checks::dns_subdomain(secret, &path.child("secretName")));
        }
    }
    if let Some(class) = tree::text_opt(object, "spec.ingressClassName") {
        errors.extend(checks::dns_subdomain(class, &path.child("ingressClassName")));
    }
    errors
}

fn host(name: &str, path: &Path) -> Vec<Error> {
    if name.parse::<IpAddr>().is_ok() {
        return vec![Error::invalid(path, name, "must be a DNS name, not an IP address")];
    }
    let messages = match name.contains('*') {
        true => validate::wildcard_dns1123_subdomain(name),
        false => validate::dns1123_subdomain(name),
    };
    checks::invalid_each(path, name, messages)
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
            None => errors.push(Error::required(&path.child("pathType"), "pathType must be specified")),
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
            return vec![Error::required(path, "port name or number is required")];
        }
        (None, Some(resource)) => {
            for field in ["kind", "name"] {
                if tree::text(resource, field).is_empty() {
                    errors.push(Error::required(&path.child("resource").child(field), ""));
                }
            }
        }
        (Some(service), None) => {
            let path = path.child("service");
            match tree::text(service, "name") {
                "" => errors.push(Error::required(&path.child("name"), "")),
                name => errors.extend(checks::invalid_each(
                    &path.child("name"),
                    name,
                    validate::dns1035_label(name),
                )),
            }
            let (name, number) = (tree::text(service, "port.name"), tree::count(service, "port.number"));
            let port = path.child("port");
            match (name, number) {
                ("", 0) => errors.push(Error::required(&path, "port name or number is required")),
                ("", number) => errors.extend(checks::port_number(number, &port.child("number"))),
                (name, 0) => {
                    errors.extend(checks::invalid_each(
                        &port.child("name"),
                        name,
                        validate::port_name(name),
                    ));
                }
                _ => errors.push(Error::invalid(&path, "", "cannot set both port name & port number")),
            }
        }
    }
    errors
}
