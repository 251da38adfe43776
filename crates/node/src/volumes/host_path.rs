//! Paths of the host (pkg/volume/hostpath).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{VolumeError, io_error};

/// Checks that the path is of its type, and makes it where the type says so.
pub(super) fn check(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let problem = |problem| {
        Err(VolumeError::HostPath {
            path: source.path.clone(),
            problem,
        })
    };
    if path.components().any(|part| part == std::path::Component::ParentDir) || !path.is_absolute() {
        return Err(VolumeError::BadPath(source.path.clone()));
    }
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(io_error("look at", path)(error)),
    };
    match (source.type_.as_deref().unwrap_or_default(), found) {
        ("", Some(_)) => Ok(()),
        ("", None) | ("DirectoryOrCreate", None) => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(io_error("make folder", path)),
        ("FileOrCreate", None) => {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            options.open(path).map(drop).map_err(io_error("make file", path))
        }
        ("DirectoryOrCreate" | "Directory", Some(found)) if found.is_dir() => Ok(()),
        ("DirectoryOrCreate" | "Directory", _) => problem("is not a directory"),
        ("FileOrCreate" | "File", Some(found)) if found.is_file() => Ok(()),
        ("FileOrCreate" | "File", _) => problem("is not a file"),
        ("Socket", Some(found)) if found.file_type().is_socket() => Ok(()),
        ("Socket", _) => problem("is not a socket file"),
        ("CharDevice", Some(found)) if found.file_type().is_char_device() => Ok(()),
        ("CharDevice", _) => problem("is not a character device"),
        ("BlockDevice", Some(found)) if found.file_type().is_block_device() => Ok(()),
        ("BlockDevice", _) => problem("is not a block device"),
        _ => problem("is of an invalid hostPath type"),
    }
}
