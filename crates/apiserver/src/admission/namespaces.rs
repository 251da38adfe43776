//! Namespaces that must be there, or are made when they are needed
//! (`plugin/pkg/admission/namespace/{exists,autoprovision}`). Both off by default.

use api::{GroupResource, Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::{Attributes, Operation, Plugin, lookup};
use crate::state::State;
use crate::user::UserInfo;
use crate::verbs::create;
use crate::verbs::options::{FieldValidation, WriteOptions};

async fn is_missing(state: &State, attributes: &Attributes<'_>) -> Result<bool, Status> {
    if !attributes.resource.kind.is_namespaced() {
        return Ok(false);
    }
    let found = lookup::get(state, "", "namespaces", "", attributes.namespace).await?;
    Ok(found.is_none())
}

pub(super) struct Exists;

#[async_trait]
impl Plugin for Exists {
    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn validate(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
        _object: Option<&Value>,
    ) -> Result<(), Status> {
        if is_missing(state, attributes).await? {
            return Err(Status::not_found(
                &GroupResource::new("", "namespaces"),
                attributes.namespace,
            ));
        }
        Ok(())
    }
}

pub(super) struct AutoProvision;

#[async_trait]
impl Plugin for AutoProvision {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        if attributes.dry_run() || !is_missing(state, attributes).await? {
            return Ok(());
        }
        let Some(namespaces) = state.resource("", "v1", "namespaces") else {
            return Ok(());
        };
        let name = attributes.namespace;
        let mut call = attributes.call.about(name, "");
        call.user = UserInfo::api_server();
        call.info.namespace = String::new();
        let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        crate::codec::complete(&namespaces.kind, &mut object);
        let options = WriteOptions {
            dry_run: false,
            field_manager: String::new(),
            field_validation: FieldValidation::Ignore,
            force: false,
            applied: false,
        };
        // Making a namespace passes admission too, but this plugin has nothing to say to it.
        let made = Box::pin(create::insert(state, &call, &namespaces, object, &options)).await;
        match made {
            Err(status) if !status.is_already_exists() => Err(attributes.forbid(status)),
            _ => Ok(()),
        }
    }
}
