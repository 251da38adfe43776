//! Macros (cel-go's parser/macro.go, ext/comprehensions.go, ext/bindings.go, ext/lists.go, ext/math.go, cel/library.go).

use std::sync::Arc;

use crate::library::Library;
use crate::value::Value;

use super::ast::{ACCUMULATOR, Comprehension, Expr, MapEntry, NodeId, Position};
use super::lexer::Failure;
use super::parser::Parser;

/// The variable of a loop that does not run.
const UNUSED: &str = "#unused";
/// The variable that holds what `sortBy` sorts.
const SORT_INPUT: &str = "@__sortBy_input__";

type Expanded = Result<Option<NodeId>, Failure>;

/// Expands a call, if it is one of a macro.
pub(super) fn expand(
    parser: &mut Parser<'_>,
    target: Option<NodeId>,
    function: &str,
    args: &[NodeId],
    at: Position,
) -> Expanded {
    let two = parser.syntax.has(Library::TwoVariables);
    let mut build = Builder { parser, at };
    match (target, function, args) {
        (None, "has", [argument]) => build.has(*argument),
        (Some(target), "all" | "exists" | "exists_one" | "existsOne", [var, predicate]) => {
            build.quantifier(target, function, &[*var], *predicate)
        }
        (Some(target), "all" | "exists" | "exists_one" | "existsOne", [one, other, predicate]) if two => {
            build.quantifier(target, function, &[*one, *other], *predicate)
        }
        (Some(target), "map", [var, transform]) => build.map(target, *var, None, *transform).map(Some),
        (Some(target), "map", [var, filter, transform]) => build.map(target, *var, Some(*filter), *transform).map(Some),
        (Some(target), "filter", [var, predicate]) => build.filter(target, *var, *predicate),
        (Some(target), "transformList" | "transformMap" | "transformMapEntry", [one, other, rest @ ..])
            if two && matches!(rest.len(), 1 | 2) =>
        {
            build.transform(target, function, [*one, *other], rest)
        }
        (Some(target), "bind", [var, init, result]) if build.is_name(target, "cel", Library::Bindings) => {
            let name = build.ident(*var).ok_or_else(|| {
                (
                    build.position(*var),
                    "cel.bind() variable names must be simple identifiers".to_owned(),
                )
            })?;
            build.bind(name, *init, *result).map(Some)
        }
        (Some(target), "optMap" | "optFlatMap", [var, result]) if build.parser.syntax.has(Library::Optional) => {
            build.opt_map(target, function, *var, *result)
        }
        (Some(target), "sortBy", [var, key]) if build.parser.syntax.has(Library::Lists) => {
            build.sort_by(target, *var, *key)
        }
        (Some(target), "least" | "greatest", _) if build.is_name(target, "math", Library::Math) => {
            build.extreme(target, function, args)
        }
        _ => Ok(None),
    }
}

struct Builder<'p, 's> {
    parser: &'p mut Parser<'s>,
    at: Position,
}

impl Builder<'_, '_> {
    fn position(&self, node: NodeId) -> Position {
        self.parser.ast.position(node)
    }

    fn ident(&self, node: NodeId) -> Option<Arc<str>> {
        match self.parser.ast.get(node) {
            Expr::Ident(name) if !name.starts_with('.') => Some(name.clone()),
            _ => None,
        }
    }

    /// Whether a target is the name of a library's namespace.
    fn is_name(&self, target: NodeId, name: &str, library: Library) -> bool {
        self.parser.syntax.has(library) && self.ident(target).is_some_and(|found| &*found == name)
    }

    fn add(&mut self, expr: Expr) -> Result<NodeId, Failure> {
        self.parser.add(expr, self.at, false)
    }

    fn literal(&mut self, value: impl Into<Value>) -> Result<NodeId, Failure> {
        self.add(Expr::Literal(value.into()))
    }

    fn name(&mut self, name: &str) -> Result<NodeId, Failure> {
        self.add(Expr::Ident(name.into()))
    }

