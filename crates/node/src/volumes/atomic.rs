//! Files that change all at once (pkg/volume/util/atomic_writer.go).
//!
//! ```text
//!   name      -> ..data/name
//!   ..data    -> ..2026_11_20_21_00_00.123456789
//!   ..2026_…/name
//! ```
//! Who reads through `..data` sees the old files or the new ones, never a mixture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::{VolumeError, io_error, remove_tree};
use crate::machine::Machine;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner, where it is not root.
    pub owner: Option<u32>,
}

/// Files by path below the volume.
pub(crate) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Brings the folder to these files.
pub(crate) fn write(
    machine: &dyn Machine,
    target: &Path,
    files: &Files,
    group: Option<u32>,
) -> Result<(), VolumeError> {
    for path in files.keys() {
        check(path)?;
    }
    let data = target.join(DATA);
    let current = match fs::read_link(&data) {
        Ok(name) => Some(target.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_error("read", &data)(error)),
    };
    if current.as_deref().is_none_or(|current| !same(current, files)) {
        let fresh = target.join(format!(
            "..{}",
            jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f")
        ));
        remove_tree(&fresh)?;
        fill(machine, &fresh, files, group)?;
        let new_data = target.join(NEW_DATA);
        match fs::remove_file(&new_data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &new_data)(error)),
            _ => {}
        }
        symlink(fresh.file_name().unwrap_or_default(), &new_data).map_err(io_error("link", &new_data))?;
        fs::rename(&new_data, &data).map_err(io_error("rename to", &data))?;
    }
    tidy(target, files)
}

fn check(path: &str) -> Result<(), VolumeError> {
    let fine = !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if fine {
        Ok(())
    } else {
        Err(VolumeError::BadPath(path.to_string()))
    }
}

fn same(current: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    if collect(current, current, &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let at = current.join(path);
        found.contains(path)
            && fs::metadata(&at).is_ok_and(|meta| meta.len() == file.data.len() as u64)
            && fs::read(&at).is_ok_and(|data| data == file.data)
    })
}

fn collect(root: &Path, folder: &Path, out: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(root, &entry.path(), out)?;
        } else {
            let path = entry.path();
            let below = path.strip_prefix(root).unwrap_or(&path);
            out.insert(below.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn fill(machine: &dyn Machine, fresh: &Path, files: &Files, group: Option<u32>) -> Result<(), VolumeError> {
    folder(machine, fresh, group)?;
    for (path, file) in files {
        let at = fresh.join(path);
        let mut parents: Vec<PathBuf> = at
            .ancestors()
            .skip(1)
            .take_while(|p| *p != fresh)
            .map(Path::to_path_buf)
            .collect();
        parents.reverse();
        for parent in parents {
            if !parent.exists() {
                folder(machine, &parent, group)?;
            }
        }
        fs::write(&at, &file.data).map_err(io_error("write", &at))?;
        if group.is_some() || file.owner.is_some() {
            machine
                .chown(&at, file.owner, group)
                .map_err(io_error("change the group of", &at))?;
        }
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).map_err(io_error("change the mode of", &at))?;
    }
    Ok(())
}

fn folder(machine: &dyn Machine, path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    fs::create_dir(path).map_err(io_error("make folder", path))?;
    if group.is_some() {
        machine
            .chown(path, None, group)
            .map_err(io_error("change the group of", path))?;
    }
    let mode = if group.is_some() { 0o2775 } else { 0o755 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("change the mode of", path))
}

/// Links for what is there, none for what is not, and no folder but the current one.
fn tidy(target: &Path, files: &Files) -> Result<(), VolumeError> {
    fs::set_permissions(target, fs::Permissions::from_mode(0o777 | group_bit(target)))
        .map_err(io_error("change the mode of", target))?;
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    let current = fs::read_link(target.join(DATA)).map_err(io_error("read", target))?;
    for entry in fs::read_dir(target).map_err(io_error("list", target))? {
        let entry = entry.map_err(io_error("list", target))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name == DATA || Path::new(&*name) == current || names.contains(&*name) {
            continue;
        }
        if name.starts_with("..") && path.is_dir() && !path.is_symlink() {
            remove_tree(&path)?;
        } else {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    for name in names {
        let link = target.join(name);
        if !link.is_symlink() {
            symlink(Path::new(DATA).join(name), &link).map_err(io_error("link", &link))?;
        }
    }
    Ok(())
}

fn group_bit(target: &Path) -> u32 {
    target.metadata().map_or(0, |meta| meta.permissions().mode() & 0o2000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Linux;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File {
            data: data.into(),
            mode: 0o640,
            owner: None,
        };
        list.iter().map(|(path, data)| (path.to_string(), file(data))).collect()
    }

    fn listing(target: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(target)
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| !name.starts_with("..2"));
        names.sort();
        names
    }

    #[test]
    fn changes_are_atomic_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path();
        write(&Linux, target, &files(&[("a", "1"), ("d/e/f", "2")]), None).unwrap();
        assert_eq!(listing(target), ["..data", "a", "d"]);
        assert_eq!(fs::read_to_string(target.join("d/e/f")).unwrap(), "2");
        assert_eq!(
            fs::metadata(target.join("a")).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert_eq!(fs::read_link(target.join("a")).unwrap(), Path::new("..data/a"));
        let before = fs::read_link(target.join(DATA)).unwrap();
        write(&Linux, target, &files(&[("a", "1"), ("d/e/f", "2")]), None).unwrap();
        assert_eq!(
            fs::read_link(target.join(DATA)).unwrap(),
            before,
            "the second run does nothing"
        );
        write(&Linux, target, &files(&[("a", "x"), ("b", "3")]), None).unwrap();
        assert_eq!(listing(target), ["..data", "a", "b"]);
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "x");
        assert!(!target.join(before).exists());
        assert_eq!(fs::read_dir(target).unwrap().count(), 4);
    }

    #[test]
    fn no_path_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../x", "a/../../x", "/etc/x", "..data", "", "..x"] {
            assert!(
                write(&Linux, folder.path(), &files(&[(path, "")]), None).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn an_interrupted_write_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..2020_half")).unwrap();
        symlink("..2020_half", folder.path().join(NEW_DATA)).unwrap();
        write(&Linux, folder.path(), &files(&[("a", "1")]), None).unwrap();
        assert_eq!(listing(folder.path()), ["..data", "a"]);
        assert!(!folder.path().join("..2020_half").exists());
    }
}
