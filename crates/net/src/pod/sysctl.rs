//! Kernel settings of the calling thread's network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens a file below it.

use std::fs;

use super::PodNetError;

/// Writes a setting, given its path below `/proc/sys/`, unless it has the value already.
pub(crate) fn set(path: &str, value: &str) -> Result<(), PodNetError> {
    if get(path)? == value {
        return Ok(());
    }
    fs::write(format!("/proc/sys/{path}"), value).map_err(|source| PodNetError::Sysctl {
        path: path.to_owned(),
        source,
    })
}

/// Reads a setting.
pub(crate) fn get(path: &str) -> Result<String, PodNetError> {
    fs::read_to_string(format!("/proc/sys/{path}"))
        .map(|value| value.trim().to_owned())
        .map_err(|source| PodNetError::Sysctl {
            path: path.to_owned(),
            source,
        })
}
