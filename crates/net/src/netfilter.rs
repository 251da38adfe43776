//! nf_tables and conntrack over NETLINK_NETFILTER.

mod applier;
mod attribute;
mod batch;
mod conntrack;
mod expression;
mod key;
mod readback;
mod socket;

use std::io;

pub use applier::{Applier, ServiceProxy};
pub use conntrack::UdpCleanup;

pub(crate) use applier::remove_tables;

/// Why the kernel's packet filter could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NetfilterError {
    /// No netlink socket.
    #[error(
        "cannot open a netfilter netlink socket: the kernel needs CONFIG_NF_TABLES and \
         CONFIG_NF_CONNTRACK (modprobe nf_tables nf_conntrack), and skiff must run as root"
    )]
    Open(#[source] io::Error),
    /// A request could not be sent.
    #[error("cannot send to the kernel's netfilter")]
    Send(#[source] io::Error),
    /// An answer could not be read.
    #[error("cannot read the answer of the kernel's netfilter")]
    Receive(#[source] io::Error),
    /// The kernel refused an operation; nothing of its batch was done.
    #[error("the kernel refused to {operation}{detail}; {hint}")]
    Refused {
        /// What was asked.
        operation: String,
        /// The kernel's own words, when it has some.
        detail: String,
        /// What it probably lacks.
        hint: &'static str,
        /// The error code.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to list something.
    #[error("the kernel refused to list its {what}")]
    Dump {
        /// What was asked for.
        what: &'static str,
        /// The error code.
        #[source]
        source: io::Error,
    },
    /// The thread that owns the rules could not be started.
    #[error("cannot start the thread that owns the packet filter rules")]
    Thread(#[source] io::Error),
    /// The owner of the rules has been shut down.
    #[error("the owner of the packet filter rules has been shut down")]
    Stopped,
}
