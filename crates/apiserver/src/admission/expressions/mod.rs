//! CEL in admission: what expressions can use, and evaluating lists of them within a budget
//! (upstream `admission/plugin/cel`).
//!
//! An expression that does not compile is kept with its error, and fails when it is evaluated: a
//! policy is stored as it was validated, and must go on to mean the same.

mod checks;
mod conditions;
mod declared;
mod inputs;
mod names;
mod typed;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use api::Value;
use cel::{Activation, Env, EnvBuilder, ErrorKind, EvalError, Library, MutationTypes, Program, Type};

pub(super) use checks::Checks;
pub(super) use conditions::Conditions;
pub(super) use inputs::Inputs;
pub(super) use names::{check_names, check_names_in_patches};
pub(super) use typed::TypedCompiler;

use declared::VariableTypes;
use inputs::Lazy;

/// What all expressions of one policy with one set of parameters may cost together.
pub(super) const RUNTIME_BUDGET: u64 = cel::limits::RUNTIME_COST_BUDGET;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
const VARIABLES_TYPE: &str = "kubernetes.variables";

/// What an expression must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    Bool,
    String,
    StringOrNull,
    Any,
    /// An apply configuration.
    Object,
    /// A list of operations of a JSON patch.
    JsonPatches,
}

impl Returns {
    fn types(self) -> Vec<Type> {
        match self {
            Returns::Bool => vec![Type::Bool],
            Returns::String => vec![Type::String],
            Returns::StringOrNull => vec![Type::String, Type::Null],
            Returns::Any => Vec::new(),
            Returns::Object => vec![Type::object(MutationTypes::OBJECT)],
            Returns::JsonPatches => vec![Type::list(Type::object(MutationTypes::JSON_PATCH))],
        }
    }

    fn check(self, program: &Program) -> Result<(), String> {
        let types = self.types();
        if types.is_empty() || types.contains(program.output_type()) {
            return Ok(());
        }
        Err(match types.as_slice() {
            [one] => format!("must evaluate to {one}"),
            many => {
                let many: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("must evaluate to one of [{}]", many.join(" "))
            }
        })
    }
}

/// A compiled expression, or why it is none.
pub(super) struct Expression {
    text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why it cannot be evaluated, if it cannot.
    pub fn compile_error(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }
}

fn compile(env: &Env, text: &str, returns: Returns) -> Expression {
    let program = env
        .compile(text)
        .map_err(|issues| format!("compilation failed: {issues}"));
    Expression {
        text: text.to_owned(),
        program: program.and_then(|program| returns.check(&program).map(|()| program)),
    }
}

/// The variables that a policy defines for itself.
pub(super) type Variables = Arc<Vec<(String, Expression)>>;

/// What the expressions of one policy or webhook can use.
#[derive(Default)]
pub(super) struct Compiler {
    params: bool,
    /// Whether there is an object `variables`: policies have one, webhooks do not.
    composed: bool,
    types: BTreeMap<String, Type>,
    variables: Vec<(String, Expression)>,
}

/// Which of the optional things an expression can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Plain,
    Authorizer,
    Patches,
}

static BASE: LazyLock<Env> = LazyLock::new(|| {
    Env::kubernetes()
        .types(Arc::new(declared::types()))
        .variable("request", declared::REQUEST.ty())
        .variable("namespaceObject", declared::NAMESPACE.ty())
        .build()
});

fn with_objects(builder: EnvBuilder, object: &Type) -> EnvBuilder {
    builder
        .variable("object", object.clone())
        .variable("oldObject", object.clone())
}

fn with_authorizer(builder: EnvBuilder) -> EnvBuilder {
    builder
        .variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
        .variable(
            "authorizer.requestResource",
            Type::object("kubernetes.authorization.ResourceCheck"),
        )
}

impl Compiler {
    /// The compiler of a policy.
    pub fn of_policy(params: bool) -> Compiler {
        Compiler {
            params,
            composed: true,
            ..Compiler::default()
        }
    }

    /// The compiler of a webhook's conditions.
    pub fn of_webhook() -> Compiler {
        Compiler::default()
    }

    fn env(&self, extent: Extent) -> Env {
        let mut builder = with_objects(BASE.extend(), &Type::Dyn);
        if self.composed {
            builder = builder
                .variable("variables", Type::object(VARIABLES_TYPE))
                .types(Arc::new(VariableTypes(self.types.clone())));
        }
        if self.params {
            builder = builder.variable("params", Type::Dyn);
        }
        if extent != Extent::Plain {
            builder = with_authorizer(builder);
        }
        if extent == Extent::Patches {
            builder = builder.types(Arc::new(MutationTypes)).library(Library::JsonPatch);
        }
        builder.build()
    }

