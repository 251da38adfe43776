//! Archives, and tests of importing them.

use std::io::Write;

use runtime::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bed::{Bed, PROBE, new_config};

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer's archive under construction.
pub struct Layer {
    builder: tar::Builder<Vec<u8>>,
}

impl Layer {
    pub fn new() -> Layer {
        Layer {
            builder: tar::Builder::new(Vec::new()),
        }
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header
    }

    /// Writes a name as it is: the library would refuse those that tests need.
    fn raw_name(header: &mut tar::Header, name: &str) {
        let field = &mut header.as_old_mut().name;
        field.fill(0);
        field[..name.len()].copy_from_slice(name.as_bytes());
    }

    fn entry(&mut self, mut header: tar::Header, name: &str, data: &[u8]) {
        Layer::raw_name(&mut header, name);
        header.set_cksum();
        self.builder.append(&header, data).unwrap();
    }

    pub fn file(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.entry(
            Layer::header(tar::EntryType::Regular, mode, data.len() as u64),
            name,
            data,
        );
    }

    pub fn dir(&mut self, name: &str, mode: u32) {
        self.entry(Layer::header(tar::EntryType::Directory, mode, 0), name, &[]);
    }

    pub fn link(&mut self, kind: tar::EntryType, name: &str, target: &str) {
        let mut header = Layer::header(kind, 0o777, 0);
        let field = &mut header.as_old_mut().linkname;
        field[..target.len()].copy_from_slice(target.as_bytes());
        self.entry(header, name, &[]);
    }

    pub fn symlink(&mut self, name: &str, target: &str) {
        self.link(tar::EntryType::Symlink, name, target);
    }

    pub fn hard_link(&mut self, name: &str, target: &str) {
        self.link(tar::EntryType::Link, name, target);
    }

    pub fn device(&mut self, kind: tar::EntryType, name: &str, major: u32, minor: u32) {
        let mut header = Layer::header(kind, 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.entry(header, name, &[]);
    }

    /// For the entry that follows.
    pub fn pax(&mut self, pairs: &[(&str, &[u8])]) {
        self.builder.append_pax_extensions(pairs.iter().copied()).unwrap();
    }

    pub fn tar(&self) -> Vec<u8> {
        let mut bytes = self.builder.get_ref().clone();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }
}

pub fn image_config(layers: &[&Layer], config: Value) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(&layer.tar())).collect();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    json!({
        "architecture": arch,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
    .into_bytes()
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut layer = Layer::new();
    for (name, data) in files {
        layer.file(name, 0o644, data);
    }
    layer.tar()
}

/// What `docker save` writes.
pub fn docker_archive(tags: &[&str], config: &[u8], layers: &[&Layer]) -> Vec<u8> {
    let config_name = format!("{}.json", digest(config).trim_start_matches("sha256:"));
    let names: Vec<String> = (0..layers.len())
        .map(|index| format!("layer{index}/layer.tar"))
        .collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]);
    let mut files = vec![
        (config_name, config.to_vec()),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ];
    files.extend(names.into_iter().zip(layers).map(|(name, layer)| (name, layer.tar())));
    archive(&files)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout, with an index for two platforms.
fn oci_archive(name: &str, config: &[u8], layers: &[&Layer]) -> Vec<u8> {
    let mut files = Vec::new();
    let mut blob = |bytes: Vec<u8>, media_type: &str| {
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        files.push((format!("./blobs/{}", digest.replace(':', "/")), bytes));
        descriptor
    };
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| blob(gzip(&layer.tar()), "application/vnd.oci.image.layer.v1.tar+gzip"))
        .collect();
    let config = blob(config.to_vec(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers })
        .to_string()
        .into_bytes();
    let mut ours = blob(manifest, "application/vnd.oci.image.manifest.v1+json");
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    ours["platform"] = json!({ "os": "linux", "architecture": arch });
    let other = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", "0".repeat(64)),
        "size": 1,
        "platform": { "os": "linux", "architecture": "s390x" },
    });
    let inner = json!({ "schemaVersion": 2, "manifests": [other, ours] })
        .to_string()
        .into_bytes();
    let mut top = blob(inner, "application/vnd.oci.image.index.v1+json");
    top["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [top] })
        .to_string()
        .into_bytes();
    files.push(("./oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files.push(("./index.json".to_owned(), index));
    archive(&files)
}

pub async fn import(bed: &Bed, bytes: &[u8]) -> Result<Vec<Image>, ImageError> {
    let path = bed.dir.path().join("import.tar");
    std::fs::write(&path, bytes).unwrap();
    bed.runtime().import_images(&path).await
}

pub fn probe_layer() -> Layer {
    let mut layer = Layer::new();
    layer.file("probe", 0o755, &std::fs::read(PROBE).unwrap());
    layer
}

pub async fn docker_save_archive() {
    let bed = Bed::new().await;
    let images = bed.runtime().list_images().await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].repo_tags, ["test.local/probe:latest"]);
    assert!(images[0].repo_digests.is_empty());
    assert!(images[0].size_bytes > 100_000);
    let by_id = bed.runtime().image_status(&images[0].id).await.unwrap().unwrap();
    assert_eq!(by_id, images[0]);
    assert!(bed.runtime().image_status("test.local/probe").await.unwrap().is_some());
    assert!(bed.runtime().image_status("test.local/other").await.unwrap().is_none());
    let (status, text) = bed.run(&["print", "hello"]).await;
    assert_eq!((status.exit_code, text.as_str()), (0, "hello\n"));
    assert_eq!(status.image_id, images[0].id);
    bed.finish().await;
}

