//! One skiff a machine: the bridge, the tables of rules and the control groups below `/skiff` are the machine's.
//!
//! Whoever runs pods, or removes them, holds a lock for each of the two namespaces in which those are: the network's and
//! the control groups'. So a skiff in namespaces of its own disturbs nobody, and is not disturbed. The locked files tell
//! whose cluster was the last to use the machine, also after it ended; the kernel gives back the locks of the dead.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use runtime::Verdict;
use serde_json::{Value, json};

const DIR: &str = "/run/skiff";

/// Who uses the machine, or was the last to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub data_dir: PathBuf,
}

/// The right to this machine's pods, as long as it lives.
#[derive(Debug)]
pub struct Claim {
    locks: Vec<(PathBuf, Flock<File>)>,
    /// Who had it before.
    pub before: Option<Holder>,
}

/// What comes of asking for it.
#[derive(Debug)]
pub enum Asked {
    Granted(Claim),
    /// By whom it is held, as far as that can be told.
    Held(Option<Holder>),
}

/// Asks for the machine on behalf of nobody yet.
///
/// # Errors
/// When the locks cannot be made.
pub fn ask() -> Result<Asked> {
    ask_in(Path::new(DIR), &scopes()?)
}

/// Takes the machine for the cluster in a data directory.
///
/// # Errors
/// When another skiff runs on it, or pods of another cluster do: says what to do.
pub fn take(data_dir: &Path) -> Result<Claim> {
    take_in(Path::new(DIR), &scopes()?, data_dir)
}

/// Removes what a cluster that is gone has left here, in whichever namespaces it was.
pub fn sweep(data_dir: &Path) {
    sweep_in(Path::new(DIR), data_dir);
}

fn sweep_in(dir: &Path, data_dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(Locked::Mine(mut file)) = lock(&path)
            && read(&mut file).is_none_or(|holder| holder.data_dir == data_dir || !holder.data_dir.exists())
        {
            let _ = fs::remove_file(&path);
        }
    }
    // Not with something in it.
    let _ = fs::remove_dir(dir);
}

/// For `skiff doctor`.
pub fn verdict(data_dir: &Path) -> Verdict {
    let asked = match ask() {
        Ok(asked) => asked,
        Err(error) => return Verdict::Bad(format!("{error:#}")),
    };
    let found = match &asked {
        Asked::Held(holder) => Err(anyhow::anyhow!(held(holder.as_ref(), data_dir))),
        Asked::Granted(_) => others_pods(data_dir),
    };
    if let Asked::Granted(claim) = asked
        && claim.before.is_none()
    {
        // Nothing of this machine is changed.
        claim.forget();
        sweep(data_dir);
    }
    match found {
        Ok(()) => Verdict::Good("no other skiff uses this machine".into()),
        Err(error) => Verdict::Bad(error.to_string()),
    }
}

impl Claim {
    /// Ends it and forgets who had it: nothing of any cluster is left here.
    pub fn forget(self) {
        for (path, lock) in self.locks {
            // Before the lock goes: whoever waits for it sees that the file is another one.
            let _ = fs::remove_file(&path);
            drop(lock);
        }
    }

    /// Whether what is on this machine is, as far as can be told, of the cluster in this directory.
    pub fn was_of(&self, data_dir: &Path) -> bool {
        self.before
            .as_ref()
            .is_none_or(|holder| holder.data_dir == data_dir || !holder.data_dir.exists())
    }

