//! Limits on what is below a folder, by project quotas of ext4 and XFS (`man 2 quotactl`, `man 2 ioctl_xfs_fsgetxattr`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk` of linux/quota.h; limits in KiB.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Limits {
    block_hard: u64,
    block_soft: u64,
    space: u64,
    inode_hard: u64,
    inode_soft: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const PRJQUOTA: u32 = 2;
const QIF_BLIMITS: u32 = 1;
/// Ids of projects begin here ("SK").
const FIRST_PROJECT: u32 = 0x534b_0000;
const PROJECTS: u32 = 0x1_0000;

/// Whether the file system at the folder keeps projects within their limits.
pub fn is_enforced(folder: &Path) -> bool {
    let Ok(found) = folder.metadata() else { return false };
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = format!("{}:{}", libc::major(found.dev()), libc::minor(found.dev()));
    is_mounted_with_quotas(&table, &device)
        && File::open(folder).is_ok_and(|folder| get(&folder, FIRST_PROJECT).is_ok())
}

fn is_mounted_with_quotas(table: &str, device: &str) -> bool {
    let of_device = table.lines().filter(|line| line.split(' ').nth(2) == Some(device));
    of_device
        .filter_map(|line| line.rsplit(' ').next())
        .any(|options| options.split(',').any(|option| matches!(option, "prjquota" | "pquota")))
}

/// Keeps all that is below the folder, which must be empty when this is said first, within so many bytes.
///
/// # Errors
/// The file system has no project quotas, or they are off.
pub fn limit(folder: &Path, bytes: u64) -> io::Result<()> {
    let folder = File::open(folder)?;
    let mut attributes = FsXattr::default();
    // SAFETY: the structure is that of the request, and lives during the call.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR as _, &mut attributes) })?;
    if attributes.project == 0 {
        attributes.project = free_project(&folder)?;
        attributes.flags |= FS_XFLAG_PROJINHERIT;
        // The limit first: a project without one is free to be taken again.
        set(&folder, attributes.project, bytes)?;
        // SAFETY: as above.
        return check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR as _, &attributes) });
    }
    set(&folder, attributes.project, bytes)
}

/// Takes the limit of a folder away that is about to be removed, so that its project can be used again.
pub fn lift(folder: &Path) {
    let Ok(folder) = File::open(folder) else { return };
    let mut attributes = FsXattr::default();
    // SAFETY: the structure is that of the request, and lives during the call.
    let read = check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR as _, &mut attributes) });
    if read.is_ok() && (FIRST_PROJECT..FIRST_PROJECT + PROJECTS).contains(&attributes.project) {
        let _ = set(&folder, attributes.project, 0);
    }
}

fn free_project(folder: &File) -> io::Result<u32> {
    for project in FIRST_PROJECT..FIRST_PROJECT + PROJECTS {
        match get(folder, project) {
            Ok(limits) if limits.block_hard == 0 && limits.space == 0 => return Ok(project),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(project),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("all projects are in use"))
}

fn get(folder: &File, project: u32) -> io::Result<Limits> {
    let mut limits = Limits::default();
    quotactl(folder, Q_GETQUOTA, project, &mut limits)?;
    Ok(limits)
}

fn set(folder: &File, project: u32, bytes: u64) -> io::Result<()> {
    let kib = bytes.div_ceil(1024);
    let mut limits = Limits {
        block_hard: kib,
        block_soft: kib,
        valid: QIF_BLIMITS,
        ..Limits::default()
    };
    quotactl(folder, Q_SETQUOTA, project, &mut limits)
}

fn quotactl(folder: &File, command: u32, project: u32, limits: &mut Limits) -> io::Result<()> {
    let command = (command << 8) | PRJQUOTA;
    // SAFETY: the kernel reads or writes one `if_dqblk`, which lives during the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            folder.as_raw_fd(),
            command,
            project,
            std::ptr::from_mut(limits),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_options_tell() {
        let table = "29 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,prjquota\n\
                     30 29 7:0 / /mnt rw - xfs /dev/loop0 rw,attr2,pquota\n\
                     31 29 7:1 / /m rw,prjquota - ext4 /dev/loop1 rw\n";
        assert!(is_mounted_with_quotas(table, "254:0"));
        assert!(is_mounted_with_quotas(table, "7:0"));
        assert!(
            !is_mounted_with_quotas(table, "7:1"),
            "an option of the file system, not of the mount"
        );
        assert!(!is_mounted_with_quotas(table, "8:1"));
    }

    #[test]
    fn sizes_are_the_kernels() {
        assert_eq!(size_of::<FsXattr>(), 28);
        assert_eq!(size_of::<Limits>(), 72);
    }

    #[test]
    fn where_there_are_no_quotas_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        if !is_enforced(folder.path()) {
            assert!(limit(folder.path(), 1 << 20).is_err());
        }
        lift(folder.path());
        lift(Path::new("/absent"));
    }
}
