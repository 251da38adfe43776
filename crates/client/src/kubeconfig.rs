//! Kubeconfig files (client-go `tools/clientcmd/api/v1`), read and resolved.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::{Auth, Config, Roots};

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file, or one it names, cannot be read.
    #[error("reading {path}")]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a kubeconfig.
    #[error("parsing the kubeconfig {path}: {reason}")]
    Parse {
        /// File, or what it was parsed from.
        path: String,
        /// Where and why.
        reason: String,
    },
    /// No context is current, and none was asked for.
    #[error("the kubeconfig has no current context: choose one with --context or `kubectl config use-context`")]
    NoCurrentContext,
    /// A name is used that is not defined.
    #[error("the kubeconfig has no {what} named {name:?}")]
    Undefined {
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A `…-data` field is not base64.
    #[error("{field} of the kubeconfig is not base64")]
    Base64 {
        /// Field.
        field: &'static str,
        /// Why.
        source: base64::DecodeError,
    },
    /// The user's credentials come from a plugin, which is not supported.
    #[error("user {name:?} of the kubeconfig uses {plugin} credentials, which are not supported")]
    Unsupported {
        /// User.
        name: String,
        /// `exec` or `auth-provider`.
        plugin: &'static str,
    },
}

/// The file's content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    /// Clusters by name.
    pub clusters: Vec<NamedCluster>,
    /// Users by name.
    pub users: Vec<NamedUser>,
    /// Pairs of them, by name.
    pub contexts: Vec<NamedContext>,
    /// The context in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_context: Option<String>,
}

/// A cluster and its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedCluster {
    /// Name.
    pub name: String,
    /// Cluster.
    pub cluster: ClusterEntry,
}

/// Where a cluster is and how it is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ClusterEntry {
    /// URL.
    pub server: String,
    /// Name in its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Do not verify its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_tls_verify: Option<bool>,
    /// Its authority, as a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<PathBuf>,
    /// Its authority, base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
}

/// A user and its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedUser {
    /// Name.
    pub name: String,
    /// Credentials.
    pub user: UserEntry,
}

/// A user's credentials.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct UserEntry {
    /// Certificate file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// Certificate, base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    /// Key file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// Key, base64 of PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    /// Bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Bearer token file.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// User to act as.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub impersonate: Option<String>,
    /// Groups to act in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub as_groups: Vec<String>,
    /// Name for basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password for basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Credential plugin (kept, not run).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<serde_json::Value>,
    /// Old credential plugin (kept, not run).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_provider: Option<serde_json::Value>,
}

/// A context and its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamedContext {
    /// Name.
    pub name: String,
    /// Context.
    pub context: ContextEntry,
}

/// A cluster, a user, and a namespace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContextEntry {
    /// Name of a cluster.
    pub cluster: String,
    /// Name of a user.
    pub user: String,
    /// Default namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What the command line replaces.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Another context.
    pub context: Option<String>,
    /// Another cluster.
    pub cluster: Option<String>,
    /// Another user.
    pub user: Option<String>,
    /// Another namespace.
    pub namespace: Option<String>,
    /// Another server.
    pub server: Option<String>,
}

