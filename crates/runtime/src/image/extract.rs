//! A layer's archive onto a folder. Nothing in it is trusted:
//! - every path is opened beneath the folder (openat2), so neither `..`, links nor absolute names lead out of it;
//! - no name is written through a link: what is in the way is removed first;
//! - bytes, entries, depth and free space are bounded;
//! - of extended attributes only `user.*` and `security.capability` are taken: `trusted.overlay.*` would steer overlays;
//! - devices are made only where the kernel lets us, and never the one that overlays take for a whiteout.
//!
//! Whiteouts: `.wh.NAME` removes NAME, `.wh..wh..opq` removes what lower layers have in the folder. See the OCI image
//! specification, layer.md.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tar::{Archive, Entry, EntryType};

use super::unpack::UnpackError;
use crate::beneath::{c_path, check, make_dirs_in_root, mkdir_at, open_in_root};

/// See [`crate::ImageLimits`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    pub bytes: u64,
    pub entries: u64,
    pub keep_free_bytes: u64,
}

/// Deeper trees could not be removed without a deep stack.
const MAX_DEPTH: usize = 512;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";

/// Unpacks one archive.
pub(super) struct Extractor<'r> {
    root: BorrowedFd<'r>,
    limits: Limits,
    bytes: u64,
    entries: u64,
    bytes_at_space_check: u64,
    /// The folder that the last entry was in.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Modification times, set when nothing is added any more.
    folders: Vec<(PathBuf, i64)>,
    /// What this layer made in folders, so that a later opaque mark spares it.
    made: BTreeSet<PathBuf>,
    buffer: Vec<u8>,
}

/// The parts of an archive's name; empty for the root itself.
fn clean(name: &[u8]) -> Result<PathBuf, UnpackError> {
    let mut path = PathBuf::new();
    for (depth, part) in name
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .enumerate()
    {
        if part == b".." || part.contains(&0) {
            return Err(UnpackError::Refused(format!(
                "entry {:?} would leave the image",
                String::from_utf8_lossy(name)
            )));
        }
        if depth >= MAX_DEPTH || part.len() > 255 {
            return Err(UnpackError::Refused("an entry's name is too long".to_owned()));
        }
        path.push(OsStr::from_bytes(part));
    }
    Ok(path)
}

fn corrupt(error: io::Error) -> UnpackError {
    match error.raw_os_error() {
        Some(_) => UnpackError::io("read layer")(error),
        None => UnpackError::Corrupt(format!("not a layer: {error}")),
    }
}

impl<'r> Extractor<'r> {
    pub fn new(root: BorrowedFd<'r>, limits: Limits) -> Extractor<'r> {
        Extractor {
            root,
            limits,
            bytes: 0,
            entries: 0,
            bytes_at_space_check: 0,
            parent: None,
            folders: Vec::new(),
            made: BTreeSet::new(),
            buffer: vec![0; 128 << 10],
        }
    }

    pub fn extract(&mut self, stream: impl Read) -> Result<(), UnpackError> {
        self.check_space()?;
        // Also what is not in files counts: archives can be blown up by headers.
        let limit = self
            .limits
            .bytes
            .saturating_add(self.limits.entries.saturating_mul(1024));
        let mut archive = Archive::new(stream.take(limit));
        for entry in archive.entries().map_err(corrupt)? {
            let mut entry = entry.map_err(corrupt)?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(UnpackError::Refused(format!(
                    "a layer has more than {} entries",
                    self.limits.entries
                )));
            }
            if self.entries.is_multiple_of(4096) {
                self.check_space()?;
            }
            self.entry(&mut entry)?;
        }
        Ok(())
    }

    /// Sets the folders' times; returns bytes and entries.
    pub fn finish(mut self) -> Result<(u64, u64), UnpackError> {
        for (path, time) in std::mem::take(&mut self.folders).into_iter().rev() {
            // It may have been removed by a whiteout.
            if let Ok(folder) = open_in_root(
                self.root,
                &path,
                libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW,
                0,
            ) {
                set_time(folder.as_fd(), time).map_err(UnpackError::io(path.display()))?;
            }
        }
        Ok((self.bytes, self.entries))
    }

