//! `AdmissionReview`, v1 and v1beta1 (upstream `plugin/webhook/request/admissionreview.go`,
//! `plugin/webhook/errors/statuserror.go`).

use api::{Gvk, Gvr, Status, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, json};

use super::invocation::Invocation;
use crate::admission::Attributes;
use crate::codec;
use crate::user::UserInfo;

const V1: &str = "admission.k8s.io/v1";
const V1BETA1: &str = "admission.k8s.io/v1beta1";

/// Which phase asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Mutating,
    Validating,
}

/// A review to be sent.
pub(super) struct Review {
    uid: String,
    version: &'static str,
    pub body: Bytes,
}

/// What a webhook decided.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub allowed: bool,
    pub status: Option<Status>,
    /// JSON of a JSON patch.
    pub patch: Vec<u8>,
    pub patch_type: String,
    pub annotations: Vec<(String, String)>,
    pub warnings: Vec<String>,
}

impl Review {
    /// The review of this request for that webhook, in the first version both know.
    ///
    /// # Errors
    /// A message if there is none.
    pub fn new(
        attributes: &Attributes<'_>,
        invocation: &Invocation,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Review, &'static str> {
        let versions = invocation.hook.review_versions.iter();
        let version = versions
            .filter_map(|version| match version.as_str() {
                "v1" => Some(V1),
                "v1beta1" => Some(V1BETA1),
                _ => None,
            })
            .next()
            .ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = request(
            &uid,
            attributes,
            &invocation.matched.gvr,
            &invocation.matched.gvk,
            object,
            old,
        );
        let review = json!({"kind": "AdmissionReview", "apiVersion": version, "request": request});
        Ok(Review {
            uid,
            version,
            body: codec::to_json(&review),
        })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// A message if it is none to this review.
    pub fn verify(&self, phase: Phase, body: &[u8]) -> Result<Verdict, Failed> {
        let answer: Value = serde_json::from_slice(body)
            .map_err(|e| Failed::Unreadable(format!("couldn't get version/kind; json parse error: {e}")))?;
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or("");
        if text("apiVersion").is_empty() && self.version == V1 && text("kind").is_empty() {
            // Without its own the kind that is expected is read, and found to be none.
        } else if !matches!(text("apiVersion"), V1 | V1BETA1 | "") || !matches!(text("kind"), "AdmissionReview" | "") {
            return Err(Failed::Unreadable(format!(
                "no kind {} is registered for version {} in scheme \"pkg/runtime/scheme.go:100\"",
                api::field::go_quote(text("kind")),
                api::field::go_quote(text("apiVersion"))
            )));
        }
        let invalid = |why: String| Err(Failed::Invalid(why));
        let Some(response) = answer.get("response").filter(|r| r.is_object()) else {
            return invalid("webhook response was absent".to_owned());
        };
        let field = |name: &str| response.get(name).and_then(Value::as_str);
        if self.version == V1 {
            let uid = field("uid").unwrap_or("");
            if uid != self.uid {
                return invalid(format!(
                    "expected response.uid={}, got {}",
                    api::field::go_quote(&self.uid),
                    api::field::go_quote(uid)
                ));
            }
            if text("apiVersion") != V1 || text("kind") != "AdmissionReview" {
                return invalid(format!(
                    "expected webhook response of {V1}, Kind=AdmissionReview, got {}, Kind={}",
                    if text("apiVersion").is_empty() {
                        "/"
                    } else {
                        text("apiVersion")
                    },
                    text("kind")
                ));
            }
        }
        let patch = field("patch").unwrap_or("");
        let patch = STANDARD
            .decode(patch)
            .map_err(|error| Failed::Unreadable(format!("response.patch is not base64: {error}")))?;
        let mut verdict = Verdict {
            allowed: response.get("allowed").and_then(Value::as_bool).unwrap_or(false),
            status: response
                .get("status")
                .filter(|s| s.is_object())
                .and_then(|s| serde_json::from_value(s.clone()).ok()),
            annotations: annotations(response),
            warnings: crate::admission::matching::strings(response, "warnings"),
            ..Verdict::default()
        };
        let patch_type = response
            .get("patchType")
            .filter(|t| !t.is_null())
            .map(|t| t.as_str().unwrap_or(""));
        match (phase, self.version) {
            (Phase::Mutating, V1) => match (patch.is_empty(), patch_type) {
                (false, None) => {
                    return invalid("webhook returned response.patch but not response.patchType".to_owned());
                }
                (true, Some(_)) => {
                    return invalid("webhook returned response.patchType but not response.patch".to_owned());
                }
                (false, Some("")) => {
                    return invalid("webhook returned invalid response.patchType of \"\"".to_owned());
                }
                (_, kind) => verdict.patch_type = kind.unwrap_or("").to_owned(),
            },
            // The type was never looked at in v1beta1.
            (Phase::Mutating, _) => verdict.patch_type = "JSONPatch".to_owned(),
            (Phase::Validating, V1) if !patch.is_empty() => {
                return invalid("validating webhook may not return response.patch".to_owned());
            }
            (Phase::Validating, V1) if patch_type.is_some() => {
                return invalid("validating webhook may not return response.patchType".to_owned());
            }
            (Phase::Validating, _) => {}
        }
        if phase == Phase::Mutating {
            verdict.patch = patch;
        }
        Ok(verdict)
    }
}

/// Why an answer is none.
#[derive(Debug, PartialEq)]
pub(super) enum Failed {
    /// It is no AdmissionReview at all.
    Unreadable(String),
    /// It breaks a rule of reviews.
    Invalid(String),
}

/// The status that a refused client gets.
pub(super) fn denied(hook: &str, status: Option<Status>) -> Status {
    let by = format!("admission webhook {} denied the request", api::field::go_quote(hook));
    let mut status = status.unwrap_or_else(|| Status::failure(0, "", ""));
    // A webhook need not say what it sends, but clients must see what they get.
    "Status".clone_into(&mut status.kind);
    "v1".clone_into(&mut status.api_version);
    status.code = if status.code < 400 { 400 } else { status.code };
    if matches!(status.status.as_str(), "" | "Success") {
        status.status = "Failure".to_owned();
    }
    status.message = if !status.message.is_empty() {
        format!("{by}: {}", status.message)
    } else if !status.reason.is_empty() {
        format!("{by}: {}", status.reason)
    } else {
        format!("{by} without explanation")
    };
    status
}

fn annotations(response: &Value) -> Vec<(String, String)> {
    let map = response.get("auditAnnotations").and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn gvk_object(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn gvr_object(gvr: &Gvr) -> Value {
    json!({"group": gvr.group, "version": gvr.version, "resource": gvr.resource})
}

/// A user as reviews and policies see it.
pub(in crate::admission) fn user_object(user: &UserInfo) -> Value {
    let mut map = Map::new();
    map.insert("username".to_owned(), user.name.clone().into());
    if !user.uid.is_empty() {
        map.insert("uid".to_owned(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        map.insert("groups".to_owned(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra: Map<String, Value> = user.extra.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        map.insert("extra".to_owned(), extra.into());
    }
    map.into()
}

/// The `request` of a review, without its objects: what CEL calls `request` too.
pub(in crate::admission) fn request_head(attributes: &Attributes<'_>, gvr: &Gvr, gvk: &Gvk) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |field: &str, value: Value| drop(map.insert(field.to_owned(), value));
    put("kind", gvk_object(gvk));
    put("resource", gvr_object(gvr));
    put("requestKind", gvk_object(attributes.gvk));
    put("requestResource", gvr_object(&attributes.resource.gvr()));
    if !attributes.subresource.is_empty() {
        put("subResource", attributes.subresource.into());
        put("requestSubResource", attributes.subresource.into());
    }
    if !attributes.name.is_empty() {
        put("name", attributes.name.into());
    }
    if !attributes.namespace.is_empty() {
        put("namespace", attributes.namespace.into());
    }
    put("operation", attributes.operation.as_str().into());
    put("userInfo", user_object(&attributes.call.user));
    put("dryRun", attributes.dry_run().into());
    put("options", attributes.options_object());
    map
}

fn request(
    uid: &str,
    attributes: &Attributes<'_>,
    gvr: &Gvr,
    gvk: &Gvk,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Value {
    let mut map = request_head(attributes, gvr, gvk);
    map.insert("uid".to_owned(), uid.into());
    map.insert("object".to_owned(), object.cloned().unwrap_or_default());
    map.insert("oldObject".to_owned(), old.cloned().unwrap_or_default());
    map.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(version: &'static str) -> Review {
        Review {
            uid: "u".to_owned(),
            version,
            body: Bytes::new(),
        }
    }

    fn invalid(version: &'static str, phase: Phase, answer: &Value) -> String {
        match review(version).verify(phase, &serde_json::to_vec(answer).unwrap()) {
            Err(Failed::Invalid(why) | Failed::Unreadable(why)) => why,
            Ok(verdict) => panic!("{verdict:?}"),
        }
    }

    fn answer(response: &Value) -> Value {
        json!({"apiVersion": V1, "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers_that_are_none() {
        use Phase::{Mutating, Validating};
        let why = |phase, response: &Value| invalid(V1, phase, &answer(response));
        assert_eq!(
            invalid(V1, Validating, &json!({"apiVersion": V1, "kind": "AdmissionReview"})),
            "webhook response was absent"
        );
        assert_eq!(
            why(Validating, &json!({"uid": "x"})),
            "expected response.uid=\"u\", got \"x\""
        );
        let beta = json!({"apiVersion": V1BETA1, "kind": "AdmissionReview", "response": {"uid": "u"}});
        assert_eq!(
            invalid(V1, Validating, &beta),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v1beta1, Kind=AdmissionReview"
        );
        assert_eq!(
            why(Validating, &json!({"uid": "u", "patch": "W10="})),
            "validating webhook may not return response.patch"
        );
        assert_eq!(
            why(Validating, &json!({"uid": "u", "patchType": "JSONPatch"})),
            "validating webhook may not return response.patchType"
        );
        assert_eq!(
            why(Mutating, &json!({"uid": "u", "patch": "W10="})),
            "webhook returned response.patch but not response.patchType"
        );
        assert_eq!(
            why(Mutating, &json!({"uid": "u", "patchType": "JSONPatch"})),
            "webhook returned response.patchType but not response.patch"
        );
        assert_eq!(
            why(Mutating, &json!({"uid": "u", "patch": "W10=", "patchType": ""})),
            "webhook returned invalid response.patchType of \"\""
        );
        // v1beta1 looks at none of these.
        let beta = json!({"response": {"allowed": true, "patch": "W10="}});
        let verdict = review(V1BETA1)
            .verify(Mutating, &serde_json::to_vec(&beta).unwrap())
            .unwrap();
        assert_eq!((verdict.allowed, verdict.patch.as_slice()), (true, b"[]".as_slice()));
    }

    #[test]
    fn refusals_are_at_least_bad_requests() {
        let none = denied("h", None);
        assert_eq!(
            none.message,
            "admission webhook \"h\" denied the request without explanation"
        );
        assert_eq!((none.code, none.status.as_str()), (400, "Failure"));
        let reason = denied(
            "h",
            Some(serde_json::from_value(json!({"reason": "Gone", "code": 200})).unwrap()),
        );
        assert_eq!((reason.kind.as_str(), reason.api_version.as_str()), ("Status", "v1"));
        assert_eq!(
            (reason.code, reason.message.as_str()),
            (400, "admission webhook \"h\" denied the request: Gone")
        );
        let said = json!({"message": "no", "code": 418, "status": "Success", "details": {"causes": [{"field": "a"}]}});
        let said = denied("h", Some(serde_json::from_value(said).unwrap()));
        assert_eq!(
            (said.code, said.message.as_str()),
            (418, "admission webhook \"h\" denied the request: no")
        );
    }
}
