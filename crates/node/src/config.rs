use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use client::{Cache, Client};
use k8s_openapi::api::core::v1::Service;
use runtime::Runtime;

use crate::machine::Machine;
use crate::thresholds::Thresholds;

/// What a node is started with.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its name in the cluster.
    pub name: String,
    /// Its addresses, the primary one first; not empty.
    pub ips: Vec<IpAddr>,
    /// The API, as `system:node:<name>`.
    pub client: Client,
    /// What runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// What the kernel is asked for.
    pub machine: Arc<dyn Machine>,
    /// Folder of this node's files; made if it is missing.
    pub data_dir: PathBuf,
    /// Addresses of the cluster's DNS; none: pods get the host's resolvers.
    pub cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
    /// The node's pod range, where nobody else assigns it.
    pub pod_cidr: Option<String>,
    /// Further labels of the Node.
    pub labels: BTreeMap<String, String>,
    /// Control group above all pods', absolute.
    pub cgroup_root: String,
    /// When the machine counts as short of memory or disk.
    pub thresholds: Thresholds,
    /// Most pods at a time.
    pub max_pods: u32,
    /// `status.nodeInfo.kubeletVersion`.
    pub version: String,
    /// The node's HTTPS API; `None`: not served.
    pub server: Option<ServerConfig>,
    /// All Services, if the process has them already.
    pub services: Option<Cache<Service>>,
}

/// Where and how the node's HTTPS API is served.
#[derive(Clone)]
pub struct ServerConfig {
    /// Address; port 0 for any.
    pub listen: SocketAddr,
    /// Serving certificate, and the authority of client certificates (optional for clients).
    pub tls: Arc<rustls::ServerConfig>,
}

impl NodeConfig {
    /// A node with skiff's defaults for everything else.
    pub fn new(
        name: impl Into<String>,
        ips: Vec<IpAddr>,
        client: Client,
        runtime: Arc<dyn Runtime>,
        machine: Arc<dyn Machine>,
        data_dir: impl Into<PathBuf>,
    ) -> NodeConfig {
        NodeConfig {
            name: name.into(),
            ips,
            client,
            runtime,
            machine,
            data_dir: data_dir.into(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            pod_cidr: None,
            labels: BTreeMap::new(),
            cgroup_root: "/skiff".into(),
            thresholds: Thresholds::default(),
            max_pods: 110,
            version: "v1.37.0".into(),
            server: None,
            services: None,
        }
    }
}
