//! `skiff reset`: removes everything that skiff made on this machine.
//!
//! Goes on after errors and tells them all at the end, and may be repeated: what one run could not remove, the next
//! tries again. What belongs to another cluster on this machine stays. Only what skiff makes is removed from the data directory; whatever else lies there stays.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use net::NetConfig;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use runtime::{LoopbackNetwork, ResetScope, RuntimeConfig, RuntimeError};
use store::Store;

use crate::claim::{self, Asked};
use crate::{host, options};

/// What `up` makes in its data directory. The store comes last: its lock keeps other skiffs out.
const MADE: [&str; 8] = [
    "admin.kubeconfig",
    "images.sock",
    "node",
    "volumes",
    "runtime",
    "network",
    "pki",
    "store",
];

/// Options of `skiff reset`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Directory of everything that is kept, as for `up`
    #[arg(long, env = "SKIFF_DATA_DIR", default_value_os_t = options::default_data_dir())]
    data_dir: PathBuf,
}

/// Removes everything, as far as it goes.
pub fn run(options: &Options) -> Result<()> {
    // The kernel's table of mounts names real paths.
    let dir = match fs::canonicalize(&options.data_dir) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => options.data_dir.clone(),
        Err(error) => return Err(error).with_context(|| format!("find {}", options.data_dir.display())),
    };
    if !nix::unistd::geteuid().is_root() && ["runtime", "network"].iter().any(|name| dir.join(name).exists()) {
        bail!(
            "{} belongs to a cluster with containers: reset it as root",
            dir.display()
        );
    }
    if !options.yes && !confirmed(&dir)? {
        bail!("nothing was removed");
    }
    let errors = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(remove_everything(&dir))?;
    if errors.is_empty() {
        println!("removed everything that skiff made in {}", dir.display());
        return Ok(());
    }
    for error in &errors {
        eprintln!("error: {error:#}");
    }
    bail!(
        "{} of the steps failed; mend what they say and run `skiff reset` again",
        errors.len()
    )
}

fn confirmed(dir: &Path) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("standard input is not a terminal, so nobody can be asked: use --yes");
    }
    print!(
        "This removes the cluster in {}: all its objects, containers, volumes and images. Go on? [y/N] ",
        dir.display()
    );
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The errors of the steps that failed; the outer one if nothing may be touched.
async fn remove_everything(dir: &Path) -> Result<Vec<anyhow::Error>> {
    let mut errors = Vec::new();
    let lock = lock(dir)?;
    // Volumes first, so that nothing that removes files can get through a mount to what is not skiff's.
    keep(&mut errors, unmount_below(dir));
    let mut claim = None;
    if nix::unistd::geteuid().is_root() {
        // Bridge, rules and control groups are another cluster's if that one was the last to use the machine.
        claim = match claim::ask()? {
            Asked::Granted(claim) => Some(claim).filter(|claim| claim.was_of(dir) && !others_live(dir)),
            Asked::Held(_) => None,
        };
        let scope = match claim {
            Some(_) => ResetScope::Machine,
            None => ResetScope::DataDirectory,
        };
        match remove_pods(dir, scope).await {
            Err(error) if matches!(error.downcast_ref(), Some(RuntimeError::InUse { .. })) => return Err(error),
            result => keep(&mut errors, result),
        }
        if scope == ResetScope::Machine {
            keep(&mut errors, remove_network(dir).await);
        }
        keep(&mut errors, unmount_below(dir));
    }
    keep(&mut errors, remove_files(dir, lock));
    if let Some(claim) = claim
        && errors.is_empty()
    {
        claim.forget();
    }
    if nix::unistd::geteuid().is_root() && errors.is_empty() {
        claim::sweep(dir);
    }
    Ok(errors)
}

fn others_live(dir: &Path) -> bool {
    let own = dir.join("runtime");
    runtime::live_pods(runtime::CGROUP_ROOT)
        .keys()
        .any(|folder| *folder != own)
}

fn keep(errors: &mut Vec<anyhow::Error>, result: Result<()>) {
    errors.extend(result.err());
}

/// The store's lock. A store that cannot be opened for other reasons is removed all the same.
fn lock(dir: &Path) -> Result<Option<Store>> {
    let store = dir.join("store");
    if !store.exists() {
        return Ok(None);
    }
    match Store::open(&store) {
        Ok(store) => Ok(Some(store)),
        Err(error @ store::Error::InUse { .. }) => Err(error).context("stop skiff first"),
        Err(_) => Ok(None),
    }
}

async fn remove_pods(dir: &Path, scope: ResetScope) -> Result<()> {
    // The network is removed as a whole, afterwards.
    let config = RuntimeConfig::new(dir.join("runtime"), host::PROGRAM, Arc::new(LoopbackNetwork));
    runtime::reset(&config, scope).await.context("remove containers")
}

/// Without a trace of a network there is none of this data directory; another's is left alone. In the default data
/// directory the traces may have been removed by hand.
async fn remove_network(dir: &Path) -> Result<()> {
    let state = dir.join("network");
    if !state.exists() && dir != options::default_data_dir() {
        return Ok(());
    }
    let range = Ipv4Net::new([10, 244, 0, 0].into(), 24).expect("24 is a prefix length");
    net::cleanup(&state, &NetConfig::new(range, &state))
        .await
        .context("remove the pod network")
}

/// Unmounts everything below a folder, the folder itself not.
fn unmount_below(dir: &Path) -> Result<()> {
    let mut failed = Vec::new();
    for point in mounts_below(dir)? {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Gone with one above it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => failed.push(format!("{}: {error}", point.display())),
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("unmount {}", failed.join(", "))
    }
}

/// The deepest first; of mounts on top of each other, the newest first.
fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = mount_points(&table)
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect();
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(points)
}

fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    let unescape = |point: &str| {
        point
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
            .into()
    };
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape)
}

fn remove_files(dir: &Path, lock: Option<Store>) -> Result<()> {
    if let [point, ..] = mounts_below(dir)?.as_slice() {
        bail!(
            "something is still mounted at {}: unmount it; until then the files stay",
            point.display()
        );
    }
    let mut lock = lock;
    for name in MADE {
        if name == "store" {
            lock.take();
        }
        let path = dir.join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    // Not when it is a mount point, or when something else is in it.
    let _ = fs::remove_dir(dir);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /var/lib/a\\040b rw shared:1 - tmpfs t rw\n";
        let points: Vec<PathBuf> = mount_points(table).collect();
        assert_eq!(points, [Path::new("/"), Path::new("/var/lib/a b")]);
    }

    #[test]
    fn what_is_not_skiffs_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["pki", "node"] {
            fs::create_dir_all(dir.path().join(name).join("deep")).unwrap();
        }
        fs::write(dir.path().join("admin.kubeconfig"), "").unwrap();
        fs::write(dir.path().join("diary"), "").unwrap();
        for _ in 0..2 {
            remove_files(dir.path(), None).unwrap();
            let left: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(left, ["diary"]);
        }
        fs::remove_file(dir.path().join("diary")).unwrap();
        remove_files(dir.path(), None).unwrap();
        assert!(!dir.path().exists());
    }

    #[tokio::test]
    async fn a_cluster_in_use_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        fs::write(path.join("admin.kubeconfig"), "").unwrap();
        let store = Store::open(path.join("store")).unwrap();
        let error = remove_everything(&path).await.unwrap_err();
        assert!(format!("{error:#}").contains("in use"), "{error:#}");
        assert!(path.join("admin.kubeconfig").exists());
        drop(store);
    }
}
