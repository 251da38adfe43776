//! What a certificate says of its holder.

use std::net::IpAddr;

/// Names and addresses that a serving certificate is good for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AltNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

/// Which end of a connection a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Proves a server to its clients.
    Server,
    /// Proves a client: common name is the user, organizations are the groups.
    Client,
}

/// The holder of a certificate.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Common name.
    pub common_name: String,
    /// Organizations: an API client's groups.
    pub organizations: Vec<String>,
    /// Serving names; empty for clients.
    pub alt_names: AltNames,
    /// Extended key usage.
    pub usage: Usage,
}

impl Subject {
    /// A serving certificate.
    #[must_use]
    pub fn server(common_name: &str, alt_names: AltNames) -> Subject {
        Subject {
            common_name: common_name.into(),
            organizations: Vec::new(),
            alt_names,
            usage: Usage::Server,
        }
    }

    /// A client certificate for `user` in `groups`.
    #[must_use]
    pub fn client(user: &str, groups: &[&str]) -> Subject {
        Subject {
            common_name: user.into(),
            organizations: Vec::new(),
            alt_names: AltNames::default(),
            usage: Usage::Client,
        }
        .in_groups(groups)
    }

    /// The same subject with these organizations.
    #[must_use]
    pub fn in_groups(mut self, groups: &[&str]) -> Subject {
        self.organizations = groups.iter().map(|group| (*group).into()).collect();
        self
    }
}
