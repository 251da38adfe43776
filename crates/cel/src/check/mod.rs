//! The type checker (cel-go's checker/checker.go).

mod unify;
mod validate;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::env::Scope;
use crate::function::Function;
use crate::issue::Issues;
use crate::library;
use crate::limits::MAX_TYPE_WEIGHT;
use crate::provider::TypeProvider;
use crate::syntax::{Ast, Comprehension, Expr, Field, NodeId};
use crate::types::Type;
use unify::{Mapping, most_general, unwrap_optional};

/// What a node refers to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Reference {
    #[default]
    None,
    /// A variable of the environment or of a comprehension, by its name in either.
    Variable,
    /// A type as a value.
    Type(Type),
    /// Overloads of the function of this name: their places in its list.
    Overloads(Arc<Function>, Vec<usize>),
}

impl std::fmt::Debug for Function {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// A tree with the types of its nodes.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub ast: Ast,
    pub types: Vec<Type>,
    pub references: Vec<Reference>,
    /// Variables of the environment that it uses.
    pub variables: BTreeSet<String>,
    /// Functions that it calls.
    pub functions: BTreeSet<String>,
    /// Paths of fields from variables of the environment.
    pub paths: BTreeSet<Vec<String>>,
}

impl Checked {
    pub fn ty(&self, id: NodeId) -> &Type {
        &self.types[id.index()]
    }

    pub fn reference(&self, id: NodeId) -> &Reference {
        &self.references[id.index()]
    }
}

/// Checks a tree in an environment.
pub(crate) fn check(ast: Ast, source: &str, scope: &Scope) -> Result<Checked, Issues> {
    let count = ast.len();
    let root = ast.root;
    let mut checker = Checker {
        scope,
        issues: Issues::new(source.into()),
        mapping: Mapping::default(),
        locals: Vec::new(),
        free: 0,
        out: Checked {
            ast,
            types: vec![Type::Error; count],
            references: vec![Reference::None; count],
            variables: BTreeSet::new(),
            functions: BTreeSet::new(),
            paths: BTreeSet::new(),
        },
    };
    checker.check(root);
    let Checker {
        mut out,
        mapping,
        mut issues,
        ..
    } = checker;
    for ty in &mut out.types {
        *ty = mapping.substitute(ty, true);
    }
    if issues.is_empty() {
        validate::validate(&out, scope.mixed_literals, &mut issues);
    }
    if issues.is_empty() {
        Ok(out)
    } else {
        Err(issues.sorted())
    }
}

struct Checker<'e> {
    scope: &'e Scope,
    issues: Issues,
    mapping: Mapping,
    /// Variables of the comprehensions around, the innermost last.
    locals: Vec<(Arc<str>, Type)>,
    free: usize,
    out: Checked,
}

