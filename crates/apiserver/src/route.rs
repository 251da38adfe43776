//! From a parsed request to the code that answers it.

use std::sync::Arc;

use api::Status;

use crate::aggregation;
use crate::body::Body;
use crate::call::Call;
use crate::component_status;
use crate::kind::{Behaviour, Subresource, Verb};
use crate::non_resource;
use crate::resource::{Registry, Resource};
use crate::respond::{self, Answer};
use crate::reviews;
use crate::server::read_body;
use crate::state::State;
use crate::subresource;
use crate::usage;
use crate::verbs::{create, delete, get, list, update, watch};

/// Answers an authorized request.
///
/// # Errors
/// What the client is told instead of an answer.
pub(crate) async fn dispatch(state: &Arc<State>, call: &Call, body: Body) -> Result<Answer, Status> {
    let info = &call.info;
    let registry = state.registry.load_full();
    if let Some(remote) = registry.remote_of_path(&info.path) {
        if remote.is_built_in() {
            return usage::answer(state, call).await;
        }
        return aggregation::forward(state, call, remote, body).await;
    }
    if !info.is_resource {
        return non_resource::answer(state, call).await;
    }
    check_segments(call)?;
    // Objects have no HEAD: only GET is routed. What is behind a proxy may have it.
    if call.method == http::Method::HEAD && info.subresource != "proxy" {
        return Err(Status::method_not_allowed());
    }
    let Some(resource) = registry.get(&info.group, &info.version, &info.resource).cloned() else {
        let Some((kind, review)) = registry.review(&info.group, &info.version, &info.resource) else {
            return nothing_there(&registry, call);
        };
        let body = read_body(body).await?;
        return reviews::handle(state, call, kind, *review, body).await;
    };
    if let Some(custom) = &resource.kind.custom {
        call.warnings.extend(custom.warning.clone());
        if custom.is_terminating() && info.verb == "create" && info.subresource.is_empty() {
            let mut refusal = Status::method_not_supported(&resource.group_resource(), "create");
            refusal.message = "create not allowed while custom resource definition is terminating".to_owned();
            return Err(refusal);
        }
    }
    if let Some(warning) = resource.kind.deprecated {
        call.warnings.add(warning);
    }
    if info.subresource.is_empty() {
        return main(state, call, &resource, body).await;
    }
    let Some(found) = resource.kind.find_subresource(&info.subresource).cloned() else {
        // Custom resources have one handler for all paths (`customresource_handler.go`).
        if resource.kind.custom.is_some() {
            return Err(Status::not_found(&resource.group_resource(), &info.name));
        }
        return Err(Status::unknown_resource());
    };
    let proxies = matches!(&found.behaviour, Behaviour::Connect(connect) if connect.is_proxy());
    if info.parts.len() > 3 && !proxies {
        return Err(Status::unknown_resource());
    }
    sub(state, call, &resource, &found, body).await
}

/// Names come percent-decoded: none may reach beyond its place in a key.
fn check_segments(call: &Call) -> Result<(), Status> {
    for (what, text) in [("Name", &call.info.name), ("Namespace", &call.info.namespace)] {
        let messages = api::validate::path_segment_name(text);
        if !messages.is_empty() {
            let text = api::field::go_quote(text);
            return Err(Status::bad_request(format!(
                "{what} parameter invalid: {text}: {}",
                messages.join(";")
            )));
        }
    }
    Ok(())
}

/// Nobody serves the resource: a Status if its group and version are served, as upstream's router
/// answers, else what its mux says.
fn nothing_there(registry: &Registry, call: &Call) -> Result<Answer, Status> {
    let info = &call.info;
    let served = |kind: &crate::Kind| kind.gvk.group == info.group && kind.gvk.version == info.version;
    if registry.kinds().any(served) {
        return Err(Status::unknown_resource());
    }
    Ok(not_found())
}

/// What upstream's mux says of a path that nobody serves.
pub(crate) fn not_found() -> Answer {
    respond::text(404, "404 page not found\n")
}

/// The verbs of the resource itself.
async fn main(state: &Arc<State>, call: &Call, resource: &Arc<Resource>, body: Body) -> Result<Answer, Status> {
    let Some(verb) = Verb::parse(&call.info.verb).filter(|v| resource.kind.verbs.contains(v)) else {
        return Err(Status::method_not_allowed());
    };
    // A namespaced object has no name without a namespace, and a create has none in its path.
    let named = call.info.named;
    let namespaced = resource.kind.is_namespaced();
    let in_namespace = !call.info.namespace.is_empty();
    let is_namespace = resource.kind.gvk.group.is_empty() && resource.kind.plural == "namespaces";
    if in_namespace && !namespaced && !is_namespace {
        return Err(Status::unknown_resource());
    }
    let rootless = namespaced && !in_namespace && (named || !matches!(verb, Verb::List | Verb::Watch));
    let misplaced = match verb {
        Verb::Create | Verb::List | Verb::DeleteCollection => named,
        Verb::Watch => false,
        _ => !named,
    };
    if rootless || misplaced {
        return Err(Status::method_not_allowed());
    }
    match verb {
        Verb::Get if component_status::is(resource) => component_status::get(state, call, resource).await,
        Verb::List if component_status::is(resource) => component_status::list(state, call, resource).await,
        Verb::Get => get::handle(call, resource).await,
        Verb::List => list::handle(call, resource).await,
        Verb::Watch => watch::handle(call, resource).await,
        Verb::Create => create::handle(state, call, resource, read_body(body).await?).await,
        Verb::Update => {
            let body = read_body(body).await?;
            update::handle_put(state, call, resource, update::Target::Main, body).await
        }
        Verb::Patch => {
            let body = read_body(body).await?;
            update::handle_patch(state, call, resource, update::Target::Main, body).await
        }
        Verb::Delete => delete::handle(state, call, resource, read_body(body).await?).await,
        Verb::DeleteCollection => delete::handle_collection(state, call, resource, read_body(body).await?).await,
    }
}

/// A subresource of an object.
async fn sub(
    state: &Arc<State>,
    call: &Call,
    resource: &Arc<Resource>,
    sub: &Subresource,
    body: Body,
) -> Result<Answer, Status> {
    let verb = Verb::parse(&call.info.verb).filter(|verb| sub.verbs.contains(verb));
    // A proxy passes on OPTIONS as well, for which there is no verb.
    let proxied = matches!(&sub.behaviour, Behaviour::Connect(connect) if connect.is_proxy());
    let options = (proxied && call.method == http::Method::OPTIONS).then_some(Verb::Get);
    let Some(verb) = verb.or(options) else {
        return Err(Status::method_not_allowed());
    };
    match &sub.behaviour {
        Behaviour::Part(part) => {
            let target = update::Target::Part(sub.name, part);
            match verb {
                Verb::Get => get::handle(call, resource).await,
                Verb::Update => {
                    let body = read_body(body).await?;
                    update::handle_put(state, call, resource, target, body).await
                }
                Verb::Patch => {
                    let body = read_body(body).await?;
                    update::handle_patch(state, call, resource, target, body).await
                }
                _ => Err(Status::method_not_allowed()),
            }
        }
        _ => subresource::handle(state, call, resource, sub, verb, body).await,
    }
}
