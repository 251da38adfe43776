//! What pods leave on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::cluster::SKIFF;

/// A process, not to be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    started: u64,
    /// The pod's UID.
    pub pod: String,
}

/// What is there because of pods.
pub struct OfPods {
    /// With a pod's UID in its name, and where.
    pub named: Vec<(String, String)>,
    /// What there is at most one of a pod.
    pub counted: [(&'static str, usize); 4],
}

fn processes() -> impl Iterator<Item = (i32, std::path::PathBuf)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect()
}

/// Processes of the program of `skiff.local/hello`, by their container's identity. One that is still being prepared
/// executes another program.
pub fn containers() -> BTreeMap<String, Process> {
    let mut found = BTreeMap::new();
    for (pid, path) in processes() {
        // It may have ended since.
        let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let Some(group) = groups
            .lines()
            .find(|line| line.contains(":/skiff/") && line.contains("/pod"))
        else {
            continue;
        };
        if fs::read_link(path.join("exe")).ok().as_deref() != Some(Path::new("/skiff")) {
            continue;
        }
        let mut group = group.rsplit('/');
        let id = group.next().unwrap().to_owned();
        let pod = group
            .next()
            .and_then(|name| name.strip_prefix("pod"))
            .unwrap_or_default()
            .to_owned();
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let started = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
        let Some(started) = started else { continue };
        let process = Process { pid, started, pod };
        found.insert(id, process);
    }
    found
}

/// Whether a container's start is complete: until then it ends with whom it was started by.
pub fn is_started(data: &Path, id: &str) -> bool {
    let sandboxes = data.join("runtime/sandboxes");
    names(&sandboxes)
        .iter()
        .any(|sandbox| sandboxes.join(sandbox).join("c").join(id).join("running.json").exists())
}

/// Command lines of shims of this data directory.
fn shims(data: &Path) -> Vec<String> {
    let data = data.display().to_string();
    let lines = processes().map(|(_, path)| fs::read(path.join("cmdline")).unwrap_or_default());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines
        .filter(|line| line.starts_with(SKIFF) && line.contains("shim ") && line.contains(&data))
        .collect()
}

fn veths() -> Vec<String> {
    names(Path::new("/sys/class/net/skiff0/brif"))
}

fn groups(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path().display().to_string());
            groups(&entry.path(), found);
        }
    }
}

fn pod_groups() -> Vec<String> {
    let mut found = Vec::new();
    for tree in [String::new()].into_iter().chain(names(Path::new("/sys/fs/cgroup"))) {
        groups(&Path::new("/sys/fs/cgroup").join(tree).join("skiff"), &mut found);
    }
    found.retain(|path| path.contains("/pod"));
    found
}

/// What is there now because of pods.
pub fn of_pods(data: &Path) -> OfPods {
    let mut named = Vec::new();
    for path in pod_groups() {
        let group = path.split('/').find_map(|part| part.strip_prefix("pod")).unwrap();
        named.push((group.to_owned(), path.clone()));
    }
    for name in names(&data.join("node/pods")) {
        named.push((name.rsplit('_').next().unwrap().to_owned(), format!("folder of {name}")));
    }
    let counted = [
        ("sandboxes", names(&data.join("runtime/sandboxes")).len()),
        ("leases", names(&data.join("network/leases")).len()),
        ("shims", shims(data).len()),
        ("veth pairs", veths().len()),
    ];
    OfPods { named, counted }
}

/// Everything on the host that may be a pod's: the same again when all pods are gone.
pub fn traces(data: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let text = data.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&text))
            .map(|line| format!("mount {line}")),
    );
    found.extend(
        names(Path::new("/sys/class/net"))
            .into_iter()
            .map(|link| format!("link {link}")),
    );
    found.extend(pod_groups().into_iter().map(|path| format!("cgroup {path}")));
    found.extend(shims(data).into_iter().map(|line| format!("process {line}")));
    found.extend(
        containers()
            .into_iter()
            .map(|(id, process)| format!("process of container {id}: {process:?}")),
    );
    for folder in ["runtime/sandboxes", "network/leases", "node/pods"] {
        found.extend(
            names(&data.join(folder))
                .into_iter()
                .map(|name| format!("file {folder}/{name}")),
        );
    }
    found.extend(
        namespaces()
            .into_iter()
            .map(|namespace| format!("namespace {namespace}")),
    );
    found.extend(["skiff", "skiff-pods"].into_iter().flat_map(rules));
    found
}

/// Chains, rules, sets and their elements.
fn rules(table: &str) -> BTreeSet<String> {
    let output = Command::new("nft")
        .args(["--json", "--stateless", "list", "table", "ip", table])
        .output();
    let output = output.expect("the test needs nft, of the package nftables");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = BTreeSet::new();
    for entry in listed["nftables"].as_array().unwrap() {
        for (kind, object) in entry.as_object().unwrap() {
            let mut object = object.clone();
            let fields = object.as_object_mut().unwrap();
            fields.remove("handle");
            for element in fields.remove("elem").iter().filter_map(Value::as_array).flatten() {
                found.insert(format!("{table}: element of {}: {element}", fields["name"]));
            }
            found.insert(format!("{table}: {kind} {object}"));
        }
    }
    found
}

/// Network namespaces that are mounted somewhere; those of processes go with them.
fn namespaces() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .filter(|line| line.contains(" - nsfs "))
        .filter_map(|line| Some(line.split(' ').nth(4)?.into()))
        .collect()
}
