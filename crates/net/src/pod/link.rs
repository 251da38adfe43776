//! Links, addresses and routes by rtnetlink.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::PodNetError;

/// Ethernet's usual size, when no route tells better.
const DEFAULT_MTU: u32 = 1500;

/// rtnetlink of one network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    handle: Handle,
}

fn failed(operation: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> PodNetError {
    let operation = operation.into();
    move |source| PodNetError::Link { operation, source }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

/// Turns one error code into success.
fn unless(result: Result<(), rtnetlink::Error>, code: i32) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if errno(&error) == Some(code) => Ok(()),
        other => other,
    }
}

/// A hardware address that follows from the IP address, so that neighbour tables stay right when
/// an address moves to another pod.
pub(crate) fn mac(ip: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = ip.octets();
    vec![0x0a, 0x58, a, b, c, d]
}

impl Links {
    /// Opens a socket in this thread's namespace, served by a task of the current runtime.
    pub fn open() -> Result<Self, PodNetError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(PodNetError::Netlink)?;
        tokio::spawn(connection);
        Ok(Links { handle })
    }

    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, PodNetError> {
        let found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute()
            .try_next()
            .await;
        match found {
            Err(error) if errno(&error) == Some(nix::libc::ENODEV) => Ok(None),
            other => other.map_err(failed(format!("look up network interface {name}"))),
        }
    }

    /// Index of a link.
    pub async fn index(&self, name: &str) -> Result<Option<u32>, PodNetError> {
        Ok(self.find(name).await?.map(|link| link.header.index))
    }

    /// Index of a link that must be there.
    pub async fn existing(&self, name: &str) -> Result<u32, PodNetError> {
        self.index(name)
            .await?
            .ok_or_else(|| PodNetError::NoLink(name.to_owned()))
    }

    /// Makes a bridge, or takes over the one of that name, and brings it up.
    pub async fn bridge(&self, name: &str, hardware: Vec<u8>, mtu: u32) -> Result<u32, PodNetError> {
        if let Some(link) = self.find(name).await? {
            if !is_bridge(&link) {
                return Err(PodNetError::NotABridge(name.to_owned()));
            }
            let index = link.header.index;
            self.up(index).await?;
            return Ok(index);
        }
        // A fixed hardware address: by default it changes with the ports, and pods' neighbour
        // entries for the gateway with it. No multicast snooping: its timers would wake the host.
        let bridge = LinkBridge::new(name)
            .mcast_snooping(false)
            .address(hardware)
            .mtu(mtu)
            .up();
        let made = self.handle.link().add(bridge.build()).execute().await;
        unless(made, nix::libc::EEXIST).map_err(failed(format!(
            "make bridge {name} (the kernel needs CONFIG_BRIDGE: modprobe bridge)"
        )))?;
        self.existing(name).await
    }

    pub async fn up(&self, index: u32) -> Result<(), PodNetError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(failed("bring an interface up"))
    }

    /// Makes a veth pair: `name` here, a port of `bridge`; `peer` in another namespace.
    pub async fn veth(
        &self,
        name: &str,
        bridge: u32,
        peer: &str,
        namespace: BorrowedFd<'_>,
        hardware: Vec<u8>,
        mtu: u32,
    ) -> Result<u32, PodNetError> {
        let mut far = LinkMessage::default();
        far.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        far.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        far.attributes.push(LinkAttribute::Address(hardware));
        far.attributes.push(LinkAttribute::Mtu(mtu));
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.to_owned())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .controller(bridge)
            .mtu(mtu)
            .up()
            .build();
        self.handle.link().add(message).execute().await.map_err(failed(format!(
            "make the veth pair {name} (the kernel needs CONFIG_VETH: modprobe veth)"
        )))?;
        let index = self.existing(name).await?;
        // With br_netfilter on, a packet whose new destination is a port of the same bridge is
        // bridged there at once, back to where it came from if a pod reached itself by a service.
        let port = LinkUnspec::new_with_index(index)
            .set_port_kind(InfoPortKind::Bridge)
            .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]))
            .build();
        self.handle
            .link()
            .set_port(port)
            .execute()
            .await
            .map_err(failed(format!("set hairpin mode on bridge port {name}")))?;
        Ok(index)
    }

    /// Removes a link if it is there.
    pub async fn delete(&self, name: &str) -> Result<(), PodNetError> {
        let Some(index) = self.index(name).await? else {
            return Ok(());
        };
        let gone = self.handle.link().del(index).execute().await;
        unless(gone, nix::libc::ENODEV).map_err(failed(format!("remove network interface {name}")))
    }

    /// Names of a bridge's ports.
    pub async fn ports(&self, bridge: u32) -> Result<Vec<String>, PodNetError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(failed("list network interfaces"))?;
        let port = |link: &LinkMessage| link.attributes.contains(&LinkAttribute::Controller(bridge));
        Ok(links.iter().filter(|link| port(link)).filter_map(name_of).collect())
    }

    /// Gives a link exactly these IPv4 addresses.
    pub async fn addresses(&self, index: u32, wanted: &[Ipv4Net]) -> Result<(), PodNetError> {
        let messages = self.handle.address().get().set_link_index_filter(index).execute();
        let present: Vec<_> = messages.try_collect().await.map_err(failed("list addresses"))?;
        let mut found = Vec::new();
        for message in present {
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                _ => None,
            });
            let Some(net) = local.and_then(|ip| Ipv4Net::new(ip, message.header.prefix_len).ok()) else {
                continue;
            };
            if wanted.contains(&net) {
                found.push(net);
                continue;
            }
            let gone = self.handle.address().del(message).execute().await;
            unless(gone, nix::libc::EADDRNOTAVAIL).map_err(failed(format!("remove address {net}")))?;
        }
        for net in wanted.iter().filter(|net| !found.contains(net)) {
            let (ip, prefix) = (IpAddr::V4(net.addr()), net.prefix_len());
            let added = self.handle.address().add(index, ip, prefix).execute().await;
            unless(added, nix::libc::EEXIST).map_err(failed(format!("add address {net}")))?;
        }
        Ok(())
    }

    /// Adds or replaces a route to a range by an interface, with a preferred source.
    pub async fn route(&self, to: Ipv4Net, index: u32, source: Ipv4Addr) -> Result<(), PodNetError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .output_interface(index)
            .scope(RouteScope::Link)
            .pref_source(source)
            .build();
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(failed(format!("add the route to {to}")))
    }

    /// A pod's routes: the gateway is its only neighbour, everything else goes through it.
    pub async fn pod_routes(&self, index: u32, gateway: Ipv4Addr) -> Result<(), PodNetError> {
        let neighbour = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(gateway, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(index)
            .build();
        for (what, route) in [("gateway", neighbour), ("default", default)] {
            let added = self.handle.route().add(route).replace().execute().await;
            added.map_err(failed(format!("add the pod's {what} route")))?;
        }
        Ok(())
    }

    /// The MTU of the link that the default route uses.
    pub async fn uplink_mtu(&self) -> Result<u32, PodNetError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<_> = self
            .handle
            .route()
            .get(all)
            .execute()
            .try_collect()
            .await
            .map_err(failed("list routes"))?;
        let default = routes.iter().find(|route| {
            let to_somewhere = route
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet(_))));
            route.header.destination_prefix_length == 0 && !to_somewhere
        });
        let index = default.and_then(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        });
        let Some(index) = index else { return Ok(DEFAULT_MTU) };
        let link = self.handle.link().get().match_index(index).execute().try_next().await;
        let link = link.map_err(failed("look up the uplink"))?;
        let mtu = link
            .into_iter()
            .flat_map(|link| link.attributes)
            .find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(mtu),
                _ => None,
            });
        Ok(mtu.unwrap_or(DEFAULT_MTU))
    }
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}