    fn accumulator(&mut self) -> Result<NodeId, Failure> {
        self.name(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<NodeId>) -> Result<NodeId, Failure> {
        self.add(Expr::Call {
            target: None,
            function: function.into(),
            args,
        })
    }

    fn member(&mut self, function: &str, target: NodeId, args: Vec<NodeId>) -> Result<NodeId, Failure> {
        self.add(Expr::Call {
            target: Some(target),
            function: function.into(),
            args,
        })
    }

    fn list(&mut self, elements: Vec<NodeId>) -> Result<NodeId, Failure> {
        self.add(Expr::List {
            elements: elements.into_iter().map(|element| (element, false)).collect(),
        })
    }

    fn has(&mut self, argument: NodeId) -> Expanded {
        match self.parser.ast.get(argument) {
            Expr::Select {
                operand,
                field,
                test: false,
            } => {
                let test = Expr::Select {
                    operand: *operand,
                    field: field.clone(),
                    test: true,
                };
                self.parser.add(test, self.at, true).map(Some)
            }
            _ => Err((self.position(argument), "invalid argument to has() macro".to_owned())),
        }
    }

    /// The names of a comprehension's variables.
    fn variables(&self, nodes: &[NodeId]) -> Result<Vec<Arc<str>>, Failure> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for node in nodes {
            let failed = |message: String| (self.position(*node), message);
            let message = if nodes.len() == 1 {
                "argument is not an identifier"
            } else {
                "argument must be a simple name"
            };
            let name = self.ident(*node).ok_or_else(|| failed(message.to_owned()))?;
            if names.contains(&name) {
                return Err(failed(format!("duplicate variable name: {name}")));
            }
            if &*name == "__result__" {
                return Err(failed("iteration variable overwrites accumulator variable".to_owned()));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn fold(
        &mut self,
        range: NodeId,
        variables: &[Arc<str>],
        [init, condition, step, result]: [NodeId; 4],
    ) -> Result<NodeId, Failure> {
        let comprehension = Comprehension {
            range,
            var: variables[0].clone(),
            var2: variables.get(1).cloned(),
            accu: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        };
        self.parser
            .add(Expr::Comprehension(Box::new(comprehension)), self.at, true)
    }

    fn quantifier(&mut self, range: NodeId, function: &str, vars: &[NodeId], predicate: NodeId) -> Expanded {
        let variables = self.variables(vars)?;
        let parts = match function {
            "all" => {
                let init = self.literal(true)?;
                let accu = self.accumulator()?;
                let condition = self.call("@not_strictly_false", vec![accu])?;
                let accu = self.accumulator()?;
                let step = self.call("_&&_", vec![accu, predicate])?;
                [init, condition, step, self.accumulator()?]
            }
            "exists" => {
                let init = self.literal(false)?;
                let accu = self.accumulator()?;
                let not = self.call("!_", vec![accu])?;
                let condition = self.call("@not_strictly_false", vec![not])?;
                let accu = self.accumulator()?;
                let step = self.call("_||_", vec![accu, predicate])?;
                [init, condition, step, self.accumulator()?]
            }
            _ => {
                let init = self.literal(0)?;
                let condition = self.literal(true)?;
                let (accu, one) = (self.accumulator()?, self.literal(1)?);
                let more = self.call("_+_", vec![accu, one])?;
                let same = self.accumulator()?;
                let step = self.call("_?_:_", vec![predicate, more, same])?;
                let (accu, one) = (self.accumulator()?, self.literal(1)?);
                [init, condition, step, self.call("_==_", vec![accu, one])?]
            }
        };
        self.fold(range, &variables, parts).map(Some)
    }

    /// A step that happens only for what a filter lets through.
    fn filtered(&mut self, filter: Option<NodeId>, step: NodeId) -> Result<NodeId, Failure> {
        match filter {
            Some(filter) => {
                let same = self.accumulator()?;
                self.call("_?_:_", vec![filter, step, same])
            }
            None => Ok(step),
        }
    }

    /// A comprehension that makes a list of what `transform` gives.
    fn gather(
        &mut self,
        range: NodeId,
        variables: &[Arc<str>],
        filter: Option<NodeId>,
        transform: NodeId,
    ) -> Result<NodeId, Failure> {
        let init = self.list(Vec::new())?;
        let condition = self.literal(true)?;
        let (accu, list) = (self.accumulator()?, self.list(vec![transform])?);
        let step = self.call("_+_", vec![accu, list])?;
        let step = self.filtered(filter, step)?;
        let result = self.accumulator()?;
        self.fold(range, variables, [init, condition, step, result])
    }

    fn map(
        &mut self,
        range: NodeId,
        var: NodeId,
        filter: Option<NodeId>,
        transform: NodeId,
    ) -> Result<NodeId, Failure> {
        let variables = self.variables(&[var])?;
        self.gather(range, &variables, filter, transform)
    }

    fn filter(&mut self, range: NodeId, var: NodeId, predicate: NodeId) -> Expanded {
        let variables = self.variables(&[var])?;
        let element = self
            .parser
            .add(Expr::Ident(variables[0].clone()), self.position(var), false)?;
        self.gather(range, &variables, Some(predicate), element).map(Some)
    }

    fn transform(&mut self, range: NodeId, function: &str, vars: [NodeId; 2], rest: &[NodeId]) -> Expanded {
        let variables = self.variables(&vars)?;
        let (filter, transform) = match rest {
            [filter, transform] => (Some(*filter), *transform),
            _ => (None, rest[0]),
        };
        if function == "transformList" {
            return self.gather(range, &variables, filter, transform).map(Some);
        }
        let init = self.add(Expr::Map {
            entries: Vec::<MapEntry>::new(),
        })?;
        let condition = self.literal(true)?;
        let mut args = vec![self.accumulator()?];
        if function == "transformMap" {
            args.push(self.name(&variables[0])?);
        }
        args.push(transform);
        let step = self.call("cel.@mapInsert", args)?;
        let step = self.filtered(filter, step)?;
        let result = self.accumulator()?;
        self.fold(range, &variables, [init, condition, step, result]).map(Some)
    }

    /// A variable with a value, as a loop that does not run.
    fn bind(&mut self, name: Arc<str>, init: NodeId, result: NodeId) -> Result<NodeId, Failure> {
        let range = self.list(Vec::new())?;
        let condition = self.literal(false)?;
        let step = self.name(&name)?;
        let var = UNUSED.into();
        let comprehension = Comprehension {
            range,
            var,
            var2: None,
            accu: name,
            init,
            condition,
            step,
            result,
        };
        self.parser
            .add(Expr::Comprehension(Box::new(comprehension)), self.at, true)
    }

    fn opt_map(&mut self, target: NodeId, function: &str, var: NodeId, result: NodeId) -> Expanded {
        let name = self.ident(var).ok_or_else(|| {
            (
                self.position(var),
                format!("{function}() variable name must be a simple identifier"),
            )
        })?;
        let copy = self.copy(target)?;
        let has = self.member("hasValue", target, Vec::new())?;
        let init = self.member("value", copy, Vec::new())?;
        let bound = self.bind(name, init, result)?;
        let some = if function == "optMap" {
            self.call("optional.of", vec![bound])?
        } else {
            bound
        };
        let none = self.call("optional.none", Vec::new())?;
        self.call("_?_:_", vec![has, some, none]).map(Some)
    }

    fn sort_by(&mut self, target: NodeId, var: NodeId, key: NodeId) -> Expanded {
        if matches!(
            self.parser.ast.get(target),
            Expr::Literal(_) | Expr::Map { .. } | Expr::Struct { .. }
        ) {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err((self.position(target), message.to_owned()));
        }
        let input = self.name(SORT_INPUT)?;
        let keys = self.map(input, var, None, key)?;
        let input = self.name(SORT_INPUT)?;
        let sorted = self.member("@sortByAssociatedKeys", input, vec![keys])?;
        self.bind(SORT_INPUT.into(), target, sorted).map(Some)
    }

    fn extreme(&mut self, target: NodeId, function: &str, args: &[NodeId]) -> Expanded {
        let name = if function == "least" { "math.@min" } else { "math.@max" };
        let numeric = |node: NodeId| match self.parser.ast.get(node) {
            Expr::Literal(value) => matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_)),
            Expr::List { .. } | Expr::Map { .. } | Expr::Struct { .. } => false,
            _ => true,
        };
        match args {
            [] => {
                let message = format!("math.{function}() requires at least one argument");
                Err((self.position(target), message))
            }
            [one] => {
                let list = match self.parser.ast.get(*one) {
                    Expr::List { elements } => !elements.is_empty() && elements.iter().all(|(it, _)| numeric(*it)),
                    _ => false,
                };
                if !list && !numeric(*one) {
                    return Err((
                        self.position(*one),
                        format!("math.{function}() invalid single argument value"),
                    ));
                }
                self.call(name, vec![*one]).map(Some)
            }
            many => {
                if let Some(bad) = many.iter().find(|node| !numeric(**node)) {
                    let message = format!("math.{function}() simple literal arguments must be numeric");
                    return Err((self.position(*bad), message));
                }
                let args = if many.len() == 2 {
                    many.to_vec()
                } else {
                    vec![self.list(many.to_vec())?]
                };
                self.call(name, args).map(Some)
            }
        }
    }

    /// A copy of a subtree, whose nodes are checked and evaluated on their own.
    fn copy(&mut self, node: NodeId) -> Result<NodeId, Failure> {
        let position = self.position(node);
        let mut expr = self.parser.ast.get(node).clone();
        match &mut expr {
            Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Select { operand, .. } => *operand = self.copy(*operand)?,
            Expr::Call { target, args, .. } => {
                for node in target.iter_mut().chain(args) {
                    *node = self.copy(*node)?;
                }
            }
            Expr::List { elements } => {
                for (element, _) in elements {
                    *element = self.copy(*element)?;
                }
            }
            Expr::Map { entries } => {
                for entry in entries {
                    entry.key = self.copy(entry.key)?;
                    entry.value = self.copy(entry.value)?;
                }
            }
            Expr::Struct { fields, .. } => {
                for field in fields {
                    field.value = self.copy(field.value)?;
                }
            }
            Expr::Comprehension(it) => {
                for node in [
                    &mut it.range,
                    &mut it.init,
                    &mut it.condition,
                    &mut it.step,
                    &mut it.result,
                ] {
                    *node = self.copy(*node)?;
                }
            }
        }
        self.parser.add(expr, position, false)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Int(value.into())
    }
}
