//! What a container left to say (`getTerminationMessage`, pkg/kubelet/kuberuntime/kuberuntime_container.go).

/// Most bytes of the message file that count; the last ones.
pub const MAX_FILE_BYTES: usize = 4096;
/// Most bytes of the log that count; the last ones.
pub const MAX_LOG_BYTES: usize = 2048;
/// Most lines of the log that count; the last ones.
pub const MAX_LOG_LINES: usize = 80;

/// Where a message comes from if the file is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nowhere.
    File,
    /// From the log of a container that failed.
    FallbackToLogsOnError,
}

impl Policy {
    /// From `terminationMessagePolicy`.
    pub fn parse(text: Option<&str>) -> Policy {
        match text {
            Some("FallbackToLogsOnError") => Policy::FallbackToLogsOnError,
            _ => Policy::File,
        }
    }

    /// Whether the log is needed.
    pub fn wants_log(self, exit_code: i32, file: &[u8]) -> bool {
        self == Policy::FallbackToLogsOnError && exit_code != 0 && file.is_empty()
    }
}

/// The message to report: the runtime's, then the file's or (where the caller brings it) the log's.
pub fn message(of_runtime: &str, file: &[u8], log: &str) -> String {
    let file = String::from_utf8_lossy(&file[file.len().saturating_sub(MAX_FILE_BYTES)..]).into_owned();
    let said = if file.is_empty() { log_tail(log) } else { file };
    match (of_runtime.is_empty(), said.is_empty()) {
        (_, true) => of_runtime.to_string(),
        (true, false) => said,
        (false, false) => format!("{of_runtime}: {said}"),
    }
}

fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let tail: String = lines[lines.len().saturating_sub(MAX_LOG_LINES)..].concat();
    let mut start = tail.len().saturating_sub(MAX_LOG_BYTES);
    while !tail.is_char_boundary(start) {
        start += 1;
    }
    tail[start..].to_string()
}
