//! Opening paths that came from outside, beneath a folder, with openat2.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// Opens a path as a process whose root is `root` would: `..` and links, also absolute ones, stay beneath it.
pub(crate) fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: u64::from(mode),
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    loop {
        // SAFETY: path and how live through the call, and the size is how's.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &how,
                size_of::<OpenHow>(),
            )
        };
        if fd >= 0 {
            // SAFETY: the kernel just gave us this descriptor.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        }
        match io::Error::last_os_error() {
            // A rename elsewhere made the kernel unsure whether `..` left the root.
            error if error.raw_os_error() == Some(libc::EAGAIN) => {}
            error => return Err(error),
        }
    }
}

/// Opens a folder beneath `root`, making it and its parents (mode 0755) where they are missing.
pub(crate) fn make_dirs_in_root(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut dir = root.try_clone_to_owned()?;
    let mut so_far = std::path::PathBuf::new();
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::ParentDir => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        so_far.push(name);
        dir = match open_in_root(root, &so_far, libc::O_PATH | libc::O_DIRECTORY, 0) {
            Ok(found) => found,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                mkdir_at(dir.as_fd(), Path::new(name), 0o755)?;
                open_in_root(root, &so_far, libc::O_PATH | libc::O_DIRECTORY, 0)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(dir)
}

/// Makes one folder.
pub(crate) fn mkdir_at(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = c_path(name)?;
    // SAFETY: the name lives through the call.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) })
}

/// For calls that answer -1 and set errno.
pub(crate) fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A path for the kernel.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = if bytes.is_empty() { b"." } else { bytes };
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let root_path = folder.path().join("root");
        fs::create_dir_all(root_path.join("a")).unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        fs::write(root_path.join("secret"), "inside").unwrap();
        symlink("/", root_path.join("a/absolute")).unwrap();
        symlink("../../../..", root_path.join("a/up")).unwrap();
        let root = File::open(&root_path).unwrap();
        for path in [
            "/secret",
            "../secret",
            "a/absolute/secret",
            "a/up/secret",
            "a/up/a/up/../secret",
        ] {
            let file = open_in_root(root.as_fd(), Path::new(path), libc::O_RDONLY, 0).unwrap();
            assert_eq!(io::read_to_string(File::from(file)).unwrap(), "inside", "{path}");
        }
        make_dirs_in_root(root.as_fd(), Path::new("/a/absolute/new/deep")).unwrap();
        assert!(root_path.join("new/deep").is_dir());
        assert!(make_dirs_in_root(root.as_fd(), Path::new("../x")).is_err());
    }
}
