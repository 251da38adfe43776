//! What claims of volumes use (upstream `pkg/quota/v1/evaluator/core/persistent_volume_claims.go`).

use std::collections::BTreeSet;

use api::{Quantity, Value, meta};

use crate::amounts::{self, Amounts};
use crate::{Requirement, at, text};

const COUNT: &str = "count/persistentvolumeclaims";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
/// Where the class stood before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) fn matches_resource(name: &str) -> bool {
    let by_class = |resource: &str| {
        name.strip_suffix(resource)
            .is_some_and(|rest| rest.ends_with(CLASS_SUFFIX))
    };
    [COUNT, CLAIMS, STORAGE].contains(&name) || by_class(CLAIMS) || by_class(STORAGE)
}

pub(crate) fn usage(claim: &Value) -> Amounts {
    let mut usage = Amounts::new();
    usage.insert(COUNT.to_owned(), amounts::one());
    usage.insert(CLAIMS.to_owned(), amounts::one());
    let class = meta::annotation(claim, CLASS_ANNOTATION).unwrap_or_else(|| text(claim, "spec.storageClassName"));
    if !class.is_empty() {
        usage.insert(format!("{class}{CLASS_SUFFIX}{CLAIMS}"), amounts::one());
    }
    if let Some(storage) = storage(claim) {
        if !class.is_empty() {
            usage.insert(format!("{class}{CLASS_SUFFIX}{STORAGE}"), storage.clone());
        }
        usage.insert(STORAGE.to_owned(), storage);
    }
    usage
}

/// What is asked for, or what is allocated already if that is more; in whole bytes.
fn storage(claim: &Value) -> Option<Quantity> {
    let quantity = |path: &str| Quantity::from_json(at(claim, path)?).ok();
    let asked = quantity("spec.resources.requests.storage")?;
    let most = match quantity("status.allocatedResources.storage") {
        Some(allocated) if allocated > asked => allocated,
        _ => asked,
    };
    if most.is_whole() {
        return Some(most);
    }
    Some(Quantity::from_value(most.value(), most.format()))
}

/// Whether a change of the status changes what is used, or by which quotas.
pub(crate) fn is_recharged(new: &Value, old: &Value) -> bool {
    let allocated = |claim: &Value| {
        at(claim, "status.allocatedResources.storage").and_then(|value| Quantity::from_json(value).ok())
    };
    allocated(new) != allocated(old) || classes(new) != classes(old)
}

/// The volume attributes classes that a claim has, had and wants.
fn classes(claim: &Value) -> BTreeSet<&str> {
    [
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ]
    .into_iter()
    .map(|path| text(claim, path))
    .filter(|name| !name.is_empty())
    .collect()
}

pub(crate) fn matches_scope(requirement: &Requirement, claim: &Value) -> bool {
    if requirement.scope != "VolumeAttributesClass" {
        return false;
    }
    let classes = classes(claim);
    if classes.is_empty() {
        return requirement.selects(None);
    }
    classes.into_iter().any(|class| requirement.selects(Some(class)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn storage_by_class() {
        let claim = json!({"spec": {"storageClassName": "gold",
            "resources": {"requests": {"storage": "10Gi"}}}});
        assert_eq!(
            amounts::pretty(&usage(&claim)),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=10Gi,persistentvolumeclaims=1,requests.storage=10Gi"
        );
        let grown = json!({"spec": {"resources": {"requests": {"storage": "1500m"}}},
            "status": {"allocatedResources": {"storage": "1"}}});
        assert_eq!(
            amounts::pretty(&usage(&grown)),
            "count/persistentvolumeclaims=1,persistentvolumeclaims=1,requests.storage=2"
        );
        assert!(matches_resource("gold.storageclass.storage.k8s.io/requests.storage"));
        assert!(!matches_resource("requests.memory"));
    }

    #[test]
    fn attributes_classes_are_scopes() {
        let claim = json!({"spec": {"volumeAttributesClassName": "fast"},
            "status": {"currentVolumeAttributesClassName": "slow"}});
        let requirement = |operator: &str, values: &[&str]| Requirement {
            scope: "VolumeAttributesClass".into(),
            operator: operator.into(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        };
        assert!(matches_scope(&requirement("In", &["slow"]), &claim));
        assert!(matches_scope(&requirement("Exists", &[]), &claim));
        assert!(!matches_scope(&requirement("In", &["other"]), &claim));
        assert!(matches_scope(&requirement("DoesNotExist", &[]), &json!({})));
        assert!(!matches_scope(&Requirement::exists("BestEffort"), &claim));
        assert!(is_recharged(&claim, &json!({})));
    }
}
