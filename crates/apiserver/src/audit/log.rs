//! Events as lines of JSON in a file that is turned over when it is long.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use api::Value;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{AuditError, Sink, Truncation};

/// Events that wait to be written.
const QUEUE: usize = 10_000;

/// Where and how much is logged.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Days that old files are kept; 0 is for ever.
    pub max_age_days: u32,
    /// Old files that are kept; 0 is all.
    pub max_backups: usize,
    /// Mebibytes after which the file is turned over; 0 is 100.
    pub max_size_mib: u64,
    /// Whether requests wait for it.
    pub mode: LogMode,
    /// What is too long for it.
    pub truncation: Option<Truncation>,
}

/// Whether requests wait until their events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// They do not: events are queued.
    Batch,
    /// They do.
    #[default]
    Blocking,
    /// They do, and those fail whose arrival cannot be written.
    BlockingStrict,
}

/// The log's end for requests.
pub(super) enum Log {
    Queue(SyncSender<Arc<Value>>),
    /// The lock is held for one write to the page cache; who waits for it is as slow as the disk anyway.
    Direct(Mutex<Target>, LogMode),
}

impl Sink for Log {
    fn take(&self, event: &Arc<Value>) -> bool {
        let target = match self {
            Log::Queue(queue) => return queue.try_send(event.clone()).is_ok(),
            Log::Direct(target, _) => target,
        };
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        let written = target.lock().write(&line);
        if let Err(error) = &written {
            tracing::error!(%error, "the audit log cannot be written; an event is lost");
        }
        written.is_ok()
    }

    fn is_strict(&self) -> bool {
        matches!(self, Log::Direct(_, LogMode::BlockingStrict))
    }
}

impl Log {
    /// Opens the file, and for the mode `batch` starts the thread that writes it; it ends with the server.
    pub fn open(options: LogOptions) -> Result<Log, AuditError> {
        let failed = |source: io::Error| AuditError::Log {
            path: options.path.display().to_string(),
            source,
        };
        let target = Target::open(&options).map_err(failed)?;
        if options.mode != LogMode::Batch {
            return Ok(Log::Direct(Mutex::new(target), options.mode));
        }
        let (sender, events) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write(target, &events))
            .map_err(failed)?;
        Ok(Log::Queue(sender))
    }
}

fn write(mut target: Target, events: &Receiver<Arc<Value>>) {
    while let Ok(event) = events.recv() {
        let mut lines = Vec::new();
        let waiting = std::iter::once(event).chain(events.try_iter());
        for event in waiting {
            serde_json::to_writer(&mut lines, &*event).expect("a tree of values has only string keys");
            lines.push(b'\n');
            if lines.len() > 1 << 20 {
                break;
            }
        }
        if let Err(error) = target.write(&lines) {
            tracing::error!(%error, "the audit log cannot be written; events are lost");
        }
    }
}

/// What is written to.
pub(super) enum Target {
    Standard,
    File(Rotating),
}

impl Target {
    fn open(options: &LogOptions) -> io::Result<Target> {
        if options.path == Path::new("-") {
            return Ok(Target::Standard);
        }
        Ok(Target::File(Rotating::open(options.clone())?))
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Target::Standard => io::stdout().lock().write_all(lines),
            Target::File(file) => file.write(lines),
        }
    }
}

/// A file that is renamed, and begun anew, when it is long.
pub(super) struct Rotating {
    options: LogOptions,
    file: File,
    length: u64,
}

fn open_file(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    // It holds what secrets are made of.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

impl Rotating {
    fn open(options: LogOptions) -> io::Result<Rotating> {
        let (file, length) = open_file(&options.path)?;
        Ok(Rotating { options, file, length })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let most = match self.options.max_size_mib {
            0 => 100,
            mebibytes => mebibytes,
        } << 20;
        if self.length > 0 && self.length + lines.len() as u64 > most {
            self.turn_over()?;
        }
        self.file.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        std::fs::rename(path, self.backup(Timestamp::now()))?;
        (self.file, self.length) = open_file(path)?;
        self.remove_old()
    }

    /// `audit-2006-01-02T15-04-05.000.log`, as others name them too.
    fn backup(&self, at: Timestamp) -> PathBuf {
        let (stem, extension) = self.parts();
        let at = at.strftime("%Y-%m-%dT%H-%M-%S.%3f");
        self.options.path.with_file_name(format!("{stem}-{at}{extension}"))
    }

    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = text(self.options.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (text(self.options.path.file_stem()), format!("{dot}{extension}"))
    }

    fn remove_old(&self) -> io::Result<()> {
        let (stem, extension) = self.parts();
        let folder = self
            .options
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut backups: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with(&format!("{stem}-")) && name.ends_with(&extension);
            if ours && entry.path() != self.options.path {
                backups.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        backups.sort();
        backups.reverse();
        let days = u64::from(self.options.max_age_days);
        let oldest = (days > 0).then(|| SystemTime::now() - Duration::from_secs(days * 86_400));
        for (at, (modified, path)) in backups.iter().enumerate() {
            let too_many = self.options.max_backups > 0 && at >= self.options.max_backups;
            if too_many || oldest.is_some_and(|oldest| *modified < oldest) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_turned_over_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let options = LogOptions {
            path: path.clone(),
            max_backups: 2,
            max_size_mib: 1,
            ..LogOptions::default()
        };
        let mut log = Rotating::open(options).unwrap();
        let half = vec![b'x'; 600 << 10];
        for at in 0..5 {
            log.write(&half).unwrap();
            // Backups of one millisecond would have one name.
            while at < 4 && log.backup(Timestamp::now()).exists() {
                std::hint::spin_loop();
            }
        }
        let count = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(count, 3);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), half.len() as u64);
    }
}
