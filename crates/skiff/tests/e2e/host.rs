//! What a cluster leaves on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::cluster::run;

/// All that skiff could have made, as lines.
pub fn traces(data: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let data = data.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mounts");
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&data) || line.contains("skiff"))
            .map(|line| format!("mount {line}")),
    );
    for link in fs::read_dir("/sys/class/net").expect("list links").flatten() {
        found.insert(format!("link {}", link.file_name().to_string_lossy()));
    }
    let routes = fs::read_to_string("/proc/net/route").expect("read routes");
    found.extend(
        routes
            .lines()
            .filter(|line| line.contains("skiff"))
            .map(|line| format!("route {line}")),
    );
    found.extend(
        run("nft", &["list", "tables"])
            .ok()
            .lines()
            .map(|line| format!("nftables {line}")),
    );
    groups(Path::new("/sys/fs/cgroup"), 0, &mut found);
    processes(&data, &mut found);
    for setting in ["net/ipv4/ip_forward", "net/ipv4/conf/all/send_redirects"] {
        let value = fs::read_to_string(Path::new("/proc/sys").join(setting)).expect("read a setting");
        found.insert(format!("setting {setting} {}", value.trim()));
    }
    for folder in [&data, "/run/skiff"] {
        if Path::new(folder).exists() {
            found.insert(format!("folder {folder}"));
        }
    }
    found
}

fn groups(dir: &Path, depth: usize, found: &mut BTreeSet<String>) {
    if depth > 3 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if path.display().to_string().contains("skiff") {
                found.insert(format!("cgroup {}", path.display()));
            }
            groups(&path, depth + 1, found);
        }
    }
}

/// With the data directory on their command line, as all shims have it; those of containers show in their groups.
fn processes(data: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").expect("list processes").flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(data) {
            found.insert(format!("process {} {command}", entry.file_name().to_string_lossy()));
        }
    }
}
