//! A container's root file system, in a mount namespace that only the new container and the process that makes it are
//! in: no mount is ever made in the machine's namespace, so none is left behind.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::namespaces::PodNamespaces;
use super::{ShimError, context};
use crate::beneath::{c_path, check};
use crate::image::copy_tree;
use crate::records::{ContainerDir, ContainerRecord, WritableLayer};
use crate::{Mount, MountPropagation};

/// Sources that stand in for those of the container's configuration.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// The pod's `/dev/shm`.
    pub shm: Option<PathBuf>,
    /// By index in the configuration's mounts.
    pub mounts: BTreeMap<usize, PathBuf>,
}

/// Enters a new mount namespace and mounts the root file system there.
pub(super) fn mount_rootfs(
    namespaces: &PodNamespaces,
    record: &ContainerRecord,
    dir: &ContainerDir,
) -> Result<Staged, ShimError> {
    let shm = clone_shm(namespaces).map_err(context("get the pod's /dev/shm"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(context("make mount namespace"))?;
    // Those that shall go on hearing from the machine's mounts are detached before all others are cut off.
    let mut detached = Vec::new();
    for (index, wanted) in record.config.mounts.iter().enumerate() {
        make_source(wanted)?;
        if wanted.propagation != MountPropagation::Private {
            let tree = detach_source(wanted).map_err(|error| ShimError {
                message: format!("mount {}: {error}", wanted.host_path.display()),
            })?;
            detached.push((index, tree));
        }
    }
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(context("make mounts private"))?;
    let mut staged = Staged::default();
    if let Some(tree) = shm {
        staged.shm = Some(attach(tree.as_fd(), &dir.stage().join("shm"), Point::Directory)?);
    }
    for (index, tree) in detached {
        let point = if record.config.mounts[index].host_path.is_dir() {
            Point::Directory
        } else {
            Point::File
        };
        staged.mounts.insert(
            index,
            attach(tree.as_fd(), &dir.stage().join(index.to_string()), point)?,
        );
    }
    match record.writable_layer {
        WritableLayer::Overlay => mount_overlay(record, dir)?,
        WritableLayer::Copy => {
            if let Some(top) = record.layers.last() {
                copy_tree(&record.layers_dir.join(top), &dir.rootfs()).map_err(context("copy the image's files"))?;
            }
        }
    }
    Ok(staged)
}

/// A host path that does not exist becomes a folder, as containerd (and Docker) do it.
fn make_source(wanted: &Mount) -> Result<(), ShimError> {
    if !wanted.host_path.is_absolute() {
        return Err(ShimError {
            message: format!("mount source {:?} is not absolute", wanted.host_path),
        });
    }
    match fs::metadata(&wanted.host_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&wanted.host_path).map_err(|error| ShimError {
                message: format!("create {}: {error}", wanted.host_path.display()),
            })
        }
        _ => Ok(()),
    }
}

fn clone_shm(namespaces: &PodNamespaces) -> io::Result<Option<OwnedFd>> {
    let Some(shm) = &namespaces.shm else { return Ok(None) };
    setns(shm, CloneFlags::CLONE_NEWNS)?;
    let tree = open_tree(Path::new("/"), 0);
    setns(&namespaces.host_mounts, CloneFlags::CLONE_NEWNS)?;
    tree.map(Some)
}

fn open_tree(path: &Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = libc::OPEN_TREE_CLONE as libc::c_int | libc::OPEN_TREE_CLOEXEC as libc::c_int | flags;
    // SAFETY: the path lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn detach_source(wanted: &Mount) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct MountAttributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let tree = open_tree(&wanted.host_path, libc::AT_RECURSIVE)?;
    if wanted.propagation == MountPropagation::HostToContainer {
        let attributes = MountAttributes {
            set: 0,
            clear: 0,
            propagation: libc::MS_SLAVE,
            user_namespace: 0,
        };
        let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
        // SAFETY: path and attributes live through the call, and their size is given.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                tree.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &attributes,
                size_of::<MountAttributes>(),
            )
        };
        check(result as i32)?;
    }
    Ok(tree)
}

/// What a mount is put on.
enum Point {
    Directory,
    File,
}

fn attach(tree: BorrowedFd<'_>, at: &Path, point: Point) -> Result<PathBuf, ShimError> {
    let made = match point {
        Point::Directory => fs::create_dir_all(at),
        Point::File => at
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| File::create(at))
            .map(drop),
    };
    made.map_err(context("make mount point"))?;
    let target = c_path(at).map_err(context("mount point"))?;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: both paths live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(result as i32).map_err(context("attach mount"))?;
    Ok(at.to_owned())
}

fn mount_overlay(record: &ContainerRecord, dir: &ContainerDir) -> Result<(), ShimError> {
    let top_first: Vec<&str> = record.layers.iter().rev().map(String::as_str).collect();
    let overlay = Overlay {
        layers_dir: &record.layers_dir,
        top_first: &top_first,
        upper: &dir.upper(),
        work: &dir.work(),
    };
    overlay.mount(&dir.rootfs()).map_err(context("mount overlay"))
}

/// An overlay to be mounted.
pub(crate) struct Overlay<'a> {
    /// Where the layers' folders are.
    pub layers_dir: &'a Path,
    /// Their names. They are given to the kernel relative, for it takes 4096 bytes in all.
    pub top_first: &'a [&'a str],
    pub upper: &'a Path,
    pub work: &'a Path,
}

impl Overlay<'_> {
    /// Mounts it. Leaves the working directory at the layers' folder.
    pub fn mount(&self, at: &Path) -> io::Result<()> {
        nix::unistd::chdir(self.layers_dir)?;
        let lower = if self.top_first.is_empty() {
            "empty".to_owned()
        } else {
            self.top_first.join(":")
        };
        let mut last = io::Error::from_raw_os_error(libc::EINVAL);
        // What is written to a container's layer is lost with the container, so it needs no syncing; older kernels
        // know fewer options.
        for options in [",index=off,volatile", ",index=off", ""] {
            let mut data = format!("lowerdir={lower},upperdir=").into_bytes();
            data.extend(escape(self.upper));
            data.extend_from_slice(b",workdir=");
            data.extend(escape(self.work));
            data.extend_from_slice(options.as_bytes());
            let data = CString::new(data)?;
            match mount(
                Some("overlay"),
                at,
                Some("overlay"),
                MsFlags::empty(),
                Some(data.as_c_str()),
            ) {
                Ok(()) => return Ok(()),
                Err(nix::errno::Errno::EINVAL) => last = io::Error::from_raw_os_error(libc::EINVAL),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last)
    }
}

fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b':' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}
