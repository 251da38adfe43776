//! `skiff.local/hello:latest`: an image made of skiff's own program, so that there is always one to try things with.
//!
//! Its layer is made by linking or copying the program, not by way of an archive. Nobody else ever sees its digests, so
//! they are of the program's size, time and place rather than of its bytes, which are many.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::copy::copy_file;
use super::digest::sha256;
use super::store::{ImageRecord, ImageStore, LayerRecord, image_io, remove_in_background};
use crate::{Image, ImageConfig, ImageError};

/// The image's name.
pub const HELLO_IMAGE: &str = "skiff.local/hello:latest";
const HELLO_REPOSITORY: &str = "skiff.local/hello";

impl ImageStore {
    /// Makes the image, unless it is there and made of this very program.
    pub async fn ensure_hello(&self, exe: &Path) -> Result<Image, ImageError> {
        let exe = &linkable(exe);
        let failed = |what: &str| image_io(HELLO_IMAGE, format!("{what} {}", exe.display()));
        let program = fs::metadata(exe).map_err(failed("stat"))?;
        let identity = format!(
            "{} {} {}.{:09} {} {}",
            program.dev(),
            program.ino(),
            program.mtime(),
            program.mtime_nsec(),
            program.size(),
            exe.display()
        );
        let diff_id = sha256(identity.as_bytes());
        let config = ImageConfig {
            entrypoint: vec!["/skiff".to_owned(), "hello".to_owned()],
            env: vec!["PATH=/".to_owned()],
            exposed_ports: vec!["8080/tcp".to_owned()],
            os: "linux".to_owned(),
            ..Default::default()
        };
        let description = json!({ "config": config, "rootfs": { "diff_ids": [diff_id] } });
        let id = sha256(description.to_string().as_bytes());
        if let Some(image) = self.find(HELLO_IMAGE).filter(|image| image.id == id) {
            return Ok(image);
        }
        let old = self.find(HELLO_IMAGE).map(|image| image.id);
        let key = ImageStore::key(&diff_id);
        let _pins = self.pin(vec![key.clone()]);
        let _lock = self.making(&key).lock_owned().await;
        if !self.has_layer(&key) {
            let folder = self.temporary_path("hello");
            let (exe, target) = (exe.clone(), folder.clone());
            let made = tokio::task::spawn_blocking(move || make_layer(&exe, &target)).await;
            let made = made
                .unwrap_or_else(|error| Err(std::io::Error::other(error)))
                .map_err(image_io(HELLO_IMAGE, format!("make {}", folder.display())))
                .and_then(|()| {
                    let record = LayerRecord {
                        chain_id: diff_id,
                        bytes: program.size(),
                        entries: 6,
                    };
                    self.commit_layer(HELLO_IMAGE, &folder, record)
                });
            if made.is_err() {
                remove_in_background(folder);
            }
            made?;
        }
        let record = ImageRecord {
            digests: [format!("{HELLO_REPOSITORY}@{id}")].into(),
            id,
            tags: [HELLO_IMAGE.to_owned()].into(),
            layers: vec![key],
            config,
            pinned: true,
        };
        // Not synced: if it does not survive a power failure, it is made anew.
        let image = self.insert_image(HELLO_IMAGE, record)?;
        if let Some(old) = old {
            self.remove(&old).await.map_err(|error| ImageError::Io {
                image: HELLO_IMAGE.to_owned(),
                message: error.to_string(),
            })?;
        }
        Ok(image)
    }
}

/// The path of the program's own file, of which links can be made, if it is still there.
fn linkable(exe: &Path) -> PathBuf {
    let same = |target: &PathBuf| match (fs::metadata(exe), fs::symlink_metadata(target)) {
        (Ok(program), Ok(file)) => (program.dev(), program.ino()) == (file.dev(), file.ino()),
        _ => false,
    };
    let target = fs::read_link(exe).ok().filter(same);
    target.unwrap_or_else(|| exe.to_owned())
}

fn make_layer(exe: &Path, folder: &Path) -> std::io::Result<()> {
    let dir = |path: &Path, mode: u32| {
        fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
    };
    dir(folder, 0o755)?;
    dir(&folder.join("etc"), 0o755)?;
    dir(&folder.join("tmp"), 0o1777)?;
    fs::write(
        folder.join("etc/passwd"),
        "root:x:0:0:root:/:/skiff\nnobody:x:65534:65534:nobody:/:/skiff\n",
    )?;
    fs::write(folder.join("etc/group"), "root:x:0:\nnobody:x:65534:\n")?;
    let program = folder.join("skiff");
    // A link costs nothing, but shares the mode; a program that not everybody may run is copied.
    let everybody_runs_it = fs::metadata(exe)?.mode() & 0o005 == 0o005;
    if !everybody_runs_it || fs::hard_link(exe, &program).is_err() {
        copy_file(exe, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
