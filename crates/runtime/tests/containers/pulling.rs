//! Images from registries.

use std::sync::{Arc, Mutex};

use runtime::*;
use serde_json::json;

use crate::bed::{Bed, new_config};
use crate::images::{Layer, image_config, probe_layer};
use crate::registry::{Access, PASSWORD, Registry, USER};

fn request(image: impl Into<String>) -> PullRequest {
    PullRequest {
        image: image.into(),
        ..Default::default()
    }
}

fn with_password(image: String, password: &str) -> PullRequest {
    let auth = RegistryAuth::Basic {
        username: USER.into(),
        password: password.into(),
    };
    PullRequest {
        auth: Some(auth),
        ..request(image)
    }
}

fn push_probe(registry: &Registry) -> serde_json::Value {
    let layer = probe_layer();
    let mut second = Layer::new();
    second.file("second", 0o644, b"second layer");
    let config = image_config(&[&layer, &second], json!({ "Entrypoint": ["/probe"] }));
    registry.push("a/probe", "v1", &config, &[&layer, &second])
}

fn image_error(error: RuntimeError) -> ImageError {
    match error {
        RuntimeError::Image(error) => error,
        other => panic!("{other}"),
    }
}

pub async fn plain() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    let manifest = push_probe(&registry);
    let name = registry.name("a/probe:v1");
    let image = bed.runtime().pull_image(request(&name)).await.unwrap();
    assert_eq!(image.repo_tags, [name.as_str()]);
    let digest = manifest["digest"].as_str().unwrap();
    assert_eq!(image.repo_digests, [registry.name(&format!("a/probe@{digest}"))]);
    let mut config = bed.container(&["read", "/second"]);
    config.image = name.clone();
    let (status, text) = bed.run_config(config).await;
    assert_eq!(
        (text.as_str(), &status.image_ref),
        ("second layer\n", &image.repo_digests[0])
    );
    // Once more: the layers are here.
    let before = registry.requests("/blobs/");
    assert_eq!(bed.runtime().pull_image(request(&name)).await.unwrap(), image);
    assert_eq!(registry.requests("/blobs/"), before + 1, "the configuration only");
    // The tag moves on.
    let mut third = Layer::new();
    third.file("third", 0o644, b"x");
    registry.push("a/probe", "v1", &image_config(&[&third], json!({})), &[&third]);
    let moved = bed.runtime().pull_image(request(&name)).await.unwrap();
    assert_ne!(moved.id, image.id);
    assert_eq!(bed.runtime().image_status(&name).await.unwrap().unwrap().id, moved.id);
    let old = bed.runtime().image_status(&image.id).await.unwrap().unwrap();
    assert!(old.repo_tags.is_empty() && old.repo_digests == image.repo_digests);
    bed.finish().await;
}

pub async fn basic_auth() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Basic).await;
    push_probe(&registry);
    bed.runtime()
        .pull_image(with_password(registry.name("a/probe:v1"), PASSWORD))
        .await
        .unwrap();
    bed.finish().await;
}

pub async fn token_auth() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Token).await;
    push_probe(&registry);
    bed.runtime()
        .pull_image(with_password(registry.name("a/probe:v1"), PASSWORD))
        .await
        .unwrap();
    assert!(registry.requests("/token") >= 1);
    bed.finish().await;
}

pub async fn wrong_credentials() {
    let bed = Bed::bare().await;
    for access in [Access::Basic, Access::Token] {
        let registry = Registry::start(access).await;
        push_probe(&registry);
        let name = registry.name("a/probe:v1");
        for attempt in [request(&name), with_password(name.clone(), "wrong")] {
            let error = image_error(bed.runtime().pull_image(attempt).await.unwrap_err());
            assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
            assert!(error.to_string().contains("imagePullSecrets"), "{error}");
        }
    }
    bed.finish().await;
}

