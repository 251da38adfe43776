//! `skiff up`: everything on this machine, in the foreground.
//!
//! Order: certificates, store, API server, bootstrap objects, then controllers and the worker side by
//! side; ready when the node is. A signal ends everything in the opposite order; pods go on running
//! under their shims, so that the next `up` finds them.

mod api_options;
mod bootstrap;
mod control_plane;
mod identity;
mod keys;
mod kubeconfig;
mod local_volumes;
mod progress;
mod pulls;
mod readiness;
mod service_proxy;
mod worker;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use apiserver::UserInfo;
use ipnet::Ipv4Net;
use k8s_openapi::jiff::Timestamp;
use node::hollow::Hollow;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::claim::{self, Claim};
use crate::{host, logs, options, transport};
use control_plane::ControlPlane;
use progress::Progress;
pub use readiness::nodes_ready;

/// Longest wait for the node; pods' images are not among what is waited for.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of `skiff up`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory of everything that is kept
    #[arg(long, env = "SKIFF_DATA_DIR", default_value_os_t = options::default_data_dir())]
    pub data_dir: PathBuf,
    /// Address on which the API server listens
    #[arg(long, env = "SKIFF_BIND_ADDRESS", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Port of the API server
    #[arg(long, env = "SKIFF_SECURE_PORT", default_value_t = 6443)]
    pub secure_port: u16,
    /// Name of this machine's node
    #[arg(long, env = "SKIFF_NODE_NAME", default_value_t = host::name())]
    pub node_name: String,
    /// Address of this machine's node; else that of the default route
    #[arg(long, env = "SKIFF_NODE_IP")]
    pub node_ip: Option<IpAddr>,
    /// Range of the Services' addresses
    #[arg(long, env = "SKIFF_SERVICE_CIDR", default_value = "10.96.0.0/12")]
    pub service_cidr: Ipv4Net,
    /// Range of the pods' addresses; this node takes its first /24
    #[arg(long, env = "SKIFF_CLUSTER_CIDR", default_value = "10.244.0.0/16")]
    pub cluster_cidr: Ipv4Net,
    /// Domain of the cluster's names
    #[arg(long, env = "SKIFF_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Where outside names are asked: a file as /etc/resolv.conf
    #[arg(long, env = "SKIFF_RESOLV_CONF", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Port of the node's own API
    #[arg(long, env = "SKIFF_KUBELET_PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
    /// When the node counts as short of memory or disk, as for the kubelet: `memory.available<100Mi,nodefs.available<10%`
    #[arg(long, env = "SKIFF_EVICTION_HARD", default_value = "")]
    pub eviction_hard: node::Thresholds,
    /// So many simulated nodes instead of this machine; needs no root
    #[arg(long, env = "SKIFF_HOLLOW_NODES", default_value_t = 0)]
    pub hollow_nodes: usize,
    /// No node at all: controllers and scheduler with nodes that others make. For measurements
    #[arg(long, hide = true)]
    pub no_node: bool,
    /// Controllers to run: `*` is all, `foo` one, `-foo` all but one; what comes first wins
    #[arg(
        long,
        env = "SKIFF_CONTROLLERS",
        value_delimiter = ',',
        default_value = "*,bootstrap-signer-controller,token-cleaner-controller",
        allow_hyphen_values = true
    )]
    pub controllers: Vec<String>,
    /// Admission plugins that run beside those that are on by default
    #[arg(
        long,
        env = "SKIFF_ENABLE_ADMISSION_PLUGINS",
        value_delimiter = ',',
        default_value = "NodeRestriction"
    )]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins that do not run
    #[arg(long, env = "SKIFF_DISABLE_ADMISSION_PLUGINS", value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// File with an AdmissionConfiguration: settings of single plugins
    #[arg(long, env = "SKIFF_ADMISSION_CONTROL_CONFIG_FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    #[command(flatten)]
    pub api: api_options::ApiOptions,
    /// What is logged to standard error, as `tracing` filters it
    #[arg(long, env = "SKIFF_LOG", default_value = "warn")]
    pub log: String,
}

