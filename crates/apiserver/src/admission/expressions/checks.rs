//! The variable `authorizer`: what expressions ask of the server's authorizer.
//!
//! Evaluation is synchronous and knows no server; authorization is neither. So an expression that asks
//! something new is told no, the question is answered, and it is evaluated once more. Each answer is
//! kept for the whole request (upstream `admission/plugin/authorizer`, the caching authorizer).

use std::sync::Arc;

use cel::authorizer::{Answer, Authorizer, Request, ResourceTarget, Subject, Target};
use parking_lot::Mutex;

use crate::admission::Attributes;
use crate::authz;
use crate::state::State;
use crate::user::UserInfo;

/// What has been asked during one request.
#[derive(Debug, Default)]
pub(in crate::admission) struct Checks {
    answered: Mutex<Vec<(Request, Answer)>>,
    open: Mutex<Vec<Request>>,
}

impl Authorizer for Checks {
    fn authorize(&self, request: &Request) -> Answer {
        let answered = self.answered.lock();
        if let Some((_, answer)) = answered.iter().find(|(asked, _)| asked == request) {
            return answer.clone();
        }
        let mut open = self.open.lock();
        if !open.contains(request) {
            open.push(request.clone());
        }
        Answer::default()
    }
}

impl Checks {
    /// Evaluates until every question has been answered.
    pub async fn settled<T>(&self, state: &State, user: &UserInfo, evaluate: impl Fn() -> T) -> T {
        loop {
            let result = evaluate();
            let open = std::mem::take(&mut *self.open.lock());
            if open.is_empty() {
                return result;
            }
            for request in open {
                let answer = answer(state, user, &request).await;
                self.answered.lock().push((request, answer));
            }
        }
    }
}

async fn answer(state: &State, user: &UserInfo, request: &Request) -> Answer {
    let user = match &request.subject {
        Subject::Requester => user.clone(),
        Subject::ServiceAccount { namespace, name } => {
            let mut user = UserInfo::service_account(namespace, name);
            user.groups.retain(|group| group != crate::user::ALL_AUTHENTICATED);
            user
        }
    };
    let mut attributes = authz::Attributes {
        user,
        verb: request.verb.clone(),
        ..authz::Attributes::default()
    };
    match &request.target {
        Target::Path(path) => attributes.path.clone_from(path),
        Target::Resource(target) => {
            attributes.is_resource = true;
            attributes.group.clone_from(&target.group);
            attributes.version = "*".to_owned();
            attributes.resource.clone_from(&target.resource);
            attributes.subresource.clone_from(&target.subresource);
            attributes.namespace.clone_from(&target.namespace);
            attributes.name.clone_from(&target.name);
        }
    }
    match authz::authorize(state, &attributes).await {
        authz::Decision::Allow(reason) => Answer {
            allowed: true,
            reason,
            error: None,
        },
        authz::Decision::NoOpinion(reason) => Answer {
            allowed: false,
            reason,
            error: None,
        },
    }
}

/// What `authorizer.requestResource` is about.
pub(super) fn request_resource(attributes: &Attributes<'_>) -> ResourceTarget {
    ResourceTarget {
        group: attributes.resource.kind.gvk.group.clone(),
        resource: attributes.resource.kind.plural.clone(),
        subresource: attributes.subresource.to_owned(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        ..ResourceTarget::default()
    }
}

/// The variables `authorizer` and `authorizer.requestResource`.
pub(super) fn values(checks: &Arc<Checks>, target: ResourceTarget) -> (cel::Value, cel::Value) {
    let host: Arc<dyn Authorizer> = checks.clone();
    (
        cel::Value::authorizer(host.clone()),
        cel::Value::request_resource(host, target),
    )
}
