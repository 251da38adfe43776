//! A pod's priority comes from its priority class (`plugin/pkg/admission/priority`).

use std::sync::Arc;

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, Step};
use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::resource::{Resource, cache_status};
use crate::state::State;

const GROUP: &str = "scheduling.k8s.io";

pub(super) struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        match step {
            Step::Mutate => (group, plural) == ("", "pods"),
            Step::Validate => (group, plural) == (GROUP, "priorityclasses"),
        }
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        match (attributes.operation, attributes.old) {
            (Operation::Create, _) => resolve(state, attributes, pod).await,
            (Operation::Update, Some(old)) => {
                for field in ["priority", "preemptionPolicy"] {
                    if pod["spec"].get(field).is_none()
                        && let Some(value) = old["spec"].get(field)
                    {
                        pod["spec"][field] = value.clone();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn validate(
        &self,
        _state: &State,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(class) = object.filter(|_| attributes.is(GROUP, "priorityclasses")) else {
            return Ok(());
        };
        if class.get("globalDefault").and_then(Value::as_bool) != Some(true) {
            return Ok(());
        }
        let other = global_default(attributes.resource).await?;
        match other
            .as_deref()
            .map(meta::name)
            .filter(|name| *name != meta::name(class))
        {
            Some(other) => Err(attributes.forbid(format!(
                "PriorityClass {other} is already marked as default. Only one default can exist"
            ))),
            None => Ok(()),
        }
    }
}

/// The class that is the default; of several the one with the least value.
async fn global_default(classes: &Resource) -> Result<Option<Arc<Value>>, Status> {
    let params = ListParams {
        at: At::Latest,
        selection: Selection::all(),
        limit: 0,
        start_after: None,
    };
    let page = classes.cache.list(params).await.map_err(cache_status)?;
    let defaults = page.entries.iter().map(|entry| classes.remembered(entry));
    Ok(defaults
        .filter(|class| class.get("globalDefault").and_then(Value::as_bool) == Some(true))
        .min_by_key(|class| class.get("value").and_then(Value::as_i64).unwrap_or(0)))
}

async fn resolve(state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let text = |path: &str| value_at(pod, path).and_then(Value::as_str).unwrap_or("").to_owned();
    let name = text("spec.priorityClassName");
    let class = match state.resource(GROUP, "v1", "priorityclasses") {
        None => None,
        Some(classes) if name.is_empty() => global_default(&classes).await?,
        Some(classes) => {
            let Some(entry) = classes.latest("", &name).await? else {
                let why = format!("no PriorityClass with name {name} was found");
                return Err(attributes.forbid(why));
            };
            Some(classes.remembered(&entry))
        }
    };
    let value = class.as_deref().and_then(|c| c.get("value")?.as_i64()).unwrap_or(0);
    let policy = match &class {
        None => Some("PreemptLowerPriority".to_owned()),
        Some(c) => c.get("preemptionPolicy").and_then(Value::as_str).map(str::to_owned),
    };
    if let Some(asked) = value_at(pod, "spec.priority").and_then(Value::as_i64)
        && asked != value
    {
        return Err(attributes.forbid(format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    let asked = value_at(pod, "spec.preemptionPolicy")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if let Some(policy) = policy {
        if let Some(asked) = asked
            && asked != policy
        {
            return Err(attributes.forbid(format!(
                "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        pod["spec"]["preemptionPolicy"] = policy.into();
    }
    pod["spec"]["priority"] = value.into();
    if let Some(class) = &class {
        pod["spec"]["priorityClassName"] = meta::name(class).into();
    }
    Ok(())
}
