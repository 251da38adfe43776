//! A connection to one cluster, and how its errors are told.

use std::path::Path;

use anyhow::{Context, Result};
use client::{Client, ClientError, Kubeconfig, Overrides};

use crate::Connection;

/// Where skiff leaves its administrator's kubeconfig.
const OWN_KUBECONFIG: &str = "/var/lib/skiff/admin.kubeconfig";

/// A client with the namespace that commands mean by default.
pub struct Session {
    /// The client.
    pub client: Client,
    /// Namespace of the context or the flag.
    pub namespace: String,
}

impl Session {
    /// Reads the kubeconfig and makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub fn open(connection: &Connection) -> Result<Session> {
        let own = Path::new(OWN_KUBECONFIG);
        let nothing_else =
            std::env::var_os("KUBECONFIG").is_none() && Kubeconfig::default_paths().iter().all(|path| !path.exists());
        let kubeconfig = match &connection.kubeconfig {
            Some(path) => Kubeconfig::read(path)?,
            None if nothing_else && own.exists() => Kubeconfig::read(own)?,
            None => Kubeconfig::load()?,
        };
        let overrides = Overrides {
            context: connection.context.clone(),
            namespace: connection.namespace.clone(),
            server: connection.server.clone(),
            ..Overrides::default()
        };
        let config = kubeconfig.config(&overrides)?;
        let namespace = if config.namespace.is_empty() {
            "default".into()
        } else {
            config.namespace.clone()
        };
        let client = Client::https(config)
            .context("prepare the connection")?
            .with_user_agent("kubectl/skiff");
        Ok(Session { client, namespace })
    }
}

/// An error as kubectl words it: `Error from server (NotFound): pods "x" not found`.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ClientError>() {
        Some(error) => match error.status() {
            Some(status) if status.reason.is_empty() => format!("Error from server: {}", status.message),
            Some(status) if status.reason == "Invalid" => format!("The {}", status.message),
            Some(status) => format!("Error from server ({}): {}", status.reason, status.message),
            None => format!("Unable to connect to the server: {}", error.report()),
        },
        None => format!("error: {error:#}"),
    }
}
