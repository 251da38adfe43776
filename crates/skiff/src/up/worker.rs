//! This machine as a node: pod network, container runtime, kubelet, service proxy and DNS.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use apiserver::UserInfo;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use net::{NetConfig, PodNetwork, ServiceProxy};
use node::{Node, NodeConfig, NodeNetwork};
use proxy::ProxyConfig;
use runtime::{EmbeddedRuntime, RuntimeConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::control_plane::ControlPlane;
use super::progress::Progress;
use super::{pulls, service_proxy};
use crate::{host, image, transport};

/// A running node.
pub struct Worker {
    node: Node,
    dns: dns::Server,
    proxy: JoinHandle<()>,
    images: JoinHandle<()>,
}

impl Worker {
    pub async fn start(
        options: &Options,
        control_plane: &ControlPlane,
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> Result<Worker> {
        let caches = &control_plane.caches;
        let dns_ip = options.service_ip(10);

        let since = Instant::now();
        let mut net = NetConfig::new(options.pod_cidr(), options.data_dir.join("network"));
        net.service_cidr = options.service_cidr;
        net.cluster_cidr = options.cluster_cidr;
        net.dns_ip = Some(dns_ip);
        let network = PodNetwork::open(net)
            .await
            .context("set up the pod network (`skiff doctor` checks the host)")?;
        let service_proxy =
            ServiceProxy::start("skiff-proxy").context("open nf_tables (`skiff doctor` checks the host)")?;
        let proxy = ProxyConfig {
            node_ips: vec![control_plane.address],
            cluster_cidrs: vec![options.cluster_cidr.into()],
            service_cidrs: vec![options.service_cidr.into()],
            local_addresses: vec![IpAddr::V4(dns_ip)],
            ..ProxyConfig::new(&options.node_name)
        };
        let services = caches.get::<Service>();
        let slices = caches.get::<EndpointSlice>();
        let proxy = tokio::spawn(service_proxy::run(
            service_proxy,
            proxy,
            services.clone(),
            slices.clone(),
            shutdown.clone(),
        ));
        let zone = dns::follow(services.clone(), slices, caches.get::<Namespace>(), shutdown.clone());
        let mut resolver = dns::ServerConfig::new(IpAddr::V4(dns_ip), &options.cluster_domain);
        resolver.upstream = dns::Upstream::ResolvConf(options.resolv_conf.clone());
        let dns = dns::Server::start(resolver, zone).context("start the cluster's DNS server")?;
        progress.done("network, proxy and DNS", since);

        let since = Instant::now();
        let folder = options.data_dir.join("runtime");
        let mut config = RuntimeConfig::new(folder, host::PROGRAM, Arc::new(NodeNetwork(network)));
        config.pull_observer = Some(pulls::observer());
        let runtime = EmbeddedRuntime::open(config)
            .await
            .context("open the container runtime")?;
        runtime
            .ensure_hello_image(Path::new(host::PROGRAM))
            .await
            .context("make the image skiff.local/hello")?;
        let images = tokio::spawn({
            let (runtime, data_dir, stop) = (runtime.clone(), options.data_dir.clone(), shutdown.clone());
            async move {
                if let Err(error) = image::serve(runtime, &data_dir, stop).await {
                    tracing::error!(%error, "`skiff image` cannot reach this process");
                }
            }
        });
        progress.done("container runtime", since);

        let since = Instant::now();
        let client = transport::client(&control_plane.server, UserInfo::node(&options.node_name));
        let mut config = NodeConfig::new(
            &options.node_name,
            vec![control_plane.address],
            client,
            Arc::new(runtime),
            Arc::new(node::machine::Linux),
            options.data_dir.join("node"),
        );
        config.cluster_dns = vec![IpAddr::V4(dns_ip)];
        config.cluster_domain = options.cluster_domain.clone();
        config.resolv_conf.clone_from(&options.resolv_conf);
        config.thresholds = options.eviction_hard.clone();
        config.pod_cidr = Some(options.pod_cidr().to_string());
        config.services = Some(services);
        let pki = &control_plane.pki;
        config.server = Some(node::ServerConfig {
            listen: SocketAddr::new(options.bind_address, options.kubelet_port),
            tls: pki::server_config(&pki.kubelet_server, &pki.ca_pem)?,
        });
        let node = Node::start(config, shutdown.clone()).await.context("start the node")?;
        progress.done("node", since);
        Ok(Worker {
            node,
            dns,
            proxy,
            images,
        })
    }

    /// Waits for the end after the shutdown; pods go on.
    pub async fn stop(self) {
        self.node.stop().await;
        self.dns.shutdown().await;
        let _ = self.proxy.await;
        let _ = self.images.await;
    }
}
