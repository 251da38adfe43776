//! The parameters that a binding gives its policy (upstream `policy/generic/policy_dispatcher.go`,
//! `CollectParams`).

use std::sync::Arc;

use api::Value;

use super::definition::{ParamKind, ParamRef};
use crate::cache::{At, ListParams, Selection};
use crate::resource::Resource;
use crate::state::State;

/// The resource of a policy's `paramKind`.
///
/// # Errors
/// If no such kind is served: the policy is misconfigured.
pub(super) fn resource(state: &State, kind: &ParamKind) -> Result<Arc<Resource>, String> {
    let gvk = kind.gvk();
    let registry = state.registry.load();
    let found = registry.all().iter().find(|resource| resource.kind.gvk == gvk);
    found
        .cloned()
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{gvk}'"))
}

/// The parameters of one binding; `[None]` evaluates once without any.
///
/// # Errors
/// If the binding is misconfigured, or there are none and that is not allowed.
pub(super) async fn collect(
    resource: Option<&Resource>,
    reference: Option<&ParamRef>,
    namespace: &str,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(resource), Some(reference)) = (resource, reference) else {
        return Ok(vec![None]);
    };
    let namespaced = resource.kind.is_namespaced();
    if !namespaced && !reference.namespace.is_empty() {
        return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
    }
    let home = match (namespaced, reference.namespace.as_str()) {
        (false, _) => "",
        (true, "") if namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned(),
            );
        }
        (true, "") => namespace,
        (true, named) => named,
    };
    let found = match (reference.name.as_str(), &reference.selector) {
        ("", None) => return Err("one of name or selector must be provided".to_owned()),
        ("", Some(selector)) => {
            let selector = selector.as_ref().map_err(Clone::clone)?;
            let params = ListParams {
                at: At::Latest,
                selection: if namespaced {
                    Selection::namespace(home)
                } else {
                    Selection::all()
                },
                limit: 0,
                start_after: None,
            };
            let page = resource.cache.list(params).await.map_err(|error| error.to_string())?;
            let selected = page.entries.iter().filter(|entry| selector.matches(entry.labels()));
            selected.map(|entry| Some(resource.value(entry))).collect()
        }
        (_, Some(_)) => return Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
        (name, None) => {
            let found = resource.latest(home, name).await.map_err(|status| status.message)?;
            found
                .map(|entry| Some(resource.value(&entry)))
                .into_iter()
                .collect::<Vec<_>>()
        }
    };
    if found.is_empty() && reference.deny_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}
