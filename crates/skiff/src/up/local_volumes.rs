//! Volumes on this machine's own disk, and the storage class for them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use api::{Gvr, Value, meta};
use client::{Client, ListParams, PatchKind, WriteParams};
use controllers::LocalVolumes;
use driver::{DiskError, LocalDisk, VolumeDisk};
use kinds::bootstrap::{LOCAL_PATH, local_path_class};
use runtime::project_quota;
use serde_json::json;

/// On the namespace kube-system: the class was made once; whoever deletes it does not get it back.
const CLASS_MADE: &str = "skiff.io/local-path-class-made";
/// Folders that are being removed begin so.
const DYING: &str = ".removed-";

/// The disk of this machine's node.
pub fn disk(data_dir: &Path, node: &str) -> Result<LocalDisk> {
    let root = data_dir.join("volumes");
    let mut builder = fs::DirBuilder::new();
    // Nobody but root finds the way to the volumes, whose own folders are open to all.
    builder.recursive(true).mode(0o700);
    builder
        .create(&root)
        .with_context(|| format!("make {} (is the disk full or read-only?)", root.display()))?;
    let place = LocalVolumes {
        node: node.to_owned(),
        root: root.to_string_lossy().into_owned(),
        limits: project_quota::is_enforced(&root),
    };
    let disk = Folders {
        limits: place.limits,
        root,
    };
    disk.finish_removals();
    Ok(LocalDisk {
        place,
        disk: Arc::new(disk),
    })
}

/// A folder for each volume.
#[derive(Debug)]
struct Folders {
    root: PathBuf,
    limits: bool,
}

impl Folders {
    fn of(&self, name: &str) -> Result<PathBuf, DiskError> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(DiskError(format!("{name:?} is no name of a volume")));
        }
        Ok(self.root.join(name))
    }

    /// What an earlier process began to remove.
    fn finish_removals(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(DYING)
                && let Err(error) = remove_tree(&entry.path())
            {
                tracing::warn!(error = %error.0, "the rest of a volume cannot be removed");
            }
        }
    }
}

fn failed(operation: &str, path: &Path) -> impl FnOnce(std::io::Error) -> DiskError {
    let what = format!("{operation} {}", path.display());
    move |error| DiskError(format!("{what}: {error}"))
}

fn remove_tree(path: &Path) -> Result<(), DiskError> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(failed("list mounts below", path))?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    if let Some(point) = points.map(Path::new).find(|point| point.starts_with(path)) {
        return Err(DiskError(format!(
            "{} is still mounted; unmount it first",
            point.display()
        )));
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

impl VolumeDisk for Folders {
    fn make(&self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let path = self.of(name)?;
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", &path)(error)),
            // Once only: from then on the folder is its users'.
            Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(0o777))
                .map_err(failed("change the mode of", &path))?,
            Err(_) => {}
        }
        if self.limits {
            project_quota::limit(&path, bytes).map_err(failed("limit the size of", &path))?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.of(name)?;
        let dying = self.root.join(format!("{DYING}{name}"));
        if self.limits {
            project_quota::lift(&path);
        }
        match fs::rename(&path, &dying) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("rename", &path)(error)),
            _ => {}
        }
        remove_tree(&dying)
    }
}

/// Makes the storage class, unless that was done before: it is the default, if there is no other.
pub async fn ensure_class(client: &Client) -> Result<()> {
    let namespaces = client.dynamic(&Gvr::new("", "v1", "namespaces"));
    let system = namespaces.get("", "kube-system").await.context("read kube-system")?;
    if meta::annotation(&system, CLASS_MADE).is_some() {
        return Ok(());
    }
    let classes = client.dynamic(&Gvr::new("storage.k8s.io", "v1", "storageclasses"));
    let known = classes.list_all("", &ListParams::default()).await;
    let known = known.context("list storage classes")?.items;
    let is_default =
        |class: &Value| meta::annotation(class, "storageclass.kubernetes.io/is-default-class") == Some("true");
    let class = local_path_class(!known.iter().any(is_default));
    let params = WriteParams::manager("skiff");
    match classes.create("", &class, &params).await {
        Err(error) if !error.is_already_exists() => {
            return Err(error).with_context(|| format!("make the storage class {}", LOCAL_PATH.1));
        }
        _ => {}
    }
    let patch = json!({"metadata": {"annotations": {CLASS_MADE: "true"}}});
    let noted: Result<Value, _> = namespaces
        .patch("", "kube-system", PatchKind::Merge, &patch, &params)
        .await;
    noted.map(drop).context("note that the storage class was made")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_and_go_and_doing_it_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let local = disk(dir.path(), "n1").unwrap();
        let path = Path::new(&local.place.root).join("pvc-1");
        local.disk.make("pvc-1", 1 << 20).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o777);
        fs::write(path.join("file"), "data").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        local.disk.make("pvc-1", 2 << 20).unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "data");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o750);
        local.disk.remove("pvc-1").unwrap();
        local.disk.remove("pvc-1").unwrap();
        assert_eq!(fs::read_dir(&local.place.root).unwrap().count(), 0);
    }

    #[test]
    fn names_lead_nowhere_else_and_removals_are_finished() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("volumes/.removed-pvc-1/deep")).unwrap();
        let local = disk(dir.path(), "n1").unwrap();
        assert_eq!(fs::read_dir(&local.place.root).unwrap().count(), 0);
        for name in ["", "..", ".", "a/b", "../x", ".hidden"] {
            assert!(
                local.disk.make(name, 1).is_err() && local.disk.remove(name).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn links_in_a_volume_are_removed_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "data").unwrap();
        let local = disk(dir.path(), "n1").unwrap();
        local.disk.make("pvc-1", 1).unwrap();
        std::os::unix::fs::symlink(&precious, Path::new(&local.place.root).join("pvc-1/link")).unwrap();
        local.disk.remove("pvc-1").unwrap();
        assert!(precious.join("file").exists());
    }
}