impl Kubeconfig {
    /// Reads a file; paths in it are relative to it.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| KubeconfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config = Self::parse(&text, &path.display().to_string())?;
        if let Some(folder) = path.parent() {
            config.resolve_paths(folder);
        }
        Ok(config)
    }

    /// Parses YAML or JSON; `origin` is named in errors.
    ///
    /// # Errors
    /// Not a kubeconfig.
    pub fn parse(text: &str, origin: &str) -> Result<Self, KubeconfigError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| KubeconfigError::Parse {
            path: origin.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Reads the files of `$KUBECONFIG` (merged: the first definition of a name counts), or
    /// `~/.kube/config`. Files that do not exist are skipped; none at all is an empty configuration.
    ///
    /// # Errors
    /// A file cannot be read or parsed.
    pub fn load() -> Result<Self, KubeconfigError> {
        let mut merged = Self::default();
        for path in Self::default_paths() {
            match Self::read(&path) {
                Ok(config) => merged.merge(config),
                Err(KubeconfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(merged)
    }

    /// Where [`Kubeconfig::load`] looks.
    pub fn default_paths() -> Vec<PathBuf> {
        match std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
            Some(list) => std::env::split_paths(&list)
                .filter(|p| !p.as_os_str().is_empty())
                .collect(),
            None => std::env::var_os("HOME")
                .map(|home| Path::new(&home).join(".kube/config"))
                .into_iter()
                .collect(),
        }
    }

    /// Adds what `other` has and this has not.
    pub fn merge(&mut self, other: Self) {
        for cluster in other.clusters {
            if !self.clusters.iter().any(|c| c.name == cluster.name) {
                self.clusters.push(cluster);
            }
        }
        for user in other.users {
            if !self.users.iter().any(|u| u.name == user.name) {
                self.users.push(user);
            }
        }
        for context in other.contexts {
            if !self.contexts.iter().any(|c| c.name == context.name) {
                self.contexts.push(context);
            }
        }
        if self.current_context.as_deref().is_none_or(str::is_empty) {
            self.current_context = other.current_context;
        }
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let resolve = |path: &mut Option<PathBuf>| {
            if let Some(path) = path
                && path.is_relative()
                && !path.as_os_str().is_empty()
            {
                *path = folder.join(&*path);
            }
        };
        for cluster in &mut self.clusters {
            resolve(&mut cluster.cluster.certificate_authority);
        }
        for NamedUser { user, .. } in &mut self.users {
            resolve(&mut user.client_certificate);
            resolve(&mut user.client_key);
            resolve(&mut user.token_file);
        }
    }

    /// Resolves a context to a connection.
    ///
    /// # Errors
    /// A name is undefined, a file cannot be read, data is not base64.
    pub fn config(&self, overrides: &Overrides) -> Result<Config, KubeconfigError> {
        let name = overrides
            .context
            .as_ref()
            .or(self.current_context.as_ref())
            .filter(|n| !n.is_empty());
        let context = match name {
            Some(name) => find("context", name, self.contexts.iter().map(|c| (&c.name, &c.context)))?.clone(),
            None if overrides.server.is_some() || overrides.cluster.is_some() => ContextEntry::default(),
            None => return Err(KubeconfigError::NoCurrentContext),
        };
        let cluster_name = overrides.cluster.as_ref().unwrap_or(&context.cluster);
        let cluster = match cluster_name.as_str() {
            "" => ClusterEntry::default(),
            name => find("cluster", name, self.clusters.iter().map(|c| (&c.name, &c.cluster)))?.clone(),
        };
        let user_name = overrides.user.as_ref().unwrap_or(&context.user);
        let user = match user_name.as_str() {
            "" => UserEntry::default(),
            name => find("user", name, self.users.iter().map(|u| (&u.name, &u.user)))?.clone(),
        };
        let server = overrides.server.clone().unwrap_or_else(|| cluster.server.clone());
        let mut config = Config::new(server, cluster.roots()?, user.auth(user_name)?);
        config.tls_server_name = cluster.tls_server_name.filter(|n| !n.is_empty());
        config.impersonate_user = user.impersonate;
        config.impersonate_groups = user.as_groups;
        let namespace = overrides
            .namespace
            .clone()
            .or(context.namespace)
            .filter(|n| !n.is_empty());
        config.namespace = namespace.unwrap_or(config.namespace);
        Ok(config)
    }
}

fn find<'a, T>(
    what: &'static str,
    name: &str,
    mut entries: impl Iterator<Item = (&'a String, &'a T)>,
) -> Result<&'a T, KubeconfigError> {
    let found = entries.find(|(n, _)| n.as_str() == name).map(|(_, entry)| entry);
    found.ok_or_else(|| KubeconfigError::Undefined {
        what,
        name: name.to_owned(),
    })
}

