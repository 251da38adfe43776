//! Files of a volume that belong to the pod's fsGroup (`SetVolumeOwnership`, pkg/volume/volume_linux.go).
//!
//! Who writes to the volume at the same time cannot lead a change out of it: what is changed was opened before, without
//! following links.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

const READ_WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const ENTER: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub group: u32,
    pub read_only: bool,
    /// Nothing is done if the volume's own folder is as wanted (`OnRootMismatch`).
    pub only_if_root_differs: bool,
}

impl Wish {
    fn mode(&self, is_folder: bool) -> u32 {
        let mode = if self.read_only { READ } else { READ_WRITE };
        mode | if is_folder { ENTER | SET_GROUP } else { 0 }
    }
}

/// Brings the folder, or file, and all below to it.
pub(crate) fn change(root: &Path, wish: &Wish) -> io::Result<()> {
    let opened = open(root)?;
    let found = opened.metadata()?;
    let mode = wish.mode(found.is_dir());
    let fits = found.is_dir() && found.gid() == wish.group && found.mode() & mode == mode;
    if wish.only_if_root_differs && fits {
        return Ok(());
    }
    below(&opened, wish)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// The opened file under a name that leads nowhere else.
fn itself(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn below(file: &File, wish: &Wish) -> io::Result<()> {
    let found = file.metadata()?;
    if found.file_type().is_symlink() {
        return Ok(());
    }
    let path = itself(file);
    if found.gid() != wish.group {
        chown(&path, None, Some(wish.group))?;
    }
    let mode = found.mode() & 0o7777;
    // A change of the group may have taken the bit away that lets files inherit it.
    let wanted = mode | wish.mode(found.is_dir());
    if wanted != file.metadata()?.mode() & 0o7777 {
        fs::set_permissions(&path, Permissions::from_mode(wanted))?;
    }
    if !found.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(&path)? {
        match open(&path.join(entry?.file_name())) {
            Ok(child) => below(&child, wish)?,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_gets_the_group_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (root, out) = (dir.path().join("volume"), dir.path().join("out"));
        fs::create_dir_all(root.join("deep")).unwrap();
        fs::write(root.join("deep/file"), "x").unwrap();
        fs::write(&out, "x").unwrap();
        fs::set_permissions(root.join("deep/file"), Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&out, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&out, root.join("link")).unwrap();
        let mut wish = Wish {
            group: fs::metadata(&root).unwrap().gid(),
            read_only: false,
            only_if_root_differs: false,
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        change(&root, &wish).unwrap();
        assert_eq!(mode(&root) & 0o2770, 0o2770);
        assert_eq!(mode(&root.join("deep/file")), 0o660);
        assert_eq!(mode(&out), 0o600, "what a link points to is not the volume's");
        fs::set_permissions(root.join("deep/file"), Permissions::from_mode(0o600)).unwrap();
        wish.only_if_root_differs = true;
        change(&root, &wish).unwrap();
        assert_eq!(mode(&root.join("deep/file")), 0o600, "the root is as it should be");
    }
}
