//! Authorization: superusers, node agents, RBAC; in this order, the first that allows decides.

mod covers;
mod node;
mod rbac;
mod rule;

use api::{GroupResource, Status};

pub(crate) use covers::missing_rules;
pub(crate) use rbac::{Rbac, RoleRef};
pub(crate) use rule::Rule;

use crate::request::RequestInfo;
use crate::state::State;
use crate::user::{SYSTEM_MASTERS, UserInfo};

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub user: UserInfo,
    pub verb: String,
    /// Whether it is about a resource; otherwise about `path`.
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
}

/// Whether it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow(String),
    /// Nobody allows it; why, if anyone knows.
    NoOpinion(String),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }
}

impl Attributes {
    /// What a request wants.
    pub fn of(info: &RequestInfo, user: &UserInfo) -> Attributes {
        Attributes {
            user: user.clone(),
            verb: info.verb.clone(),
            is_resource: info.is_resource,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
        }
    }

    /// `pods` or `pods/log`.
    pub fn combined_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// 403 in upstream's words (`responsewriters/errors.go`).
    pub fn forbidden(&self, reason: &str) -> Status {
        let quote = api::field::go_quote;
        let user = quote(&self.user.name);
        let message = if !self.is_resource {
            format!("User {user} cannot {} path {}", self.verb, quote(&self.path))
        } else {
            let what = format!(
                "User {user} cannot {} resource {} in API group {}",
                self.verb,
                quote(&self.combined_resource()),
                quote(&self.group)
            );
            if self.namespace.is_empty() {
                format!("{what} at the cluster scope")
            } else {
                format!("{what} in the namespace {}", quote(&self.namespace))
            }
        };
        let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let why = if reason.is_empty() {
            message
        } else {
            format!("{message}: {reason}")
        };
        Status::forbidden(&GroupResource::new(&*self.group, &*self.resource), &self.name, why)
    }
}

/// Decides.
pub(crate) async fn authorize(state: &State, attributes: &Attributes) -> Decision {
    if attributes.user.in_group(SYSTEM_MASTERS) {
        return Decision::Allow(String::new());
    }
    let mut reasons = Vec::new();
    for fresh in [false, true] {
        state.rbac.follow(state, fresh).await;
        reasons.clear();
        match node::authorize(state, attributes).await {
            Decision::NoOpinion(reason) => reasons.push(reason),
            allow => return allow,
        }
        match state.rbac.authorize(attributes) {
            Decision::NoOpinion(reason) => reasons.push(reason),
            allow => return allow,
        }
    }
    reasons.retain(|reason| !reason.is_empty());
    Decision::NoOpinion(reasons.join("\n"))
}

/// Lets the request pass, or says why not.
///
/// # Errors
/// 403.
pub(crate) async fn require(state: &State, attributes: &Attributes) -> Result<(), Status> {
    match authorize(state, attributes).await {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
    }
}
