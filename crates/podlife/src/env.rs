//! A container's environment, command and arguments (`makeEnvironmentVariables`, pkg/kubelet/kubelet_pods.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};

use crate::expand::expand;
use crate::fields::{self, FieldError, NodeFacts};

/// Why an environment cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvError {
    /// A ConfigMap or Secret is missing.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The key.
        key: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A field or resource has no value.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A path in a volume mount refers to a variable without a value.
    #[error("missing value for {0}")]
    Missing(String),
}

/// Everything that an environment is made from.
pub struct Sources<'a> {
    /// ConfigMaps of the pod's namespace that were found.
    pub config_maps: &'a BTreeMap<String, ConfigMap>,
    /// Secrets of the pod's namespace that were found.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// Variables of Services.
    pub services: &'a BTreeMap<String, String>,
    /// Of the node.
    pub facts: NodeFacts<'a>,
}

/// Names of the ConfigMaps and Secrets that a container's environment refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// ConfigMaps.
    pub config_maps: Vec<String>,
    /// Secrets.
    pub secrets: Vec<String>,
}

/// A finished environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// In the order of declaration; variables of Services last.
    pub variables: Vec<(String, String)>,
    /// Keys left out since they are no names of variables: what, name, keys.
    pub skipped: Vec<(&'static str, String, Vec<String>)>,
}

impl Environment {
    /// The variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.variables.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_string(), value)),
        }
    }

    /// The text with references to variables replaced.
    pub fn expand(&self, text: &str) -> String {
        expand(text, |name| self.get(name).map(String::from))
    }

    /// A `subPathExpr` with all references replaced; each must have a value.
    pub fn expand_strictly(&self, text: &str) -> Result<String, EnvError> {
        let mut missing = Vec::new();
        let out = expand(text, |name| {
            let value = self.get(name).filter(|value| !value.is_empty());
            if value.is_none() {
                missing.push(name.to_string());
            }
            Some(value.unwrap_or_default().to_string())
        });
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            Ok(out)
        } else {
            Err(EnvError::Missing(missing.join(", ")))
        }
    }
}

/// What has to be fetched before [`environment`] can be called.
pub fn references(container: &Container) -> References {
    let mut out = References::default();
    for from in container.env_from.iter().flatten() {
        out.config_maps
            .extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        out.secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        out.config_maps
            .extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        out.secrets
            .extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    for list in [&mut out.config_maps, &mut out.secrets] {
        list.sort();
        list.dedup();
    }
    out
}

/// The container's environment.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<Environment, EnvError> {
    let mut out = Environment::default();
    add_from(container, sources, &mut out)?;
    for variable in container.env.iter().flatten() {
        let literal = variable.value.as_deref().unwrap_or_default();
        let value = if literal.is_empty() {
            match resolved(pod, container, variable, sources)? {
                Some(value) => value,
                None => continue,
            }
        } else {
            let lookup = |name: &str| {
                out.get(name)
                    .map(String::from)
                    .or_else(|| sources.services.get(name).cloned())
            };
            expand(literal, lookup)
        };
        out.set(&variable.name, value);
    }
    for (name, value) in sources.services {
        if out.get(name).is_none() {
            out.variables.push((name.clone(), value.clone()));
        }
    }
    Ok(out)
}

fn add_from(container: &Container, sources: &Sources, out: &mut Environment) -> Result<(), EnvError> {
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, data): (_, _, Vec<(String, String)>) = if let Some(r) = &from.config_map_ref {
            match sources.config_maps.get(&r.name) {
                Some(map) => (
                    "configMap",
                    &r.name,
                    map.data.clone().unwrap_or_default().into_iter().collect(),
                ),
                None if r.optional == Some(true) => continue,
                None => {
                    return Err(EnvError::NotFound {
                        kind: "configmap",
                        name: r.name.clone(),
                    });
                }
            }
        } else if let Some(r) = &from.secret_ref {
            match sources.secrets.get(&r.name) {
                Some(secret) => ("secret", &r.name, secret_texts(secret)),
                None if r.optional == Some(true) => continue,
                None => {
                    return Err(EnvError::NotFound {
                        kind: "secret",
                        name: r.name.clone(),
                    });
                }
            }
        } else {
            continue;
        };
        let mut skipped = Vec::new();
        for (key, value) in data {
            let key = format!("{prefix}{key}");
            if is_variable_name(&key) {
                out.set(&key, value)
            } else {
                skipped.push(key)
            }
        }
        if !skipped.is_empty() {
            skipped.sort();
            out.skipped.push((kind, name.clone(), skipped));
        }
    }
    Ok(())
}

fn secret_texts(secret: &Secret) -> Vec<(String, String)> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
        .collect()
}

/// The value from elsewhere; `None` if it is optional and missing.
fn resolved(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(String::new()));
    };
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &from.field_ref {
        return Ok(Some(fields::field(pod, &field.field_path, &sources.facts)?));
    }
    if let Some(resource) = &from.resource_field_ref {
        return Ok(Some(fields::resource(pod, Some(container), resource, &sources.facts)?));
    }
    if let Some(r) = &from.config_map_key_ref {
        let optional = r.optional == Some(true);
        let Some(map) = sources.config_maps.get(&r.name) else {
            let missing = EnvError::NotFound {
                kind: "configmap",
                name: r.name.clone(),
            };
            return if optional { Ok(None) } else { Err(missing) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(EnvError::NoKey {
                kind: "ConfigMap",
                key: r.key.clone(),
                namespace,
                name: r.name.clone(),
            }),
        };
    }
    if let Some(r) = &from.secret_key_ref {
        let optional = r.optional == Some(true);
        let Some(secret) = sources.secrets.get(&r.name) else {
            let missing = EnvError::NotFound {
                kind: "secret",
                name: r.name.clone(),
            };
            return if optional { Ok(None) } else { Err(missing) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(EnvError::NoKey {
                kind: "Secret",
                key: r.key.clone(),
                namespace,
                name: r.name.clone(),
            }),
        };
    }
    Ok(Some(String::new()))
}

/// Printable ASCII without `=` (relaxed names, since v1.30).
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}
