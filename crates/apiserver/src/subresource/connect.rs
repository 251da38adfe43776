//! Connections to pods and nodes: where they go (`pkg/registry/core/{pod,node}/rest`).

use std::net::IpAddr;
use std::sync::Arc;

use api::{Status, Value, meta};

use super::proxy::{self, Destination};
use super::translate::{self, Asked};
use super::{log_options, log_socket};
use crate::authz::{self, Attributes};
use crate::body::Body;
use crate::cache::{At, ListParams, Selection};
use crate::call::Call;
use crate::kind::{Connect, value_at};
use crate::resource::{Resource, cache_status};
use crate::respond::{self, Answer};
use crate::state::State;
use crate::verbs::get;

/// The node agent's port, if the node does not say.
const KUBELET_PORT: u16 = 10250;
/// The address types of a node in the order they are tried.
const ADDRESS_TYPES: [&str; 5] = ["InternalIP", "Hostname", "InternalDNS", "ExternalIP", "ExternalDNS"];

/// Answers the request by what is at the other end.
pub(super) async fn handle(
    state: &Arc<State>,
    call: &Call,
    resource: &Arc<Resource>,
    connect: Connect,
    body: Body,
) -> Result<Answer, Status> {
    if call.query.non_empty("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    match connect {
        Connect::PodProxy => return pod_proxy(state, call, resource, body).await,
        Connect::ServiceProxy => return service_proxy(state, call, resource, body).await,
        Connect::NodeProxy => {
            let to = node_address(resource, &call.info.name).await?;
            return proxy::forward_path(state, call, &to, &rest_of_path(call), body).await;
        }
        _ => {}
    }
    if connect == Connect::Log {
        log_options::validate(&call.query)?;
    }
    let entry = get::find(call, resource).await?;
    let pod = resource.value(&entry);
    let options = stream_options(call, connect);
    let base = match connect {
        Connect::Log => format!("/containerLogs/{}/{}", meta::namespace(&pod), meta::name(&pod)),
        Connect::Exec => format!("/exec/{}/{}", meta::namespace(&pod), meta::name(&pod)),
        Connect::Attach => format!("/attach/{}/{}", meta::namespace(&pod), meta::name(&pod)),
        _ => format!("/portForward/{}/{}", meta::namespace(&pod), meta::name(&pod)),
    };
    let path = if connect == Connect::PortForward {
        base
    } else {
        format!("{base}/{}", container(&pod, call.query.get("container").unwrap_or(""))?)
    };
    let node = value_at(&pod, "spec.nodeName").and_then(Value::as_str).unwrap_or("");
    if node.is_empty() {
        if connect == Connect::Log {
            return Ok(respond::text(200, ""));
        }
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            meta::name(&pod)
        )));
    }
    if connect != Connect::Log {
        also_create(state, call).await?;
    }
    let nodes = state.resource("", "v1", "nodes").ok_or_else(Status::unknown_resource)?;
    let node = find(&nodes, "", node).await?;
    let mut to = kubelet(&node)?;
    if connect == Connect::Log {
        if call.query.flag("insecureSkipTLSVerifyBackend") {
            to.tls = proxy::Tls::KubeletUnverified;
        }
        let answer = proxy::ask_agent(state, call, &to, &path, &options).await?;
        let log = log_options::answer(answer, meta::name(&pod)).await?;
        return if log_socket::is_wanted(call) {
            log_socket::answer(call, log)
        } else {
            Ok(log)
        };
    }
    if !streams::is_upgrade(&call.headers) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let asked = Asked {
        to: &to,
        path: &path,
        query: &options,
    };
    if let Some(answer) = translate::answer(state, call, connect, &node, &asked).await {
        return answer;
    }
    proxy::upgrade_at_agent(state, call, &to, &path, &options).await
}

/// A WebSocket comes as a GET, but does what needs `create`.
async fn also_create(state: &State, call: &Call) -> Result<(), Status> {
    if call.info.verb != "get" {
        return Ok(());
    }
    let mut attributes = Attributes::of(&call.info, &call.user);
    attributes.verb = "create".to_owned();
    authz::require(state, &attributes).await
}