impl Checker<'_> {
    fn report(&mut self, id: NodeId, message: String) {
        self.issues.report(self.out.ast.position(id), message);
    }

    fn set(&mut self, id: NodeId, ty: Type) {
        let ty = if ty.weight(MAX_TYPE_WEIGHT) >= MAX_TYPE_WEIGHT {
            self.report(id, "type of the expression is too complex".to_owned());
            Type::Error
        } else {
            ty
        };
        self.out.types[id.index()] = ty;
    }

    fn ty(&self, id: NodeId) -> Type {
        self.out.types[id.index()].clone()
    }

    fn refer(&mut self, id: NodeId, reference: Reference) {
        self.out.references[id.index()] = reference;
    }

    fn free_variable(&mut self) -> Type {
        self.free += 1;
        Type::param(&format!("_var{}", self.free - 1))
    }

    fn check(&mut self, id: NodeId) {
        match self.out.ast.get(id).clone() {
            Expr::Literal(value) => self.set(id, value.type_of()),
            Expr::Ident(name) => self.ident(id, &name),
            Expr::Select { operand, field, test } => self.select(id, operand, &field, test),
            Expr::Call { target, function, args } => self.call(id, target, &function, &args),
            Expr::List { elements } => self.list(id, &elements),
            Expr::Map { entries } => {
                let (mut key, mut value) = (None, None);
                for entry in &entries {
                    self.check(entry.key);
                    let ty = self.ty(entry.key);
                    key = Some(self.join(key, ty));
                    self.check(entry.value);
                    let ty = self.element_type(entry.value, entry.optional);
                    value = Some(self.join(value, ty));
                }
                let key = key.unwrap_or_else(|| self.free_variable());
                let value = value.unwrap_or_else(|| self.free_variable());
                self.set(id, Type::map(key, value));
            }
            Expr::Struct { name, fields } => self.structure(id, &name, &fields),
            Expr::Comprehension(comprehension) => self.comprehension(id, &comprehension),
        }
    }

    /// Looks a name up: comprehensions' variables first, then the environment's, then types.
    fn resolve(&mut self, name: &str) -> Option<(Type, Reference)> {
        let global = name.strip_prefix('.');
        if global.is_none()
            && let Some((_, ty)) = self.locals.iter().rev().find(|(local, _)| **local == *name)
        {
            return Some((ty.clone(), Reference::Variable));
        }
        let name = global.unwrap_or(name);
        if let Some(ty) = self.scope.variables.get(name) {
            self.out.variables.insert(name.to_owned());
            return Some((ty.clone(), Reference::Variable));
        }
        let ty = library::named_type(name).or_else(|| self.scope.named_type(name))?;
        let ty = match ty {
            Type::List(_) => Type::list(self.free_variable()),
            Type::Map(_) => Type::map(self.free_variable(), self.free_variable()),
            other => other,
        };
        Some((Type::type_of(ty.clone()), Reference::Type(ty)))
    }

    fn undeclared(&mut self, id: NodeId, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
        self.set(id, Type::Error);
    }

    fn ident(&mut self, id: NodeId, name: &str) {
        match self.resolve(name) {
            Some((ty, reference)) => {
                if matches!(reference, Reference::Variable) && !self.is_local(name) {
                    self.out.paths.insert(vec![name.trim_start_matches('.').to_owned()]);
                }
                self.set(id, ty);
                self.refer(id, reference);
            }
            None => self.undeclared(id, name),
        }
    }

    fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|(local, _)| **local == *name)
    }

    /// A dotted name that is one variable or type as a whole.
    fn qualified(&mut self, id: NodeId) -> bool {
        let Some(name) = self.out.ast.qualified_name(id) else {
            return false;
        };
        let first = name.split('.').next().unwrap_or_default();
        if self.is_local(first) {
            return false;
        }
        let Some((ty, reference)) = self.resolve(&name) else {
            return false;
        };
        if matches!(reference, Reference::Variable) {
            self.out.paths.insert(vec![name.clone()]);
        }
        self.out.ast.set(id, Expr::Ident(name.into()));
        self.set(id, ty);
        self.refer(id, reference);
        true
    }

    fn select(&mut self, id: NodeId, operand: NodeId, field: &str, test: bool) {
        if !test && self.qualified(id) {
            return;
        }
        let ty = self.select_field(id, operand, field, false);
        let ty = if test {
            Type::Bool
        } else {
            self.mapping.substitute(&ty, false)
        };
        self.set(id, ty);
        self.remember_path(id);
    }

    /// Notes a chain of fields that starts at a variable of the environment.
    fn remember_path(&mut self, id: NodeId) {
        let mut path = Vec::new();
        let mut next = id;
        loop {
            match self.out.ast.get(next) {
                Expr::Select { operand, field, .. } => {
                    path.push(field.to_string());
                    next = *operand;
                }
                Expr::Ident(name) => {
                    if !self.is_local(name) && matches!(self.out.references[next.index()], Reference::Variable) {
                        path.push(name.trim_start_matches('.').to_owned());
                        path.reverse();
                        self.out.paths.insert(path);
                    }
                    return;
                }
                _ => return,
            }
        }
    }

    fn select_field(&mut self, id: NodeId, operand: NodeId, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.mapping.substitute(&self.ty(operand), false);
        let (target, is_optional) = unwrap_optional(&operand_type);
        let result = match target {
            Type::Map(entry) => entry.1.clone(),
            Type::Object(name) => self.field_type(id, name, field),
            Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            _ => {
                self.report(id, format!("type '{target}' does not support field selection"));
                Type::Dyn
            }
        };
        if is_optional || optional {
            Type::optional(result)
        } else {
            result
        }
    }

    fn field_type(&mut self, id: NodeId, name: &str, field: &str) -> Type {
        match self.scope.field_type(name, field) {
            Some(ty) => ty,
            None => {
                let message = if self.scope.has_type(name) {
                    format!("undefined field '{field}'")
                } else {
                    format!("unexpected failed resolution of '{name}'")
                };
                self.report(id, message);
                Type::Error
            }
        }
    }

    fn call(&mut self, id: NodeId, target: Option<NodeId>, function: &str, args: &[NodeId]) {
        if function == "_?._" {
            return self.optional_select(id, args);
        }
        for arg in args {
            self.check(*arg);
        }
        let Some(target) = target else {
            return match self.scope.functions.get(function.trim_start_matches('.')).cloned() {
                Some(found) => self.overload(id, found, None, args),
                None => self.undeclared(id, function),
            };
        };
        // The receiver may be the namespace of a function.
        if let Some(prefix) = self.out.ast.qualified_name(target)
            && let Some(found) = self
                .scope
                .functions
                .get(&format!("{}.{function}", prefix.trim_start_matches('.')))
        {
            let found = found.clone();
            let call = Expr::Call {
                target: None,
                function: found.name.into(),
                args: args.to_vec(),
            };
            self.out.ast.set(id, call);
            return self.overload(id, found, None, args);
        }
        self.check(target);
        match self.scope.functions.get(function).cloned() {
            Some(found) => self.overload(id, found, Some(target), args),
            None => self.undeclared(id, function),
        }
    }

    fn optional_select(&mut self, id: NodeId, args: &[NodeId]) {
        let field = match self.out.ast.get(args[1]) {
            Expr::Literal(crate::value::Value::String(field)) => field.clone(),
            _ => return self.report(id, "unsupported optional field selection".to_owned()),
        };
        self.set(args[1], Type::String);
        let ty = self.select_field(id, args[0], &field, true);
        let ty = self.mapping.substitute(&ty, false);
        self.set(id, ty);
        if let Some(function) = self.scope.functions.get("_?._").cloned() {
            self.refer(id, Reference::Overloads(function, vec![0]));
        }
    }

    fn overload(&mut self, id: NodeId, function: Arc<Function>, target: Option<NodeId>, args: &[NodeId]) {
        let given: Vec<Type> = target.iter().chain(args).map(|arg| self.ty(*arg)).collect();
        if !function.name.starts_with(['_', '@', '!', '-']) {
            self.out.functions.insert(function.name.to_owned());
        }
        if matches!(function.name, "_&&_" | "_||_") {
            return self.logical(id, function, args, &given);
        }
        let mut found = Vec::new();
        let mut result: Option<Type> = None;
        for (index, overload) in function.overloads.iter().enumerate() {
            if overload.member != target.is_some() || overload.params.len() != given.len() {
                continue;
            }
            let mut fresh = Fresh { names: Vec::new() };
            let params: Vec<Type> = overload
                .params
                .iter()
                .map(|param| fresh.rename(param, &mut self.free))
                .collect();
            let returned = fresh.rename(&overload.result, &mut self.free);
            if !self.mapping.assignable_all(&given, &params) {
                continue;
            }
            found.push(index);
            let returned = self.mapping.substitute(&returned, false);
            result = Some(match result {
                None => returned,
                Some(before) if before.is_dyn() || before == returned => before,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(ty) => {
                self.set(id, ty);
                self.refer(id, Reference::Overloads(function, found));
            }
            None => self.no_overload(id, function.name, target.is_some(), &given),
        }
    }

    fn logical(&mut self, id: NodeId, function: Arc<Function>, args: &[NodeId], given: &[Type]) {
        let mut wrong = false;
        for (arg, ty) in args.iter().zip(given) {
            if !self.mapping.assignable(ty, &Type::Bool) {
                self.mismatch(*arg, &Type::Bool, ty);
                wrong = true;
            }
        }
        self.set(id, if wrong { Type::Error } else { Type::Bool });
        self.refer(id, Reference::Overloads(function, vec![0]));
    }

    fn no_overload(&mut self, id: NodeId, name: &str, member: bool, given: &[Type]) {
        let shown: Vec<String> = given
            .iter()
            .map(|ty| self.mapping.substitute(ty, true).to_string())
            .collect();
        let signature = match shown.split_first() {
            Some((receiver, rest)) if member => format!("{receiver}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.report(
            id,
            format!("found no matching overload for '{name}' applied to '{signature}'"),
        );
        self.set(id, Type::Error);
    }

    fn mismatch(&mut self, id: NodeId, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    /// The type that an element has in its list or map.
    fn element_type(&mut self, id: NodeId, optional: bool) -> Type {
        let ty = self.ty(id);
        if !optional {
            return ty;
        }
        let (inside, is_optional) = unwrap_optional(&ty);
        if !is_optional && !inside.is_dyn() {
            self.mismatch(id, &Type::optional(inside.clone()), inside);
        }
        inside.clone()
    }

    fn list(&mut self, id: NodeId, elements: &[(NodeId, bool)]) {
        let mut joined = None;
        for (element, optional) in elements {
            self.check(*element);
            let ty = self.element_type(*element, *optional);
            joined = Some(self.join(joined, ty));
        }
        let element = joined.unwrap_or_else(|| self.free_variable());
        self.set(id, Type::list(element));
    }

    /// The type of two elements of one list; a mix is `dyn` here, and validated afterwards.
    fn join(&mut self, before: Option<Type>, ty: Type) -> Type {
        let Some(before) = before else { return ty };
        if self.mapping.assignable(&before, &ty) {
            return most_general(&before, &ty);
        }
        Type::Dyn
    }

    fn structure(&mut self, id: NodeId, name: &str, fields: &[Field]) {
        let name = name.trim_start_matches('.');
        let known = self.scope.has_type(name);
        if !known {
            if let Some((ty, _)) = self.resolve(name) {
                let shown = ty
                    .parameters()
                    .first()
                    .map_or_else(|| ty.to_string(), |of| of.to_string());
                let message = if matches!(ty, Type::Type(_)) {
                    "a message type"
                } else {
                    "a type"
                };
                self.report(id, format!("'{shown}' is not {message}"));
                self.set(id, Type::Error);
            } else {
                self.undeclared(id, name);
            }
        } else {
            self.out.ast.set(
                id,
                Expr::Struct {
                    name: name.into(),
                    fields: fields.to_vec(),
                },
            );
            self.set(id, Type::object(name));
        }
        for field in fields {
            self.check(field.value);
            if !known {
                continue;
            }
            let Some(expected) = self.scope.field_type(name, &field.name) else {
                self.issues
                    .report(field.position, format!("undefined field '{}'", field.name));
                continue;
            };
            let given = self.element_type(field.value, field.optional);
            if !self.mapping.assignable(&expected, &given) {
                let message = format!(
                    "expected type of field '{}' is '{expected}' but provided type is '{given}'",
                    field.name
                );
                self.issues.report(field.position, message);
            }
        }
    }

    fn comprehension(&mut self, id: NodeId, it: &Comprehension) {
        self.check(it.range);
        self.check(it.init);
        let range = self.mapping.substitute(&self.ty(it.range), false);
        let accu = self.ty(it.init);
        let around = self.locals.len();
        self.locals.push((it.accu.clone(), accu.clone()));
        let (first, second) = self.loop_types(it, &range);
        let inside = self.locals.len();
        self.locals.push((it.var.clone(), first));
        if let Some(name) = &it.var2 {
            self.locals.push((name.clone(), second));
        }
        self.check(it.condition);
        self.assert_type(it.condition, &Type::Bool);
        self.check(it.step);
        self.assert_type(it.step, &accu);
        self.locals.truncate(inside);
        self.check(it.result);
        self.locals.truncate(around);
        let ty = self.mapping.substitute(&self.ty(it.result), false);
        self.set(id, ty);
    }

    /// The types of a comprehension's variables.
    fn loop_types(&mut self, it: &Comprehension, range: &Type) -> (Type, Type) {
        match range {
            Type::List(element) if it.var2.is_some() => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Error),
            Type::Map(entry) => (entry.0.clone(), entry.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.mapping.assignable(&Type::Dyn, range);
                (Type::Dyn, Type::Dyn)
            }
            _ => {
                let message = format!(
                    "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(it.range, message);
                (Type::Error, Type::Error)
            }
        }
    }

    fn assert_type(&mut self, id: NodeId, expected: &Type) {
        let ty = self.ty(id);
        if !self.mapping.assignable(expected, &ty) {
            self.mismatch(id, expected, &ty);
        }
    }
}

/// Gives the parameters of a signature names of their own.
struct Fresh {
    names: Vec<(Arc<str>, Type)>,
}

impl Fresh {
    fn rename(&mut self, ty: &Type, free: &mut usize) -> Type {
        match ty {
            Type::Param(name) => {
                if let Some((_, fresh)) = self.names.iter().find(|(known, _)| known == name) {
                    return fresh.clone();
                }
                *free += 1;
                let fresh = Type::param(&format!("_var{}", *free - 1));
                self.names.push((name.clone(), fresh.clone()));
                fresh
            }
            Type::List(element) => Type::list(self.rename(element, free)),
            Type::Map(entry) => Type::map(self.rename(&entry.0, free), self.rename(&entry.1, free)),
            Type::Type(Some(of)) => Type::type_of(self.rename(of, free)),
            Type::Opaque(name, of) => Type::Opaque(name.clone(), of.iter().map(|it| self.rename(it, free)).collect()),
            _ => ty.clone(),
        }
    }
}

impl Scope {
    /// A type of the provider or of a library, as an identifier.
    fn named_type(&self, name: &str) -> Option<Type> {
        match name {
            "net.IP" | "net.CIDR" => Some(Type::opaque(name)),
            "optional_type" => Some(Type::optional(Type::Dyn)),
            _ => self.has_type(name).then(|| Type::object(name)),
        }
    }

    fn has_type(&self, name: &str) -> bool {
        self.providers.iter().any(|provider| provider.has_type(name))
    }

    fn field_type(&self, name: &str, field: &str) -> Option<Type> {
        let provider: &Arc<dyn TypeProvider> = self.providers.iter().find(|provider| provider.has_type(name))?;
        provider.field_type(name, field)
    }
}
