//! Where a node keeps the files of its pods.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// The folder of one pod: `<data dir>/pods/<namespace>_<name>_<uid>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodDir(PathBuf);

impl PodDir {
    /// The pod's.
    pub fn of(data_dir: &Path, pod: &Pod) -> PodDir {
        let meta = &pod.metadata;
        let part = |text: Option<&String>| text.map(String::as_str).unwrap_or_default().replace(['/', '\0'], "");
        let name = format!(
            "{}_{}_{}",
            part(meta.namespace.as_ref()),
            part(meta.name.as_ref()),
            part(meta.uid.as_ref())
        );
        PodDir(pods(data_dir).join(name))
    }

    /// From a folder's path.
    pub fn at(path: PathBuf) -> PodDir {
        PodDir(path)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Of all logs.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// A volume's folder; names of volumes are DNS labels.
    pub fn volume(&self, kind: &str, name: &str) -> PathBuf {
        self.0.join("volumes").join(format!("kubernetes.io~{kind}")).join(name)
    }

    /// Of all volumes.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// Where a sub-path of a volume is made visible.
    pub fn sub_path(&self, volume: &str, container: &str, index: usize) -> PathBuf {
        self.0
            .join("volume-subpaths")
            .join(volume)
            .join(container)
            .join(index.to_string())
    }

    /// The hosts file.
    pub fn etc_hosts(&self) -> PathBuf {
        self.0.join("etc-hosts")
    }

    /// A container's termination message, one file for each of its starts.
    pub fn termination_log(&self, container: &str, restart_count: i32) -> PathBuf {
        self.0
            .join("containers")
            .join(container)
            .join(format!("{restart_count}.termination"))
    }
}

/// The folder of all pods.
pub fn pods(data_dir: &Path) -> PathBuf {
    data_dir.join("pods")
}

/// The UID in the name of a pod's folder.
pub fn uid_of(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?;
    let mut parts = name.splitn(3, '_');
    let (_, _, uid) = (parts.next()?, parts.next()?, parts.next()?);
    (!uid.is_empty()).then(|| uid.to_string())
}