async fn find(resource: &Resource, namespace: &str, name: &str) -> Result<Value, Status> {
    let entry = resource.latest(namespace, name).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&resource.group_resource(), name))?;
    Ok(resource.value(&entry))
}

/// The parameters the node agent gets.
fn stream_options(call: &Call, connect: Connect) -> Vec<(String, String)> {
    let query = &call.query;
    let mut options = Vec::new();
    let mut push = |name: &str, value: &str| options.push((name.to_owned(), value.to_owned()));
    match connect {
        Connect::Log => {
            for flag in ["follow", "previous", "timestamps"] {
                if query.flag(flag) {
                    push(flag, "true");
                }
            }
            for name in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
                if let Some(value) = query.non_empty(name) {
                    push(name, value);
                }
            }
        }
        Connect::PortForward => {
            let ports: Vec<&str> = query.all("ports").collect();
            if !ports.is_empty() {
                push("port", &ports.join(","));
            }
        }
        _ => {
            // Upstream's defaults of PodExecOptions: output on, unless the query says otherwise.
            for (ours, theirs, default) in [
                ("stdin", "input", false),
                ("stdout", "output", true),
                ("stderr", "error", true),
                ("tty", "tty", false),
            ] {
                if query.optional_flag(ours).unwrap_or(default) {
                    push(theirs, "1");
                }
            }
            for command in query.all("command") {
                push("command", command);
            }
        }
    }
    options
}

fn containers(pod: &Value) -> impl Iterator<Item = &str> {
    ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"]
        .into_iter()
        .filter_map(|path| value_at(pod, path).and_then(Value::as_array))
        .flatten()
        .filter_map(|c| c.get("name").and_then(Value::as_str))
}

/// The container that is meant (`validateContainer`).
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = meta::name(pod);
    if !asked.is_empty() {
        if containers(pod).any(|c| c == asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        )));
    }
    let names = |path: &str| -> Vec<&str> {
        let list = value_at(pod, path).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|c| c.get("name").and_then(Value::as_str)).collect()
    };
    let main = names("spec.containers");
    match main.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            let init = names("spec.initContainers");
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// A node's agent, or another port of the node, which is no agent to show our certificate to.
async fn node_address(nodes: &Resource, id: &str) -> Result<Destination, Status> {
    let (scheme, name, port) = split_name("node", id)?;
    let agent = kubelet(&find(nodes, "", &name).await?)?;
    let port = port.map(|port| port.parse().map_err(|_| bad_name("node", id)));
    match port.transpose()? {
        Some(port) if port != agent.port => Ok(Destination {
            host: pod_address(&agent.host)?,
            port,
            tls: tls_of(&scheme),
        }),
        _ => Ok(agent),
    }
}

/// GETs a text from a node's agent.
///
/// # Errors
/// It has none, or does not answer.
pub(crate) async fn ask_kubelet(state: &State, node: &Value, path: &str) -> std::io::Result<String> {
    // Who has an agent says where: simulated nodes have none.
    if value_at(node, "status.daemonEndpoints.kubeletEndpoint.Port").is_none() {
        return Err(std::io::Error::other("the node has no agent to ask"));
    }
    let to = kubelet(node).map_err(std::io::Error::other)?;
    proxy::get_text(state, &to, path).await
}

/// Where the node's agent listens.
fn kubelet(node: &Value) -> Result<Destination, Status> {
    let addresses: Vec<&Value> = value_at(node, "status.addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let host = ADDRESS_TYPES.iter().find_map(|wanted| {
        let found = addresses
            .iter()
            .find(|a| a.get("type").and_then(Value::as_str) == Some(wanted))?;
        found.get("address").and_then(Value::as_str).filter(|a| !a.is_empty())
    });
    let port = value_at(node, "status.daemonEndpoints.kubeletEndpoint.Port").and_then(Value::as_u64);
    Ok(Destination {
        host: host
            .ok_or_else(|| {
                Status::internal(format!(
                    "no preferred addresses found; known addresses: {}",
                    Value::from(addresses.into_iter().cloned().collect::<Vec<_>>())
                ))
            })?
            .to_owned(),
        port: port
            .and_then(|p| u16::try_from(p).ok())
            .filter(|p| *p > 0)
            .unwrap_or(KUBELET_PORT),
        tls: proxy::Tls::Kubelet,
    })
}

