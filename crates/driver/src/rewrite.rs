//! Every object of a resource, written as it is.

use api::{Gvr, Value, meta};
use client::{Client, ClientError, ListParams, PatchKind, WriteParams};
use serde_json::json;

const PAGE: u32 = 500;

/// Patches every object with nothing, which stores it as objects are stored now; of a custom resource, its definition
/// then says that no other version is stored.
///
/// # Errors
/// An object could not be written for another reason than that it has changed or gone.
pub(crate) async fn rewrite(client: &Client, resource: &Gvr, params: &WriteParams) -> Result<(), ClientError> {
    let definitions = client.dynamic(&Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"));
    let name = format!("{}.{}", resource.resource, resource.group);
    let definition = match definitions.get("", &name).await {
        Ok(definition) => Some(definition),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let objects = client.dynamic(resource).metadata_only();
    let mut page = ListParams {
        limit: PAGE,
        ..ListParams::default()
    };
    loop {
        let list = objects.list("", &page).await?;
        for object in &list.items {
            // Of another object, or another version of it, somebody else has taken care.
            let patch = json!({"metadata": {
                "uid": meta::uid(object), "resourceVersion": meta::resource_version(object)}});
            let written: Result<Value, _> = client
                .dynamic(resource)
                .patch(
                    meta::namespace(object),
                    meta::name(object),
                    PatchKind::Merge,
                    &patch,
                    params,
                )
                .await;
            match written {
                Err(error) if !error.is_conflict() && !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = token,
            None => break,
        }
    }
    let Some(definition) = definition else {
        return Ok(());
    };
    let mut versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let Some(stored) = versions.find(|version| version["storage"] == true) else {
        return Ok(());
    };
    let patch = json!({
        "metadata": {"resourceVersion": meta::resource_version(&definition)},
        "status": {"storedVersions": [stored["name"]]},
    });
    let told: Result<Value, _> = definitions
        .patch_sub("", &name, "status", PatchKind::Merge, &patch, params)
        .await;
    match told {
        // It has changed meanwhile: objects may be stored in another version already.
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        told => told.map(drop),
    }
}