fn data_or_file(
    field: &'static str,
    data: Option<&String>,
    file: Option<&PathBuf>,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(data) = data.filter(|d| !d.is_empty()) {
        let compact: String = data.split_ascii_whitespace().collect();
        return STANDARD
            .decode(compact)
            .map(Some)
            .map_err(|source| KubeconfigError::Base64 { field, source });
    }
    match file.filter(|f| !f.as_os_str().is_empty()) {
        None => Ok(None),
        Some(path) => std::fs::read(path).map(Some).map_err(|source| KubeconfigError::Read {
            path: path.clone(),
            source,
        }),
    }
}

impl ClusterEntry {
    fn roots(&self) -> Result<Roots, KubeconfigError> {
        if self.insecure_skip_tls_verify == Some(true) {
            return Ok(Roots::Insecure);
        }
        let data = self.certificate_authority_data.as_ref();
        let pem = data_or_file("certificate-authority-data", data, self.certificate_authority.as_ref())?;
        Ok(pem.map_or(Roots::Native, Roots::Pem))
    }
}

impl UserEntry {
    fn auth(&self, name: &str) -> Result<Auth, KubeconfigError> {
        let certificate_data = self.client_certificate_data.as_ref();
        let certificate = data_or_file(
            "client-certificate-data",
            certificate_data,
            self.client_certificate.as_ref(),
        )?;
        let key = data_or_file(
            "client-key-data",
            self.client_key_data.as_ref(),
            self.client_key.as_ref(),
        )?;
        if let (Some(certificate), Some(key)) = (certificate, key) {
            return Ok(Auth::Certificate { certificate, key });
        }
        if let Some(path) = &self.token_file {
            return Ok(Auth::TokenFile(path.clone()));
        }
        if let Some(token) = self.token.as_ref().filter(|t| !t.is_empty()) {
            return Ok(Auth::Token(token.clone()));
        }
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok(Auth::Basic {
                username: username.clone(),
                password: password.clone(),
            });
        }
        for (plugin, used) in [
            ("exec", self.exec.is_some()),
            ("auth-provider", self.auth_provider.is_some()),
        ] {
            if used {
                return Err(KubeconfigError::Unsupported {
                    name: name.to_owned(),
                    plugin,
                });
            }
        }
        Ok(Auth::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
preferences: {}
current-context: a
clusters:
- name: c
  cluster: {server: 'https://h:1', certificate-authority-data: Q0E=}
users:
- name: u
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}
- name: t
  user: {token: tok}
contexts:
- {name: a, context: {cluster: c, user: u, namespace: n}}
- {name: b, context: {cluster: c, user: t}}
";

    #[test]
    fn contexts_resolve() {
        let kubeconfig = Kubeconfig::parse(TEXT, "test").expect("valid");
        let config = kubeconfig.config(&Overrides::default()).expect("complete");
        assert_eq!(
            (config.server.as_str(), config.namespace.as_str()),
            ("https://h:1", "n")
        );
        assert!(
            matches!(&config.auth, Auth::Certificate { certificate, key } if certificate == b"CERT" && key == b"KEY")
        );
        assert!(matches!(&config.roots, Roots::Pem(pem) if pem == b"CA"));
        let other = Overrides {
            context: Some("b".into()),
            ..Overrides::default()
        };
        let config = kubeconfig.config(&other).expect("complete");
        assert!(matches!(&config.auth, Auth::Token(token) if token == "tok"));
        assert_eq!(config.namespace, "default");
        let missing = Overrides {
            context: Some("x".into()),
            ..Overrides::default()
        };
        let error = kubeconfig.config(&missing).expect_err("undefined");
        assert_eq!(error.to_string(), "the kubeconfig has no context named \"x\"");
    }

    #[test]
    fn files_are_relative_to_the_kubeconfig_and_the_first_definition_counts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), "pem").expect("writable");
        let text = TEXT.replace("certificate-authority-data: Q0E=", "certificate-authority: ca.pem");
        let path = folder.path().join("config");
        std::fs::write(&path, text).expect("writable");
        let mut kubeconfig = Kubeconfig::read(&path).expect("valid");
        kubeconfig.merge(Kubeconfig::parse(TEXT, "test").expect("valid"));
        let config = kubeconfig.config(&Overrides::default()).expect("complete");
        assert!(matches!(&config.roots, Roots::Pem(pem) if pem == b"pem"));
    }
}
