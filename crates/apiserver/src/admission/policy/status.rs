//! Says in a policy's status what is wrong with its expressions, given the types it is about
//! (upstream `pkg/controller/validatingadmissionpolicystatus`, `policy/validating/typechecking.go`).
//!
//! The work is the server's own because only it knows every type; it is done as the user of upstream's
//! controller, and by nothing but API requests.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::{Gvk, Value, meta};
use bytes::Bytes;
use http::Request;
use serde_json::json;

use super::definition::ParamKind;
use super::type_schema;
use crate::admission::expressions::TypedCompiler;
use crate::admission::matching::strings;
use crate::cache::{ChangeType, Selection, WatchParams, WatchStart, Watcher};
use crate::server::ApiServer;
use crate::state::State;
use crate::user::UserInfo;

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
const CONTROLLER: &str = "validatingadmissionpolicy-status-controller";
/// The most types one rule is checked against.
const MOST_TYPES: usize = 10;
/// How long to wait before a broken watch is begun anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Checks every policy whose newest generation was not, until the server ends. It does not keep the
/// server alive.
pub(crate) async fn run(state: Weak<State>) {
    while let Some(strong) = state.upgrade() {
        let shutdown = strong.shutdown.clone();
        let Some(policies) = strong.any_version(GROUP, PLURAL) else {
            return;
        };
        let params = WatchParams {
            start: WatchStart::StateLatest,
            selection: Selection::all(),
        };
        drop(strong);
        let watched = async {
            let mut watcher = policies.cache.watch(params).await?;
            follow(&state, &mut watcher).await
        };
        tokio::select! {
            ended = watched => match ended {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the watch of admission policies ended; starting anew"),
            },
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn follow(state: &Weak<State>, watcher: &mut Watcher) -> Result<(), crate::cache::CacheError> {
    loop {
        for event in watcher.next().await? {
            let Some(state) = state.upgrade() else { return Ok(()) };
            let gone = event.change == ChangeType::Deleted;
            let Some(policies) = state.any_version(GROUP, PLURAL) else {
                return Ok(());
            };
            if let Some(entry) = event.entry.filter(|_| !gone) {
                reconcile(&state, &policies.value(&entry)).await;
            }
        }
    }
}

async fn reconcile(state: &Arc<State>, policy: &Value) {
    let observed = policy
        .pointer("/status/observedGeneration")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    if meta::generation(policy) <= observed {
        return;
    }
    let name = meta::name(policy);
    let warnings = check(state, policy);
    let apply = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "status": {"observedGeneration": meta::generation(policy), "typeChecking": {"expressionWarnings": warnings}},
    });
    let request = Request::patch(format!(
        "/apis/{GROUP}/v1/{PLURAL}/{name}/status?fieldManager={CONTROLLER}&force=true"
    ))
    .header("content-type", "application/apply-patch+yaml")
    .body(Bytes::from(apply.to_string()));
    let Ok(request) = request else { return };
    let server = ApiServer { state: state.clone() };
    let user = UserInfo::service_account("kube-system", CONTROLLER);
    let answer = server.in_process(user).call(request).await;
    if !answer.status().is_success() {
        tracing::warn!(
            policy = name,
            status = answer.status().as_u16(),
            "cannot write a policy's status"
        );
    }
}

/// The warnings of all expressions.
fn check(state: &State, policy: &Value) -> Vec<Value> {
    let types = types_to_check(state, policy);
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let params = policy
        .pointer("/spec/paramKind")
        .filter(|kind| kind.is_object())
        .and_then(|kind| {
            let kind = ParamKind {
                api_version: text(kind, "apiVersion"),
                kind: text(kind, "kind"),
            };
            schema_of(state, &kind.gvk())
        });
    let variables: Vec<(String, String)> = policy
        .pointer("/spec/variables")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|variable| (text(variable, "name"), text(variable, "expression")))
        .collect();
    let compilers: Vec<(Gvk, TypedCompiler)> = types
        .into_iter()
        .map(|(gvk, schema)| {
            let compiler = TypedCompiler::new(&gvk.kind, &schema, params.as_ref(), &variables);
            (gvk, compiler)
        })
        .collect();
    let check_one = |expression: &str| {
        let found: Vec<String> = compilers
            .iter()
            .filter_map(|(gvk, compiler)| {
                let issues = compiler.check(expression)?;
                Some(format!("{}, Kind={}: {issues}\n", gvk.api_version(), gvk.kind))
            })
            .collect();
        (!found.is_empty()).then(|| found.join("\n"))
    };
    let validations = policy.pointer("/spec/validations").and_then(Value::as_array);
    let mut warnings = Vec::new();
    for (index, validation) in validations.into_iter().flatten().enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = text(validation, field);
            if !expression.is_empty()
                && let Some(warning) = check_one(&expression)
            {
                let path = format!("spec.validations[{index}].{field}");
                warnings.push(json!({"fieldRef": path, "warning": warning}));
            }
        }
    }
    warnings
}

fn schema_of(state: &State, gvk: &Gvk) -> Option<Value> {
    let registry = state.registry.load();
    let resource = registry.all().iter().find(|resource| resource.kind.gvk == *gvk)?;
    Some(type_schema::of(resource.kind.schema.get(resource.kind.root)))
}

/// The kinds that the policy's rules name without wildcards, in order, with their schemas.
fn types_to_check(state: &State, policy: &Value) -> Vec<(Gvk, Value)> {
    let rules = policy
        .pointer("/spec/matchConstraints/resourceRules")
        .and_then(Value::as_array);
    let registry = state.registry.load();
    let mut kinds: BTreeSet<(String, String, String)> = BTreeSet::new();
    'rules: for rule in rules.into_iter().flatten() {
        let (mut groups, mut versions) = (strings(rule, "apiGroups"), strings(rule, "apiVersions"));
        let mut resources = strings(rule, "resources");
        resources.retain(|resource| !resource.contains(['*', '/']));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        groups.sort();
        versions.sort();
        resources.sort();
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                for plural in &resources {
                    let Some(resource) = registry.get(group, version, plural) else {
                        continue;
                    };
                    let gvk = &resource.kind.gvk;
                    kinds.insert((gvk.group.clone(), gvk.version.clone(), gvk.kind.clone()));
                    count += 1;
                    if count == MOST_TYPES {
                        break 'rules;
                    }
                }
            }
        }
    }
    drop(registry);
    let kinds = kinds
        .into_iter()
        .map(|(group, version, kind)| Gvk::new(&*group, &*version, &*kind));
    kinds
        .filter_map(|gvk| schema_of(state, &gvk).map(|schema| (gvk, schema)))
        .collect()
}
