//! Fills Secrets with their tokens, and deletes them with their accounts (`tokens_controller.go`).

use api::Gvr;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::json;

use super::{ACCOUNT_NAME, ACCOUNT_UID, SECRETS, account_of, refers_to, token_key};
use crate::object::{is_deleting, name, namespace, uid};
use crate::plan::{Action, Confirm, Mint, Plan, Target};
use crate::{Key, Turn, Untyped, World};

/// Who issues tokens that do not expire (upstream `serviceaccount.LegacyIssuer`).
const ISSUER: &str = "kubernetes/serviceaccount";

/// Fills or deletes one Secret, or makes its account forget it.
pub(super) fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let mut parts = key.name.split('/');
    let (secret_name, account, uid) = (
        parts.next().unwrap_or(""),
        parts.next().unwrap_or(""),
        parts.next().unwrap_or(""),
    );
    let Some(secret) = world.untyped(SECRETS).get(&key.namespace, secret_name) else {
        forget(world, &key.namespace, secret_name, account, uid, &mut plan);
        return plan;
    };
    // Another one of that name, or one that changed since: its own key comes.
    if token_key(&secret) != *key || account.is_empty() {
        return plan;
    }
    match account_of(world, &secret) {
        Some(account) => fill(world, &account, &secret, &mut plan),
        None => plan.act(SECRETS.delete(&secret).confirmed(Confirm::Absent(Target {
            resource: Gvr::new("", "v1", "serviceaccounts"),
            namespace: key.namespace.clone(),
            name: account.to_owned(),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            resource_version: None,
        }))),
    }
    plan
}

fn forget(world: &dyn World, namespace: &str, secret: &str, account: &str, wanted: &str, plan: &mut Plan) {
    let Some(account) = world.service_accounts().get(namespace, account) else {
        return;
    };
    if (!wanted.is_empty() && wanted != uid(&*account)) || !refers_to(&account, secret) {
        return;
    }
    let mut changed = (*account).clone();
    if let Some(references) = &mut changed.secrets {
        references.retain(|reference| reference.name.as_deref() != Some(secret));
    }
    plan.act(Action::replace(&changed).confirmed(Confirm::Absent(Target {
        resource: SECRETS.gvr(),
        namespace: namespace.to_owned(),
        name: secret.to_owned(),
        uid: None,
        resource_version: None,
    })));
}

fn fill(world: &dyn World, account: &ServiceAccount, secret: &Untyped, plan: &mut Plan) {
    let has = |key: &str| {
        secret
            .at("data")
            .get(key)
            .and_then(|value| value.as_str())
            .unwrap_or("")
    };
    let authority = STANDARD.encode(world.root_ca());
    let lacks_authority = !authority.is_empty() && has("ca.crt") != authority;
    let (lacks_namespace, lacks_token) = (has("namespace").is_empty(), has("token").is_empty());
    if !(lacks_authority || lacks_namespace || lacks_token) || is_deleting(secret) {
        return;
    }
    let mut changed = secret.clone();
    let annotations = changed.metadata.annotations.get_or_insert_default();
    for (key, value) in [(ACCOUNT_NAME, name(account)), (ACCOUNT_UID, uid(account))] {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    let data = changed.entry("data");
    if lacks_authority {
        data["ca.crt"] = authority.into();
    }
    if lacks_namespace {
        data["namespace"] = STANDARD.encode(namespace(secret)).into();
    }
    plan.act(if lacks_token {
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{}:{}", namespace(account), name(account)),
            "kubernetes.io/serviceaccount/namespace": namespace(account),
            "kubernetes.io/serviceaccount/service-account.name": name(account),
            "kubernetes.io/serviceaccount/service-account.uid": uid(account),
            "kubernetes.io/serviceaccount/secret.name": name(secret),
        });
        SECRETS.mint(&changed, "", "/data/token", Mint::Token { claims })
    } else {
        SECRETS.replace(&changed, "")
    });
}