pub async fn oci_layout_archive() {
    let bed = Bed::bare().await;
    let layer = probe_layer();
    let config = image_config(
        &[&layer],
        json!({ "Cmd": ["/probe", "print", "from", "oci"], "User": "7:8" }),
    );
    let images = import(&bed, &oci_archive("example.org/a/b:v1", &config, &[&layer]))
        .await
        .unwrap();
    assert_eq!(images[0].repo_tags, ["example.org/a/b:v1"]);
    assert!(images[0].repo_digests[0].starts_with("example.org/a/b@sha256:"));
    assert_eq!((images[0].uid, images[0].id.clone()), (Some(7), digest(&config)));
    let by_digest = bed
        .runtime()
        .image_status(&images[0].repo_digests[0])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(by_digest.id, images[0].id);
    let mut container = bed.container(&[]);
    container.image = "example.org/a/b:v1".into();
    let (status, text) = bed.run_config(container).await;
    assert_eq!(text, "from oci\n");
    assert_eq!(status.image_ref, images[0].repo_digests[0]);
    assert_eq!(status.user.unwrap().uid, 7);
    bed.finish().await;
}

pub async fn layers_are_shared() {
    let bed = Bed::bare().await;
    let base = probe_layer();
    let layers_dir = bed.config.data_dir.join("images/layers");
    let count = || {
        let names = std::fs::read_dir(&layers_dir)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
    };
    for name in ["one", "two"] {
        let mut top = Layer::new();
        top.file("name", 0o644, name.as_bytes());
        let config = image_config(&[&base, &top], json!({ "Entrypoint": ["/probe"] }));
        let tag = format!("test.local/{name}:1");
        import(&bed, &docker_archive(&[&tag], &config, &[&base, &top]))
            .await
            .unwrap();
    }
    assert_eq!(count(), 3);
    for name in ["one", "two"] {
        let mut container = bed.container(&["read", "/name", "+", "write", "/name", "changed", "+", "read", "/name"]);
        container.image = format!("test.local/{name}:1");
        let (_, text) = bed.run_config(container).await;
        assert_eq!(text, format!("{name}\ndone\nchanged\n"));
    }
    bed.finish().await;
}

pub async fn removal_and_collection() {
    let mut bed = Bed::new().await;
    let pod = bed.run_pod("p").await;
    let id = bed.start(&pod, bed.container(&["trap", "+", "sleep"])).await;
    let before = bed.runtime().image_fs_info().await.unwrap();
    assert!(before.used_bytes > 0 && before.capacity_bytes > 0);
    bed.runtime().remove_image("test.local/probe").await.unwrap();
    bed.runtime().remove_image("test.local/probe").await.unwrap();
    assert!(bed.runtime().list_images().await.unwrap().is_empty());
    // The container goes on, and its layer stays, also when the runtime is opened anew.
    bed.reopen().await;
    let result = bed
        .runtime()
        .exec_sync(&id, vec!["/probe".into(), "print".into(), "here".into()], None)
        .await
        .unwrap();
    assert_eq!(result.stdout, b"here\n");
    assert_eq!(
        bed.runtime().image_fs_info().await.unwrap().used_bytes,
        before.used_bytes
    );
    bed.runtime().remove_container(&id).await.unwrap();
    assert_eq!(bed.runtime().image_fs_info().await.unwrap().used_bytes, 0);
    bed.finish().await;
}

