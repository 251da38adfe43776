//! The pod network of a node.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ipnet::Ipv4Net;
use tracing::{debug, info};

use super::cleanup::Record;
use super::lease::Leases;
use super::link::{Links, mac};
use super::netns::within;
use super::{HostPort, NetConfig, PodNetError, rules, sysctl};
use crate::netfilter::Applier;

const POD_INTERFACE: &str = "eth0";
/// Settings of the whole namespace that are put back by `cleanup`. Redirects are off because pods
/// reach each other through the bridge they came from: a hint per packet would also use up the
/// sender's allowance of ICMP errors, so that a refusal would not be told.
const HOST_SETTINGS: [(&str, &str); 2] = [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/send_redirects", "0")];

/// The bridge, its pods and their rules.
///
/// Every operation can be repeated: `setup` of a sandbox that is set up gives the same address on a
/// fresh interface, `teardown` of an unknown one does nothing. What a crash leaves behind is removed
/// by [`reconcile`](Self::reconcile).
#[derive(Debug)]
pub struct PodNetwork {
    cfg: NetConfig,
    links: Links,
    bridge: u32,
    mtu: u32,
    /// A std mutex: held for a few small file operations, never across an await.
    leases: Mutex<Leases>,
    /// Sandboxes that this process has set up, or is setting up, and was not asked to tear down: a
    /// list of live ones may be older than they are. Held as briefly.
    own: Mutex<BTreeSet<String>>,
    rules: Applier,
    /// Orders rule updates, so that an older set of leases is never written over a newer one.
    publishing: tokio::sync::Mutex<()>,
}

impl PodNetwork {
    /// Makes the bridge with its addresses and routes, or takes over what an earlier run left, and
    /// writes the rules. Must run in the node's network namespace, inside a tokio runtime.
    pub async fn open(cfg: NetConfig) -> Result<Self, PodNetError> {
        check(&cfg)?;
        fs::create_dir_all(&cfg.state_dir).map_err(|source| PodNetError::State {
            path: cfg.state_dir.clone(),
            source,
        })?;
        let leases = Leases::open(&cfg.state_dir, cfg.pod_cidr.trunc())?;
        Record::write(&cfg, HOST_SETTINGS.map(|(path, _)| path))?;
        let links = Links::open()?;
        let mtu = links.uplink_mtu().await?;
        let gateway = cfg.gateway();
        let bridge = links.bridge(&cfg.bridge_name, mac(gateway), mtu).await?;
        let mut addresses = vec![host_net(gateway, cfg.pod_cidr.prefix_len())];
        addresses.extend(cfg.dns_ip.map(|ip| host_net(ip, 32)));
        links.addresses(bridge, &addresses).await?;
        links.route(cfg.service_cidr.trunc(), bridge, gateway).await?;
        for (path, value) in HOST_SETTINGS {
            sysctl::set(path, value)?;
        }
        // route_localnet lets node ports and host ports answer on 127.0.0.1; rules.rs guards it.
        for (name, value) in [("route_localnet", "1"), ("send_redirects", "0")] {
            sysctl::set(&format!("net/ipv4/conf/{}/{name}", cfg.bridge_name), value)?;
        }
        let rules = Applier::start("skiff-pod-rules")?;
        let network = PodNetwork {
            cfg,
            links,
            bridge,
            mtu,
            leases: Mutex::new(leases),
            own: Mutex::default(),
            rules,
            publishing: tokio::sync::Mutex::new(()),
        };
        network.publish().await?;
        info!(bridge = network.cfg.bridge_name, range = %network.cfg.pod_cidr, "pod network ready");
        Ok(network)
    }

    /// The configuration it was opened with.
    pub fn config(&self) -> &NetConfig {
        &self.cfg
    }

    /// Gives a sandbox an address and connects its network namespace: `eth0` with a default route,
    /// `lo` up, host ports open.
    pub async fn setup(&self, sandbox: &str, namespace: &Path, ports: &[HostPort]) -> Result<Ipv4Addr, PodNetError> {
        let file = File::open(namespace).map_err(|source| PodNetError::Namespace {
            path: namespace.to_owned(),
            source,
        })?;
        self.own().insert(sandbox.to_owned());
        let address = match self.locked(|leases| leases.take(sandbox, ports)) {
            Ok(lease) => lease.address,
            Err(error) => {
                self.own().remove(sandbox);
                return Err(error);
            }
        };
        match self.connect(sandbox, address, namespace, file).await {
            Ok(()) => {}
            Err(error) => {
                // The caller may never come back: nothing is kept for a sandbox without a network.
                self.own().remove(sandbox);
                let _ = self.links.delete(&self.veth_name(sandbox)).await;
                let _ = self.locked(|leases| leases.release(sandbox));
                return Err(error);
            }
        }
        if !ports.is_empty() {
            self.publish().await?;
        }
        debug!(sandbox, %address, "sandbox connected");
        Ok(address)
    }

    async fn connect(&self, sandbox: &str, address: Ipv4Addr, path: &Path, namespace: File) -> Result<(), PodNetError> {
        let name = self.veth_name(sandbox);
        // One may be left from an attempt that was cut short.
        self.links.delete(&name).await?;
        self.links
            .veth(
                &name,
                self.bridge,
                POD_INTERFACE,
                namespace.as_fd(),
                mac(address),
                self.mtu,
            )
            .await?;
        let gateway = self.cfg.gateway();
        within(path, namespace, move || configure(address, gateway)).await
    }

    /// The address of a sandbox.
    pub fn address(&self, sandbox: &str) -> Option<Ipv4Addr> {
        self.leases
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .get(sandbox)
            .map(|lease| lease.address)
    }

    /// Removes a sandbox's interface, host ports and lease.
    pub async fn teardown(&self, sandbox: &str) -> Result<(), PodNetError> {
        self.own().remove(sandbox);
        self.links.delete(&self.veth_name(sandbox)).await?;
        // The address is given back last: only when nothing of this sandbox can use it any more.
        if self.locked(|leases| leases.close_ports(sandbox))? {
            self.publish().await?;
        }
        self.locked(|leases| leases.release(sandbox))?;
        Ok(())
    }

    /// Removes what belongs to no live sandbox: leases, their ports, and interfaces on the bridge.
    /// Sandboxes set up by this process count as live until they are torn down.
    pub async fn reconcile(&self, live: &BTreeSet<String>) -> Result<(), PodNetError> {
        let live: BTreeSet<String> = live.union(&self.own()).cloned().collect();
        let dead: Vec<String> = {
            let leases = self.leases.lock().unwrap_or_else(|e| e.into_inner());
            let dead = leases.iter().filter(|lease| !live.contains(&lease.sandbox));
            // One that came since is not dead.
            let own = self.own();
            let dead = dead.filter(|lease| !own.contains(&lease.sandbox));
            dead.map(|lease| lease.sandbox.clone()).collect()
        };
        for sandbox in &dead {
            self.teardown(sandbox).await?;
        }
        for port in self.links.ports(self.bridge).await? {
            let of = |id: &String| self.veth_name(id) == port;
            let wanted = live.iter().any(of) || self.own().iter().any(of);
            if !wanted {
                self.links.delete(&port).await?;
            }
        }
        if !dead.is_empty() {
            info!(removed = dead.len(), "network of dead sandboxes removed");
        }
        Ok(())
    }

    /// Ends the tasks and threads. Bridge, rules and pods stay.
    pub fn shutdown(self) {
        self.rules.shutdown();
    }

    fn own(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.own.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Leases) -> Result<T, PodNetError>) -> Result<T, PodNetError> {
        // A panic elsewhere leaves the leases whole: each change is one insertion or removal.
        work(&mut self.leases.lock().unwrap_or_else(|e| e.into_inner()))
    }

    async fn publish(&self) -> Result<(), PodNetError> {
        let _order = self.publishing.lock().await;
        let ruleset = {
            let leases = self.leases.lock().unwrap_or_else(|e| e.into_inner());
            rules::ruleset(&self.cfg, leases.iter())
        };
        self.rules.apply(Arc::new(ruleset)).await?;
        Ok(())
    }

    /// At most 15 bytes, the same for the same sandbox.
    fn veth_name(&self, sandbox: &str) -> String {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.cfg.bridge_name.bytes().chain([0]).chain(sandbox.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("skiff{:010x}", hash >> 24)
    }
}

fn host_net(ip: Ipv4Addr, prefix: u8) -> Ipv4Net {
    Ipv4Net::new(ip, prefix).expect("prefix lengths come from valid ranges")
}

fn check(cfg: &NetConfig) -> Result<(), PodNetError> {
    if cfg.bridge_name.is_empty() || cfg.bridge_name.len() > 15 || cfg.bridge_name.contains('/') {
        return Err(PodNetError::Config(
            "the bridge name must have 1 to 15 bytes and no slash",
        ));
    }
    if cfg.pod_cidr.prefix_len() > 29 {
        return Err(PodNetError::Config("the pod range must be /29 or larger"));
    }
    Ok(())
}

/// Inside the pod's namespace.
async fn configure(address: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), PodNetError> {
    let links = Links::open()?;
    // Traffic to pods of this node leaves by the interface it came from; the host's hints to
    // shorten that way (which is closed) must not be believed.
    for interface in ["all", "default", POD_INTERFACE] {
        sysctl::set(&format!("net/ipv4/conf/{interface}/accept_redirects"), "0")?;
    }
    links.up(links.existing("lo").await?).await?;
    let index = links.existing(POD_INTERFACE).await?;
    links.addresses(index, &[host_net(address, 32)]).await?;
    links.up(index).await?;
    links.pod_routes(index, gateway).await
}
