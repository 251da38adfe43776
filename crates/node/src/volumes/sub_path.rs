//! A part of a volume, made visible at a place of its own (pkg/volume/util/subpath).
//!
//! The part is opened beneath the volume, so that links which a container made cannot lead out of it, and what was
//! opened is bound, not its name.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use super::{VolumeError, io_error, make_folder};
use crate::machine::Machine;

/// A descriptor that is closed when it is dropped.
struct Opened(RawFd);

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.0);
    }
}

/// Makes `part` of the volume visible at `place` and answers `place`. A part that is missing becomes a folder.
pub(crate) fn resolve(
    machine: &dyn Machine,
    volume: &Path,
    part: &str,
    place: PathBuf,
) -> Result<PathBuf, VolumeError> {
    let bad = || VolumeError::BadPath(part.to_string());
    let relative = Path::new(part);
    if relative
        .components()
        .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return Err(bad());
    }
    let root = Opened(
        open(volume, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| io_error("open", volume)(errno.into()))?,
    );
    let found = open_or_make(&root, relative).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EXDEV | nix::libc::ELOOP) => bad(),
        _ => io_error("open", &volume.join(relative))(error),
    })?;
    let kind = fstat(found.0).map_err(|errno| io_error("look at", volume)(errno.into()))?;
    let is_folder = kind.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    machine.unmount(&place).map_err(io_error("unmount", &place))?;
    if is_folder {
        make_folder(&place)?;
    } else {
        make_folder(place.parent().unwrap_or(&place))?;
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&place)
            .map_err(io_error("make file", &place))?;
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.0));
    machine.bind(&source, &place).map_err(io_error("bind", &place))?;
    Ok(place)
}

fn beneath(root: &Opened, path: &Path) -> io::Result<Opened> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    loop {
        match openat2(root.0, path, how) {
            Ok(fd) => return Ok(Opened(fd)),
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn open_or_make(root: &Opened, path: &Path) -> io::Result<Opened> {
    match beneath(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut so_far = PathBuf::new();
    let mut last = beneath(root, Path::new("."))?;
    // As the volume's own folder: whoever may write there may write here (`SafeMakeDir`).
    let mode = Mode::from_bits_truncate(fstat(last.0)?.st_mode & 0o7777);
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        so_far.push(name);
        last = match beneath(root, &so_far) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = match mkdirat(Some(last.0), Path::new(name), Mode::from_bits_truncate(0o750)) {
                    Ok(()) => true,
                    Err(nix::errno::Errno::EEXIST) => false,
                    Err(errno) => return Err(errno.into()),
                };
                let opened = beneath(root, &so_far)?;
                if made {
                    // What was opened, whatever has its name by now.
                    let itself = format!("/proc/self/fd/{}", opened.0);
                    fs::set_permissions(itself, fs::Permissions::from_mode(mode.bits()))?;
                }
                opened
            }
            other => other?,
        };
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::machine::{Facts, Filesystem, Load};

    /// Notes what would be bound.
    #[derive(Default)]
    struct Noting(parking_lot::Mutex<Vec<PathBuf>>);

    impl Machine for Noting {
        fn facts(&self) -> Facts {
            Facts::default()
        }
        fn load(&self) -> Load {
            Load::default()
        }
        fn filesystem(&self, _: &Path) -> io::Result<Filesystem> {
            Ok(Filesystem::default())
        }
        fn mount_tmpfs(&self, _: &Path, _: Option<u64>) -> io::Result<()> {
            Ok(())
        }
        fn bind(&self, source: &Path, _: &Path) -> io::Result<()> {
            self.0.lock().push(fs::read_link(source)?);
            Ok(())
        }
        fn unmount(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn mounts_below(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
            Ok(Vec::new())
        }
        fn chown(&self, _: &Path, _: Option<u32>, _: Option<u32>) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn parts_are_found_made_and_kept_inside() {
        let folder = tempfile::tempdir().unwrap();
        let volume = fs::canonicalize(folder.path()).unwrap().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a/file"), "x").unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        symlink("a", volume.join("in")).unwrap();
        let machine = Noting::default();
        let at = |part: &str| {
            resolve(
                &machine,
                &volume,
                part,
                folder.path().join("place").join(part.replace('/', "_")),
            )
        };
        assert!(at("a/file").unwrap().is_file());
        assert!(at("in/file").unwrap().is_file());
        assert!(at("new/deep").unwrap().is_dir());
        let mode = |part: &str| fs::metadata(volume.join(part)).unwrap().permissions().mode();
        assert_eq!(mode("new/deep"), mode("."), "what is made is as open as the volume");
        for part in ["out/passwd", "up/x", "../x", "/etc"] {
            assert!(at(part).is_err(), "{part}");
        }
        let bound = machine.0.lock().clone();
        assert_eq!(
            bound,
            [volume.join("a/file"), volume.join("a/file"), volume.join("new/deep")]
        );
    }
}