    fn check_space(&mut self) -> Result<(), UnpackError> {
        self.bytes_at_space_check = self.bytes;
        let stat = nix::sys::statvfs::fstatvfs(self.root).map_err(|error| UnpackError::io("statvfs")(error.into()))?;
        let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
        if free < self.limits.keep_free_bytes {
            return Err(UnpackError::NoSpace(format!(
                "{} MiB are left, {} MiB must stay free",
                free >> 20,
                self.limits.keep_free_bytes >> 20
            )));
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = clean(&entry.path_bytes())?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.set_root_metadata(entry);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = self.open_parent(&parent_path)?;
        let name_bytes = name.as_bytes();
        if name_bytes == OPAQUE {
            return self.make_opaque(&parent_path, parent.as_fd());
        }
        if name_bytes.starts_with(RESERVED) {
            return Ok(());
        }
        if let Some(hidden) = name_bytes.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(UnpackError::Refused("a whiteout of no file".to_owned()));
            }
            self.parent = None;
            return remove(parent.as_fd(), Path::new(OsStr::from_bytes(hidden)), 0)
                .map_err(UnpackError::io(path.display()));
        }
        self.made.insert(path.clone());
        let result = self.make(entry, kind, parent.as_fd(), Path::new(&name), &path);
        self.parent = Some((parent_path, parent)).filter(|_| self.parent.is_some());
        result
    }

    fn open_parent(&mut self, path: &Path) -> Result<OwnedFd, UnpackError> {
        if let Some((known, fd)) = self.parent.take()
            && known == path
        {
            self.parent = Some((known, fd.try_clone().map_err(UnpackError::io("parent"))?));
            return Ok(fd);
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let fd = match open_in_root(self.root, path, flags, 0) {
            Ok(fd) => Ok(fd),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => make_dirs_in_root(self.root, path),
            Err(error) => Err(error),
        }
        .map_err(UnpackError::io(format!("folder {}", path.display())))?;
        // Links can make a path deeper than it looks.
        let place = |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        if let (Ok(place), Ok(root)) = (place(fd.as_fd()), place(self.root))
            && place.components().count() > root.components().count() + MAX_DEPTH
        {
            return Err(UnpackError::Refused("folders are nested too deeply".to_owned()));
        }
        self.parent = Some((path.to_owned(), fd.try_clone().map_err(UnpackError::io("parent"))?));
        Ok(fd)
    }

    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        kind: EntryType,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
    ) -> Result<(), UnpackError> {
        let at = |error| UnpackError::io(path.display())(error);
        if kind.is_dir() {
            return self.make_folder(entry, parent, name, path).map_err(at);
        }
        if remove_obstacle(parent, name).map_err(at)? {
            self.parent = None;
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_file(entry, parent, name, path)
            }
            EntryType::Symlink => {
                let target = link_target(entry)?;
                let target = CString::new(target).map_err(|_| UnpackError::Refused("a link with NUL".to_owned()))?;
                self.make_symlink(entry, parent, name, &target).map_err(at)
            }
            EntryType::Link => {
                let target = clean(&link_target(entry)?)?;
                self.make_link(parent, name, &target).map_err(|error| {
                    if error.raw_os_error() == Some(libc::ENOENT) {
                        let link = format!("{} links to {}, which is not there", path.display(), target.display());
                        return UnpackError::Corrupt(link);
                    }
                    UnpackError::io(path.display())(error)
                })
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.make_node(entry, kind, parent, name).map_err(at)
            }
            other => Err(UnpackError::Corrupt(format!(
                "{} is of the unknown kind {other:?}",
                path.display()
            ))),
        }
    }

    fn make_folder(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
    ) -> io::Result<()> {
        match mkdir_at(parent, name, 0o700) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                if !is_folder(parent, name)? {
                    remove_obstacle(parent, name)?;
                    self.parent = None;
                    mkdir_at(parent, name, 0o700)?;
                }
            }
            Err(error) => return Err(error),
        }
        let folder = open_at(parent, name, libc::O_RDONLY | libc::O_DIRECTORY)?;
        set_metadata(folder.as_fd(), entry)?;
        self.folders.push((path.to_owned(), modified(entry)));
        Ok(())
    }

    fn set_root_metadata(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        if !entry.header().entry_type().is_dir() {
            return Err(UnpackError::Refused("an entry wants to replace the root".to_owned()));
        }
        set_metadata(self.root, entry).map_err(UnpackError::io("/"))
    }

    fn make_file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
    ) -> Result<(), UnpackError> {
        let at = |error| UnpackError::io(path.display())(error);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let mut file = File::from(open_at(parent, name, flags).map_err(at)?);
        loop {
            let length = match entry.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(corrupt(error)),
            };
            self.bytes += length as u64;
            if self.bytes > self.limits.bytes {
                return Err(UnpackError::Refused(format!(
                    "a layer has more than {} bytes",
                    self.limits.bytes
                )));
            }
            if self.bytes - self.bytes_at_space_check > 32 << 20 {
                self.check_space()?;
            }
            file.write_all(&self.buffer[..length]).map_err(at)?;
        }
        set_metadata(file.as_fd(), entry).map_err(at)?;
        set_time(file.as_fd(), modified(entry)).map_err(at)
    }

    fn make_symlink(
        &mut self,
        entry: &Entry<'_, impl Read>,
        parent: BorrowedFd<'_>,
        name: &Path,
        target: &CString,
    ) -> io::Result<()> {
        let name = c_path(name)?;
        let (uid, gid) = owner(entry)?;
        // SAFETY: all names live through the calls.
        unsafe {
            check(libc::symlinkat(target.as_ptr(), parent.as_raw_fd(), name.as_ptr()))?;
            check(libc::fchownat(
                parent.as_raw_fd(),
                name.as_ptr(),
                uid,
                gid,
                libc::AT_SYMLINK_NOFOLLOW,
            ))
        }
    }

    fn make_link(&mut self, parent: BorrowedFd<'_>, name: &Path, target: &Path) -> io::Result<()> {
        let (Some(folder), Some(target_name)) = (target.parent(), target.file_name()) else {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        };
        let folder = open_in_root(self.root, folder, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let (name, target_name) = (c_path(name)?, c_path(Path::new(target_name))?);
        // SAFETY: all names live through the call. Without flags a link is linked itself, not what it points to.
        check(unsafe {
            libc::linkat(
                folder.as_raw_fd(),
                target_name.as_ptr(),
                parent.as_raw_fd(),
                name.as_ptr(),
                0,
            )
        })
    }

    fn make_node(
        &mut self,
        entry: &Entry<'_, impl Read>,
        kind: EntryType,
        parent: BorrowedFd<'_>,
        name: &Path,
    ) -> io::Result<()> {
        let header = entry.header();
        let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
        let format = match kind {
            EntryType::Char => libc::S_IFCHR,
            EntryType::Block => libc::S_IFBLK,
            _ => libc::S_IFIFO,
        };
        if kind == EntryType::Char && major == 0 && minor == 0 {
            return Ok(());
        }
        let mode = header.mode()? & 0o7777;
        let (uid, gid) = owner(entry)?;
        let name = c_path(name)?;
        // SAFETY: the name lives through the calls.
        unsafe {
            match check(libc::mknodat(
                parent.as_raw_fd(),
                name.as_ptr(),
                format | mode,
                libc::makedev(major, minor),
            )) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(()),
                Err(error) => return Err(error),
            }
            check(libc::fchownat(
                parent.as_raw_fd(),
                name.as_ptr(),
                uid,
                gid,
                libc::AT_SYMLINK_NOFOLLOW,
            ))?;
            // The name is one that was just made, and no link.
            check(libc::fchmodat(parent.as_raw_fd(), name.as_ptr(), mode, 0))
        }
    }

    fn make_opaque(&mut self, path: &Path, folder: BorrowedFd<'_>) -> Result<(), UnpackError> {
        self.parent = None;
        let at = |error| UnpackError::io(path.display())(error);
        let folder = open_at(folder, Path::new("."), libc::O_RDONLY | libc::O_DIRECTORY).map_err(at)?;
        for name in names(folder.as_fd()).map_err(at)? {
            self.hide(&path.join(&name), folder.as_fd(), Path::new(&name), 0)
                .map_err(at)?;
        }
        Ok(())
    }

    /// Removes what this layer did not make.
    fn hide(&mut self, path: &Path, parent: BorrowedFd<'_>, name: &Path, depth: usize) -> io::Result<()> {
        // In the order of paths, what is in a folder follows it at once.
        let from_here = self
            .made
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .next();
        if !from_here.is_some_and(|made| made.starts_with(path)) {
            return remove(parent, name, 0);
        }
        if depth < MAX_DEPTH && is_folder(parent, name)? {
            let folder = open_at(parent, name, libc::O_RDONLY | libc::O_DIRECTORY)?;
            for name in names(folder.as_fd())? {
                self.hide(&path.join(&name), folder.as_fd(), Path::new(&name), depth + 1)?;
            }
        }
        Ok(())
    }
}

