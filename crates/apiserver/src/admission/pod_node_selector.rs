//! Namespaces say which nodes their pods run on (`plugin/pkg/admission/podnodeselector`). Off by
//! default.

use std::collections::BTreeMap;

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, lookup};
use crate::kind::value_at;
use crate::state::State;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The key of the selector for namespaces that have none of their own.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

pub(super) struct PodNodeSelector {
    /// Selectors by namespace: what its pods may select.
    configured: BTreeMap<String, String>,
}

impl PodNodeSelector {
    /// By `podNodeSelectorPluginConfig`.
    pub fn new(settings: Option<&Value>) -> PodNodeSelector {
        let map = settings.and_then(|settings| settings.get("podNodeSelectorPluginConfig"));
        PodNodeSelector {
            configured: meta::string_map(map),
        }
    }

    fn configured(&self, name: &str) -> Result<Labels, Status> {
        labels(self.configured.get(name).map_or("", String::as_str))
    }

    /// What the namespace's pods must select.
    async fn required(&self, state: &State, attributes: &Attributes<'_>) -> Result<Labels, Status> {
        let name = attributes.namespace;
        let Some(namespace) = lookup::get(state, "", "namespaces", "", name).await? else {
            return Err(Status::internal(format!("namespace {name} does not exist")));
        };
        match meta::annotation(&namespace, ANNOTATION) {
            Some(text) => labels(text),
            None => self.configured(DEFAULT),
        }
    }
}

/// `a=b, c=d` as a map (`labels.ConvertSelectorToLabelsMap`).
fn labels(selector: &str) -> Result<Labels, Status> {
    let mut map = Labels::new();
    for pair in selector.split(',').filter(|_| !selector.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| Status::internal(format!("invalid selector: [{pair}]")))?;
        let (key, value) = (key.trim(), value.trim());
        let mut errors = api::validate::qualified_name(key);
        errors.extend(api::validate::label_value(value));
        if !errors.is_empty() {
            return Err(Status::internal(format!(
                "invalid selector: [{pair}]: {}",
                errors.join("; ")
            )));
        }
        map.insert(key.to_owned(), value.to_owned());
    }
    Ok(map)
}

fn conflict(a: &Labels, b: &Labels) -> bool {
    a.iter()
        .any(|(key, value)| b.get(key).is_some_and(|other| other != value))
}

fn of_pod(pod: &Value) -> Labels {
    meta::string_map(value_at(pod, "spec.nodeSelector"))
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let mut selector = self.required(state, attributes).await?;
        let own = of_pod(pod);
        if !conflict(&selector, &own) {
            selector.extend(own);
            if !selector.is_empty() {
                pod["spec"]["nodeSelector"] = serde_json::json!(selector);
            }
        }
        self.validate(state, attributes, Some(pod)).await
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|_| attributes.is("", "pods")) else {
            return Ok(());
        };
        let own = of_pod(pod);
        if conflict(&self.required(state, attributes).await?, &own) {
            return Err(attributes.forbid("pod node label selector conflicts with its namespace node label selector"));
        }
        let allowed = self.configured(attributes.namespace)?;
        if !allowed.is_empty() && own.iter().any(|(key, value)| allowed.get(key) != Some(value)) {
            return Err(attributes.forbid("pod node label selector labels conflict with its namespace whitelist"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_pairs() {
        assert_eq!(
            labels("a=b, c = d").unwrap(),
            Labels::from([("a".into(), "b".into()), ("c".into(), "d".into())])
        );
        assert_eq!(labels("").unwrap(), Labels::new());
        assert!(labels("a").is_err() && labels("a=b=c").is_err() && labels("a b=c").is_err());
    }
}
