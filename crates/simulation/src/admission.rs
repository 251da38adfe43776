//! What admission does to new objects that matters to controllers: namespaces that end take nothing, quotas are
//! charged, pods tolerate sick nodes for a while, claims and volumes in use stay.

use api::{Status, Value, meta};
use quota::{Operation, Quota, amounts};
use serde_json::json;

use crate::registry::{Resource, registry};
use crate::server::Server;

impl Server {
    /// Admits (and changes) a new object.
    pub(crate) fn admit_new(&self, resource: Resource, namespace: &str, object: &mut Value) -> Result<(), Status> {
        let kind = &registry().kinds[resource];
        if kind.is_namespaced() {
            let namespaces = registry().known("", "namespaces");
            let found = self.get(namespaces, "", namespace)?;
            if meta::is_deleting(found) {
                let why =
                    format!("unable to create new content in namespace {namespace} because it is being terminated");
                let cause = format!("namespace {namespace} is being terminated");
                return Err(Status::forbidden(
                    &registry().resources[resource].group_resource(),
                    meta::name(object),
                    why,
                )
                .with_cause("NamespaceTerminating", &cause, "metadata.namespace"));
            }
        }
        match (kind.gvk.group.as_str(), kind.plural.as_str()) {
            ("", "pods") => tolerate(object),
            ("", "persistentvolumeclaims") => protect(object, "kubernetes.io/pvc-protection"),
            ("", "persistentvolumes") => protect(object, "kubernetes.io/pv-protection"),
            ("", "nodes") => {
                let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
                object["spec"]["taints"] = json!([taint]);
            }
            _ => {}
        }
        Ok(())
    }

    /// Charges the namespace's quotas for a write.
    pub(crate) fn charge(
        &mut self,
        resource: Resource,
        namespace: &str,
        subresource: &str,
        operation: Operation,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let quotas = registry().known("", "resourcequotas");
        if namespace.is_empty() || resource == quotas {
            return Ok(());
        }
        let held = self.store.list(quotas, namespace, u64::MAX);
        if held.is_empty() {
            return Ok(());
        }
        let read: Vec<Quota> = held.iter().map(|quota| Quota::read(&quota.value)).collect();
        let gr = registry().resources[resource].group_resource();
        let request = quota::Request {
            resource: &gr,
            subresource,
            operation,
            object,
            old,
            now: self.now,
        };
        let moved =
            quota::check(&read, &request, &[]).map_err(|why| Status::forbidden(&gr, meta::name(object), why))?;
        for (index, used) in moved {
            let name = read[index].name.clone();
            self.change(quotas, namespace, &name, |quota| {
                quota["status"]["used"] = json!(amounts::write(&used));
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    if !finalizers.iter().any(|known| known == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
    meta::set_finalizers(object, &finalizers);
}

fn tolerate(pod: &mut Value) {
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let known = pod["spec"]["tolerations"].as_array().into_iter().flatten();
        let mut known = known.map(|toleration| toleration["key"].as_str().unwrap_or(""));
        if known.any(|key| key == taint || key.is_empty()) {
            continue;
        }
        let toleration = json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        match pod["spec"]["tolerations"].as_array_mut() {
            Some(list) => list.push(toleration),
            None => pod["spec"]["tolerations"] = json!([toleration]),
        }
    }
}
