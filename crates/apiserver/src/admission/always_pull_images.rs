//! Images are pulled for every container, so that only who may pull one can run it
//! (`plugin/pkg/admission/alwayspullimages`). Off by default.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use api::{Status, Value};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub(super) struct AlwaysPullImages;

fn images(pod: &Value) -> BTreeSet<&str> {
    LISTS
        .into_iter()
        .filter_map(|list| value_at(pod, &format!("spec.{list}"))?.as_array())
        .flatten()
        .filter_map(|container| container.get("image")?.as_str())
        .collect()
}

fn concerns(attributes: &Attributes<'_>, pod: &Value) -> bool {
    attributes.is("", "pods") && attributes.old.is_none_or(|old| !images(pod).is_subset(&images(old)))
}

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !concerns(attributes, pod) {
            return Ok(());
        }
        for list in LISTS {
            let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list)?.as_array_mut());
            for container in containers.into_iter().flatten() {
                container["imagePullPolicy"] = "Always".into();
            }
        }
        Ok(())
    }

    async fn validate(&self, _state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|pod| concerns(attributes, pod)) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        for list in LISTS {
            let containers = value_at(pod, &format!("spec.{list}")).and_then(Value::as_array);
            for (index, container) in containers.into_iter().flatten().enumerate() {
                let policy = container.get("imagePullPolicy").and_then(Value::as_str).unwrap_or("");
                if policy != "Always" {
                    let path = Path::new("spec").child(list).index(index).child("imagePullPolicy");
                    errors.push(Error::not_supported(&path, policy, &["Always"]).to_string());
                }
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(attributes.forbid(errors.join(", ")))
    }
}
