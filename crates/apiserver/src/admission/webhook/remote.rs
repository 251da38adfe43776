//! One HTTPS service that a kubeconfig names (upstream `util/webhook/webhook.go`, GenericWebhook).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;

use super::client::{CallError, Clients};
use super::configuration::{Hook, parse};
use super::credentials::Credentials;
use crate::state::State;

/// The service.
pub(in crate::admission) struct Remote {
    clients: Clients,
    hook: Arc<Hook>,
}

impl Remote {
    /// By the kubeconfig's current context.
    ///
    /// # Errors
    /// If it or its files cannot be used.
    pub fn new(name: &str, kubeconfig: &Path) -> Result<Remote, String> {
        let shown = kubeconfig.display();
        let text = std::fs::read_to_string(kubeconfig).map_err(|error| format!("read {shown}: {error}"))?;
        let config: Value = serde_saphyr::from_str(&text).map_err(|error| format!("parse {shown}: {error}"))?;
        let named = |list: &str, name: &str, field: &str| {
            let mut items = config[list].as_array().into_iter().flatten();
            let found = items.find(|item| item["name"] == name);
            found.map(|item| item[field].clone())
        };
        let current = config["current-context"].as_str().unwrap_or("");
        let context = named("contexts", current, "context").ok_or_else(|| format!("{shown} has no current context"))?;
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or("").to_owned();
        let cluster = named("clusters", &text(&context, "cluster"), "cluster");
        let cluster = cluster.ok_or_else(|| format!("{shown} has no cluster for its context"))?;
        let user = named("users", &text(&context, "user"), "user").unwrap_or_default();
        let folder = kubeconfig.parent().map_or_else(PathBuf::new, Path::to_owned);
        let ca = match (
            text(&cluster, "certificate-authority-data"),
            text(&cluster, "certificate-authority"),
        ) {
            (data, _) if !data.is_empty() => data,
            (_, file) if !file.is_empty() => {
                let path = folder.join(file);
                let pem = std::fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
                STANDARD.encode(pem)
            }
            _ => String::new(),
        };
        let server = text(&cluster, "server");
        let configuration = json!({"metadata": {"name": name}, "webhooks": [
            {"name": name, "timeoutSeconds": 30, "clientConfig": {"url": server, "caBundle": ca}}]});
        let hook = parse(&configuration).into_iter().next().ok_or("no service")?;
        Ok(Remote {
            clients: Clients::with(Credentials::of_all(user, folder)),
            hook,
        })
    }

    /// Sends a body and returns the answer's.
    ///
    /// # Errors
    /// If there is no good one.
    pub async fn post(&self, state: &State, body: Bytes) -> Result<Bytes, CallError> {
        self.clients.post(state, &self.hook, body).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_names_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        let text = "clusters:\n- {name: c, cluster: {server: 'https://images.example.com/policy'}}\n\
            users:\n- {name: u, user: {token: t}}\ncontexts:\n- {name: x, context: {cluster: c, user: u}}\n";
        std::fs::write(&path, text).unwrap();
        assert!(Remote::new("n", &path).is_err(), "no current context");
        std::fs::write(&path, format!("{text}current-context: x\n")).unwrap();
        assert!(Remote::new("n", &path).is_ok());
        assert!(Remote::new("n", &dir.path().join("none")).is_err());
    }
}
