//! Kinds that are asked, not stored: reviews of tokens and access, and Bindings
//! (`pkg/registry/{authentication,authorization}`).

mod access;
mod identity;

use std::sync::Arc;

use api::{Status, Value};
use bytes::Bytes;

use crate::call::Call;
use crate::codec;
use crate::kind::{Kind, Verb};
use crate::negotiate;
use crate::respond::{self, Answer};
use crate::state::State;
use crate::subresource::binding;
use crate::verbs::create::report_strict;
use crate::verbs::metadata;
use crate::verbs::options::{WriteOptions, WriteVerb};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    Token,
    SelfSubject,
    SubjectAccess,
    LocalSubjectAccess,
    SelfSubjectAccess,
    SelfSubjectRules,
    Binding,
}

/// The kinds, as discovery shows them.
pub(crate) fn kinds() -> Vec<(Kind, Review)> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    const AUTHORIZATION: &str = "authorization.k8s.io";
    let cluster = |group, kind: &str| {
        Kind::cluster(group, "v1", kind, &format!("{}s", kind.to_lowercase())).verbs(&[Verb::Create])
    };
    let local = Kind::namespaced(
        AUTHORIZATION,
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
    );
    let binding = Kind::namespaced("", "v1", "Binding", "bindings");
    vec![
        (cluster(AUTHENTICATION, "TokenReview"), Review::Token),
        (cluster(AUTHENTICATION, "SelfSubjectReview"), Review::SelfSubject),
        (cluster(AUTHORIZATION, "SubjectAccessReview"), Review::SubjectAccess),
        (local.verbs(&[Verb::Create]), Review::LocalSubjectAccess),
        (
            cluster(AUTHORIZATION, "SelfSubjectAccessReview"),
            Review::SelfSubjectAccess,
        ),
        (
            cluster(AUTHORIZATION, "SelfSubjectRulesReview"),
            Review::SelfSubjectRules,
        ),
        (binding.verbs(&[Verb::Create]), Review::Binding),
    ]
}

/// Handles a POST.
pub(crate) async fn handle(
    state: &Arc<State>,
    call: &Call,
    kind: &Kind,
    review: Review,
    body: Bytes,
) -> Result<Answer, Status> {
    if call.info.verb != "create" {
        let gr = api::GroupResource::new(&*kind.gvk.group, &*kind.plural);
        return Err(Status::method_not_supported(&gr, &call.info.verb));
    }
    let output = call.plain_output()?;
    let options = WriteOptions::read(call, WriteVerb::Create)?;
    let encoding = negotiate::input(&call.headers)?;
    let decoded = codec::decode(&kind.schema, kind.root, &kind.gvk, encoding, &body)?;
    report_strict(call, options.field_validation, &kind.gvk, decoded.strict)?;
    let mut object = decoded.value;
    metadata::ensure_namespace(kind, &mut object, &call.info.namespace)?;
    match review {
        Review::Token => identity::token(state, &mut object).await?,
        Review::SelfSubject => identity::self_subject(call, &mut object),
        Review::SelfSubjectAccess => access::own(state, call, kind, &mut object).await?,
        Review::SubjectAccess => access::of_subject(state, kind, None, &mut object).await?,
        Review::LocalSubjectAccess => {
            let namespace = Some(call.info.namespace.as_str());
            access::of_subject(state, kind, namespace, &mut object).await?;
        }
        Review::SelfSubjectRules => access::own_rules(state, call, &mut object).await?,
        Review::Binding => {
            let name = api::meta::name(&object).to_owned();
            return binding::bind(state, call, &name, &object, &options).await;
        }
    }
    normalized(kind, &mut object);
    let ty = kind.schema.get(kind.root);
    respond::object(201, output, ty, &kind.gvk, &object)
}

fn normalized(kind: &Kind, object: &mut Value) {
    schema::normalize(kind.schema.get(kind.root), object);
}
