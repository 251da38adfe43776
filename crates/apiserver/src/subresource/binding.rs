//! `pods/binding` and `bindings`: a pod gets its node (`pkg/registry/core/pod/storage`).

use std::sync::Arc;

use api::{GroupResource, Status, Value, meta};
use serde_json::json;

use crate::call::Call;
use crate::kind::value_at;
use crate::respond::Answer;
use crate::state::State;
use crate::verbs::options::WriteOptions;
use crate::verbs::update::{Source, Target, update};

/// Sets the pod's node, once.
///
/// # Errors
/// 400 if the binding is not for this pod, 500 if it is not for a node, 409 if the pod cannot be bound (again).
pub(crate) async fn bind(
    state: &Arc<State>,
    call: &Call,
    name: &str,
    binding: &Value,
    options: &WriteOptions,
) -> Result<Answer, Status> {
    if meta::name(binding) != name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let target = |field: &str| {
        value_at(binding, &format!("target.{field}"))
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    // Validation's errors as they are, without a reason (`pkg/registry/core/pod/storage`).
    let mut faults = Vec::new();
    if !matches!(target("kind"), "" | "Node") {
        faults.push(format!(
            "target.kind: Unsupported value: {}: supported values: \"Node\", \"<empty>\"",
            api::field::go_quote(target("kind"))
        ));
    }
    if target("name").is_empty() {
        faults.push("target.name: Required value".to_owned());
    }
    match faults.as_slice() {
        [] => {}
        [only] => return Err(Status::failure(500, "", only.clone())),
        all => return Err(Status::failure(500, "", format!("[{}]", all.join(", ")))),
    }
    let Some(pods) = state.resource("", "v1", "pods") else {
        return Err(Status::unknown_resource());
    };
    let change = change(binding, target("name").to_owned(), name.to_owned());
    let source = Source::Change(Arc::new(change));
    let call = call.about(name, "binding");
    update(state, &call, &pods, Target::Inner("binding"), &source, options).await?;
    super::success(&call)
}

fn change(
    binding: &Value,
    node: String,
    name: String,
) -> impl Fn(&mut Value) -> Result<(), Status> + Send + Sync + use<> {
    let annotations = meta::annotations(binding);
    let labels = meta::labels(binding);
    let (uid, version) = (
        meta::uid(binding).to_owned(),
        meta::resource_version(binding).to_owned(),
    );
    move |pod| {
        let refuse = |why: String| Err(Status::conflict(&GroupResource::new("", "pods/binding"), &name, why));
        if !uid.is_empty() && uid != meta::uid(pod) {
            return refuse(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::uid(pod)
            ));
        }
        if !version.is_empty() && version != meta::resource_version(pod) {
            return refuse(format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
                meta::resource_version(pod)
            ));
        }
        if meta::is_deleting(pod) {
            return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
        }
        let assigned = value_at(pod, "spec.nodeName").and_then(Value::as_str).unwrap_or("");
        if !assigned.is_empty() {
            return refuse(format!(
                "pod {name} is already assigned to node {}",
                api::field::go_quote(assigned)
            ));
        }
        let gates = value_at(pod, "spec.schedulingGates").and_then(Value::as_array);
        if gates.is_some_and(|gates| !gates.is_empty()) {
            return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
        }
        pod["spec"]["nodeName"] = node.clone().into();
        for (key, value) in &annotations {
            meta::set_annotation(pod, key, value);
        }
        for (key, value) in &labels {
            meta::set_label(pod, key, value);
        }
        set_condition(pod, json!({"type": "PodScheduled", "status": "True"}));
        Ok(())
    }
}

/// Puts a condition into `status.conditions`; its transition time moves with its status.
pub(super) fn set_condition(pod: &mut Value, mut condition: Value) {
    let now = api::time::format(jiff::Timestamp::now());
    if let Some(map) = condition.as_object_mut() {
        map.entry("lastProbeTime").or_insert(Value::Null);
        map.entry("lastTransitionTime").or_insert(now.into());
    }
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(list) = pod["status"]["conditions"].as_array_mut() else {
        return;
    };
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(found) => {
            if found["status"] == condition["status"] {
                condition["lastTransitionTime"] = found["lastTransitionTime"].clone();
            }
            *found = condition;
        }
        None => list.push(condition),
    }
}