    /// Compiles a variable, which those after it and all other expressions can use.
    pub fn add_variable(&mut self, name: &str, text: &str) {
        let expression = compile(&self.env(Extent::Authorizer), text, Returns::Any);
        let ty = expression
            .program
            .as_ref()
            .map_or(Type::Dyn, |program| program.output_type().clone());
        self.types.insert(name.to_owned(), ty);
        self.variables.push((name.to_owned(), expression));
    }

    /// Compiles an expression that may ask the authorizer.
    pub fn compile(&self, text: &str, returns: Returns) -> Expression {
        compile(&self.env(Extent::Authorizer), text, returns)
    }

    /// Compiles an expression that may not ask the authorizer.
    pub fn compile_plain(&self, text: &str, returns: Returns) -> Expression {
        compile(&self.env(Extent::Plain), text, returns)
    }

    /// Compiles a mutation.
    pub fn compile_patch(&self, text: &str, returns: Returns) -> Expression {
        compile(&self.env(Extent::Patches), text, returns)
    }

    /// The variables, once everything is compiled.
    pub fn into_variables(self) -> Variables {
        Arc::new(self.variables)
    }
}

/// What one expression comes to.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Value(cel::Value),
    Error(String),
    /// There is no expression in this place.
    Absent,
}

/// Evaluates expressions in their order; variables are evaluated at most once for all.
///
/// # Errors
/// When the budget is spent; nothing is known then.
pub(super) fn evaluate(
    expressions: &[Option<&Expression>],
    variables: &Variables,
    inputs: &Inputs,
    budget: &mut u64,
) -> Result<Vec<Outcome>, String> {
    let lazy = Lazy::new(variables, inputs);
    let mut outcomes = Vec::with_capacity(expressions.len());
    for expression in expressions {
        let Some(expression) = expression else {
            outcomes.push(Outcome::Absent);
            continue;
        };
        let program = match &expression.program {
            Ok(program) => program,
            Err(error) => {
                outcomes.push(Outcome::Error(format!("compilation error: {error}")));
                continue;
            }
        };
        let (result, cost) = run(program, inputs, &lazy);
        let cost = cost.saturating_add(lazy.take_cost());
        *budget = budget.checked_sub(cost).ok_or_else(|| OUT_OF_BUDGET.to_owned())?;
        outcomes.push(match result {
            Ok(value) => Outcome::Value(value),
            Err(error) => Outcome::Error(format!("expression '{}' resulted in error: {error}", expression.text)),
        });
    }
    Ok(outcomes)
}

/// Evaluates one program, and says what that cost.
fn run(program: &Program, inputs: &Inputs, lazy: &Arc<Lazy>) -> (Result<cel::Value, EvalError>, u64) {
    let mut activation = Activation::new()
        .with("object", inputs.object.clone())
        .with("oldObject", inputs.old.clone())
        .with("request", inputs.request.clone())
        .with("params", inputs.params.clone())
        .with("namespaceObject", inputs.namespace.clone())
        .with("variables", cel::Value::Host(lazy.clone()));
    if let Some((authorizer, resource)) = &inputs.authorizer {
        activation = activation
            .with("authorizer", authorizer.clone())
            .with("authorizer.requestResource", resource.clone());
    }
    match program.evaluate(&activation, cel::limits::PER_CALL_LIMIT) {
        Ok((value, cost)) => (Ok(value), cost),
        Err(error) => {
            let stopped = error.kind() == ErrorKind::CostLimit;
            let cost = if stopped {
                error.cost().max(cel::limits::PER_CALL_LIMIT)
            } else {
                error.cost()
            };
            (Err(error), cost)
        }
    }
}

/// Whether it is `true`.
pub(super) fn is_true(value: &cel::Value) -> bool {
    value.as_bool() == Some(true)
}

/// Whether it is `false`.
pub(super) fn is_false(value: &cel::Value) -> bool {
    value.as_bool() == Some(false)
}

/// Whether it is `null`.
pub(super) fn is_null(value: &cel::Value) -> bool {
    matches!(value, cel::Value::Null)
}

/// The text, if it is one.
pub(super) fn as_text(value: &cel::Value) -> Option<&str> {
    value.as_str()
}

/// The name of its type.
pub(super) fn type_name(value: &cel::Value) -> String {
    value.type_of().runtime_name().to_owned()
}

/// The value as JSON.
///
/// # Errors
/// If it has no such form.
pub(super) fn to_json(value: &cel::Value) -> Result<Value, String> {
    value.to_json().map_err(|error| error.to_string())
}
