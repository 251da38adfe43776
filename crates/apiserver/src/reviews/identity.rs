//! TokenReview and SelfSubjectReview: who is it.

use std::sync::Arc;

use api::{Status, Value};
use serde_json::json;

use crate::authn::authenticate_token;
use crate::call::Call;
use crate::kind::value_at;
use crate::state::State;
use crate::user::UserInfo;

fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name});
    if !user.uid.is_empty() {
        value["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        value["groups"] = user.groups.clone().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

/// Whose is this token?
pub(super) async fn token(state: &Arc<State>, review: &mut Value) -> Result<(), Status> {
    let token = value_at(review, "spec.token")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let wanted: Vec<String> = value_at(review, "spec.audiences")
        .and_then(|list| serde_json::from_value(list.clone()).ok())
        .unwrap_or_default();
    review["status"] = match authenticate_token(state, &token, &wanted).await {
        Ok((user, bound)) => json!({
            "authenticated": true,
            "user": user_value(&user),
            "audiences": bound.audiences,
        }),
        Err(error) => json!({"user": {}, "error": error}),
    };
    Ok(())
}

/// Who am I?
pub(super) fn self_subject(call: &Call, review: &mut Value) {
    review["status"] = json!({"userInfo": user_value(&call.user)});
    api::meta::set_creation_timestamp(review, Some(call.now));
}
