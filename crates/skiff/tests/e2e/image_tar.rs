//! Images made of the machine's static busybox.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::run;

const BUSYBOX: &str = "/bin/busybox";
const PROGRAMS: [&str; 16] = [
    "sh", "sleep", "wget", "nslookup", "tar", "cat", "ls", "echo", "tty", "httpd", "hostname", "id", "ping", "true",
    "rm", "grep",
];

/// An image with one layer.
pub struct BuiltImage {
    pub config: Vec<u8>,
    pub layer: PathBuf,
    pub layer_digest: String,
    pub config_digest: String,
}

fn digest(path: &Path) -> String {
    let out = run("sha256sum", &[&path.display().to_string()]).ok();
    format!("sha256:{}", out.split_whitespace().next().expect("a digest"))
}

/// Makes an image that runs `command`; `text` is at /www/index.html.
pub fn build(dir: &Path, name: &str, command: &[&str], text: &str) -> BuiltImage {
    let root = dir.join(format!("{name}-root"));
    for folder in ["bin", "www", "tmp", "etc"] {
        fs::create_dir_all(root.join(folder)).expect("make a folder of the image");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))
        .unwrap_or_else(|error| panic!("{BUSYBOX} cannot be read ({error}): apt-get install busybox-static"));
    for program in PROGRAMS {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(program));
    }
    fs::write(root.join("www/index.html"), text).expect("write the page");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("write passwd");
    let layer = dir.join(format!("{name}-layer.tar"));
    let (from, to) = (root.display().to_string(), layer.display().to_string());
    run("tar", &["-C", &from, "--owner=0", "--group=0", "-cf", &to, "."]).ok();
    let layer_digest = digest(&layer);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": command, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    });
    let config = config.to_string().into_bytes();
    let path = dir.join(format!("{name}-config.json"));
    fs::write(&path, &config).expect("write the configuration");
    BuiltImage {
        config_digest: digest(&path),
        config,
        layer,
        layer_digest,
    }
}

impl BuiltImage {
    /// Writes it as `docker save` does.
    pub fn docker_archive(&self, dir: &Path, tag: &str) -> PathBuf {
        let folder = dir.join("docker-save");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("make a folder");
        let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
        fs::write(folder.join("manifest.json"), manifest.to_string()).expect("write the manifest");
        fs::write(folder.join("config.json"), &self.config).expect("write the configuration");
        fs::copy(&self.layer, folder.join("layer.tar")).expect("copy the layer");
        pack(&folder, &dir.join("docker-save.tar"))
    }

    /// Writes it as an OCI layout.
    pub fn oci_archive(&self, dir: &Path, tag: &str) -> PathBuf {
        let folder = dir.join("oci-layout");
        let _ = fs::remove_dir_all(&folder);
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("make a folder");
        let place = |digest: &str| blobs.join(digest.trim_start_matches("sha256:"));
        let manifest = folder.join("manifest");
        fs::write(&manifest, self.manifest().to_string()).expect("write the manifest");
        let manifest_digest = digest(&manifest);
        let size = fs::metadata(&manifest).expect("just written").len();
        fs::rename(&manifest, place(&manifest_digest)).expect("move the manifest");
        fs::write(place(&self.config_digest), &self.config).expect("write the configuration");
        fs::copy(&self.layer, place(&self.layer_digest)).expect("copy the layer");
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest_digest,
                "size": size,
                "annotations": { "org.opencontainers.image.ref.name": tag },
            }],
        });
        fs::write(folder.join("index.json"), index.to_string()).expect("write the index");
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write the version");
        pack(&folder, &dir.join("oci.tar"))
    }

    pub fn manifest(&self) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.config_digest,
                "size": self.config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.layer_digest,
                "size": fs::metadata(&self.layer).expect("the layer was made").len(),
            }],
        })
    }
}

fn pack(folder: &Path, target: &Path) -> PathBuf {
    run(
        "tar",
        &[
            "-C",
            &folder.display().to_string(),
            "-cf",
            &target.display().to_string(),
            ".",
        ],
    )
    .ok();
    target.to_owned()
}
