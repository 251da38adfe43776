//! A service outside decides which images run (`plugin/pkg/admission/imagepolicy`). Off by default.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use api::{Status, Value, meta};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::webhook::Remote;
use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// The part of annotations' keys that are shown to the service.
const SHOWN: &str = ".image-policy.k8s.io/";
/// Answers that are remembered.
const REMEMBERED: usize = 1024;
/// Calls before a failure counts.
const CALLS: u32 = 5;

pub(super) struct ImagePolicyWebhook {
    remote: Remote,
    allow_for: SignedDuration,
    deny_for: SignedDuration,
    pause: Duration,
    default_allow: bool,
    known: Mutex<HashMap<String, (Verdict, Timestamp)>>,
}

/// `ImageReviewStatus`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Verdict {
    allowed: bool,
    reason: String,
    audit_annotations: BTreeMap<String, String>,
}

impl ImagePolicyWebhook {
    /// By the settings' `imagePolicy`.
    pub fn new(settings: Option<&Value>) -> Result<ImagePolicyWebhook, String> {
        let settings = settings.and_then(|settings| settings.get("imagePolicy"));
        let settings = settings.ok_or("no config specified")?;
        let file = settings["kubeConfigFile"].as_str().unwrap_or("");
        let millis = |field, scale, least, most, default| duration(&settings[field], scale, least, most, default);
        let half_hour = 1_800_000;
        Ok(ImagePolicyWebhook {
            remote: Remote::new("image-policy", Path::new(file))?,
            allow_for: SignedDuration::from_millis(millis("allowTTL", 1000, 1000, half_hour, 300_000)?),
            deny_for: SignedDuration::from_millis(millis("denyTTL", 1000, 1000, half_hour, 30_000)?),
            pause: Duration::from_millis(millis("retryBackoff", 1, 1, 300_000, 500)?.unsigned_abs()),
            default_allow: settings["defaultAllow"].as_bool() == Some(true),
            known: Mutex::default(),
        })
    }

    async fn ask(&self, state: &State, spec: &Value) -> Result<Verdict, String> {
        let review = json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview",
            "metadata": {}, "spec": spec, "status": {"allowed": false}});
        let body = Bytes::from(review.to_string());
        let mut pause = self.pause;
        for call in 1.. {
            match self.remote.post(state, body.clone()).await {
                Ok(answer) => {
                    let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
                    return serde_json::from_value(answer["status"].clone()).map_err(|error| error.to_string());
                }
                // What the service refuses it would refuse again.
                Err(error) if call == CALLS || (error.code != 400 && error.code < 500) => return Err(error.message),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = pause * 3 / 2;
        }
        Err("image policy webhook: no call was made".to_owned())
    }

    fn remembered(&self, key: &str, now: Timestamp) -> Option<Verdict> {
        let known = self.known.lock();
        known
            .get(key)
            .filter(|(_, until)| now < *until)
            .map(|(verdict, _)| verdict.clone())
    }

    fn remember(&self, key: String, verdict: Verdict, now: Timestamp) {
        let period = if verdict.allowed { self.allow_for } else { self.deny_for };
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < REMEMBERED
            && let Ok(until) = now.checked_add(period)
        {
            known.insert(key, (verdict, until));
        }
    }
}

/// Milliseconds: 0 is the default, -1 none at all.
fn duration(value: &Value, scale: i64, least: i64, most: i64, default: i64) -> Result<i64, String> {
    match value.as_i64().unwrap_or(0) {
        0 => Ok(default),
        -1 => Ok(0),
        given => {
            let millis = given.saturating_mul(scale);
            if (least..=most).contains(&millis) {
                return Ok(millis);
            }
            Err(format!("valid value is between {least}ms and {most}ms, got {millis}ms"))
        }
    }
}

/// What the service is asked about.
fn spec(attributes: &Attributes<'_>, pod: &Value) -> Value {
    let lists: &[&str] = if attributes.subresource.is_empty() {
        &["containers", "initContainers"]
    } else {
        &["ephemeralContainers"]
    };
    let images: Vec<Value> = lists
        .iter()
        .filter_map(|list| value_at(pod, &format!("spec.{list}"))?.as_array())
        .flatten()
        .map(|container| json!({"image": container.get("image").and_then(Value::as_str).unwrap_or("")}))
        .collect();
    let mut annotations = meta::annotations(pod);
    annotations.retain(|key, _| key.contains(SHOWN));
    json!({"containers": images, "annotations": annotations, "namespace": attributes.namespace})
}

#[async_trait]
impl Plugin for ImagePolicyWebhook {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let kind = &attributes.resource.kind;
        let about_pods = kind.gvk.group.is_empty() && kind.plural == "pods";
        let Some(pod) = pod.filter(|_| about_pods && matches!(attributes.subresource, "" | "ephemeralcontainers"))
        else {
            return Ok(());
        };
        let spec = spec(attributes, pod);
        let (key, now) = (spec.to_string(), attributes.call.now);
        let verdict = match self.remembered(&key, now) {
            Some(verdict) => verdict,
            None => match self.ask(state, &spec).await {
                Ok(verdict) => {
                    self.remember(key, verdict.clone(), now);
                    verdict
                }
                Err(why) if self.default_allow => {
                    tracing::warn!(why, "the image policy webhook failed; the pod is let in");
                    attributes.annotate(&format!("{AUDIT}failed-open"), "true");
                    return Ok(());
                }
                Err(why) => return Err(attributes.forbid(why)),
            },
        };
        for (key, value) in &verdict.audit_annotations {
            attributes.annotate(&format!("{AUDIT}{key}"), value.clone());
        }
        match (verdict.allowed, verdict.reason.as_str()) {
            (true, _) => Ok(()),
            (false, "") => Err(attributes.forbid("one or more images rejected by webhook backend")),
            (false, why) => {
                let why = format!("image policy webhook backend denied one or more images: {why}");
                Err(attributes.forbid(why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_given_defaulted_or_off() {
        let of = |value: Value| duration(&value, 1000, 1000, 1_800_000, 300_000);
        assert_eq!(of(Value::Null), Ok(300_000));
        assert_eq!(of(json!(-1)), Ok(0));
        assert_eq!(of(json!(60)), Ok(60_000));
        assert!(of(json!(3600)).is_err());
        assert!(ImagePolicyWebhook::new(None).is_err());
    }

    #[test]
    fn an_answer_is_a_status() {
        let verdict: Verdict =
            serde_json::from_value(json!({"allowed": false, "reason": "no", "auditAnnotations": {"a": "b"}})).unwrap();
        assert!(!verdict.allowed && verdict.reason == "no" && verdict.audit_annotations.len() == 1);
    }
}
