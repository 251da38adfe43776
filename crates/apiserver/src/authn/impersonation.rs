//! Acting as somebody else (`endpoints/filters/impersonation.go`): each name, group, uid and
//! extra has to be allowed.

use api::Status;
use http::HeaderMap;

use crate::authz::{self, Attributes};
use crate::request::percent_decode;
use crate::state::State;
use crate::user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

fn values<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect()
}

/// The user the request is to be taken as, if not the one who sends it.
///
/// # Errors
/// 403 if that is not allowed, 500 (as upstream) if there is no user name.
pub(crate) async fn impersonate(
    state: &State,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    let name = values(headers, USER).first().copied().unwrap_or("").to_owned();
    let groups = values(headers, GROUP);
    let uid = values(headers, UID).first().copied().unwrap_or("").to_owned();
    let extras: Vec<(String, &str)> = headers
        .iter()
        .filter_map(|(header, value)| {
            let key = header.as_str().strip_prefix(EXTRA)?;
            Some((percent_decode(key), value.to_str().ok()?))
        })
        .collect();
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extras.is_empty() {
            return Ok(None);
        }
        return Err(Status::internal("requested impersonation without impersonating a user"));
    }
    let mut acting = UserInfo {
        name: name.clone(),
        uid,
        ..UserInfo::default()
    };
    let base = Attributes {
        user: user.clone(),
        verb: "impersonate".to_owned(),
        is_resource: true,
        ..Attributes::default()
    };
    let account = acting.as_service_account().map(|(ns, n)| (ns.to_owned(), n.to_owned()));
    if let Some((namespace, account)) = account {
        let resource = "serviceaccounts".to_owned();
        let name = account.clone();
        let wanted = Attributes {
            resource,
            name,
            namespace: namespace.clone(),
            ..base.clone()
        };
        authz::require(state, &wanted).await?;
        if groups.is_empty() {
            acting.groups = vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ];
        }
    } else {
        let wanted = Attributes {
            resource: "users".to_owned(),
            name,
            ..base.clone()
        };
        authz::require(state, &wanted).await?;
    }
    for group in groups {
        let (resource, name) = ("groups".to_owned(), group.to_owned());
        authz::require(
            state,
            &Attributes {
                resource,
                name,
                ..base.clone()
            },
        )
        .await?;
        acting.groups.push(group.to_owned());
    }
    let base = Attributes {
        group: "authentication.k8s.io".to_owned(),
        version: "v1".to_owned(),
        ..base
    };
    for (key, value) in extras {
        let wanted = Attributes {
            resource: "userextras".to_owned(),
            subresource: key.clone(),
            name: value.to_owned(),
            ..base.clone()
        };
        authz::require(state, &wanted).await?;
        acting.extra.entry(key).or_default().push(value.to_owned());
    }
    if !acting.uid.is_empty() {
        let (resource, name) = ("uids".to_owned(), acting.uid.clone());
        authz::require(state, &Attributes { resource, name, ..base }).await?;
    }
    add_standing_group(&mut acting);
    Ok(Some(acting))
}

fn add_standing_group(user: &mut UserInfo) {
    let (add, unless): (&str, &[&str]) = if user.name == ANONYMOUS {
        (ALL_UNAUTHENTICATED, &[ALL_UNAUTHENTICATED])
    } else {
        (ALL_AUTHENTICATED, &[ALL_AUTHENTICATED, ALL_UNAUTHENTICATED])
    };
    if !unless.iter().any(|group| user.in_group(group)) {
        user.groups.push(add.to_owned());
    }
}
