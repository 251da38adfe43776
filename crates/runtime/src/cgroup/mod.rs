//! Control groups: v1 (a tree for each controller), hybrid (v1, and a v2 tree without controllers) and v2.
//!
//! A path such as `/skiff/pod1` names one group in every tree. libcontainer makes the containers' own groups; everything
//! else about groups is done here. Nothing is remembered: the kernel's files are the state.

mod devices;
mod limits;
mod usage;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) use devices::{DeviceKind, DeviceRule, restrict_devices};
pub(crate) use usage::OomWatch;

use crate::{Result, RuntimeError};

/// The machine's trees.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    trees: Vec<Tree>,
}

#[derive(Clone, Debug)]
struct Tree {
    mount: PathBuf,
    version: Version,
    /// Empty for a named v1 tree, and for the v2 tree of a hybrid machine.
    controllers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

fn failed(path: &Path, what: &str) -> impl FnOnce(io::Error) -> RuntimeError {
    let (path, what) = (path.display().to_string(), what.to_owned());
    move |error| RuntimeError::Cgroup {
        path,
        message: format!("{what}: {error}"),
    }
}

impl Cgroups {
    /// Looks at the mounts below `/sys/fs/cgroup`.
    pub fn detect() -> Result<Cgroups> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(failed(path, "read"))?;
        Cgroups::from_mountinfo(&text, is_control_groups)
    }

