//! Volume claims and ingresses get the class that is the default
//! (`plugin/pkg/admission/storage/storageclass/setdefault`,
//! `plugin/pkg/admission/network/defaultingressclass`).

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, Step, lookup};
use crate::kind::value_at;
use crate::state::State;

pub(super) struct DefaultStorageClass;
pub(super) struct DefaultIngressClass;

/// The name of the class that one of the annotations makes the default; of several the newest, then
/// the first by name.
fn default_of(mut classes: Vec<Value>, annotations: &[&str]) -> Option<String> {
    let is_default = |class: &Value| {
        annotations
            .iter()
            .any(|annotation| meta::annotation(class, annotation) == Some("true"))
    };
    classes.retain(is_default);
    let first = classes.iter().min_by_key(|class| {
        (
            std::cmp::Reverse(meta::creation_timestamp(class)),
            meta::name(class).to_owned(),
        )
    })?;
    Some(meta::name(first).to_owned())
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Mutate && (group, plural) == ("", "persistentvolumeclaims")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, claim: &mut Value) -> Result<(), Status> {
        let asked = value_at(claim, "spec.storageClassName").is_some_and(|class| !class.is_null())
            || meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
        if !attributes.is("", "persistentvolumeclaims") || asked {
            return Ok(());
        }
        let annotations = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let classes = lookup::list(state, "storage.k8s.io", "storageclasses", None).await?;
        if let Some(class) = default_of(classes, &annotations) {
            claim["spec"]["storageClassName"] = class.into();
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        step == Step::Mutate && (group, plural) == ("networking.k8s.io", "ingresses")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, ingress: &mut Value) -> Result<(), Status> {
        let asked = value_at(ingress, "spec.ingressClassName").is_some_and(|class| !class.is_null())
            || meta::annotation(ingress, "kubernetes.io/ingress.class").is_some();
        if !attributes.is("networking.k8s.io", "ingresses") || asked {
            return Ok(());
        }
        let classes = lookup::list(state, "networking.k8s.io", "ingressclasses", None).await?;
        if let Some(class) = default_of(classes, &["ingressclass.kubernetes.io/is-default-class"]) {
            ingress["spec"]["ingressClassName"] = class.into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_default_is_taken() {
        let class = |name: &str, created: &str, default: &str| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {"d": default}}});
        let classes = vec![
            class("old", "2024-01-01T00:00:00Z", "true"),
            class("b", "2024-01-02T00:00:00Z", "true"),
            class("a", "2024-01-02T00:00:00Z", "true"),
            class("newest", "2024-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_of(classes, &["d"]).as_deref(), Some("a"));
        assert_eq!(default_of(Vec::new(), &["d"]), None);
    }
}
