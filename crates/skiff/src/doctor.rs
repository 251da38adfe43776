//! `skiff doctor`: whether this machine can run a cluster, and how to mend it if not.
//!
//! What can be tried is tried, in namespaces of its own, so that nothing of the machine changes.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use net::{NetConfig, PodNetwork, ServiceProxy};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use proxy::ProxyConfig;
use runtime::{Check, Verdict};
use store::Store;

use crate::{claim, options};

const LOW_MEMORY_KIB: u64 = 512 << 10;
const FEW_INSTANCES: u64 = 128;
const FEW_WATCHES: u64 = 8192;

/// Options of `skiff doctor`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directory of everything that is kept, as for `up`
    #[arg(long, env = "SKIFF_DATA_DIR", default_value_os_t = options::default_data_dir())]
    data_dir: PathBuf,
    /// Port of the API server, as for `up`
    #[arg(long, env = "SKIFF_SECURE_PORT", default_value_t = 6443)]
    secure_port: u16,
    /// Port of the node's own API, as for `up`
    #[arg(long, env = "SKIFF_KUBELET_PORT", default_value_t = 10250)]
    kubelet_port: u16,
}

/// Prints a line for each check; fails if something that is needed is missing.
pub fn run(options: &Options) -> Result<()> {
    let mut checks = runtime::doctor(&options.data_dir);
    let mut check = |name, verdict| checks.push(Check { name, verdict });
    if nix::unistd::geteuid().is_root() {
        check("overlayfs on disk", overlay_on(&existing(&options.data_dir)));
        check("nf_tables", in_own_network(packet_filter));
        check("bridge and veth", in_own_network(pod_network));
        check("machine", claim::verdict(&options.data_dir));
    }
    check("connection tracking", connection_tracking());
    check("ip_forward", ip_forward());
    check("memory", memory());
    check("inotify", inotify());
    check("resolv.conf", resolver());
    check("API port", port(options.secure_port, "--secure-port"));
    check("kubelet port", port(options.kubelet_port, "--kubelet-port"));
    check("data directory", data_dir(&options.data_dir));
    let mut bad = 0;
    for Check { name, verdict } in &checks {
        let (mark, text) = match verdict {
            Verdict::Good(text) => ("ok", text),
            Verdict::Poor(text) => ("warning", text),
            Verdict::Bad(text) => ("MISSING", text),
        };
        bad += usize::from(matches!(verdict, Verdict::Bad(_)));
        println!("{mark:<8} {name}: {text}");
    }
    if bad == 0 {
        Ok(())
    } else {
        bail!("{bad} of {} checks failed: `skiff up` would not work", checks.len())
    }
}

/// The nearest folder above that is there.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Runs something in a thread that may leave the machine's namespaces.
fn apart(work: impl FnOnce() -> Result<String> + Send + 'static) -> Result<String> {
    match std::thread::spawn(work).join() {
        Ok(result) => result,
        Err(_) => bail!("the check broke off"),
    }
}

fn overlay_on(dir: &Path) -> Verdict {
    let place = dir.join(format!(".skiff-doctor-{}", std::process::id()));
    let inside = place.clone();
    let tried = apart(move || {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("keep mounts private")?;
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir_all(inside.join(name))?;
        }
        let path = |name: &str| inside.join(name).display().to_string();
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            path("lower"),
            path("upper"),
            path("work")
        );
        mount(
            Some("overlay"),
            &inside.join("merged"),
            Some("overlay"),
            MsFlags::empty(),
            Some(layers.as_str()),
        )?;
        umount2(&inside.join("merged"), MntFlags::MNT_DETACH)?;
        Ok(String::new())
    });
    let _ = fs::remove_dir_all(&place);
    match tried {
        Ok(_) => Verdict::Good(format!("works on {}", dir.display())),
        Err(error) => Verdict::Poor(format!(
            "{} cannot hold overlays ({error:#}): images are copied for each container; put --data-dir on ext4 or xfs",
            dir.display()
        )),
    }
}

/// Tries something in a new network namespace.
fn in_own_network(work: fn(&Path) -> Result<String>) -> Verdict {
    let tried = apart(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        let state = std::env::temp_dir().join(format!("skiff-doctor-{}", std::process::id()));
        let result = work(&state);
        let _ = fs::remove_dir_all(&state);
        result
    });
    match tried {
        Ok(text) => Verdict::Good(text),
        Err(error) => Verdict::Bad(format!(
            "{error:#}; try `modprobe -a nf_tables nft_chain_nat nft_ct nft_fib_ipv4 nft_masq nft_nat nft_numgen \
             nft_reject_ipv4 bridge veth`, or use a kernel that has them"
        )),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Writes the rules that a cluster without Services has.
fn packet_filter(_: &Path) -> Result<String> {
    block_on(async {
        let range = Ipv4Net::new([10, 244, 0, 0].into(), 16)?;
        let config = ProxyConfig {
            node_ips: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))],
            cluster_cidrs: vec![range.into()],
            ..ProxyConfig::new("doctor")
        };
        let proxy = ServiceProxy::start("skiff-doctor")?;
        let applied = proxy.apply(Arc::new(proxy::ruleset(&[], &[], &config))).await;
        proxy.shutdown();
        applied.context("write nf_tables rules")?;
        Ok("rules with address translation can be written".to_owned())
    })
}