fn bad_name(what: &str, name: &str) -> Status {
    Status::bad_request(format!("invalid {what} request {}", api::field::go_quote(name)))
}

/// `name`, `name:port`, `scheme:name:port` or `scheme:name:`.
fn split_name(what: &str, text: &str) -> Result<(String, String, Option<String>), Status> {
    let owned = |s: &str| s.to_owned();
    let port = |p: &str| (!p.is_empty()).then(|| owned(p));
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [name] if !name.is_empty() => Ok((owned("http"), owned(name), None)),
        [name, p] if !name.is_empty() && !p.is_empty() => Ok((owned("http"), owned(name), port(p))),
        [scheme @ ("" | "http" | "https"), name, p] if !name.is_empty() => {
            let scheme = if scheme.is_empty() { "http" } else { scheme };
            Ok((owned(scheme), owned(name), port(p)))
        }
        _ => Err(bad_name(what, text)),
    }
}

/// The path after `proxy`, as the client wrote it; empty if it ends there.
fn rest_of_path(call: &Call) -> String {
    let path = &call.info.path;
    let marker = "/proxy";
    let after_name = path
        .find(&format!("/{}{marker}", call.info.name))
        .map(|at| &path[at + call.info.name.len() + 1 + marker.len()..]);
    let rest = after_name
        .or_else(|| path.split_once(marker).map(|(_, rest)| rest))
        .unwrap_or("");
    rest.to_owned()
}

/// Pods are reached at their own address only: never at the host's loopback or link-local ones.
fn pod_address(text: &str) -> Result<String, Status> {
    let address: Option<IpAddr> = text.parse().ok();
    let allowed = address.is_some_and(|a| {
        let link_local = match a {
            IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
            IpAddr::V6(a) => a.is_unicast_link_local(),
        };
        !(a.is_loopback() || a.is_multicast() || a.is_unspecified() || link_local)
    });
    if allowed {
        Ok(text.to_owned())
    } else {
        Err(Status::bad_request("address not allowed"))
    }
}

fn tls_of(scheme: &str) -> proxy::Tls {
    if scheme == "https" {
        proxy::Tls::Unverified
    } else {
        proxy::Tls::None
    }
}

async fn pod_proxy(state: &Arc<State>, call: &Call, pods: &Resource, body: Body) -> Result<Answer, Status> {
    let (scheme, name, port) = split_name("pod", &call.info.name)?;
    let pod = find(pods, &call.info.namespace, &name).await?;
    let first = value_at(&pod, "spec.containers")
        .and_then(Value::as_array)
        .and_then(|list| {
            list.iter()
                .find_map(|c| c.get("ports")?.get(0)?.get("containerPort")?.as_u64())
        });
    let port = match port {
        Some(port) => port.parse().map_err(|_| bad_name("pod", &call.info.name))?,
        None => first.and_then(|p| u16::try_from(p).ok()).unwrap_or(80),
    };
    let host = pod_address(value_at(&pod, "status.podIP").and_then(Value::as_str).unwrap_or(""))?;
    let to = Destination {
        host,
        port,
        tls: tls_of(&scheme),
    };
    proxy::forward_path(state, call, &to, &rest_of_path(call), body).await
}

/// The name of the port that is meant: a number is one that the service has.
fn port_name(service: &Value, port: Option<String>) -> Result<String, Status> {
    let Some(number) = port.as_deref().and_then(|port| port.parse::<i64>().ok()) else {
        return Ok(port.unwrap_or_default());
    };
    let ports = value_at(service, "spec.ports").and_then(Value::as_array);
    let found = ports.into_iter().flatten().find(|p| p["port"].as_i64() == Some(number));
    let found = found.ok_or_else(|| {
        let name = api::field::go_quote(meta::name(service));
        Status::service_unavailable(format!("no service port {number} found for service {name}"))
    })?;
    Ok(found["name"].as_str().unwrap_or("").to_owned())
}

