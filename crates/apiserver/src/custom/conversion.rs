//! Between the versions of a definition (`apiserver/conversion`): by renaming, or by asking a webhook.

use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{Gvk, Status, Value, meta};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use super::metadata::{check_same, restore_metadata};
use crate::codec;
use crate::hook::Hook;
use crate::state::State;

/// How long a webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How objects get to another version.
pub(crate) enum Converter {
    /// Only `apiVersion` changes.
    Rename,
    /// A webhook does it.
    Webhook(Box<Webhook>),
}

/// How requests get to a webhook. A trait, so that kinds do not name the state that holds them: with such a circle in its
/// types, the compiler proves anew in each asynchronous function that they may be shared, which took most of a build.
#[async_trait]
trait Sender: Send + Sync {
    async fn send(&self, hook: &Hook, review: Bytes) -> Result<Bytes, String>;
}

#[async_trait]
impl Sender for Weak<State> {
    async fn send(&self, hook: &Hook, review: Bytes) -> Result<Bytes, String> {
        let state: Arc<State> = self.upgrade().ok_or("the server is ending")?;
        hook.post(&state, review, TIMEOUT).await
    }
}

pub(crate) struct Webhook {
    hook: Result<Hook, String>,
    /// The versions of ConversionReview that the webhook takes, the preferred one first.
    review_versions: Vec<String>,
    sender: Box<dyn Sender>,
}

impl Converter {
    /// As the definition says.
    pub fn of(definition: &Value, state: Weak<State>) -> Converter {
        let conversion = &definition["spec"]["conversion"];
        if conversion["strategy"] != "Webhook" {
            return Converter::Rename;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        Converter::Webhook(Box::new(Webhook {
            hook: Hook::new(&webhook["clientConfig"]),
            review_versions: versions.filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            sender: Box::new(state),
        }))
    }

    /// The objects in the wanted version, in their order. None of them is in it already.
    ///
    /// # Errors
    /// 500 if the webhook fails or breaks the rules.
    pub async fn convert(&self, mut objects: Vec<Value>, wanted: &Gvk) -> Result<Vec<Value>, Status> {
        match self {
            Converter::Rename => {
                let version = wanted.api_version();
                for object in &mut objects {
                    object["apiVersion"] = version.clone().into();
                }
                Ok(objects)
            }
            Converter::Webhook(webhook) => {
                let from = objects.first().map(gvk_text).unwrap_or_default();
                webhook
                    .convert(objects, wanted)
                    .await
                    .map_err(|why| Status::failure(500, "", format!("conversion webhook for {from} {why}")))
            }
        }
    }
}

/// `group/version, Kind=kind`.
fn gvk_text(object: &Value) -> String {
    format!("{}, Kind={}", meta::api_version(object), meta::kind(object))
}

impl Webhook {
    async fn convert(&self, objects: Vec<Value>, wanted: &Gvk) -> Result<Vec<Value>, String> {
        let failed = |why: &dyn std::fmt::Display| format!("failed: {why}");
        let known = |v: &&String| matches!(v.as_str(), "v1" | "v1beta1");
        let review_version = self.review_versions.iter().find(known);
        let review_version = review_version.ok_or_else(|| failed(&"no supported conversion review versions"))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("apiextensions.k8s.io/{review_version}"),
            "request": {"uid": uid, "desiredAPIVersion": wanted.api_version(), "objects": objects},
        });
        let hook = self.hook.as_ref().map_err(|why| failed(why))?;
        let answer = self.sender.send(hook, codec::to_json(&review)).await;
        let answer = answer.map_err(|why| failed(&why))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|why| failed(&why))?;
        let converted = accepted(review_version, &uid, &answer).map_err(|why| failed(&why))?;
        if converted.len() != objects.len() {
            let (got, sent) = (converted.len(), objects.len());
            return Err(format!("returned {got} objects, expected {sent}"));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs
            .map(|(index, (original, object))| checked(original, object, wanted, index))
            .collect()
    }
}

/// The objects of an answer that says it has worked.
fn accepted(review_version: &str, uid: &str, answer: &Value) -> Result<Vec<Value>, String> {
    let response = &answer["response"];
    if review_version == "v1" {
        if meta::kind(answer) != "ConversionReview" || meta::api_version(answer) != "apiextensions.k8s.io/v1" {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {}",
                gvk_text(answer)
            ));
        }
        if response.is_object() && response["uid"] != uid {
            let quote = |text: &str| api::field::go_quote(text);
            let got = response["uid"].as_str().unwrap_or_default();
            return Err(format!("expected response.uid={}, got {}", quote(uid), quote(got)));
        }
    }
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match result["message"].as_str().filter(|text| !text.is_empty()) {
            Some(message) => message.to_owned(),
            None => format!(
                "response.result.status was '{}', not 'Success'",
                result["status"].as_str().unwrap_or_default()
            ),
        });
    }
    Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default())
}

fn checked(original: &Value, mut object: Value, wanted: &Gvk, index: usize) -> Result<Value, String> {
    let bad = |why: String| format!("returned invalid converted object at index {index}: {why}");
    let version = wanted.api_version();
    if meta::api_version(&object) != version {
        let got = meta::api_version(&object);
        return Err(bad(format!(
            "invalid groupVersion (expected {version}, received {got})"
        )));
    }
    if meta::kind(&object) != meta::kind(original) {
        return Err(bad(format!(
            "invalid kind (expected {}, received {})",
            meta::kind(original),
            meta::kind(&object)
        )));
    }
    check_same(original, &object).map_err(bad)?;
    restore_metadata(original, &mut object)
        .map_err(|why| format!("returned invalid metadata in object at index {index}: {why}"))?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Value {
        json!({"apiVersion": format!("g.io/{version}"), "kind": "A",
            "metadata": {"name": name, "uid": "1", "labels": {"a": "b"}, "resourceVersion": "5"}})
    }

    #[test]
    fn answers_are_judged() {
        let wanted = Gvk::new("g.io", "v2", "A");
        let original = object("v1", "x");
        let fine = json!({"apiVersion": "g.io/v2", "kind": "A", "spec": {"x": 1},
            "metadata": {"name": "x", "uid": "1", "labels": {"c": "d"}, "finalizers": ["mine"]}});
        let converted = checked(&original, fine, &wanted, 0).unwrap();
        assert_eq!(converted["metadata"]["labels"], json!({"c": "d"}));
        assert_eq!(converted["metadata"]["resourceVersion"], "5");
        assert!(converted["metadata"].get("finalizers").is_none());
        let renamed = checked(&original, object("v2", "y"), &wanted, 0).unwrap_err();
        assert_eq!(
            renamed,
            "returned invalid converted object at index 0: must have the same name: x != y"
        );
        assert!(checked(&original, object("v1", "x"), &wanted, 0).is_err());
    }

    #[test]
    fn refusals_are_told() {
        let review = |response: Value| json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let refused = review(json!({"uid": "u", "result": {"status": "Failed", "message": "no"}}));
        assert_eq!(accepted("v1", "u", &refused), Err("no".to_owned()));
        let other = review(json!({"uid": "w", "result": {"status": "Success"}}));
        assert!(accepted("v1", "u", &other).is_err());
        let fine = review(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [1]}));
        assert_eq!(accepted("v1", "u", &fine), Ok(vec![json!(1)]));
    }
}
