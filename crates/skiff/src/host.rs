//! What is asked of this machine: its name and addresses.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// This very program, also when the file that it was started from has been replaced or removed since.
pub const PROGRAM: &str = "/proc/self/exe";

/// The host's name in lower case, as a node is named by default.
pub fn name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
        .to_lowercase()
}

/// The address that this machine uses towards others: that of its default route, else the first one
/// that is not a loopback's. `None` on a machine without any.
pub fn address() -> Option<IpAddr> {
    by_route().or_else(by_interface)
}

/// Asks the routing table, without sending anything.
fn by_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address of the documentation range: only the route to it is looked up.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

fn by_interface() -> Option<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().ok()?;
    interfaces
        .filter(|interface| !interface.interface_name.starts_with("skiff"))
        .filter_map(|interface| interface.address?.as_sockaddr_in().map(|address| address.ip()))
        .find(|address| !address.is_loopback() && !address.is_link_local())
        .map(IpAddr::V4)
}