pub async fn missing_things() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    push_probe(&registry);
    for name in ["a/probe:v2", "a/other:v1"] {
        let error = image_error(
            bed.runtime()
                .pull_image(request(registry.name(name)))
                .await
                .unwrap_err(),
        );
        assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = image_error(bed.runtime().pull_image(request("a/UPPER")).await.unwrap_err());
    assert!(matches!(error, ImageError::InvalidReference { .. }), "{error}");
    // A layer that the manifest names is gone.
    registry
        .state
        .lock()
        .unwrap()
        .blobs
        .retain(|_, bytes| bytes.len() < 1000 && bytes.starts_with(b"{"));
    let error = image_error(
        bed.runtime()
            .pull_image(request(registry.name("a/probe:v1")))
            .await
            .unwrap_err(),
    );
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    assert!(bed.runtime().list_images().await.unwrap().is_empty());
    bed.finish().await;
}

pub async fn index_selection() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    let ours = push_probe(&registry);
    let mut foreign = Layer::new();
    foreign.file("foreign", 0o644, b"x");
    let theirs = registry.push("a/probe", "other", &image_config(&[&foreign], json!({})), &[&foreign]);
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let index = registry.push_index("a/probe", "multi", &[(&theirs, "s390x"), (&ours, architecture)]);
    let image = bed
        .runtime()
        .pull_image(request(registry.name("a/probe:multi")))
        .await
        .unwrap();
    let digest = index["digest"].as_str().unwrap();
    assert_eq!(image.repo_digests, [registry.name(&format!("a/probe@{digest}"))]);
    let mut config = bed.container(&["print", "ours"]);
    config.image = registry.name("a/probe:multi");
    assert_eq!(bed.run_config(config).await.1, "ours\n");
    registry.push_index("a/probe", "none", &[(&theirs, "s390x")]);
    let error = image_error(
        bed.runtime()
            .pull_image(request(registry.name("a/probe:none")))
            .await
            .unwrap_err(),
    );
    assert!(matches!(error, ImageError::NoPlatform { .. }), "{error}");
    bed.finish().await;
}

pub async fn by_digest() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    let manifest = push_probe(&registry);
    let name = registry.name(&format!("a/probe@{}", manifest["digest"].as_str().unwrap()));
    let image = bed.runtime().pull_image(request(&name)).await.unwrap();
    assert!(image.repo_tags.is_empty());
    assert_eq!(image.repo_digests, [name.as_str()]);
    assert!(bed.runtime().image_status(&name).await.unwrap().is_some());
    // What the registry says is that manifest is another one.
    {
        let mut state = registry.state.lock().unwrap();
        for (_, bytes) in state.manifests.values_mut() {
            bytes.push(b' ');
        }
    }
    bed.runtime().remove_image(&name).await.unwrap();
    let error = image_error(bed.runtime().pull_image(request(&name)).await.unwrap_err());
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
    bed.finish().await;
}

pub async fn wrong_digest() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    push_probe(&registry);
    registry.state.lock().unwrap().lies = true;
    let error = image_error(
        bed.runtime()
            .pull_image(request(registry.name("a/probe:v1")))
            .await
            .unwrap_err(),
    );
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
    assert!(bed.runtime().list_images().await.unwrap().is_empty());
    bed.finish().await;
}

pub async fn broken_off() {
    let bed = Bed::bare().await;
    for no_ranges in [false, true] {
        let registry = Registry::start(Access::Everybody).await;
        push_probe(&registry);
        {
            let mut state = registry.state.lock().unwrap();
            (state.cut_off, state.no_ranges) = (2, no_ranges);
        }
        let image = bed
            .runtime()
            .pull_image(request(registry.name("a/probe:v1")))
            .await
            .unwrap();
        assert_eq!(
            registry.requests("/blobs/"),
            5,
            "two layers, the configuration, and two more attempts"
        );
        bed.runtime().remove_image(&image.id).await.unwrap();
        registry.state.lock().unwrap().cut_off = 100;
        let error = image_error(
            bed.runtime()
                .pull_image(request(registry.name("a/probe:v1")))
                .await
                .unwrap_err(),
        );
        assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    }
    bed.finish().await;
}

