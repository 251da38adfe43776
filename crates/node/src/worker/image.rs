//! Having a container's image here (pkg/kubelet/images/image_manager.go).

use std::time::Instant;

use base64::Engine;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use runtime::{Image, ImageError, PullRequest, RegistryAuth, RuntimeError};
use serde_json::Value;

use crate::context::Context;
use crate::recorder::Type;
use crate::worker::Failure;

/// Images of this registry are made here and never pulled.
const LOCAL_REGISTRY: &str = "skiff.local/";

/// The back-off in force for the image of a container, if any.
pub(crate) struct PullBackoff {
    pub until: Timestamp,
    pub last_error: String,
}

/// Brings the image here, as the pull policy says.
pub(crate) async fn ensure(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    backoff: Option<&PullBackoff>,
) -> Result<Image, Failure> {
    let image = container.image.as_deref().unwrap_or_default();
    let present = ctx
        .runtime()
        .image_status(image)
        .await
        .map_err(|error| inspect_failed(ctx, pod, container, &error))?;
    let policy = policy(container, image);
    let event =
        |kind, reason: &str, message: String| ctx.recorder.container(pod, &container.name, kind, reason, message);
    if let Some(found) = present.filter(|_| policy != "Always") {
        event(
            Type::Normal,
            "Pulled",
            format!("Container image {image:?} already present on machine"),
        );
        return Ok(found);
    }
    if policy == "Never" {
        let message = format!("Container image {image:?} is not present with pull policy of Never");
        event(Type::Warning, "ErrImageNeverPull", message.clone());
        return Err(Failure::new("ErrImageNeverPull", message));
    }
    if let Some(backoff) = backoff {
        let message = format!("Back-off pulling image {image:?}");
        event(Type::Normal, "BackOff", message.clone());
        let message = format!("{message}: ErrImagePull: {}", backoff.last_error);
        return Err(Failure {
            until: Some(backoff.until),
            ..Failure::new("ImagePullBackOff", message)
        });
    }
    event(Type::Normal, "Pulling", format!("Pulling image {image:?}"));
    let began = Instant::now();
    match pull(ctx, pod, image).await {
        Ok(found) => {
            let took = seconds(began.elapsed());
            let size = found.size_bytes;
            let message = format!(
                "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
            );
            event(Type::Normal, "Pulled", message);
            Ok(found)
        }
        Err(error) => {
            event(
                Type::Warning,
                "Failed",
                format!("Failed to pull image {image:?}: {error}"),
            );
            let reason = match &error {
                RuntimeError::Image(ImageError::InvalidReference { .. }) => "InvalidImageName",
                _ => "ErrImagePull",
            };
            Err(Failure {
                pull: true,
                ..Failure::new(reason, error.to_string())
            })
        }
    }
}

fn inspect_failed(ctx: &Context, pod: &Pod, container: &Container, error: &RuntimeError) -> Failure {
    let image = container.image.as_deref().unwrap_or_default();
    if let RuntimeError::Image(ImageError::InvalidReference { .. }) = error {
        let message = format!("Failed to apply default image tag {image:?}: {error}");
        ctx.recorder
            .container(pod, &container.name, Type::Warning, "InspectFailed", message.clone());
        return Failure::new("InvalidImageName", message);
    }
    let message = format!("Failed to inspect image {image:?}: {error}");
    ctx.recorder
        .container(pod, &container.name, Type::Warning, "InspectFailed", message.clone());
    Failure::new("ImageInspectError", message)
}

fn policy<'a>(container: &'a Container, image: &str) -> &'a str {
    let latest = !image.contains('@')
        && !image
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':') && !last.ends_with(":latest"));
    match container.image_pull_policy.as_deref() {
        Some("Always") | None if image.starts_with(LOCAL_REGISTRY) => "IfNotPresent",
        Some(policy) => policy,
        None if latest => "Always",
        None => "IfNotPresent",
    }
}

fn seconds(took: std::time::Duration) -> String {
    if took.as_secs() > 0 {
        format!("{:.3}s", took.as_secs_f64())
    } else {
        format!("{}ms", took.as_millis())
    }
}

/// Tries every credential that fits, then none.
async fn pull(ctx: &Context, pod: &Pod, image: &str) -> runtime::Result<Image> {
    let mut last = None;
    for auth in credentials(ctx, pod, image).await.into_iter().map(Some).chain([None]) {
        let request = PullRequest {
            image: image.to_string(),
            auth,
            progress: None,
        };
        match ctx.runtime().pull_image(request).await {
            Err(error @ RuntimeError::Image(ImageError::Unauthorized { .. })) => {
                last.get_or_insert(error);
            }
            other => return other,
        }
    }
    Err(last.expect("at least one attempt was refused"))
}