    /// Of trees that others are mounted over, nothing can be used.
    fn from_mountinfo(text: &str, is_visible: impl Fn(&Path) -> bool) -> Result<Cgroups> {
        let mut trees: Vec<Tree> = Vec::new();
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount) = before.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut after = after.split(' ');
            let version = match after.next() {
                Some("cgroup") => Version::V1,
                Some("cgroup2") => Version::V2,
                _ => continue,
            };
            let known = trees.iter().any(|tree| tree.mount == mount);
            if known || !mount.starts_with("/sys/fs/cgroup") || !is_visible(&mount) {
                continue;
            }
            let controllers = match version {
                Version::V1 => after
                    .nth(1)
                    .unwrap_or("")
                    .split(',')
                    .filter(|option| V1_CONTROLLERS.contains(option))
                    .map(String::from)
                    .collect(),
                Version::V2 => fs::read_to_string(mount.join("cgroup.controllers"))
                    .unwrap_or_default()
                    .split_ascii_whitespace()
                    .map(String::from)
                    .collect(),
            };
            trees.push(Tree {
                mount,
                version,
                controllers,
            });
        }
        if trees.is_empty() {
            return Err(RuntimeError::Unsupported {
                what: "running containers",
                message: "no control groups are mounted below /sys/fs/cgroup; mount them (systemd does)".to_owned(),
            });
        }
        Ok(Cgroups { trees })
    }

    /// Whether all controllers are in one v2 tree.
    pub fn is_v2(&self) -> bool {
        self.trees.iter().all(|tree| tree.version == Version::V2)
    }

    /// Whether limits by this controller can be had.
    pub fn has_controller(&self, controller: &str) -> bool {
        self.controller(controller).is_some()
    }

    fn controller(&self, controller: &str) -> Option<&Tree> {
        self.trees
            .iter()
            .find(|tree| tree.controllers.iter().any(|name| name == controller))
    }

    /// Where the group is in the tree of a controller.
    fn dir(&self, controller: &str, path: &str) -> Option<(Version, PathBuf)> {
        self.controller(controller).map(|tree| (tree.version, tree.join(path)))
    }

    /// The group in the v2 tree, be it with controllers or not.
    pub fn unified_dir(&self, path: &str) -> Option<PathBuf> {
        self.trees
            .iter()
            .find(|tree| tree.version == Version::V2)
            .map(|tree| tree.join(path))
    }

    /// Makes a group, with its parents, wherever there are controllers.
    pub fn create(&self, path: &str) -> Result<()> {
        self.trees
            .iter()
            .filter(|tree| !tree.controllers.is_empty())
            .try_for_each(|tree| tree.create(path))
    }

    /// Moves a process to a group in the trees that service supervisors use to find all processes of a service (v2, and
    /// the named ones), so that stopping skiff's service does not stop the pods.
    pub fn join_supervised(&self, path: &str, pid: i32) -> Result<()> {
        for tree in self
            .trees
            .iter()
            .filter(|tree| tree.version == Version::V2 || tree.controllers.is_empty())
        {
            tree.create(path)?;
            let file = tree.join(path).join("cgroup.procs");
            fs::write(&file, pid.to_string()).map_err(failed(&file, "add process"))?;
        }
        Ok(())
    }

    /// All processes in the group and those below.
    pub fn processes(&self, path: &str) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for tree in &self.trees {
            walk(&tree.join(path), &mut |dir| {
                let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            });
        }
        found
    }

    /// Kills all processes in the group and those below, once; newcomers may be missed.
    pub fn kill_once(&self, path: &str) {
        self.signal(path, Signal::SIGKILL);
    }

    /// Sends a signal to all processes in the group and those below.
    pub fn signal(&self, path: &str, signal: Signal) {
        for pid in self.processes(path) {
            // 0 is a process of a namespace that cannot be seen from here.
            if pid > 0 {
                // It may just have ended.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// Kills all processes of the group and removes it with those below. Blocks.
    ///
    /// # Errors
    /// When it is not gone after `patience`: a process sleeps where it cannot be killed.
    pub fn destroy(&self, path: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_micros(200);
        loop {
            self.kill_once(path);
            match self.remove(path) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Removes a group with those below.
    ///
    /// # Errors
    /// When there are processes in it, or were a moment ago.
    pub fn remove(&self, path: &str) -> Result<()> {
        let mut result = Ok(());
        for tree in &self.trees {
            walk(&tree.join(path), &mut |dir| match fs::remove_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => result = Err(failed(dir, "remove")(error)),
            });
        }
        result
    }

    /// Removes a group that has nothing below it, and its parents likewise, down to `root` included.
    pub fn prune(&self, path: &str, root: &str) {
        for tree in &self.trees {
            let mut path = Path::new(path);
            while path.starts_with(root) && path != Path::new("/") {
                // It fails where there is something below, which is what stops us.
                match fs::remove_dir(tree.join(&path.to_string_lossy())) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(_) => break,
                }
                let Some(parent) = path.parent() else { break };
                path = parent;
            }
        }
    }

    /// All groups below a group, as paths, each before its parent.
    pub fn descendants(&self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for tree in &self.trees {
            walk(&tree.join(path), &mut |dir| {
                let Ok(relative) = dir.strip_prefix(&tree.mount) else {
                    return;
                };
                let name = format!("/{}", relative.display());
                if name != path && seen.insert(name.clone()) {
                    found.push(name);
                }
            });
        }
        found
    }

    /// Whether the group is there in any tree.
    pub fn exists(&self, path: &str) -> bool {
        self.trees.iter().any(|tree| tree.join(path).is_dir())
    }
}

/// Whether control groups are what one finds at the path.
fn is_control_groups(path: &Path) -> bool {
    use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
    statfs(path).is_ok_and(|found| [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&found.filesystem_type()))
}

const V1_CONTROLLERS: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "perf_event",
    "net_cls",
    "net_prio",
    "rdma",
];

impl Tree {
    fn join(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    fn create(&self, path: &str) -> Result<()> {
        let mut dir = self.mount.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if self.version == Version::V2 {
                for controller in &self.controllers {
                    // One that cannot be given to children is missed when a limit is set.
                    let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            let parent = dir.clone();
            dir.push(name);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&dir, "create")(error)),
            }
            if self.version == Version::V1 && self.controllers.iter().any(|controller| controller == "cpuset") {
                inherit_cpuset(&parent, &dir)?;
            }
        }
        Ok(())
    }
}

/// A v1 cpuset takes no processes before it is filled.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = dir.join(file);
        if fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty()) {
            let inherited = parent.join(file);
            let value = fs::read_to_string(&inherited).map_err(failed(&inherited, "read"))?;
            fs::write(&own, value.trim()).map_err(failed(&own, "write"))?;
        }
    }
    Ok(())
}

/// Visits a folder and those below it, children first.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_is_told_from_unified() {
        let hybrid = Cgroups::from_mountinfo(
            "30 20 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             31 20 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             32 20 0:3 / /sys/fs/cgroup/none-such rw - cgroup2 cgroup2 rw\n\
             33 20 0:1 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct\n\
             34 20 0:5 / /sys/fs/cgroup/hidden rw - cgroup cgroup rw,memory\n",
            |mount| !mount.ends_with("hidden"),
        )
        .unwrap();
        assert!(!hybrid.is_v2());
        assert_eq!(hybrid.trees.len(), 3);
        assert_eq!(hybrid.trees[0].controllers, ["cpu", "cpuacct"]);
        assert!(hybrid.trees[1].controllers.is_empty());
        assert!(hybrid.has_controller("cpuacct") && !hybrid.has_controller("memory"));
        assert!(Cgroups::from_mountinfo("", |_| true).is_err());
    }
}