fn link_target(entry: &Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() => Ok(target.into_owned()),
        _ => Err(UnpackError::Corrupt("a link without a target".to_owned())),
    }
}

fn owner(entry: &Entry<'_, impl Read>) -> io::Result<(u32, u32)> {
    let id = |value: io::Result<u64>| u32::try_from(value?).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    Ok((id(entry.header().uid())?, id(entry.header().gid())?))
}

fn modified(entry: &Entry<'_, impl Read>) -> i64 {
    entry
        .header()
        .mtime()
        .ok()
        .and_then(|seconds| i64::try_from(seconds).ok())
        .unwrap_or(0)
}

/// Owner, mode and attributes, in this order: changing the owner takes setuid and capabilities away.
fn set_metadata(fd: BorrowedFd<'_>, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    let mode = entry.header().mode()? & 0o7777;
    // SAFETY: take numbers only.
    unsafe {
        check(libc::fchown(fd.as_raw_fd(), uid, gid))?;
        check(libc::fchmod(fd.as_raw_fd(), mode))?;
    }
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(());
    };
    for extension in extensions.flatten() {
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        if !name.starts_with(b"user.") && name != b"security.capability" {
            continue;
        }
        let Ok(name) = CString::new(name) else { continue };
        let value = extension.value_bytes();
        // SAFETY: name and value live through the call, and the length is the value's.
        let result = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        match check(result) {
            Ok(()) => {}
            // Not every file system has them, and not everybody may set them.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTSUP | libc::EPERM | libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn set_time(fd: BorrowedFd<'_>, seconds: i64) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    // SAFETY: the call reads two times.
    check(unsafe { libc::futimens(fd.as_raw_fd(), [time, time].as_ptr()) })
}

/// Opens a name in a folder, never through a link.
fn open_at(folder: BorrowedFd<'_>, name: &Path, flags: i32) -> io::Result<OwnedFd> {
    let name = c_path(name)?;
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name lives through the call; a result that is not negative is a descriptor of ours.
    unsafe {
        let fd = libc::openat(folder.as_raw_fd(), name.as_ptr(), flags, 0o600);
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn is_folder(folder: BorrowedFd<'_>, name: &Path) -> io::Result<bool> {
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    let stat = nix::sys::stat::fstatat(Some(folder.as_raw_fd()), name, flags)?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::OsString>> {
    let mut dir = nix::dir::Dir::from_fd(std::os::fd::IntoRawFd::into_raw_fd(open_at(
        folder,
        Path::new("."),
        libc::O_RDONLY | libc::O_DIRECTORY,
    )?))?;
    let mut found = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            found.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(found)
}

/// Makes way for an entry; `true` if a folder had to go.
fn remove_obstacle(parent: BorrowedFd<'_>, name: &Path) -> io::Result<bool> {
    match is_folder(parent, name) {
        Ok(folder) => remove(parent, name, 0).map(|()| folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a name with all below it. One that is not there is removed already.
fn remove(parent: BorrowedFd<'_>, name: &Path, depth: usize) -> io::Result<()> {
    let unlink = |flags| {
        let name = c_path(name)?;
        // SAFETY: the name lives through the call.
        check(unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), flags) })
    };
    match unlink(0) {
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {
            if depth > 2 * MAX_DEPTH {
                return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
            }
            let folder = open_at(parent, name, libc::O_RDONLY | libc::O_DIRECTORY)?;
            for inner in names(folder.as_fd())? {
                remove(folder.as_fd(), Path::new(&inner), depth + 1)?;
            }
            unlink(libc::AT_REMOVEDIR)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
