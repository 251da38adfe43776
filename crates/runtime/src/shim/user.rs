//! Who a container's process is, by the image's own files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::beneath;
use crate::{ContainerSecurityContext, ContainerUser};

/// A user of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    /// Besides `gid`.
    pub groups: Vec<u32>,
    /// `/` where the image knows none.
    pub home: String,
}

impl User {
    /// As the container's status shows it.
    pub fn status(&self) -> ContainerUser {
        let mut supplemental_groups = vec![i64::from(self.gid)];
        supplemental_groups.extend(self.groups.iter().map(|group| i64::from(*group)));
        supplemental_groups.sort_unstable();
        supplemental_groups.dedup();
        ContainerUser {
            uid: i64::from(self.uid),
            gid: i64::from(self.gid),
            supplemental_groups,
        }
    }
}

/// Why the user cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    #[error("user or group id {0} is out of range")]
    OutOfRange(i64),
    #[error("runAsGroup needs a user")]
    GroupWithoutUser,
    #[error("read {file} of the image: {source}")]
    Read { file: &'static str, source: io::Error },
}

struct PasswdEntry<'t> {
    name: &'t str,
    uid: u32,
    gid: u32,
    home: &'t str,
}

fn passwd(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home: fields.nth(1).unwrap_or("/"),
        })
    })
}

/// Name, id, members.
fn group(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or("")))
    })
}

/// The image's `/etc/passwd` and `/etc/group`; empty if they are missing.
pub(super) struct Databases {
    passwd: String,
    group: String,
}

impl Databases {
    /// Reads them beneath a root file system.
    pub fn read(rootfs: BorrowedFd<'_>) -> Result<Databases, UserError> {
        let read = |file: &'static str| {
            let open = beneath::open_in_root(rootfs, Path::new(file), libc::O_RDONLY | libc::O_NONBLOCK, 0);
            let mut text = Vec::new();
            match open.and_then(|fd| File::from(fd).take(4 << 20).read_to_end(&mut text)) {
                Ok(_) => Ok(String::from_utf8_lossy(&text).into_owned()),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(String::new()),
                Err(source) => Err(UserError::Read { file, source }),
            }
        };
        Ok(Databases {
            passwd: read("etc/passwd")?,
            group: read("etc/group")?,
        })
    }

    /// The user that a security context and the image's `USER` make.
    pub fn resolve(&self, context: &ContainerSecurityContext, image_user: &str) -> Result<User, UserError> {
        let id = |id: i64| u32::try_from(id).map_err(|_| UserError::OutOfRange(id));
        let (name, group_name) = match (context.run_as_user, context.run_as_username.as_str()) {
            (Some(uid), _) => (id(uid)?.to_string(), None),
            (None, "") => match image_user.split_once(':') {
                Some((user, group)) => (user.to_owned(), Some(group)),
                None => (image_user.to_owned(), None),
            },
            (None, name) => (name.to_owned(), None),
        };
        if context.run_as_group.is_some() && name.is_empty() {
            return Err(UserError::GroupWithoutUser);
        }
        let name = if name.is_empty() { "0" } else { &name };
        let entry = passwd(&self.passwd).find(|entry| entry.name == name).or_else(|| {
            let uid = name.parse::<u32>().ok()?;
            passwd(&self.passwd).find(|entry| entry.uid == uid)
        });
        let uid = match &entry {
            Some(entry) => entry.uid,
            None => name.parse().map_err(|_| UserError::NoSuchUser(name.to_owned()))?,
        };
        let gid = match (context.run_as_group, group_name) {
            (Some(gid), _) => id(gid)?,
            (None, Some(name)) => self.group_id(name)?,
            (None, None) => entry.as_ref().map_or(0, |entry| entry.gid),
        };
        let mut groups = context
            .supplemental_groups
            .iter()
            .map(|gid| id(*gid))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(entry) = entry.as_ref().filter(|_| !context.strict_supplemental_groups) {
            groups.extend(
                group(&self.group)
                    .filter(|(_, _, members)| members.split(',').any(|member| member == entry.name))
                    .map(|(_, gid, _)| gid),
            );
        }
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|group| *group != gid);
        let home = entry
            .map(|entry| entry.home)
            .filter(|home| home.starts_with('/'))
            .unwrap_or("/")
            .to_owned();
        Ok(User { uid, gid, groups, home })
    }

    fn group_id(&self, name: &str) -> Result<u32, UserError> {
        group(&self.group)
            .find(|(candidate, _, _)| *candidate == name)
            .map(|(_, gid, _)| gid)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| UserError::NoSuchGroup(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(context: ContainerSecurityContext, image_user: &str) -> Result<User, UserError> {
        let databases = Databases {
            passwd: "root:x:0:0:root:/root:/bin/sh\napp:x:100:101::/srv:/bin/sh\nbroken\n7:x:8:9::/seven:\n".into(),
            group: "root:x:0:\nstaff:x:50:app,other\napp:x:101:app\n".into(),
        };
        databases.resolve(&context, image_user)
    }

    #[test]
    fn users() {
        let default = ContainerSecurityContext::default;
        let user = resolve(default(), "").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/root"));
        let user = resolve(default(), "app").unwrap();
        assert_eq!(
            (user.uid, user.gid, user.groups.as_slice(), user.home.as_str()),
            (100, 101, &[50][..], "/srv")
        );
        let user = resolve(default(), "100:staff").unwrap();
        assert_eq!((user.uid, user.gid, user.groups.as_slice()), (100, 50, &[101][..]));
        let user = resolve(default(), "4000:4001").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (4000, 4001, "/"));
        assert_eq!(resolve(default(), "7").unwrap().uid, 8, "a name wins over a number");
        assert!(matches!(resolve(default(), "ghost"), Err(UserError::NoSuchUser(_))));
        let context = ContainerSecurityContext {
            run_as_user: Some(100),
            run_as_group: Some(5),
            supplemental_groups: vec![2000, 5],
            strict_supplemental_groups: true,
            ..default()
        };
        let user = resolve(context, "root:staff").unwrap();
        assert_eq!((user.uid, user.gid, user.groups.as_slice()), (100, 5, &[2000][..]));
        assert_eq!(user.status().supplemental_groups, [5, 2000]);
        let context = ContainerSecurityContext {
            run_as_user: Some(-1),
            ..default()
        };
        assert!(matches!(resolve(context, ""), Err(UserError::OutOfRange(-1))));
    }
}
