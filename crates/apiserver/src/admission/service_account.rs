//! Every pod runs as a service account that exists, and gets its token
//! (`plugin/pkg/admission/serviceaccount`).

mod mountable;

use std::sync::Arc;
use std::time::Duration;

use api::{Status, Value, meta};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin, Step, references};
use crate::cache::{Selection, WatchParams, WatchStart};
use crate::kind::value_at;
use crate::resource::Resource;
use crate::state::State;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// See `subresource::token`: such tokens outlive this, but are renewed long before.
const TOKEN_SECONDS: i64 = 3607;
/// How long a pod waits for its namespace's first service account to be made.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_millis(1500);

pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn concerns(&self, _step: Step, group: &str, plural: &str) -> bool {
        (group, plural) == ("", "pods")
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !attributes.is("", "pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        if meta::annotation(pod, MIRROR).is_some() {
            return mirror(attributes, pod);
        }
        let named = value_at(pod, "spec.serviceAccountName")
            .and_then(Value::as_str)
            .unwrap_or("");
        let name = if named.is_empty() { "default" } else { named }.to_owned();
        pod["spec"]["serviceAccountName"] = name.clone().into();
        // The deprecated field repeats it.
        pod["spec"]["serviceAccount"] = name.clone().into();
        let Some(accounts) = state.resource("", "v1", "serviceaccounts") else {
            return Ok(());
        };
        let account = require(&accounts, attributes, &name).await?;
        let wants = |object: &Value, path: &str| value_at(object, path).and_then(Value::as_bool);
        if wants(pod, "spec.automountServiceAccountToken")
            .or(wants(&account, "automountServiceAccountToken"))
            .unwrap_or(true)
        {
            mount_token(pod);
        }
        let secrets = value_at(pod, "spec.imagePullSecrets").and_then(Value::as_array);
        if secrets.is_none_or(Vec::is_empty)
            && let Some(secrets) = account.get("imagePullSecrets").filter(|s| s.is_array())
        {
            pod["spec"]["imagePullSecrets"] = secrets.clone();
        }
        Ok(())
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let kind = &attributes.resource.kind;
        let about_pods = kind.gvk.group.is_empty() && kind.plural == "pods";
        let fields: &[_] = match (attributes.operation, attributes.subresource) {
            (Operation::Create, "") => &mountable::OF_POD,
            (Operation::Update, "ephemeralcontainers") => &mountable::OF_EPHEMERAL,
            _ => return Ok(()),
        };
        let Some(pod) = pod.filter(|_| about_pods) else {
            return Ok(());
        };
        if meta::annotation(pod, MIRROR).is_some() {
            return mirror(attributes, pod);
        }
        let Some(accounts) = state.resource("", "v1", "serviceaccounts") else {
            return Ok(());
        };
        let name = value_at(pod, "spec.serviceAccountName")
            .and_then(Value::as_str)
            .unwrap_or("");
        if name.is_empty() {
            return Err(attributes.forbid(format!(
                "no service account specified for pod {}/{}",
                attributes.namespace,
                meta::name(pod)
            )));
        }
        let account = require(&accounts, attributes, name).await?;
        mountable::check(&account, pod, fields).map_err(|why| attributes.forbid(why))
    }
}

/// The account, or 403.
async fn require(accounts: &Resource, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Value>, Status> {
    find(accounts, attributes.namespace, name).await?.ok_or_else(|| {
        attributes.forbid(format!(
            "error looking up service account {}/{name}: serviceaccount {} not found",
            attributes.namespace,
            api::field::go_quote(name)
        ))
    })
}

/// A mirror pod shows what a node runs anyway; it gets access to nothing.
fn mirror(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let account = value_at(pod, "spec.serviceAccountName").and_then(Value::as_str);
    if account.is_some_and(|name| !name.is_empty()) {
        return Err(attributes.forbid("a mirror pod may not reference service accounts"));
    }
    if references::secrets(pod) {
        return Err(attributes.forbid("a mirror pod may not reference secrets"));
    }
    if references::projects(pod, "serviceAccountToken") {
        return Err(attributes.forbid("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// The account; the default one may be about to be made by its controller.
async fn find(accounts: &Resource, namespace: &str, name: &str) -> Result<Option<Arc<Value>>, Status> {
    if let Some(entry) = accounts.latest(namespace, name).await? {
        return Ok(Some(accounts.remembered(&entry)));
    }
    if name != "default" {
        return Ok(None);
    }
    let selection = Selection {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..Selection::default()
    };
    let params = WatchParams {
        start: WatchStart::StateLatest,
        selection,
    };
    let mut watcher = accounts
        .cache
        .watch(params)
        .await
        .map_err(crate::resource::cache_status)?;
    let events = tokio::time::timeout(DEFAULT_ACCOUNT_WAIT, watcher.next()).await;
    let entry = events
        .ok()
        .and_then(Result::ok)
        .and_then(|events| events.first()?.entry.clone());
    Ok(entry.map(|entry| accounts.remembered(&entry)))
}

const CONTAINERS: [&str; 2] = ["initContainers", "containers"];

fn mounts_there(container: &Value) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    mounts.into_iter().flatten().any(|m| m["mountPath"] == MOUNT_PATH)
}

/// Mounts a projected token into each container that has nothing there yet.
fn mount_token(pod: &mut Value) {
    let volumes = value_at(pod, "spec.volumes").and_then(Value::as_array);
    let name = volumes
        .into_iter()
        .flatten()
        .filter_map(|v| v.get("name").and_then(Value::as_str))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let exists = name.is_some();
    let name = name.unwrap_or_else(|| crate::verbs::metadata::generate_name(VOLUME_PREFIX));
    let mut mounted = false;
    for field in CONTAINERS {
        let containers = pod["spec"].get_mut(field).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|c| !mounts_there(c)) {
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
            match container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
            mounted = true;
        }
    }
    if !mounted || exists {
        return;
    }
    let volume = volume(&name);
    match pod["spec"].get_mut("volumes").and_then(Value::as_array_mut) {
        Some(volumes) => volumes.push(volume),
        None => pod["spec"]["volumes"] = json!([volume]),
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {
                "name": "kube-root-ca.crt",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }},
            {"downwardAPI": {"items": [{
                "path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
            }]}},
        ],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_mounted_once_where_nothing_is() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]}});
        mount_token(&mut pod);
        let name = pod["spec"]["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with(VOLUME_PREFIX) && name.len() == VOLUME_PREFIX.len() + 5);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], name.as_str());
        assert_eq!(
            pod["spec"]["containers"][1]["volumeMounts"].as_array().unwrap().len(),
            1
        );
        let before = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, before);
    }
}