async fn credentials(ctx: &Context, pod: &Pod, image: &str) -> Vec<RegistryAuth> {
    let references = pod
        .spec
        .as_ref()
        .and_then(|s| s.image_pull_secrets.as_ref())
        .into_iter()
        .flatten();
    let names: Vec<String> = references
        .map(|r| r.name.clone())
        .filter(|name| !name.is_empty())
        .collect();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let found = ctx.sources.secrets(namespace, &names).await;
    for name in names.iter().filter(|name| !found.contains_key(*name)) {
        let message = format!(
            "Unable to retrieve some image pull secrets ({name}); attempting to pull the image may not succeed."
        );
        ctx.recorder
            .pod(pod, Type::Warning, "FailedToRetrieveImagePullSecret", message);
    }
    let mut matching: Vec<(usize, RegistryAuth)> = found.values().flat_map(|secret| entries(secret, image)).collect();
    matching.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    matching.into_iter().map(|(_, auth)| auth).collect()
}

/// Credentials of a docker config that fit the image, with the length of what fitted.
fn entries(secret: &Secret, image: &str) -> Vec<(usize, RegistryAuth)> {
    let data = secret.data.as_ref();
    let read = |key: &str| {
        data.and_then(|d| d.get(key))
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes.0).ok())
    };
    let auths = match read(".dockerconfigjson") {
        Some(config) => config["auths"].clone(),
        None => read(".dockercfg").unwrap_or_default(),
    };
    let all = auths.as_object().into_iter().flatten();
    all.filter_map(|(key, entry)| Some((fits(key, image)?, auth(entry)?)))
        .collect()
}

fn auth(entry: &Value) -> Option<RegistryAuth> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty()).map(String::from);
    if let (Some(username), Some(password)) = (text("username"), text("password")) {
        return Some(RegistryAuth::Basic { username, password });
    }
    if let Some(coded) = text("auth") {
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let plain = engine.decode(coded.trim().trim_end_matches('=')).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (username, password) = plain.split_once(':')?;
        return Some(RegistryAuth::Basic {
            username: username.into(),
            password: password.into(),
        });
    }
    text("registrytoken").map(RegistryAuth::Bearer)
}

/// How much of the image's name the key of a docker config covers (pkg/credentialprovider/keyring.go).
fn fits(key: &str, image: &str) -> Option<usize> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let key = key
        .strip_suffix("/v1/")
        .or_else(|| key.strip_suffix("/v2/"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let key = if matches!(key, "index.docker.io" | "docker.io" | "registry-1.docker.io") {
        "docker.io"
    } else {
        key
    };
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let image = if has_host {
        image.replacen("index.docker.io/", "docker.io/", 1)
    } else {
        format!("docker.io/{image}")
    };
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let (host, path) = image.split_once('/')?;
    let host_fits = key_host == host || {
        let (pattern, labels): (Vec<_>, Vec<_>) = (key_host.split('.').collect(), host.split('.').collect());
        pattern.len() == labels.len() && pattern.iter().zip(&labels).all(|(p, l)| *p == "*" || p == l)
    };
    (host_fits && path.starts_with(key_path)).then_some(key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_docker_configs() {
        for (key, image, expected) in [
            ("https://index.docker.io/v1/", "nginx:1", true),
            ("docker.io", "library/nginx", true),
            ("127.0.0.1:5000", "127.0.0.1:5000/a/b@sha256:x", true),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000/a", true),
            ("*.example.com", "eu.example.com/a", true),
            ("*.example.com", "a.eu.example.com/a", false),
            ("example.com/team", "example.com/team/app", true),
            ("example.com/team", "example.com/other", false),
            ("example.com", "nginx", false),
        ] {
            assert_eq!(fits(key, image).is_some(), expected, "{key} {image}");
        }
    }

    #[test]
    fn secrets_in_every_form() {
        let secret = |key: &str, text: &str| Secret {
            data: Some([(key.to_string(), k8s_openapi::ByteString(text.into()))].into()),
            ..Secret::default()
        };
        let expected = [RegistryAuth::Basic {
            username: "u".into(),
            password: "p:q".into(),
        }];
        for found in [
            secret(".dockerconfigjson", r#"{"auths":{"h:1":{"auth":"dTpwOnE="}}}"#),
            secret(
                ".dockerconfigjson",
                r#"{"auths":{"h:1":{"username":"u","password":"p:q"},"other":{"auth":"eA=="}}}"#,
            ),
            secret(".dockercfg", r#"{"h:1":{"auth":"dTpwOnE"}}"#),
        ] {
            let auths: Vec<_> = entries(&found, "h:1/a").into_iter().map(|(_, auth)| auth).collect();
            assert!(auths == expected);
        }
        assert!(entries(&secret(".dockerconfigjson", "junk"), "h:1/a").is_empty());
    }

    #[test]
    fn policies() {
        let with = |policy: Option<&str>| Container {
            image_pull_policy: policy.map(String::from),
            ..Container::default()
        };
        for (set, image, expected) in [
            (None, "a", "Always"),
            (None, "h:1/a:latest", "Always"),
            (None, "h:1/a:1", "IfNotPresent"),
            (None, "a@sha256:0", "IfNotPresent"),
            (Some("Never"), "a", "Never"),
            (Some("Always"), "skiff.local/hello:latest", "IfNotPresent"),
            (Some("Always"), "a:1", "Always"),
        ] {
            assert_eq!(policy(&with(set), image), expected, "{image}");
        }
    }
}
