//! `metav1.Status`: the one error that a client sees (apimachinery `api/errors`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field;
use crate::names::GroupResource;

/// The wire shape of `metav1.Status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Always `Status` on the wire.
    pub kind: String,
    /// Always `v1` on the wire.
    pub api_version: String,
    /// List metadata; empty except for a `continue` token with `Expired`.
    pub metadata: ListMeta,
    /// `Success` or `Failure`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs: one of [`reason`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What the reason is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
}

/// `metav1.ListMeta` as far as a Status carries it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// The revision of the answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// A token to go on with.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
    /// How many items are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<i64>,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Group of the kind or resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource, or kind for `Invalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Finer reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again.
    #[serde(skip_serializing_if = "is_zero_i32")]
    pub retry_after_seconds: i32,
}

/// `metav1.StatusCause`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// For programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

fn is_zero_i32(seconds: &i32) -> bool {
    *seconds == 0
}

/// The reasons of a failure (`metav1.StatusReason`).
#[allow(missing_docs, reason = "the names are the values")]
pub mod reason {
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const NOT_FOUND: &str = "NotFound";
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const CONFLICT: &str = "Conflict";
    pub const GONE: &str = "Gone";
    pub const INVALID: &str = "Invalid";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const EXPIRED: &str = "Expired";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
}