/// A ready endpoint of the service, at random.
async fn service_proxy(state: &Arc<State>, call: &Call, services: &Resource, body: Body) -> Result<Answer, Status> {
    let (scheme, name, port) = split_name("service", &call.info.name)?;
    let service = find(services, &call.info.namespace, &name).await?;
    let wanted = port_name(&service, port)?;
    let mut targets = targets(state, &service, &wanted).await?;
    if targets.is_empty() {
        return Err(Status::service_unavailable(format!(
            "no endpoints available for service {}",
            api::field::go_quote(&name)
        )));
    }
    let (host, port) = targets.swap_remove(rand::random_range(0..targets.len()));
    let to = Destination {
        host: pod_address(&host)?,
        port,
        tls: tls_of(&scheme),
    };
    proxy::forward_path(state, call, &to, &rest_of_path(call), body).await
}

/// The service's ready endpoints that are pods indeed: anybody may write an address into a slice.
async fn targets(state: &State, service: &Value, port_name: &str) -> Result<Vec<(String, u16)>, Status> {
    let slices = state.any_version("discovery.k8s.io", "endpointslices");
    let (Some(slices), Some(pods)) = (slices, state.resource("", "v1", "pods")) else {
        return Ok(Vec::new());
    };
    let namespace = meta::namespace(service);
    let service_name = meta::name(service).to_owned();
    let params = ListParams {
        at: At::Latest,
        selection: Selection {
            namespace: Some(namespace.to_owned()),
            matcher: Some(Arc::new(move |entry| {
                entry.labels().get("kubernetes.io/service-name") == Some(&service_name)
            })),
            ..Selection::default()
        },
        limit: 0,
        start_after: None,
    };
    let page = slices.cache.list(params).await.map_err(cache_status)?;
    let mut targets: Vec<(String, u16)> = Vec::new();
    for entry in &page.entries {
        let slice = slices.value(entry);
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let port = ports.find(|p| p["name"].as_str().unwrap_or("") == port_name);
        let port = port
            .and_then(|p| p["port"].as_u64())
            .and_then(|p| u16::try_from(p).ok());
        let Some(port) = port else {
            continue;
        };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let ready = value_at(endpoint, "conditions.ready").and_then(Value::as_bool);
            if ready.unwrap_or(true)
                && let Some(address) = endpoint["addresses"][0].as_str()
                && is_pod(&pods, namespace, &endpoint["targetRef"], address)
            {
                targets.push((address.to_owned(), port));
            }
        }
    }
    Ok(targets)
}

/// Whether the reference is to a pod that has the address.
fn is_pod(pods: &Resource, namespace: &str, target: &Value, address: &str) -> bool {
    let name = target["name"].as_str().filter(|_| target["kind"] == "Pod");
    let Some(pod) = name.and_then(|name| pods.cached(namespace, name)) else {
        return false;
    };
    let mut addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
    pod["status"]["podIP"] == address || addresses.any(|ip| ip["ip"] == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_schemes_and_ports() {
        let split = |text: &str| split_name("pod", text).ok().map(|(s, n, p)| format!("{s} {n} {p:?}"));
        assert_eq!(split("a").as_deref(), Some("http a None"));
        assert_eq!(split("a:80").as_deref(), Some("http a Some(\"80\")"));
        assert_eq!(split("https:a:443").as_deref(), Some("https a Some(\"443\")"));
        assert_eq!(split("https:a:").as_deref(), Some("https a None"));
        assert_eq!(split("ftp:a:1"), None);
        assert_eq!(split(""), None);
    }

    #[test]
    fn pods_are_not_the_host() {
        for bad in ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "nonsense", ""] {
            assert!(pod_address(bad).is_err(), "{bad}");
        }
        assert!(pod_address("10.244.0.5").is_ok());
    }
}
