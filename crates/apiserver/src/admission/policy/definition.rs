//! Policies and bindings as they are obeyed: parsed and compiled once a revision.

use api::labels::Selector;
use api::{Gvk, Status, Value, meta};

use crate::admission::Attributes;
use crate::admission::expressions::{Compiler, Conditions, Expression, Returns, Variables};
use crate::admission::matching::{self, Match, MatchPolicy, Rule, Selectors, strings};
use crate::admission::webhook::FailurePolicy;
use crate::state::State;

/// What `matchConstraints` or `matchResources` says.
pub(super) struct Constraints {
    selectors: Selectors,
    match_policy: MatchPolicy,
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
}

impl Constraints {
    fn read(object: &Value) -> Constraints {
        Constraints {
            selectors: Selectors::read(object),
            match_policy: MatchPolicy::read(object),
            rules: Rule::read_all(object.get("resourceRules")),
            excluded: Rule::read_all(object.get("excludeResourceRules")),
        }
    }

    /// How the request matches, if it does.
    ///
    /// # Errors
    /// What keeps it from being decided, if the rules are about the request.
    pub async fn find(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<Option<Match>, Status> {
        let namespace = self.selectors.match_namespace(state, attributes, object).await;
        if matches!(namespace, Ok(false)) {
            return Ok(None);
        }
        let selected = self.selectors.match_object(attributes, object);
        if matches!(selected, Ok(false)) {
            return Ok(None);
        }
        if matching::find(state, attributes, &self.excluded, self.match_policy).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() {
            Some(matching::own(attributes))
        } else {
            matching::find(state, attributes, &self.rules, self.match_policy)
        };
        if found.is_some() {
            namespace?;
            selected?;
        }
        Ok(found)
    }
}

/// `paramKind`.
#[derive(Clone, Debug)]
pub(super) struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

impl ParamKind {
    /// Group, version and kind.
    pub fn gvk(&self) -> Gvk {
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version));
        Gvk::new(group, version, &self.kind)
    }
}

/// One of `validations`.
pub(super) struct Validation {
    pub message: String,
    pub reason: String,
    pub message_expression: Option<Expression>,
}

/// What a mutation's expression makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchType {
    ApplyConfiguration,
    JsonPatch,
}

/// What a policy does with what it matches.
pub(super) struct Policy {
    pub name: String,
    pub param_kind: Option<ParamKind>,
    pub constraints: Option<Constraints>,
    pub failure: FailurePolicy,
    pub conditions: Conditions,
    pub variables: Variables,
    /// The expressions of `validations`, and the rest of each.
    pub validations: Vec<Expression>,
    pub about: Vec<Validation>,
    /// `auditAnnotations`: keys, and the expressions of their values.
    pub annotation_keys: Vec<String>,
    pub annotations: Vec<Expression>,
    pub mutations: Vec<(PatchType, Expression)>,
    pub reinvoked: bool,
}

impl Policy {
    /// Reads and compiles a policy of either kind; what does not compile fails when it is evaluated.
    pub fn read(object: &Value) -> Policy {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let list = |field: &str| spec.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let param_kind = spec
            .get("paramKind")
            .filter(|kind| kind.is_object())
            .map(|kind| ParamKind {
                api_version: text(kind, "apiVersion"),
                kind: text(kind, "kind"),
            });
        let mut compiler = Compiler::of_policy(param_kind.is_some());
        for variable in list("variables") {
            compiler.add_variable(&text(&variable, "name"), &text(&variable, "expression"));
        }
        let validations = list("validations");
        let annotations = list("auditAnnotations");
        let about = validations.iter().map(|validation| {
            let message = text(validation, "messageExpression");
            Validation {
                message: text(validation, "message"),
                reason: text(validation, "reason"),
                message_expression: (!message.is_empty()).then(|| compiler.compile_plain(&message, Returns::String)),
            }
        });
        let mutations = list("mutations").into_iter().filter_map(|mutation| {
            let expression = |field: &str| text(mutation.get(field).unwrap_or(&Value::Null), "expression");
            let (kind, text, returns) = match mutation.get("patchType").and_then(Value::as_str) {
                Some("JSONPatch") => (PatchType::JsonPatch, expression("jsonPatch"), Returns::JsonPatches),
                Some("ApplyConfiguration") => {
                    let text = expression("applyConfiguration");
                    (PatchType::ApplyConfiguration, text, Returns::Object)
                }
                _ => return None,
            };
            Some((kind, compiler.compile_patch(&text, returns)))
        });
        Policy {
            name: meta::name(object).to_owned(),
            constraints: spec
                .get("matchConstraints")
                .filter(|c| c.is_object())
                .map(Constraints::read),
            failure: FailurePolicy::read(spec),
            conditions: Conditions::read(spec, &compiler),
            validations: validations
                .iter()
                .map(|validation| compiler.compile(&text(validation, "expression"), Returns::Bool))
                .collect(),
            about: about.collect(),
            annotation_keys: annotations.iter().map(|annotation| text(annotation, "key")).collect(),
            annotations: annotations
                .iter()
                .map(|annotation| {
                    let expression = text(annotation, "valueExpression");
                    compiler.compile_plain(&expression, Returns::StringOrNull)
                })
                .collect(),
            mutations: mutations.collect(),
            reinvoked: text(spec, "reinvocationPolicy") == "IfNeeded",
            variables: compiler.into_variables(),
            param_kind,
        }
    }
}

/// `paramRef`.
pub(super) struct ParamRef {
    pub name: String,
    pub namespace: String,
    /// Absent, or readable, or not.
    pub selector: Option<Result<Selector, String>>,
    pub deny_missing: bool,
}

/// A binding of either kind.
pub(super) struct Binding {
    pub name: String,
    pub policy: String,
    pub param_ref: Option<ParamRef>,
    pub constraints: Option<Constraints>,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

impl Binding {
    pub fn read(object: &Value) -> Binding {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        Binding {
            name: meta::name(object).to_owned(),
            policy: text(spec, "policyName"),
            param_ref: spec.get("paramRef").filter(|r| r.is_object()).map(|reference| {
                let selector = reference.get("selector").filter(|s| !s.is_null());
                ParamRef {
                    name: text(reference, "name"),
                    namespace: text(reference, "namespace"),
                    selector: selector.map(|s| Selector::from_label_selector(Some(s)).map_err(|e| e.to_string())),
                    deny_missing: text(reference, "parameterNotFoundAction") == "Deny",
                }
            }),
            constraints: spec
                .get("matchResources")
                .filter(|c| c.is_object())
                .map(Constraints::read),
            actions: strings(spec, "validationActions"),
        }
    }
}
