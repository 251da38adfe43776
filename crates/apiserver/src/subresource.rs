//! Subresources that are not a part of the stored object.

pub(crate) mod binding;
mod connect;
mod connect_options;
mod eviction;
mod links;
mod log_options;
mod log_socket;
pub(crate) mod proxy;
mod scale;
mod token;
mod translate;

use std::sync::Arc;

use api::{Gvk, Status, Value};
use bytes::Bytes;
use serde_json::json;

use crate::admission::{Attributes, Operation, Options, Trace};
use crate::body::Body;
use crate::call::Call;
use crate::codec;
use crate::kind::{Action, Behaviour, Connect, Subresource, Verb};
use crate::negotiate;
use crate::resource::Resource;
use crate::respond::{self, Answer};
use crate::server::read_body;
use crate::state::State;
use crate::verbs::create::report_strict;
use crate::verbs::metadata;
use crate::verbs::options::{WriteOptions, WriteVerb};

pub(crate) use connect::ask_kubelet;

/// Answers a request to such a subresource.
///
/// # Errors
/// What the client is told instead.
pub(crate) async fn handle(
    state: &Arc<State>,
    call: &Call,
    resource: &Arc<Resource>,
    subresource: &Subresource,
    verb: Verb,
    body: Body,
) -> Result<Answer, Status> {
    match &subresource.behaviour {
        Behaviour::Scale(paths) => scale::handle(state, call, resource, paths, verb, body).await,
        Behaviour::Create(action) => {
            let options = WriteOptions::read(call, WriteVerb::Create)?;
            let body = read_body(body).await?;
            let gvk = subresource.gvk.as_ref().unwrap_or(&resource.kind.gvk);
            let mut object = decode(call, gvk, &body, &options)?;
            let name = subresource.name;
            metadata::ensure_namespace(&resource.kind, &mut object, &call.info.namespace)?;
            let admission = Options::Write(&options);
            admit(state, call, resource, name, Operation::Create, admission, &mut object).await?;
            match action {
                Action::Binding => binding::bind(state, call, &call.info.name, &object, &options).await,
                Action::Eviction => eviction::evict(state, call, resource, &object, &options).await,
                Action::Token => token::issue(state, call, resource, object).await,
            }
        }
        // A log is read, not connected to.
        Behaviour::Connect(Connect::Log) => connect::handle(state, call, resource, Connect::Log, body).await,
        Behaviour::Connect(connect) => {
            let gvk = subresource.gvk.as_ref().unwrap_or(&resource.kind.gvk);
            let mut object = connect_options::read(call, gvk);
            let (name, operation) = (subresource.name, Operation::Connect);
            admit(state, call, resource, name, operation, Options::None, &mut object).await?;
            connect::handle(state, call, resource, *connect, body).await
        }
        Behaviour::Part(_) => Err(Status::method_not_allowed()),
    }
}

/// Runs admission for what is done through a subresource.
async fn admit(
    state: &State,
    call: &Call,
    resource: &Resource,
    subresource: &str,
    operation: Operation,
    options: Options<'_>,
    object: &mut Value,
) -> Result<(), Status> {
    let trace = Trace::default();
    let attributes = Attributes {
        options,
        ..Attributes::new(operation, resource, call, &trace).subresource(subresource)
    };
    state.admission.mutate(state, &attributes, object).await?;
    state.admission.validate(state, &attributes, Some(&*object)).await
}

/// Reads a body as a built-in kind.
fn decode(call: &Call, gvk: &Gvk, body: &Bytes, options: &WriteOptions) -> Result<Value, Status> {
    let schema = schema::builtin();
    let root = schema
        .root(gvk)
        .ok_or_else(|| Status::internal(format!("no type for {gvk}")))?;
    let encoding = negotiate::input(&call.headers)?;
    let decoded = codec::decode(schema, root, gvk, encoding, body)?;
    report_strict(call, options.field_validation, gvk, decoded.strict)?;
    Ok(decoded.value)
}

/// An answer of a built-in kind.
fn answer(call: &Call, code: u16, gvk: &Gvk, mut object: Value) -> Result<Answer, Status> {
    let output = call.plain_output()?;
    let schema = schema::builtin();
    let ty = schema
        .kind(&gvk.group, &gvk.version, &gvk.kind)
        .ok_or_else(|| Status::internal(format!("no type for {gvk}")))?;
    gvk.stamp(&mut object);
    schema::normalize(ty, &mut object);
    respond::object(code, output, ty, gvk, &object)
}

/// What creates without an object of their own answer.
fn success(call: &Call) -> Result<Answer, Status> {
    let gvk = Gvk::new("", "v1", "Status");
    answer(
        call,
        201,
        &gvk,
        json!({"metadata": {}, "status": "Success", "code": 201}),
    )
}