pub async fn concurrent_pulls() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    push_probe(&registry);
    // Another image with the same first layer.
    let layer = probe_layer();
    registry.push(
        "b/probe",
        "v1",
        &image_config(&[&layer], json!({ "Entrypoint": ["/probe"] })),
        &[&layer],
    );
    let names: Vec<String> = (0..8)
        .map(|number| registry.name(["a/probe:v1", "b/probe:v1"][number % 2]))
        .collect();
    let pulls = names.iter().map(|name| bed.runtime().pull_image(request(name)));
    for result in futures_util::future::join_all(pulls).await {
        result.unwrap();
    }
    assert_eq!(registry.requests("/blobs/"), 4, "two layers and two configurations");
    assert_eq!(bed.runtime().list_images().await.unwrap().len(), 2);
    bed.finish().await;
}

pub async fn unreachable() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    let name = registry.name("a/probe:v1");
    let address = registry.address.to_string();
    drop(registry);
    let error = loop {
        let error = image_error(bed.runtime().pull_image(request(&name)).await.unwrap_err());
        // The server's task may take a moment to end.
        if !matches!(error, ImageError::NotFound { .. }) {
            break error;
        }
    };
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
    bed.finish().await;
}

pub async fn progress() {
    let bed = Bed::bare().await;
    let registry = Registry::start(Access::Everybody).await;
    push_probe(&registry);
    let seen: Arc<Mutex<Vec<PullProgress>>> = Arc::default();
    let sink = seen.clone();
    let progress: ProgressFn = Arc::new(move |progress| sink.lock().unwrap().push(progress));
    let request = PullRequest {
        progress: Some(progress),
        ..request(registry.name("a/probe:v1"))
    };
    bed.runtime().pull_image(request).await.unwrap();
    let last = seen.lock().unwrap().last().unwrap().clone();
    assert_eq!((last.layers_done, last.layers_total), (2, 2));
    assert!(last.bytes_total > 1000 && last.bytes_done >= last.bytes_total);
    bed.finish().await;
}

/// As registries mostly are: with TLS, tokens, images for several platforms. Its CA is trusted for it alone.
pub async fn over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = new_config(dir.path());
    let trusted = dir.path().join("certs.d");
    config.certificate_dirs = vec![trusted.clone()];
    let pulls: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = pulls.clone();
    config.pull_observer = Some(Arc::new(move |image, event| {
        if let PullEvent::Ended(result) = event {
            sink.lock().unwrap().push(format!("{image} {}", result.is_ok()));
        }
    }));
    let bed = Bed::with(dir, config).await;
    for access in [Access::Everybody, Access::Basic, Access::Token] {
        let (registry, ca) = Registry::start_tls(access).await;
        let ours = push_probe(&registry);
        let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let index = registry.push_index("a/probe", "multi", &[(&ours, architecture)]);
        let name = registry.name("a/probe:multi");
        let pull = |image: &str| bed.runtime().pull_image(with_password(image.to_owned(), PASSWORD));

        let error = image_error(pull(&name).await.unwrap_err());
        assert!(matches!(error, ImageError::Unreachable { .. }), "{error:?}");
        let hint = format!("/etc/skiff/certs.d/{}/ca.crt", registry.address);
        assert!(error.to_string().contains(&hint), "{error}");
        assert_eq!(registry.requests(""), 0, "nothing is said to whom one does not trust");

        let folder = trusted.join(registry.address.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), ca).unwrap();
        registry.state.lock().unwrap().cut_off = 1;
        let image = pull(&name).await.unwrap();
        let by_digest = registry.name(&format!("a/probe@{}", index["digest"].as_str().unwrap()));
        assert!(image.repo_digests.contains(&by_digest), "{image:?}");
        assert_eq!(pull(&by_digest).await.unwrap().id, image.id);
        if access != Access::Everybody {
            let refused = with_password(name.clone(), "wrong");
            let error = image_error(bed.runtime().pull_image(refused).await.unwrap_err());
            assert!(matches!(error, ImageError::Unauthorized { .. }), "{error:?}");
        }
        let told = std::mem::take(&mut *pulls.lock().unwrap());
        assert_eq!(told[..2], [format!("{name} false"), format!("{name} true")]);
    }
    bed.finish().await;
}
