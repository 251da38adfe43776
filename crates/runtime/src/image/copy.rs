//! Copies of whole trees, where overlays cannot be had.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::beneath::{c_path, check};

/// Copies the contents of a folder of ours into another, empty one, with owners, modes, times, links, devices and
/// extended attributes.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let mut copier = Copier { linked: HashMap::new() };
    copier.copy_folder(from, to)?;
    copy_metadata(from, to, &fs::symlink_metadata(from)?)
}

struct Copier {
    /// Copies of files with several names, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copier {
    fn copy_folder(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            self.copy_entry(&entry.path(), &target)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", target.display())))?;
        }
        Ok(())
    }

    fn copy_entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(from)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::create_dir(to)?;
            self.copy_folder(from, to)?;
            return copy_metadata(from, to, &metadata);
        }
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.linked.get(&identity) {
                return fs::hard_link(first, to);
            }
            self.linked.insert(identity, to.to_owned());
        }
        if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            copy_file(from, to)?;
        } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            let path = c_path(to)?;
            // SAFETY: the path lives through the call.
            check(unsafe { libc::mknod(path.as_ptr(), metadata.mode(), metadata.rdev()) })?;
        } else {
            // A socket is nothing without the process that listens.
            return Ok(());
        }
        copy_metadata(from, to, &metadata)
    }
}

/// Copies a file's contents, sharing them where the file system can.
pub(crate) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    const FICLONE: libc::c_ulong = 0x4004_9409;
    // SAFETY: takes numbers only.
    if unsafe { libc::ioctl(target.as_raw_fd(), FICLONE as _, source.as_raw_fd()) } == 0 {
        return Ok(());
    }
    io::copy(&mut source, &mut target).map(drop)
}

fn copy_metadata(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    let path = c_path(to)?;
    // SAFETY: here and below, the path lives through the call.
    check(unsafe { libc::lchown(path.as_ptr(), metadata.uid(), metadata.gid()) })?;
    if !metadata.file_type().is_symlink() {
        // SAFETY: see above. After chown, which takes setuid away.
        check(unsafe { libc::chmod(path.as_ptr(), metadata.mode() & 0o7777) })?;
        copy_attributes(from, to)?;
    }
    let time = |seconds, nanoseconds| libc::timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = [
        time(metadata.atime(), metadata.atime_nsec()),
        time(metadata.mtime(), metadata.mtime_nsec()),
    ];
    // SAFETY: see above; two times are what the call reads.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let mut names = vec![0u8; 64 << 10];
    // SAFETY: the path and the buffer live through the call, whose length is given.
    let length = unsafe { libc::llistxattr(from.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    if length <= 0 {
        // A file system without extended attributes has none.
        return Ok(());
    }
    for name in names[..length as usize]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if !name.starts_with(b"user.") && name != b"security.capability" {
            continue;
        }
        let name = CString::new(name)?;
        let mut value = vec![0u8; 64 << 10];
        // SAFETY: as above.
        let length = unsafe { libc::lgetxattr(from.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        if length >= 0 {
            // SAFETY: as above; the value's length is given.
            check(unsafe { libc::lsetxattr(to.as_ptr(), name.as_ptr(), value.as_ptr().cast(), length as usize, 0) })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn links_modes_and_times_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        fs::set_permissions(from.join("a/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/b/same")).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        copy_tree(&from, &to).unwrap();
        let file = fs::metadata(to.join("a/file")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o4751);
        assert_eq!(file.ino(), fs::metadata(to.join("a/b/same")).unwrap().ino());
        assert_eq!(
            file.mtime_nsec(),
            fs::metadata(from.join("a/file")).unwrap().mtime_nsec()
        );
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere"));
    }
}