impl Status {
    /// A failure with this code, reason and message.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code,
            ..Self::default()
        }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.clone(),
            kind: resource.resource.clone(),
            ..Details::default()
        }));
        self
    }

    /// Adds a cause.
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        self.details.get_or_insert_default().causes.push(Cause {
            reason: reason.to_owned(),
            message: message.to_owned(),
            field: field.to_owned(),
        });
        self
    }

    /// Says when to try again.
    pub fn with_retry_after(mut self, seconds: i32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The answer to a request that has no object to answer with; `details` name what was done.
    pub fn success(details: Option<Details>) -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            status: "Success".to_owned(),
            details: details.map(Box::new),
            ..Self::default()
        }
    }

    /// The object does not exist.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        let message = format!("{resource} {} not found", field::go_quote(name));
        Self::failure(404, reason::NOT_FOUND, message).about(resource, name)
    }

    /// The URL names nothing that is served. This is what a server says for an unknown resource.
    pub fn unknown_resource() -> Self {
        let mut status = Self::failure(
            404,
            reason::NOT_FOUND,
            "the server could not find the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// An object of this name exists.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        let message = format!("{resource} {} already exists", field::go_quote(name));
        Self::failure(409, reason::ALREADY_EXISTS, message).about(resource, name)
    }

    /// Every generated name was taken.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            field::go_quote(name)
        );
        Self::failure(409, reason::ALREADY_EXISTS, message)
            .about(resource, name)
            .with_retry_after(1)
    }

    /// A precondition does not hold.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {resource} {}: {why}",
            field::go_quote(name)
        );
        Self::failure(409, reason::CONFLICT, message).about(resource, name)
    }

    /// The write was based on an old revision (upstream's `OptimisticLockErrorMsg`).
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Server-side apply met other managers' fields.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        let mut status = Self::failure(409, reason::CONFLICT, message);
        status.details = Some(Box::new(Details {
            causes,
            ..Details::default()
        }));
        status
    }

    /// Fields of the object are refused.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<field::Error>) -> Self {
        let subject = crate::names::GroupKind::new(group, kind);
        let mut message = format!("{subject} {} is invalid", field::go_quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&field::aggregate(&errors));
        }
        let causes = errors
            .into_iter()
            .map(|error| Cause {
                reason: error.kind.cause().to_owned(),
                message: error.body(),
                field: error.field,
            })
            .collect();
        let mut status = Self::failure(422, reason::INVALID, message);
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes,
            ..Details::default()
        }));
        status
    }

    /// The request is malformed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, reason::BAD_REQUEST, message)
    }

    /// The user may not do this.
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = if resource.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} {} is forbidden: {why}", field::go_quote(name))
        };
        Self::failure(403, reason::FORBIDDEN, message).about(resource, name)
    }

    /// The user is not known. The empty message becomes upstream's.
    pub fn unauthorized(message: &str) -> Self {
        let message = if message.is_empty() { "not authorized" } else { message };
        Self::failure(401, reason::UNAUTHORIZED, message)
    }

    /// The revision or `continue` token is too old; start again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, reason::EXPIRED, message)
    }

    /// The thing existed and never will again.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, reason::GONE, message)
    }

    /// Back off.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(429, reason::TOO_MANY_REQUESTS, message);
        status.details = Some(Box::new(Details {
            retry_after_seconds,
            ..Details::default()
        }));
        status
    }

    /// The request took too long.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: i32) -> Self {
        let mut status = Self::failure(504, reason::TIMEOUT, format!("Timeout: {message}"));
        status.details = Some(Box::new(Details {
            retry_after_seconds,
            ..Details::default()
        }));
        status
    }

    /// The server could not do it now; a retry may work.
    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after: i32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::failure(500, reason::SERVER_TIMEOUT, message)
            .about(resource, operation)
            .with_retry_after(retry_after)
    }

    /// A fault of the server.
    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        Self::failure(500, reason::INTERNAL_ERROR, format!("Internal error occurred: {why}")).with_cause("", &why, "")
    }

    /// The verb is not offered for this resource.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            field::go_quote(&resource.to_string())
        );
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).about(resource, "")
    }

    /// The HTTP method is not offered at this URL.
    pub fn method_not_allowed() -> Self {
        let mut status = Self::failure(
            405,
            reason::METHOD_NOT_ALLOWED,
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// None of the accepted media types can be produced.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Self::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    /// The body's media type is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// The body is over the limit.
    pub fn request_entity_too_large(message: impl fmt::Display) -> Self {
        let message = format!("Request entity too large: {message}");
        Self::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, message)
    }

    /// Something that the server needs is not there.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }

    /// What an HTTP answer without a Status in its body means (`NewGenericServerResponse`).
    pub fn from_http(code: u16, method: &str, body: &str) -> Self {
        let (reason, message) = match code {
            409 if method == "POST" => (reason::ALREADY_EXISTS, "the server reported a conflict"),
            409 => (reason::CONFLICT, "the server reported a conflict"),
            404 => (reason::NOT_FOUND, "the server could not find the requested resource"),
            400 => (
                reason::BAD_REQUEST,
                "the server rejected our request for an unknown reason",
            ),
            401 => (
                reason::UNAUTHORIZED,
                "the server has asked for the client to provide credentials",
            ),
            403 => (reason::FORBIDDEN, body),
            406 => (reason::NOT_ACCEPTABLE, body),
            415 => (reason::UNSUPPORTED_MEDIA_TYPE, body),
            405 => (
                reason::METHOD_NOT_ALLOWED,
                "the server does not allow this method on the requested resource",
            ),
            410 => (reason::GONE, body),
            422 => (
                reason::INVALID,
                "the server rejected our request due to an error in our request",
            ),
            503 => (
                reason::SERVICE_UNAVAILABLE,
                "the server is currently unable to handle the request",
            ),
            504 => (
                reason::TIMEOUT,
                "the server was unable to return a response in the time allotted, but may still be processing the request",
            ),
            429 => (
                reason::TOO_MANY_REQUESTS,
                "the server has received too many requests and has asked us to try again later",
            ),
            _ => ("", ""),
        };
        let message = match (message, code) {
            ("", 500..) => format!(
                "an error on the server ({}) has prevented the request from succeeding",
                field::go_quote(body)
            ),
            ("", _) => format!("the server responded with the status code {code} but did not return more information"),
            (message, _) => message.to_owned(),
        };
        let reason = if reason.is_empty() && code >= 500 {
            reason::INTERNAL_ERROR
        } else {
            reason
        };
        Self::failure(code, reason, message).with_cause("UnexpectedServerResponse", body, "")
    }

    /// Whether the reason is this one, or the reason is unknown and the code is this one.
    fn is(&self, reason: &str, code: u16) -> bool {
        self.reason == reason || (self.reason.is_empty() && self.code == code)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.is(reason::NOT_FOUND, 404)
    }

    /// Whether an object of this name exists.
    pub fn is_already_exists(&self) -> bool {
        self.reason == reason::ALREADY_EXISTS
    }

    /// Whether a precondition failed.
    pub fn is_conflict(&self) -> bool {
        self.is(reason::CONFLICT, 409)
    }

    /// Whether fields were refused.
    pub fn is_invalid(&self) -> bool {
        self.is(reason::INVALID, 422)
    }

    /// Whether a list or watch has to start again.
    pub fn is_expired(&self) -> bool {
        self.reason == reason::EXPIRED || self.is(reason::GONE, 410)
    }

    /// Whether the user may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.is(reason::FORBIDDEN, 403)
    }

    /// Whether a cause of this reason is given.
    pub fn has_cause(&self, reason: &str) -> bool {
        self.details
            .as_ref()
            .is_some_and(|d| d.causes.iter().any(|cause| cause.reason == reason))
    }

    /// The JSON body.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Status holds only strings and numbers")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            f.write_str(&self.reason)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Error, Path};
    use serde_json::json;

    #[test]
    fn messages_are_upstreams() {
        let pods = GroupResource::new("", "pods");
        let deployments = GroupResource::new("apps", "deployments");
        let cases = [
            (Status::not_found(&pods, "a"), 404, r#"pods "a" not found"#),
            (
                Status::already_exists(&deployments, "a"),
                409,
                r#"deployments.apps "a" already exists"#,
            ),
            (Status::forbidden(&pods, "", "no"), 403, "pods is forbidden: no"),
            (Status::forbidden(&pods, "a", "no"), 403, r#"pods "a" is forbidden: no"#),
            (Status::unauthorized(""), 401, "not authorized"),
            (
                Status::stale(&pods, "a"),
                409,
                r#"Operation cannot be fulfilled on pods "a": the object has been modified; please apply your changes to the latest version and try again"#,
            ),
            (
                Status::method_not_supported(&pods, "delete"),
                405,
                r#"delete is not supported on resources of kind "pods""#,
            ),
            (Status::timeout("slow", 1), 504, "Timeout: slow"),
        ];
        for (status, code, message) in cases {
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
    }

    #[test]
    fn invalid_lists_every_cause() {
        let path = Path::new("spec");
        let errors = vec![
            Error::required(&path.child("a"), ""),
            Error::invalid(&path.child("b"), "x", "must be y"),
        ];
        let status = Status::invalid("apps", "Deployment", "d", errors);
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Deployment.apps \"d\" is invalid: [spec.a: Required value, spec.b: Invalid value: \"x\": must be y]",
                "reason": "Invalid", "code": 422,
                "details": {"name": "d", "group": "apps", "kind": "Deployment", "causes": [
                    {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                    {"reason": "FieldValueInvalid", "message": "Invalid value: \"x\": must be y", "field": "spec.b"},
                ]},
            })
        );
    }

    #[test]
    fn the_wire_form_round_trips() {
        let status = Status::too_many_requests("later", 3);
        let again: Status = serde_json::from_slice(&status.to_json()).unwrap();
        assert_eq!(again, status);
        assert!(Status::from_http(404, "GET", "").is_not_found());
        assert!(!Status::from_http(410, "GET", "").is_not_found());
    }
}