/// Connects a pod.
fn pod_network(state: &Path) -> Result<String> {
    // One namespace is the pod's, the next the host's.
    let pod = File::open("/proc/thread-self/ns/net").context("open a network namespace")?;
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    let pod_path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pod)));
    block_on(async {
        let network = PodNetwork::open(NetConfig::new(Ipv4Net::new([10, 244, 0, 0].into(), 24)?, state)).await?;
        let address = network.setup("doctor", &pod_path, &[]).await?;
        network.teardown("doctor").await?;
        network.shutdown();
        Ok(format!("a pod was connected (as {address}) and disconnected"))
    })
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn connection_tracking() -> Verdict {
    match read_number("/proc/sys/net/netfilter/nf_conntrack_max") {
        Some(0) => Verdict::Bad("net.netfilter.nf_conntrack_max is 0; raise it by sysctl".into()),
        Some(limit) if limit < 16384 => Verdict::Poor(format!(
            "room for {limit} connections only; raise net.netfilter.nf_conntrack_max by sysctl"
        )),
        Some(limit) => Verdict::Good(format!("room for {limit} connections")),
        None => Verdict::Poor("not there (now): `skiff up` needs it; try `modprobe nf_conntrack`".into()),
    }
}

fn ip_forward() -> Verdict {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    if read_number(PATH) == Some(1) {
        return Verdict::Good("on".into());
    }
    match File::options().write(true).open(PATH) {
        Ok(_) => Verdict::Good("off; `skiff up` turns it on".into()),
        Err(error) => Verdict::Bad(format!(
            "off, and {PATH} cannot be written ({error}): `sysctl -w net.ipv4.ip_forward=1` as root"
        )),
    }
}

fn memory() -> Verdict {
    let table = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available: u64 = line
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    if available < LOW_MEMORY_KIB {
        return Verdict::Poor(format!(
            "{} MiB are available; some pods will not fit: end other programs",
            available >> 10
        ));
    }
    Verdict::Good(format!("{} MiB are available", available >> 10))
}

fn inotify() -> Verdict {
    let instances = read_number("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default();
    let watches = read_number("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
    if instances < FEW_INSTANCES || watches < FEW_WATCHES {
        return Verdict::Poor(format!(
            "{instances} instances and {watches} watches for a user; programs in pods may need more: `sysctl -w \
             fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536`"
        ));
    }
    Verdict::Good(format!("{instances} instances, {watches} watches"))
}

fn resolver() -> Verdict {
    let text = match fs::read_to_string("/etc/resolv.conf") {
        Ok(text) => text,
        Err(error) => {
            return Verdict::Poor(format!(
                "/etc/resolv.conf cannot be read ({error}); pods resolve cluster names only"
            ));
        }
    };
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    if servers.is_empty() {
        return Verdict::Poor(
            "/etc/resolv.conf names no server: pods resolve cluster names only; add a line `nameserver ADDRESS`".into(),
        );
    }
    Verdict::Good(format!("outside names are asked of {}", servers.join(", ")))
}

fn port(port: u16, flag: &str) -> Verdict {
    match TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))) {
        Ok(_) => Verdict::Good(format!("{port} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Verdict::Bad(format!(
            "{port} is in use (by another skiff or kubelet?); {flag} chooses another"
        )),
        Err(error) => Verdict::Bad(format!("cannot listen on {port} ({error}); {flag} chooses another")),
    }
}

fn data_dir(dir: &Path) -> Verdict {
    let place = existing(dir);
    let probe = place.join(format!(".skiff-doctor-{}", std::process::id()));
    let written = fs::write(&probe, "skiff").and_then(|()| fs::remove_file(&probe));
    if let Err(error) = written {
        return Verdict::Bad(format!(
            "{} cannot be written ({error}); --data-dir chooses another",
            place.display()
        ));
    }
    let store = dir.join("store");
    match store.exists().then(|| Store::open(&store)) {
        Some(Err(error)) => Verdict::Bad(error.to_string()),
        Some(Ok(_)) => Verdict::Good(format!("{} holds a cluster, which is stopped", dir.display())),
        None => Verdict::Good(format!("{} can be written; no cluster is there yet", dir.display())),
    }
}
