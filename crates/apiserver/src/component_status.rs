//! `componentstatuses`: how the components fare, asked when a client asks
//! (`pkg/registry/core/componentstatus`).
//!
//! All components run in this server's process, so each is as healthy as the health check of its name
//! says; one without a check runs for as long as there is somebody to answer.

use std::sync::Arc;

use api::{Status, Value};
use serde_json::json;

use crate::cache::{Entry, Indexed, ListPage};
use crate::call::Call;
use crate::codec;
use crate::resource::Resource;
use crate::respond::Answer;
use crate::state::State;
use crate::verbs::list::Listing;
use crate::verbs::output;

/// The components, and the health checks that speak for them.
const COMPONENTS: [(&str, &str); 3] = [
    ("controller-manager", "controller-manager"),
    ("etcd-0", "etcd"),
    ("scheduler", "scheduler"),
];

/// Whether the resource is this one.
pub(crate) fn is(resource: &Resource) -> bool {
    resource.kind.gvk.group.is_empty() && resource.kind.gvk.kind == "ComponentStatus"
}

/// GET of one.
///
/// # Errors
/// There is no such component.
pub(crate) async fn get(state: &Arc<State>, call: &Call, resource: &Resource) -> Result<Answer, Status> {
    let wanted = &call.info.name;
    let output = call.output()?;
    let Some((name, check)) = COMPONENTS.into_iter().find(|(name, _)| name == wanted) else {
        return Err(Status::failure(500, "", format!("Component not found: {wanted}")));
    };
    let value = component(state, name, check).await;
    output::object(call, resource, output, 200, &value)
}

/// GET of all.
///
/// # Errors
/// The request makes no sense.
pub(crate) async fn list(state: &Arc<State>, call: &Call, resource: &Arc<Resource>) -> Result<Answer, Status> {
    let output = call.output()?;
    let listing = Listing::read(call, resource)?;
    let mut entries = Vec::new();
    for (name, check) in COMPONENTS {
        let json = codec::to_object_json(&component(state, name, check).await);
        let entry = Entry::unstored(resource.key("", name), resource.prefix.len(), json, Indexed::default());
        if listing.selection.matches(&entry) {
            entries.push(Arc::new(entry));
        }
    }
    let page = ListPage {
        revision: 0,
        entries,
        more: false,
        remaining: None,
    };
    output::list(call, resource, output, &listing, page)
}

async fn component(state: &State, name: &str, check: &str) -> Value {
    let condition = match state.health.check(check).await {
        None | Some(Ok(())) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(Err(error)) => json!({"type": "Healthy", "status": "False", "error": error}),
    };
    json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition]})
}
