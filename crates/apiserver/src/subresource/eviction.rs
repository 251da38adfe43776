//! `pods/eviction`: a delete that respects disruption budgets
//! (`pkg/registry/core/pod/storage/eviction.go`).

use std::sync::Arc;

use api::{Status, Value, labels, meta};
use serde_json::json;

use super::binding::set_condition;
use crate::cache::{At, ListParams, Selection};
use crate::call::Call;
use crate::kind::value_at;
use crate::resource::{Resource, cache_status};
use crate::respond::Answer;
use crate::state::State;
use crate::verbs::delete::{Admitted, delete};
use crate::verbs::options::{DeleteOptions, WriteOptions};
use crate::verbs::update::{Source, Target, update};

/// The most pods a budget remembers as disrupted.
const MOST_DISRUPTED: usize = 2000;

/// Evicts the pod.
///
/// # Errors
/// 429 if a budget does not allow it now.
pub(super) async fn evict(
    state: &Arc<State>,
    call: &Call,
    pods: &Arc<Resource>,
    eviction: &Value,
    options: &WriteOptions,
) -> Result<Answer, Status> {
    let name = &call.info.name;
    if meta::name(eviction) != name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let (namespace, missing) = (&call.info.namespace, || Status::not_found(&pods.group_resource(), name));
    let entry = pods.latest(namespace, name).await?.ok_or_else(missing)?;
    let pod = pods.value(&entry);
    let mut deletion = deletion(eviction, options);
    if !ignores_budgets(&pod) {
        let budgets = budgets(state, &pod).await?;
        match budgets.as_slice() {
            [] => {}
            [budget] if spares_unhealthy(&pod, budget) => {
                // It must not have become healthy since.
                deletion
                    .resource_version
                    .get_or_insert_with(|| meta::resource_version(&pod).to_owned());
            }
            [budget] => spend(state, call, &pod, meta::name(budget), options).await?,
            _ => {
                return Err(Status::failure(
                    500,
                    "",
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
    }
    if !deletion.dry_run {
        let mark = |pod: &mut Value| {
            set_condition(
                pod,
                json!({"type": "DisruptionTarget", "status": "True",
                    "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}),
            );
            Ok(())
        };
        // The version the client or the budget asks for is checked before it moves.
        check_version(pods, &pod, &deletion)?;
        let source = Source::Change(Arc::new(mark));
        let target = Target::Inner("eviction");
        let marked = update(state, call, pods, target, &source, options).await?;
        if deletion.resource_version.is_some() {
            deletion.resource_version = Some(meta::resource_version(&marked.object).to_owned());
        }
    }
    delete(state, call, pods, namespace, name, &deletion, Admitted::Already).await?;
    super::success(call)
}

fn check_version(pods: &Resource, pod: &Value, deletion: &DeleteOptions) -> Result<(), Status> {
    let actual = meta::resource_version(pod);
    match &deletion.resource_version {
        Some(wanted) if wanted != actual => Err(Status::conflict(
            &pods.group_resource(),
            meta::name(pod),
            format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({actual}). The object might have been modified"
            ),
        )),
        _ => Ok(()),
    }
}

fn deletion(eviction: &Value, options: &WriteOptions) -> DeleteOptions {
    let at = |path: &str| value_at(eviction, &format!("deleteOptions.{path}"));
    let text = |path: &str| at(path).and_then(Value::as_str).map(str::to_owned);
    DeleteOptions {
        dry_run: options.dry_run
            || at("dryRun")
                .and_then(Value::as_array)
                .is_some_and(|list| !list.is_empty()),
        grace_period_seconds: at("gracePeriodSeconds").and_then(Value::as_i64),
        uid: text("preconditions.uid"),
        resource_version: text("preconditions.resourceVersion"),
        ..DeleteOptions::default()
    }
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value_at(value, path).and_then(Value::as_str).unwrap_or("")
}

fn count(value: &Value, path: &str) -> i64 {
    value_at(value, path).and_then(Value::as_i64).unwrap_or(0)
}

/// Pods that have ended, not begun, or are going anyway.
fn ignores_budgets(pod: &Value) -> bool {
    meta::is_deleting(pod) || matches!(text(pod, "status.phase"), "Succeeded" | "Failed" | "Pending")
}

fn is_ready(pod: &Value) -> bool {
    value_at(pod, "status.conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|c| text(c, "type") == "Ready" && text(c, "status") == "True")
}

/// Whether the budget lets this pod go because it is not healthy anyway.
fn spares_unhealthy(pod: &Value, budget: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    let desired = count(budget, "status.desiredHealthy");
    text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || (count(budget, "status.currentHealthy") >= desired && desired > 0)
}

/// The budgets that select the pod.
async fn budgets(state: &State, pod: &Value) -> Result<Vec<Value>, Status> {
    let Some(resource) = state.any_version("policy", "poddisruptionbudgets") else {
        return Ok(Vec::new());
    };
    let params = ListParams {
        at: At::Latest,
        selection: Selection::namespace(meta::namespace(pod)),
        limit: 0,
        start_after: None,
    };
    let page = resource.cache.list(params).await.map_err(cache_status)?;
    let pod_labels = meta::labels(pod);
    let selects = |budget: &Value| {
        let selector = value_at(budget, "spec.selector").filter(|s| s.is_object());
        selector.is_some()
            && labels::Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches(&pod_labels))
    };
    Ok(page.entries.iter().map(|e| resource.value(e)).filter(selects).collect())
}

/// Takes one disruption from the budget (`checkAndDecrement`).
async fn spend(
    state: &Arc<State>,
    call: &Call,
    pod: &Value,
    budget: &str,
    options: &WriteOptions,
) -> Result<(), Status> {
    let Some(resource) = state.any_version("policy", "poddisruptionbudgets") else {
        return Ok(());
    };
    let (pod_name, name) = (meta::name(pod).to_owned(), budget.to_owned());
    let now = api::time::format(call.now);
    let change = move |budget: &mut Value| {
        if count(budget, "status.observedGeneration") < meta::generation(budget) {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            let cause = format!("The disruption budget {name} is still being processed by the server.");
            return Err(Status::too_many_requests(message, 10).with_cause("DisruptionBudget", &cause, ""));
        }
        let allowed = count(budget, "status.disruptionsAllowed");
        let disrupted = value_at(budget, "status.disruptedPods").and_then(Value::as_object);
        if disrupted.is_some_and(|map| map.len() > MOST_DISRUPTED) {
            return Err(Status::failure(
                403,
                api::reason::FORBIDDEN,
                "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            ));
        }
        if allowed <= 0 {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            let cause = format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                count(budget, "status.desiredHealthy"),
                count(budget, "status.currentHealthy")
            );
            return Err(Status::too_many_requests(message, 0).with_cause("DisruptionBudget", &cause, ""));
        }
        budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
        budget["status"]["disruptedPods"][&pod_name] = now.clone().into();
        Ok(())
    };
    let about = call.about(budget, "status");
    let source = Source::Change(Arc::new(change));
    let target = Target::Inner("status");
    update(state, &about, &resource, target, &source, options)
        .await
        .map(drop)
}
