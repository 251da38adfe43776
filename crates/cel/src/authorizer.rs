//! The variable `authorizer`: checks that expressions make of the host's authorizer
//! (k8s.io/apiserver/pkg/cel/library/authz.go).

use std::sync::Arc;

use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Opaque, Value};

/// What the host answers checks with.
pub trait Authorizer: Send + Sync {
    /// Decides on a request of a user.
    fn authorize(&self, request: &Request) -> Answer;
}

/// Who a check is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The user of the request that is admitted.
    Requester,
    /// `authorizer.serviceAccount(namespace, name)`
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// A request to decide on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub subject: Subject,
    /// The verb.
    pub verb: String,
    /// What is asked for.
    pub target: Target,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A path that is no resource.
    Path(String),
    /// A resource; its version is `*`.
    Resource(ResourceTarget),
}

/// A resource that a request is for. Selectors are as written; an empty one is none, and the host parses them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceTarget {
    /// API group, empty for the core group.
    pub group: String,
    /// The resource's name.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
    /// A field selector, or empty.
    pub field_selector: String,
    /// A label selector, or empty.
    pub label_selector: String,
}

/// The host's decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while deciding.
    pub error: Option<String>,
}

/// Values on the way from `authorizer` to a decision.
#[derive(Clone)]
pub enum AuthorizerValue {
    /// `authorizer`
    Authorizer(Handle),
    /// `authorizer.path('/healthz')`
    Path(Handle, String),
    /// `authorizer.group('apps')`
    Group(Handle, String),
    /// `….resource('deployments')` and what narrows it.
    Resource(Handle, ResourceTarget),
    /// `….check('get')`
    Decision(Answer),
}

/// The host's authorizer and whom it is asked about.
#[derive(Clone)]
pub struct Handle {
    host: Arc<dyn Authorizer>,
    subject: Subject,
}

impl Value {
    /// The variable `authorizer`.
    pub fn authorizer(host: Arc<dyn Authorizer>) -> Value {
        wrap(AuthorizerValue::Authorizer(Handle {
            host,
            subject: Subject::Requester,
        }))
    }

    /// The variable `authorizer.requestResource`: the resource of the request that is admitted.
    pub fn request_resource(host: Arc<dyn Authorizer>, target: ResourceTarget) -> Value {
        wrap(AuthorizerValue::Resource(
            Handle {
                host,
                subject: Subject::Requester,
            },
            target,
        ))
    }
}

fn wrap(value: AuthorizerValue) -> Value {
    Value::opaque(Opaque::Authorizer(value))
}

impl AuthorizerValue {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            AuthorizerValue::Authorizer(_) => "kubernetes.authorization.Authorizer",
            AuthorizerValue::Path(..) => "kubernetes.authorization.PathCheck",
            AuthorizerValue::Group(..) => "kubernetes.authorization.GroupCheck",
            AuthorizerValue::Resource(..) => "kubernetes.authorization.ResourceCheck",
            AuthorizerValue::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    pub(crate) fn type_of(&self) -> Type {
        Type::object(self.type_name())
    }

    /// Evaluates a function of the library on this value.
    pub(crate) fn call(&self, function: &str, arguments: &[&str]) -> Result<Value, EvalError> {
        let first = arguments.first().copied().unwrap_or_default();
        Ok(match (self, function) {
            (AuthorizerValue::Authorizer(_), "path") if first.trim().is_empty() => {
                return Err(EvalError::new("path must not be empty"));
            }
            (AuthorizerValue::Authorizer(handle), "path") => {
                wrap(AuthorizerValue::Path(handle.clone(), first.to_owned()))
            }
            (AuthorizerValue::Authorizer(handle), "group") => {
                wrap(AuthorizerValue::Group(handle.clone(), first.to_owned()))
            }
            (AuthorizerValue::Authorizer(handle), "serviceAccount") => service_account(handle, arguments)?,
            (AuthorizerValue::Group(..), "resource") if first.trim().is_empty() => {
                return Err(EvalError::new("resource must not be empty"));
            }
            (AuthorizerValue::Group(handle, group), "resource") => {
                let target = ResourceTarget {
                    group: group.clone(),
                    resource: first.to_owned(),
                    ..ResourceTarget::default()
                };
                wrap(AuthorizerValue::Resource(handle.clone(), target))
            }
            (AuthorizerValue::Path(handle, path), "check") => handle.check(first, Target::Path(path.clone())),
            (AuthorizerValue::Resource(handle, target), "check") => {
                handle.check(first, Target::Resource(target.clone()))
            }
            (AuthorizerValue::Resource(handle, target), _) => {
                let mut target = target.clone();
                let part = match function {
                    "subresource" => &mut target.subresource,
                    "namespace" => &mut target.namespace,
                    "name" => &mut target.name,
                    "fieldSelector" => &mut target.field_selector,
                    "labelSelector" => &mut target.label_selector,
                    _ => return Err(EvalError::no_such_overload()),
                };
                first.clone_into(part);
                wrap(AuthorizerValue::Resource(handle.clone(), target))
            }
            (AuthorizerValue::Decision(answer), "allowed") => Value::Bool(answer.allowed),
            (AuthorizerValue::Decision(answer), "reason") => Value::string(answer.reason.as_str()),
            (AuthorizerValue::Decision(answer), "errored") => Value::Bool(answer.error.is_some()),
            (AuthorizerValue::Decision(answer), "error") => Value::string(answer.error.as_deref().unwrap_or_default()),
            _ => return Err(EvalError::no_such_overload()),
        })
    }
}

fn service_account(handle: &Handle, arguments: &[&str]) -> Result<Value, EvalError> {
    let [namespace, name] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    if !api::validate::dns1123_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !api::validate::dns1123_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let subject = Subject::ServiceAccount {
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
    };
    Ok(wrap(AuthorizerValue::Authorizer(Handle {
        host: handle.host.clone(),
        subject,
    })))
}

impl Handle {
    fn check(&self, verb: &str, target: Target) -> Value {
        let request = Request {
            subject: self.subject.clone(),
            verb: verb.to_owned(),
            target,
        };
        wrap(AuthorizerValue::Decision(self.host.authorize(&request)))
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.host, &other.host) && self.subject == other.subject
    }
}

impl PartialEq for AuthorizerValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (AuthorizerValue::Authorizer(one), AuthorizerValue::Authorizer(two)) => one == two,
            (AuthorizerValue::Path(one, path), AuthorizerValue::Path(two, other)) => one == two && path == other,
            (AuthorizerValue::Group(one, group), AuthorizerValue::Group(two, other)) => one == two && group == other,
            (AuthorizerValue::Resource(one, target), AuthorizerValue::Resource(two, other)) => {
                one == two && target == other
            }
            (AuthorizerValue::Decision(one), AuthorizerValue::Decision(two)) => one == two,
            _ => false,
        }
    }
}

impl std::fmt::Debug for AuthorizerValue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.type_name())
    }
}
