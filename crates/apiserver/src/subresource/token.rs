//! `serviceaccounts/token`: issues a token, bound to an object if wanted
//! (`pkg/registry/core/serviceaccount/storage/token.go`).

use api::field::{Error, Path};
use api::{GroupResource, Gvk, Status, Value, meta};
use serde_json::json;

use crate::authn::token_keys::{Claims, Private, Reference};
use crate::call::Call;
use crate::kind::value_at;
use crate::resource::Resource;
use crate::respond::Answer;
use crate::state::State;
use crate::verbs::get;

const GROUP: &str = "authentication.k8s.io";
/// The audit annotation with the id of the token.
const ISSUED: &str = "authentication.kubernetes.io/issued-credential-id";
const DEFAULT_SECONDS: i64 = 3600;
const SHORTEST_SECONDS: i64 = 600;
/// The lifetime node agents ask for; such tokens live a year, and only warn before
/// (`WarnOnlyBoundTokenExpirationSeconds`).
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// Issues a token.
///
/// # Errors
/// 404, 409 or 422 if account or bound object are not as the request says.
pub(super) async fn issue(
    state: &State,
    call: &Call,
    accounts: &Resource,
    mut request: Value,
) -> Result<Answer, Status> {
    let Some(keys) = &state.tokens else {
        return Err(Status::service_unavailable("no service-account keys are configured"));
    };
    let gvk = Gvk::new(GROUP, "v1", "TokenRequest");
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    check_name(&request, &namespace, &name)?;
    let entry = get::find(call, accounts).await?;
    let account = accounts.value(&entry);
    let mut audiences: Vec<String> = value_at(&request, "spec.audiences")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    if audiences.is_empty() {
        audiences.clone_from(&keys.config.audiences);
    }
    let asked = value_at(&request, "spec.expirationSeconds").and_then(Value::as_i64);
    let seconds = asked.unwrap_or(DEFAULT_SECONDS);
    check_lifetime(seconds)?;
    let mut private = Private {
        namespace: namespace.clone(),
        serviceaccount: Reference {
            name: name.clone(),
            uid: meta::uid(&account).to_owned(),
        },
        ..Private::default()
    };
    bind(state, &request, &namespace, &name, &mut private).await?;
    only_for_own_pods(call, &private)?;
    let now = call.now.as_second();
    let for_us = audiences
        .iter()
        .all(|audience| keys.config.audiences.contains(audience));
    let mut lifetime = seconds;
    if private.pod.is_some() && seconds == WARN_ONLY_SECONDS && for_us {
        private.warnafter = Some(now + seconds);
        lifetime = EXTENDED_SECONDS;
    }
    let claims = Claims {
        aud: audiences.clone(),
        exp: now + lifetime,
        iat: now,
        iss: keys.config.issuer.clone(),
        jti: uuid::Uuid::new_v4().to_string(),
        private,
        nbf: now,
        sub: format!("system:serviceaccount:{namespace}:{name}"),
    };
    let token = keys.sign(&claims).map_err(Status::internal)?;
    call.annotations.add(ISSUED, format!("JTI={}", claims.jti));
    let expires = jiff::Timestamp::from_second(now + seconds).map_err(Status::internal)?;
    meta::set_name(&mut request, &name);
    meta::set_namespace(&mut request, &namespace);
    meta::set_creation_timestamp(&mut request, Some(call.now));
    request["spec"]["audiences"] = audiences.into();
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({
        "token": token,
        "expirationTimestamp": api::time::format(expires),
    });
    super::answer(call, 201, &gvk, request)
}

/// A node agent gets tokens only for the pods that run on its node.
fn only_for_own_pods(call: &Call, private: &Private) -> Result<(), Status> {
    let Some(node) = call.user.as_node() else { return Ok(()) };
    let gr = GroupResource::new("", "serviceaccounts");
    if private.pod.is_none() {
        let why = "node requested token not bound to a pod";
        return Err(Status::forbidden(&gr, &call.info.name, why));
    }
    if private.node.as_ref().is_none_or(|bound| bound.name != node) {
        let why = "node requested token bound to a pod scheduled on a different node";
        return Err(Status::forbidden(&gr, &call.info.name, why));
    }
    Ok(())
}

/// Name and namespace are the account's, if they are given.
fn check_name(request: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let metadata = Path::new("metadata");
    for (field, asked, own) in [
        ("name", meta::name(request), name),
        ("namespace", meta::namespace(request), namespace),
    ] {
        if !asked.is_empty() && asked != own {
            let detail = format!("must match the service account {field} if specified");
            let errors = vec![Error::invalid(&metadata.child(field), asked, detail)];
            return Err(Status::invalid(GROUP, "TokenRequest", name, errors));
        }
    }
    Ok(())
}

fn check_lifetime(seconds: i64) -> Result<(), Status> {
    let detail = match seconds {
        ..SHORTEST_SECONDS => "may not specify a duration less than 10 minutes",
        _ if seconds > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let errors = vec![Error::invalid(
        &Path::new("spec").child("expirationSeconds"),
        seconds,
        detail,
    )];
    Err(Status::invalid(GROUP, "TokenRequest", "", errors))
}

/// Looks up the object the token is to be bound to.
async fn bind(
    state: &State,
    request: &Value,
    namespace: &str,
    account: &str,
    private: &mut Private,
) -> Result<(), Status> {
    let Some(reference) = value_at(request, "spec.boundObjectRef").filter(|r| r.is_object()) else {
        return Ok(());
    };
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or("");
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (plural, home) = match (text("apiVersion"), kind) {
        ("v1" | "", "Pod") => ("pods", namespace),
        ("v1" | "", "Secret") => ("secrets", namespace),
        ("v1" | "", "Node") => ("nodes", ""),
        (version, kind) => {
            // As Go writes a GroupVersionKind; the core group is empty.
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {slash}{version}, Kind={kind}"
            )));
        }
    };
    let find = |plural: &'static str, home: &str, name: &str| {
        let (home, name) = (home.to_owned(), name.to_owned());
        async move {
            let missing = || Status::not_found(&GroupResource::new("", plural), &name);
            let resource = state.resource("", "v1", plural).ok_or_else(missing)?;
            let entry = resource.latest(&home, &name).await?.ok_or_else(missing)?;
            Ok::<_, Status>(resource.value(&entry))
        }
    };
    let object = find(plural, home, name).await?;
    let account_of = value_at(&object, "spec.serviceAccountName")
        .and_then(Value::as_str)
        .unwrap_or("");
    if kind == "Pod" && account_of != account {
        return Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
            api::field::go_quote(account)
        )));
    }
    if !uid.is_empty() && uid != meta::uid(&object) {
        return Err(Status::conflict(
            &GroupResource::new("", kind),
            name,
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    let bound = Some(Reference {
        name: name.to_owned(),
        uid: meta::uid(&object).to_owned(),
    });
    match kind {
        "Secret" => private.secret = bound,
        "Node" => private.node = bound,
        _ => {
            let text = |path| value_at(&object, path).and_then(Value::as_str).unwrap_or("");
            private.pod = bound;
            let node = text("spec.nodeName");
            if !node.is_empty() {
                let uid = find("nodes", "", node).await.ok().map(|n| meta::uid(&n).to_owned());
                private.node = Some(Reference {
                    name: node.to_owned(),
                    uid: uid.unwrap_or_default(),
                });
            }
        }
    }
    Ok(())
}