pub async fn copies_without_overlay() {
    let dir = tempfile::tempdir().unwrap();
    let config = new_config(dir.path());
    let images = config.data_dir.join("images");
    std::fs::create_dir_all(&images).unwrap();
    // What a probe on such a machine would leave.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(images.join("layering.json"), json!([boot.trim(), "Copy"]).to_string()).unwrap();
    let bed = Bed::with(dir, config).await;
    whiteouts(&bed).await;
    bed.finish().await;
}

pub async fn whiteouts_and_links() {
    let bed = Bed::bare().await;
    whiteouts(&bed).await;
    bed.finish().await;
}

async fn whiteouts(bed: &Bed) {
    let mut lower = probe_layer();
    lower.dir("keep", 0o2750);
    lower.file("keep/gone", 0o644, b"x");
    lower.file("keep/stays", 0o4755, b"stays");
    lower.dir("opaque", 0o755);
    lower.file("opaque/old", 0o644, b"old");
    lower.dir("usr", 0o755);
    lower.dir("usr/lib", 0o755);
    lower.symlink("lib", "usr/lib");
    lower.file("replaced", 0o644, b"file");
    let mut upper = Layer::new();
    // No entry for the folder: it keeps what the lower layer says.
    upper.file("keep/.wh.gone", 0o644, b"");
    upper.file("keep/new", 0o644, b"new");
    upper.hard_link("keep/linked", "keep/stays");
    upper.file("opaque/young", 0o644, b"young");
    upper.file("opaque/.wh..wh..opq", 0o644, b"");
    upper.file("lib/through-link", 0o644, b"lib");
    upper.dir("replaced", 0o755);
    upper.file("replaced/inside", 0o600, b"inside");
    upper.file("twice", 0o644, b"first");
    upper.file("twice", 0o644, b"second");
    let config = image_config(&[&lower, &upper], json!({ "Entrypoint": ["/probe"] }));
    import(
        bed,
        &docker_archive(&["test.local/white:1"], &config, &[&lower, &upper]),
    )
    .await
    .unwrap();
    let mut container = bed.container(&[
        "list",
        "/keep",
        "+",
        "list",
        "/opaque",
        "+",
        "read",
        "/usr/lib/through-link",
        "+",
        "read",
        "/replaced/inside",
        "+",
        "read",
        "/twice",
        "+",
        "stat",
        "/keep",
        "+",
        "stat",
        "/keep/linked",
        "+",
        "stat",
        "/lib",
        "+",
        "read",
        "/keep/linked",
    ]);
    container.image = "test.local/white:1".into();
    let (_, text) = bed.run_config(container).await;
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "linked new stays",
            "young",
            "lib",
            "inside",
            "second",
            "/keep 42750 0:0",
            "/keep/linked 104755 0:0",
            "/lib 120777 0:0",
            "stays",
        ]
    );
}

pub async fn compressed_archives() {
    let bed = Bed::bare().await;
    let layer = probe_layer();
    let config = image_config(&[&layer], json!({}));
    let plain = docker_archive(&["test.local/z:1"], &config, &[&layer]);
    for bytes in [gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let images = import(&bed, &bytes).await.unwrap();
        assert_eq!(images[0].repo_tags, ["test.local/z:1"]);
        bed.runtime().remove_image("test.local/z:1").await.unwrap();
    }
    bed.finish().await;
}

pub async fn broken_archives() {
    let bed = Bed::bare().await;
    let layer = probe_layer();
    let config = image_config(&[&layer], json!({}));
    let good = docker_archive(&["test.local/z:1"], &config, &[&layer]);
    let other = image_config(&[&Layer::new()], json!({}));
    let mut nameless = Layer::new();
    nameless.file("readme", 0o644, b"x");
    for (bytes, expected) in [
        (
            b"not a tar file at all, just some text that is long enough to look at".repeat(20),
            "not a tar",
        ),
        (good[..good.len() / 2].to_vec(), ""),
        (docker_archive(&["test.local/z:1"], &other, &[&layer]), "digest"),
        (docker_archive(&["test.local/z:1"], &other, &[]), "does not match"),
        (nameless.tar(), "neither"),
        (docker_archive(&["Not Valid"], &config, &[&layer]), "couldn't parse"),
    ] {
        let error = import(&bed, &bytes).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let missing = bed
        .runtime()
        .import_images(std::path::Path::new("/nonexistent.tar"))
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("/nonexistent.tar"), "{missing}");
    assert!(bed.runtime().list_images().await.unwrap().is_empty());
    bed.finish().await;
}
