//! Environments: what expressions can use, and compiling them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::check;
use crate::eval::plan;
use crate::function::Functions;
use crate::issue::Issues;
use crate::library::{self, Library};
use crate::program::Program;
use crate::provider::TypeProvider;
use crate::syntax::{Syntax, parse};
use crate::types::Type;

/// What the checker knows besides the expression.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    pub variables: BTreeMap<String, Type>,
    pub functions: Functions,
    pub providers: Vec<Arc<dyn TypeProvider>>,
    pub mixed_literals: bool,
    pub unoptimized: bool,
}

/// What expressions can use: variables, types, functions. Cheap to clone.
#[derive(Clone)]
pub struct Env(Arc<(Scope, Syntax)>);

/// Makes an [`Env`].
#[derive(Clone, Default)]
pub struct EnvBuilder {
    scope: Scope,
    syntax: Syntax,
}

impl Env {
    /// The standard library and macros alone.
    pub fn builder() -> EnvBuilder {
        let mut builder = EnvBuilder::default();
        library::declare_standard(&mut builder.scope.functions);
        builder
    }

    /// What every environment of Kubernetes v1.37 has.
    pub fn kubernetes() -> EnvBuilder {
        Library::KUBERNETES
            .iter()
            .fold(Self::builder(), |builder, library| builder.library(*library))
    }

    /// An environment that has all of this one, and more.
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder {
            scope: self.0.0.clone(),
            syntax: self.0.1.clone(),
        }
    }

    /// Parses, checks and plans an expression.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let (scope, syntax) = &*self.0;
        let ast = parse(source, syntax)?;
        let checked = check(ast, source, scope)?;
        let plan = plan(&checked, scope);
        Ok(Program::new(source, checked, plan))
    }
}

impl EnvBuilder {
    /// Declares a variable; its name may have dots.
    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        self.scope.variables.insert(name.to_owned(), ty);
        self
    }

    /// Adds object types; the first provider that has a type is asked about it.
    pub fn types(mut self, provider: Arc<dyn TypeProvider>) -> Self {
        self.scope.providers.push(provider);
        self
    }

    /// Enables a library.
    pub fn library(mut self, library: Library) -> Self {
        if self.syntax.libraries.insert(library) {
            library.declare(&mut self.scope.functions);
        }
        self
    }

    /// Lets literal lists and maps mix types, which Kubernetes does not.
    pub fn mixed_literals(mut self) -> Self {
        self.scope.mixed_literals = true;
        self
    }

    /// Evaluates what is constant each time, at its cost, as cel-go without `OptOptimize`; Kubernetes has it.
    pub fn unoptimized(mut self) -> Self {
        self.scope.unoptimized = true;
        self
    }

    /// The environment.
    pub fn build(self) -> Env {
        Env(Arc::new((self.scope, self.syntax)))
    }
}
