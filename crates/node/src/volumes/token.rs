//! Tokens of service accounts, renewed before they run out (pkg/kubelet/token/token_manager.go).

use std::collections::HashMap;
use std::sync::Arc;

use client::WriteParams;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::VolumeError;
use crate::context::Context;

/// A token is never used for longer.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// A token.
#[derive(Clone)]
pub(crate) struct Token {
    pub text: String,
    /// When to ask for another: at 80 % of its life.
    pub refresh_at: Timestamp,
    expires: Timestamp,
}

/// Tokens in use, by pod, volume and path.
#[derive(Clone, Default)]
pub(crate) struct Tokens {
    all: Arc<Mutex<HashMap<(String, String, String), Token>>>,
}

impl Tokens {
    /// The token of a projection; a new one if it is time. If there is none to be had, the old one serves to its end.
    pub async fn get(
        &self,
        ctx: &Context,
        pod: &Pod,
        volume: &str,
        source: &ServiceAccountTokenProjection,
    ) -> Result<Token, VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = (uid, volume.to_string(), source.path.clone());
        let now = ctx.clock.now();
        let old = self.all.lock().get(&key).cloned();
        if let Some(token) = old.as_ref().filter(|token| now < token.refresh_at) {
            return Ok(token.clone());
        }
        match request(ctx, pod, source, now).await {
            Ok(token) => {
                self.all.lock().insert(key, token.clone());
                Ok(token)
            }
            Err(error) => match old.filter(|token| now < token.expires) {
                Some(mut token) => {
                    tracing::warn!(error, pod = key.0, "cannot renew a token; the old one still holds");
                    token.refresh_at = now
                        .saturating_add(SignedDuration::from_secs(30))
                        .unwrap_or(token.expires);
                    Ok(token)
                }
                None => Err(VolumeError::Token(error)),
            },
        }
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &str) {
        self.all.lock().retain(|(owner, _, _), _| owner != uid);
    }
}

async fn request(
    ctx: &Context,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Token, String> {
    let meta = &pod.metadata;
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .filter(|name| !name.is_empty());
    let audiences: Vec<&String> = source.audience.iter().filter(|audience| !audience.is_empty()).collect();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": source.expiration_seconds.unwrap_or(3600),
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid},
        },
    });
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let accounts = ctx.client().of::<ServiceAccount>();
    let answer: Value = accounts
        .create_sub(
            namespace,
            account.unwrap_or("default"),
            "token",
            &body,
            &WriteParams::default(),
        )
        .await
        .map_err(|error| error.report())?;
    let text = answer["status"]["token"]
        .as_str()
        .ok_or("the API answered without a token")?
        .to_string();
    let expires: Timestamp = answer["status"]["expirationTimestamp"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or("the API answered without an expiration time")?;
    let life = expires.duration_since(now);
    let use_for = (life / 5 * 4).min(MAX_AGE).max(SignedDuration::from_secs(1));
    Ok(Token {
        text,
        expires,
        refresh_at: now.saturating_add(use_for).unwrap_or(expires),
    })
}