impl Options {
    fn service_ip(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + index)
    }

    /// Whether containers run on this machine.
    fn needs_host(&self) -> bool {
        self.hollow_nodes == 0 && !self.api.api_only && !self.no_node
    }

    /// The first /24 of the pods' range, or all of a smaller one.
    fn pod_cidr(&self) -> Ipv4Net {
        let prefix = self.cluster_cidr.prefix_len().max(24);
        Ipv4Net::new(self.cluster_cidr.network(), prefix).unwrap_or(self.cluster_cidr)
    }

    /// What controllers have to know of the network. Nodes that are simulated need no ranges for their pods.
    fn network(&self) -> controllers::Network {
        let range = |net: Ipv4Net| net.to_string().parse().expect("a network's own text names it");
        let pods = (range(self.cluster_cidr), self.cluster_cidr.prefix_len().max(24));
        controllers::Network {
            pods: if self.hollow_nodes == 0 { vec![pods] } else { Vec::new() },
            services: vec![range(self.service_cidr)],
            node_ports_in_use: vec![self.secure_port, self.kubelet_port],
        }
    }

    /// This machine's address; the pods' gateway on a machine without one.
    fn address(&self) -> IpAddr {
        let gateway = || Ipv4Addr::from(u32::from(self.pod_cidr().network()) + 1);
        self.node_ip
            .or_else(host::address)
            .unwrap_or_else(|| IpAddr::V4(gateway()))
    }
}

/// Runs until a signal.
pub fn run(options: Options) -> Result<()> {
    let progress = Progress::begin();
    logs::start(&options.log)?;
    if options.needs_host() && !nix::unistd::geteuid().is_root() {
        bail!(
            "containers need root: run this as root, or try `skiff up --hollow-nodes 1` for a control plane with a simulated node"
        );
    }
    let mut options = options;
    options.data_dir = make_data_dir(&options.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)))
        .enable_all()
        .build()?;
    let result = runtime.block_on(up(options, progress));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Makes it; answers its real path, which shims and mounts are known by.
fn make_data_dir(dir: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let what = || format!("make the data directory {} (--data-dir chooses another)", dir.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(what)?;
    std::fs::canonicalize(dir).with_context(what)
}

async fn up(options: Options, progress: Progress) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let running = start(&options, &progress, &shutdown);
    tokio::pin!(running);
    let running = tokio::select! {
        running = &mut running => running?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Progress::line("stopping; pods go on running (`skiff reset` removes everything)");
    let stopping = Instant::now();
    let stopped = async {
        running.stop(&shutdown).await;
        progress.done("stopped", stopping);
    };
    tokio::select! {
        () = stopped => {}
        // A second signal is an order.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What has to be stopped again.
struct Running {
    /// Until everything else has ended.
    _claim: Option<Claim>,
    control_plane: ControlPlane,
    worker: Option<worker::Worker>,
    hollow: Option<Hollow>,
}

impl Running {
    async fn stop(self, shutdown: &CancellationToken) {
        shutdown.cancel();
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
        if let Some(hollow) = self.hollow {
            hollow.stopped().await;
        }
        self.control_plane.stop().await;
    }
}

async fn start(options: &Options, progress: &Progress, shutdown: &CancellationToken) -> Result<Running> {
    let started = Timestamp::now();
    let claim = match options.needs_host() {
        true => Some(claim::take(&options.data_dir)?),
        false => None,
    };
    let control_plane = ControlPlane::start(options, progress, shutdown).await?;
    let (mut worker, mut hollow) = (None, None);
    let client = transport::client(&control_plane.server, UserInfo::api_server());
    let mut nodes = vec![options.node_name.clone()];
    if options.api.api_only || options.no_node {
        nodes.clear();
    } else if options.hollow_nodes > 0 {
        let simulated = Hollow::start(client.clone(), options.hollow_nodes, shutdown.clone());
        nodes = simulated.names().to_vec();
        hollow = Some(simulated);
    } else {
        worker = Some(worker::Worker::start(options, &control_plane, progress, shutdown).await?);
    }
    let waiting = Instant::now();
    let ready = readiness::nodes_ready(&client, &nodes, started);
    match tokio::time::timeout(READY_TIMEOUT, ready).await {
        Ok(result) => result?,
        Err(_) => bail!(
            "not all nodes became ready within {} s; `skiff doctor` may tell why, and --log=info shows more",
            READY_TIMEOUT.as_secs()
        ),
    }
    progress.done("nodes ready", waiting);
    Progress::line(&format!("ready in {} ms", progress.total().as_millis()));
    Progress::line(&format!("  API         {}", control_plane.url));
    Progress::line(&format!("  kubeconfig  {}", control_plane.kubeconfig.display()));
    Progress::line(&format!(
        "try:\n  export KUBECONFIG={}\n  kubectl create deployment hello --image=skiff.local/hello --replicas=2   # or: skiff kubectl get nodes",
        control_plane.kubeconfig.display()
    ));
    Ok(Running {
        _claim: claim,
        control_plane,
        worker,
        hollow,
    })
}

/// The API server's address as this machine uses it.
fn local_url(bind: IpAddr, port: u16) -> String {
    let host = if bind.is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        bind
    };
    format!("https://{}", SocketAddr::new(host, port))
}
