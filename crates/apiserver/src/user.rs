//! Who makes a request.

use std::collections::BTreeMap;

/// The group whose members may do everything (`SystemPrivilegedGroup` upstream).
pub const SYSTEM_MASTERS: &str = "system:masters";
/// The group of every authenticated user.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of requests that carry no credentials.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of requests that carry no credentials.
pub const ANONYMOUS: &str = "system:anonymous";

/// An authenticated identity (upstream `user.Info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The user name, unique in the cluster.
    pub name: String,
    /// An identifier that outlives a reuse of the name; may be empty.
    pub uid: String,
    /// The groups, `system:authenticated` among them once authentication is done.
    pub groups: Vec<String>,
    /// What else the authenticator knows, e.g. the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user of that name, member of `groups` and of `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        if !groups.iter().any(|g| g == ALL_AUTHENTICATED) {
            groups.push(ALL_AUTHENTICATED.to_owned());
        }
        UserInfo {
            name: name.into(),
            groups,
            ..UserInfo::default()
        }
    }

    /// The user of a service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        UserInfo::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        )
    }

    /// The user of the node agent of `node`.
    pub fn node(node: &str) -> Self {
        UserInfo::new(format!("system:node:{node}"), &["system:nodes"])
    }

    /// The API server's own identity, for what it does on its own behalf.
    pub fn api_server() -> Self {
        UserInfo::new("system:apiserver", &[SYSTEM_MASTERS])
    }

    /// Who asks without credentials.
    pub fn anonymous() -> Self {
        UserInfo {
            name: ANONYMOUS.to_owned(),
            groups: vec![ALL_UNAUTHENTICATED.to_owned()],
            ..UserInfo::default()
        }
    }

    /// Whether the user is a member of `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node name, if this is a node agent's identity (`system:node:NAME` in `system:nodes`).
    pub fn as_node(&self) -> Option<&str> {
        self.name
            .strip_prefix("system:node:")
            .filter(|_| self.in_group("system:nodes"))
    }

    /// The (namespace, name) of the service account, if this is one.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}
