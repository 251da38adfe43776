//! Log files in the CRI's format: `<time> <stream> <P|F> <text>`, a line each. See
//! staging/src/k8s.io/cri-api/pkg/apis/runtime/v1/api.proto (log_path) and pkg/kubelet/logs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::LogRotation;

/// Longer lines are cut, with the tag `P` on all pieces but the last.
const MAX_LINE: usize = 16 << 10;

/// Which stream a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A container's log.
///
/// A log that cannot be written (a full disk) loses lines and stops nobody: the container goes on.
pub(super) struct Log {
    path: PathBuf,
    rotation: LogRotation,
    file: Option<File>,
    size: u64,
    unfinished: [Vec<u8>; 2],
    block: Vec<u8>,
}

impl Log {
    /// Opens the file for appending, making its folder if it is missing.
    pub fn open(path: &Path, rotation: LogRotation) -> io::Result<Log> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut log = Log {
            path: path.to_owned(),
            rotation,
            file: None,
            size: 0,
            unfinished: [Vec::new(), Vec::new()],
            block: Vec::new(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file anew, after somebody renamed it.
    pub fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Takes output in any pieces.
    pub fn write(&mut self, stream: Stream, mut data: &[u8]) {
        let now = Timestamp::now();
        while !data.is_empty() {
            let room = MAX_LINE - self.unfinished[stream as usize].len();
            let (piece, tag) = match data.iter().take(room).position(|byte| *byte == b'\n') {
                Some(end) => {
                    let piece = &data[..end];
                    data = &data[end + 1..];
                    (piece, b'F')
                }
                None if data.len() >= room => {
                    let piece = &data[..room];
                    data = &data[room..];
                    (piece, b'P')
                }
                None => {
                    self.unfinished[stream as usize].extend_from_slice(data);
                    break;
                }
            };
            self.line(now, stream, tag, piece);
        }
        self.flush();
    }

    /// The stream has ended: what has no newline yet is written as a partial line, as containerd does.
    pub fn end(&mut self, stream: Stream) {
        if !self.unfinished[stream as usize].is_empty() {
            self.line(Timestamp::now(), stream, b'P', &[]);
            self.flush();
        }
    }

    fn line(&mut self, now: Timestamp, stream: Stream, tag: u8, rest: &[u8]) {
        // Writing to a vector cannot fail.
        let _ = write!(self.block, "{now:.9} {} {} ", stream.name(), tag as char);
        self.block.append(&mut self.unfinished[stream as usize]);
        self.block.extend_from_slice(rest);
        self.block.push(b'\n');
    }

    fn flush(&mut self) {
        if self.block.is_empty() {
            return;
        }
        if self.size + self.block.len() as u64 > self.rotation.max_bytes && self.size > 0 {
            // On failure the file grows on, and the next block tries again.
            let _ = self.rotate();
        }
        if self.file.is_none() {
            let _ = self.reopen();
        }
        if let Some(file) = &mut self.file {
            if file.write_all(&self.block).is_ok() {
                self.size += self.block.len() as u64;
            } else {
                // Part of a block may be there; the file's own length is the truth.
                self.size = file.metadata().map_or(self.size, |metadata| metadata.len());
            }
        }
        self.block.clear();
    }

    /// Renames the file to `<name>.<time>` as the kubelet does, and removes the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        let time = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
        let mut rotated = self.path.clone().into_os_string();
        rotated.push(format!(".{time}"));
        let rotated = PathBuf::from(rotated);
        if rotated.exists() {
            // Twice in a second: wait for the next block.
            return Ok(());
        }
        fs::rename(&self.path, &rotated)?;
        self.reopen()?;
        let mut old = rotated_files(&self.path)?;
        old.sort();
        let keep = self.rotation.max_files.saturating_sub(1).max(1) as usize;
        let surplus = old.len().saturating_sub(keep);
        for path in old.drain(..surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_rotated = entry.file_name().to_str().is_some_and(|name| {
            name.strip_prefix(&prefix)
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        });
        if is_rotated {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| {
                let (time, rest) = line.split_once(' ').unwrap();
                assert!(
                    time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000000000Z".len(),
                    "{time}"
                );
                rest.to_owned()
            })
            .collect()
    }

    #[test]
    fn lines_pieces_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app/0.log");
        let mut log = Log::open(&path, LogRotation::default()).unwrap();
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"error\n");
        log.write(Stream::Stdout, b"o\n\n");
        log.write(Stream::Stdout, &[b'x'; MAX_LINE + 10]);
        log.write(Stream::Stdout, b"\nprompt> ");
        log.end(Stream::Stdout);
        log.end(Stderr);
        use Stream::Stderr;
        let found = lines(&path);
        assert_eq!(
            found[..4],
            ["stdout F one", "stderr F error", "stdout F two", "stdout F "]
        );
        assert_eq!(found[4], format!("stdout P {}", "x".repeat(MAX_LINE)));
        assert_eq!(
            found[5..],
            [format!("stdout F {}", "x".repeat(10)), "stdout P prompt> ".to_owned()]
        );
    }

    #[test]
    fn rotation_keeps_so_many_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        for second in 0..4 {
            fs::write(folder.path().join(format!("0.log.20200101-00000{second}")), "old\n").unwrap();
        }
        fs::write(folder.path().join("0.log.lock"), "not ours").unwrap();
        let mut log = Log::open(
            &path,
            LogRotation {
                max_bytes: 200,
                max_files: 3,
            },
        )
        .unwrap();
        log.write(Stream::Stdout, format!("{}\n", "a".repeat(150)).as_bytes());
        log.write(Stream::Stdout, b"after\n");
        assert_eq!(lines(&path), ["stdout F after"]);
        let mut old = rotated_files(&path).unwrap();
        old.sort();
        assert_eq!(old.len(), 2);
        assert!(old[0].ends_with("0.log.20200101-000003"));
        assert!(folder.path().join("0.log.lock").exists());
    }
}
