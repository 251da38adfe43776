//! Namespaces say by annotations what their pods tolerate, and what they may
//! (`plugin/pkg/admission/podtolerationrestriction`). Off by default.

use api::{Status, Value, meta};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin, lookup, tolerations};
use crate::state::State;

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

pub(super) struct PodTolerationRestriction {
    defaults: Vec<Value>,
    allowed: Vec<Value>,
}

impl PodTolerationRestriction {
    /// By a `Configuration` of `podtolerationrestriction.admission.k8s.io`.
    pub fn new(settings: Option<&Value>) -> PodTolerationRestriction {
        let list = |field: &str| {
            let list = settings.and_then(|settings| settings.get(field)?.as_array());
            list.cloned().unwrap_or_default()
        };
        PodTolerationRestriction {
            defaults: list("default"),
            allowed: list("whitelist"),
        }
    }

    async fn check(&self, state: &State, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
        let wanted = tolerations::of_pod(pod);
        if wanted.is_empty() {
            return Ok(());
        }
        let (scope, allowed) = match annotated(state, attributes, ALLOWED).await? {
            Some(allowed) => ("namespace", allowed),
            None => ("cluster", self.allowed.clone()),
        };
        if tolerations::are_allowed(wanted, &allowed) {
            return Ok(());
        }
        Err(attributes.forbid(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )))
    }
}

/// The tolerations in an annotation of the namespace, if it has that.
async fn annotated(state: &State, attributes: &Attributes<'_>, key: &str) -> Result<Option<Vec<Value>>, Status> {
    let namespace = lookup::get(state, "", "namespaces", "", attributes.namespace).await?;
    match namespace
        .as_ref()
        .and_then(|namespace| meta::annotation(namespace, key))
    {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => serde_json::from_str(text).map(Some).map_err(Status::internal),
    }
}

/// Whether something is requested or limited of what decides the quality of service.
fn is_best_effort(pod: &Value) -> bool {
    let scope = quota::Requirement::exists("BestEffort");
    quota::Evaluator::Pods.matches_scope(&scope, pod)
}

#[async_trait]
impl Plugin for PodTolerationRestriction {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let mut extra = Vec::new();
        if attributes.operation == Operation::Create {
            let given = annotated(state, attributes, DEFAULTS).await?;
            extra = given.unwrap_or_else(|| self.defaults.clone());
        }
        if !is_best_effort(pod) {
            extra.push(
                json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}),
            );
        }
        if !extra.is_empty() {
            let merged = tolerations::merge(tolerations::of_pod(pod), &extra);
            pod["spec"]["tolerations"] = merged.into();
        }
        self.check(state, attributes, pod).await
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        match pod.filter(|_| attributes.is("", "pods")) {
            Some(pod) => self.check(state, attributes, pod).await,
            None => Ok(()),
        }
    }
}