    fn note(&mut self, data_dir: &Path) -> io::Result<()> {
        let text = json!({ "pid": std::process::id(), "dataDir": data_dir }).to_string();
        for (_, lock) in &mut self.locks {
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

fn take_in(dir: &Path, scopes: &[String], data_dir: &Path) -> Result<Claim> {
    match ask_in(dir, scopes)? {
        Asked::Held(holder) => bail!(held(holder.as_ref(), data_dir)),
        Asked::Granted(mut claim) => {
            others_pods(data_dir)?;
            claim
                .note(data_dir)
                .with_context(|| format!("write to {}", dir.display()))?;
            Ok(claim)
        }
    }
}

fn held(holder: Option<&Holder>, data_dir: &Path) -> String {
    let Some(Holder { pid, data_dir: other }) = holder else {
        return "another skiff is starting, or being reset, on this machine: wait for its end, then try again"
            .to_owned();
    };
    if other == data_dir {
        return format!(
            "the data directory {} is in use by a skiff that runs (process {pid}): use that one (export \
             KUBECONFIG={}/admin.kubeconfig), or stop it first (kill -INT {pid})",
            other.display(),
            other.display()
        );
    }
    format!(
        "this machine is in use by another skiff: process {pid}, data directory {}. There is room for one, since bridge, \
         rules and control groups are the machine's. Use that one (export KUBECONFIG={}/admin.kubeconfig), or stop and \
         reset it first (kill -INT {pid}; skiff reset --data-dir {})",
        other.display(),
        other.display(),
        other.display()
    )
}

/// Refuses while pods of another cluster are alive.
fn others_pods(data_dir: &Path) -> Result<()> {
    let own = data_dir.join("runtime");
    let Some((folder, pods)) = runtime::live_pods(runtime::CGROUP_ROOT)
        .into_iter()
        .find(|(folder, _)| *folder != own)
    else {
        return Ok(());
    };
    let other = folder.parent().unwrap_or(&folder).display();
    bail!(
        "{pods} {} of the cluster in {other} still run on this machine, without their skiff. There is room for one \
         cluster: remove that one with `skiff reset --data-dir {other}`, or go on with it by `skiff up --data-dir {other}`",
        if pods == 1 { "pod" } else { "pods" }
    )
}

/// Names of the namespaces that hold what is the machine's.
fn scopes() -> Result<Vec<String>> {
    ["net", "cgroup"]
        .into_iter()
        .map(|kind| {
            let path = format!("/proc/self/ns/{kind}");
            let found = fs::metadata(&path).with_context(|| format!("look at {path}"))?;
            Ok(format!("{kind}-{}", found.ino()))
        })
        .collect()
}

fn ask_in(dir: &Path, scopes: &[String]) -> Result<Asked> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("make {}, which is to tell skiffs of each other", dir.display()))?;
    let mut claim = Claim {
        locks: Vec::new(),
        before: None,
    };
    for scope in scopes {
        let path = dir.join(scope);
        match lock(&path).with_context(|| format!("lock {}", path.display()))? {
            Locked::Mine(mut file) => {
                claim.before = claim.before.or_else(|| read(&mut file));
                claim.locks.push((path, file));
            }
            Locked::Others(mut file) => return Ok(Asked::Held(read(&mut file))),
        }
    }
    Ok(Asked::Granted(claim))
}

enum Locked {
    Mine(Flock<File>),
    Others(File),
}

/// Locks the file that is there when it is locked.
fn lock(path: &Path) -> io::Result<Locked> {
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, Errno::EWOULDBLOCK)) => return Ok(Locked::Others(file)),
            Err((_, error)) => return Err(error.into()),
        };
        let own = lock.metadata()?.ino();
        if fs::metadata(path).is_ok_and(|there| there.ino() == own) {
            return Ok(Locked::Mine(lock));
        }
    }
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    Some(Holder {
        pid: value["pid"].as_i64()?.try_into().ok()?,
        data_dir: value["dataDir"].as_str()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_skiff_a_machine() {
        let dir = tempfile::tempdir().unwrap();
        let host = scopes(&["net-1", "cgroup-1"]);
        let first = take_in(dir.path(), &host, Path::new("/data/a")).unwrap();
        assert_eq!(first.before, None);

        let told = take_in(dir.path(), &host, Path::new("/data/b"))
            .unwrap_err()
            .to_string();
        let pid = std::process::id();
        for part in [
            format!("process {pid}"),
            "/data/a".into(),
            "skiff reset --data-dir /data/a".into(),
        ] {
            assert!(told.contains(&part), "{part} is missing in: {told}");
        }
        let told = take_in(dir.path(), &host, Path::new("/data/a"))
            .unwrap_err()
            .to_string();
        assert!(told.contains("/data/a is in use"), "{told}");

        // One of the two is enough to disturb each other.
        let network_alone = scopes(&["net-2", "cgroup-1"]);
        assert!(take_in(dir.path(), &network_alone, Path::new("/data/b")).is_err());
        let apart = scopes(&["net-2", "cgroup-2"]);
        take_in(dir.path(), &apart, Path::new("/data/b")).unwrap();
    }

    #[test]
    fn the_last_one_is_remembered_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let host = scopes(&["net-1", "cgroup-1"]);
        let data = tempfile::tempdir().unwrap();
        drop(take_in(dir.path(), &host, data.path()).unwrap());

        let Asked::Granted(claim) = ask_in(dir.path(), &host).unwrap() else {
            panic!("it is free");
        };
        assert_eq!(claim.before.as_ref().map(|holder| &*holder.data_dir), Some(data.path()));
        assert!(claim.was_of(data.path()));
        assert!(!claim.was_of(Path::new("/data/b")));
        claim.forget();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        sweep_in(dir.path(), Path::new("/data/b"));
        assert!(!dir.path().exists());

        let Asked::Granted(claim) = ask_in(dir.path(), &host).unwrap() else {
            panic!("it is free");
        };
        assert!(claim.was_of(Path::new("/data/b")));
    }

    #[test]
    fn what_others_hold_or_left_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (running, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let claim = take_in(dir.path(), &scopes(&["net-1"]), running.path()).unwrap();
        drop(take_in(dir.path(), &scopes(&["net-2"]), stopped.path()).unwrap());
        drop(take_in(dir.path(), &scopes(&["net-3"]), Path::new("/no/such/directory")).unwrap());
        sweep_in(dir.path(), Path::new("/data/b"));
        let names = || {
            let mut names: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["net-1", "net-2"]);
        sweep_in(dir.path(), stopped.path());
        sweep_in(dir.path(), running.path());
        assert_eq!(names(), ["net-1"]);
        drop(claim);
    }

    #[test]
    fn a_cluster_whose_directory_is_gone_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = scopes(&["net-1"]);
        drop(take_in(dir.path(), &host, Path::new("/no/such/directory")).unwrap());
        let Asked::Granted(claim) = ask_in(dir.path(), &host).unwrap() else {
            panic!("it is free");
        };
        assert!(claim.was_of(Path::new("/data/b")));
    }
}
