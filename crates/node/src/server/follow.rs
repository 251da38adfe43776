//! Waiting for a log to grow, by inotify.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Tells of changes in a folder: files that grow, appear or are renamed.
pub(super) struct Folder {
    /// Read as plain bytes: that there are events is all that counts.
    events: Receiver,
}

impl Folder {
    pub fn watch(path: &Path) -> io::Result<Folder> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(path, flags)?;
        // The watch belongs to the open file, which the copy keeps.
        let copy = inotify.as_fd().try_clone_to_owned()?;
        Ok(Folder {
            events: Receiver::from_owned_fd_unchecked(copy)?,
        })
    }

    /// Something changed since the last call. Cancel-safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.events.read(&mut buffer).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    }
}
