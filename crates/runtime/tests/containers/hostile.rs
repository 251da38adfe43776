//! Images that mean harm.

use std::path::Path;

use runtime::*;
use serde_json::json;
use tar::EntryType;

use crate::bed::{Bed, new_config};
use crate::images::{Layer, docker_archive, image_config, import, probe_layer};

/// Imports an image of the probe's layer with hostile ones on top.
async fn try_import(bed: &Bed, layers: &[&Layer]) -> Result<Vec<Image>, ImageError> {
    let base = probe_layer();
    let mut all = vec![&base];
    all.extend(layers);
    let config = image_config(&all, json!({ "Entrypoint": ["/probe"] }));
    import(bed, &docker_archive(&["test.local/hostile:1"], &config, &all)).await
}

async fn run(bed: &Bed, words: &[&str]) -> String {
    let mut config = bed.container(words);
    config.image = "test.local/hostile:1".into();
    bed.run_config(config).await.1
}

fn refused(result: Result<Vec<Image>, ImageError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, ImageError::Refused { .. }), "{error:?}");
}

pub async fn paths_that_escape() {
    let bed = Bed::bare().await;
    for name in ["../escaped", "a/../../escaped", "..", "a/b/../../../../escaped"] {
        let mut layer = Layer::new();
        layer.file(name, 0o644, b"x");
        refused(try_import(&bed, &[&layer]).await);
    }
    let mut whiteout = Layer::new();
    whiteout.file(".wh...", 0o644, b"");
    refused(try_import(&bed, &[&whiteout]).await);
    // Absolute names are the image's own.
    let mut absolute = Layer::new();
    absolute.file("/absolute/skiff-test-escaped", 0o644, b"inside");
    try_import(&bed, &[&absolute]).await.unwrap();
    assert_eq!(run(&bed, &["read", "/absolute/skiff-test-escaped"]).await, "inside\n");
    assert!(!Path::new("/absolute").exists());
    // A name that is too deep, or too long.
    let mut deep = Layer::new();
    deep.pax(&[("path", "d/".repeat(2000).as_bytes())]);
    deep.dir("deep", 0o755);
    refused(try_import(&bed, &[&deep]).await);
    let mut long = Layer::new();
    long.pax(&[("path", "n".repeat(300).as_bytes())]);
    long.file("long", 0o644, b"");
    refused(try_import(&bed, &[&long]).await);
    bed.finish().await;
}

pub async fn links_that_escape() {
    let bed = Bed::bare().await;
    let outside = bed.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("victim"), "untouched").unwrap();
    let outside_name = outside.to_str().unwrap();
    for target in [outside_name, &format!("../../../../../../../../..{outside_name}")] {
        let mut layer = Layer::new();
        layer.symlink("out", target);
        layer.file("out/planted", 0o644, b"x");
        layer.file("out/victim", 0o644, b"overwritten");
        layer.symlink("file-out", &format!("{target}/victim"));
        layer.file("file-out", 0o644, b"replaced the link");
        let mut next = Layer::new();
        // By way of a lower layer's link.
        next.file("out/.wh.victim", 0o644, b"");
        next.file("out/.wh..wh..opq", 0o644, b"");
        // Where the link leads inside the image there may be nothing: then it is refused, which is as good.
        if try_import(&bed, &[&layer, &next]).await.is_ok() {
            assert_eq!(run(&bed, &["read", "/file-out"]).await, "replaced the link\n");
            bed.runtime().remove_image("test.local/hostile:1").await.unwrap();
        }
        assert_eq!(std::fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }
    // Hard links to what is outside.
    for target in [
        outside_name.to_owned() + "/victim",
        "../../../../../../etc/passwd".into(),
        "/etc/shadow".into(),
    ] {
        let mut layer = Layer::new();
        layer.hard_link("stolen", &target);
        assert!(try_import(&bed, &[&layer]).await.is_err(), "{target}");
    }
    let mut through = Layer::new();
    through.symlink("out", outside_name);
    through.hard_link("stolen", "out/victim");
    assert!(try_import(&bed, &[&through]).await.is_err());
    // A link in a loop, and the root itself.
    let mut endless = Layer::new();
    endless.symlink("loop", "loop");
    endless.file("loop/x", 0o644, b"");
    assert!(try_import(&bed, &[&endless]).await.is_err());
    let mut root = Layer::new();
    root.symlink("./", "/etc");
    refused(try_import(&bed, &[&root]).await);
    bed.finish().await;
}

pub async fn devices_and_whiteout_devices() {
    let bed = Bed::bare().await;
    let mut layer = Layer::new();
    layer.device(EntryType::Block, "disk", 254, 0);
    layer.device(EntryType::Char, "null", 1, 3);
    layer.device(EntryType::Fifo, "pipe", 0, 0);
    // To overlays this would be a whiteout.
    layer.device(EntryType::Char, "probe-hidden", 0, 0);
    layer.file("probe-hidden-check", 0o644, b"x");
    try_import(&bed, &[&layer]).await.unwrap();
    let text = run(
        &bed,
        &["open", "/disk", "+", "stat", "/probe-hidden", "+", "stat", "/pipe"],
    )
    .await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("error: "), "{text}");
    assert_eq!(lines[1], "/probe-hidden error: 2");
    assert!(lines[2].starts_with("/pipe 10666"), "{text}");
    bed.finish().await;
}

pub async fn bombs() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = new_config(dir.path());
    config.image_limits = ImageLimits {
        layer_bytes: 20 << 20,
        layer_entries: 2000,
        keep_free_bytes: 1 << 20,
    };
    let bed = Bed::with(dir, config).await;
    let mut large = Layer::new();
    large.file("zeros", 0o644, &vec![0; 30 << 20]);
    refused(try_import(&bed, &[&large]).await);
    let mut many = Layer::new();
    for number in 0..3000 {
        many.file(&format!("f{number}"), 0o644, b"");
    }
    refused(try_import(&bed, &[&many]).await);
    // A header that claims more than there is.
    let mut lying = Layer::new();
    lying.pax(&[("size", b"99999999999")]);
    lying.file("short", 0o644, b"short");
    assert!(try_import(&bed, &[&lying]).await.is_err());
    bed.finish().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = new_config(dir.path());
    config.image_limits.keep_free_bytes = u64::MAX / 2;
    let bed = Bed::with(dir, config).await;
    let error = try_import(&bed, &[]).await.unwrap_err();
    assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
    bed.finish().await;
}

pub async fn overlay_attributes() {
    let bed = Bed::bare().await;
    let mut layer = Layer::new();
    layer.dir("lower", 0o755);
    layer.file("lower/secret", 0o644, b"x");
    let mut top = Layer::new();
    top.pax(&[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".as_slice()),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.kept", b"yes"),
    ]);
    top.dir("lower", 0o755);
    try_import(&bed, &[&layer, &top]).await.unwrap();
    assert_eq!(run(&bed, &["list", "/lower"]).await, "secret\n");
    bed.finish().await;
}

pub async fn garbage() {
    let bed = Bed::bare().await;
    let base = probe_layer();
    let config = image_config(&[&base], json!({}));
    let whole = docker_archive(&["test.local/hostile:1"], &config, &[&base]);
    // Flipped bytes anywhere are found, or do no harm.
    let mut seed = 12345u64;
    for _ in 0..40 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % bytes.len().min(200_000);
            bytes[at] ^= (seed >> 20) as u8 | 1;
        }
        if let Ok(images) = import(&bed, &bytes).await {
            for image in images {
                bed.runtime().remove_image(&image.id).await.unwrap();
            }
        }
    }
    bed.finish().await;
}
