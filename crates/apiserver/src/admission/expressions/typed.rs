//! Checking expressions against the types that they will meet
//! (upstream `policy/validating/typechecking.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Value;
use cel::{Decl, DeclTypes, Env, Type};

use super::declared::VariableTypes;
use super::{BASE, VARIABLES_TYPE, with_authorizer, with_objects};

/// The expressions of a policy, given one kind of objects.
pub(in crate::admission) struct TypedCompiler(Env);

fn declared(schema: &Value, name: &str) -> Option<Arc<Decl>> {
    Decl::from_schema(schema, name, true)
}

impl TypedCompiler {
    /// Objects of `kind` have this schema, parameters that.
    pub fn new(kind: &str, schema: &Value, params: Option<&Value>, variables: &[(String, String)]) -> TypedCompiler {
        let object = declared(schema, kind);
        let params = params.and_then(|schema| declared(schema, "params"));
        let ty = |decl: &Option<Arc<Decl>>| decl.as_ref().map_or(Type::Dyn, |decl| decl.ty());
        let types = DeclTypes::new(object.iter().chain(&params)).with_keywords_as_fields();
        let mut builder = with_authorizer(with_objects(BASE.extend(), &ty(&object))).types(Arc::new(types));
        if params.is_some() {
            builder = builder.variable("params", ty(&params));
        }
        let base = builder.variable("variables", Type::object(VARIABLES_TYPE)).build();
        let mut known: BTreeMap<String, Type> = BTreeMap::new();
        for (name, text) in variables {
            let env = base.extend().types(Arc::new(VariableTypes(known.clone()))).build();
            let compiled = env.compile(text);
            let ty = compiled.map_or(Type::Dyn, |program| program.output_type().clone());
            known.insert(name.clone(), ty);
        }
        TypedCompiler(base.extend().types(Arc::new(VariableTypes(known))).build())
    }

    /// What is wrong with an expression.
    pub fn check(&self, text: &str) -> Option<String> {
        self.0.compile(text).err().map(|issues| issues.to_string())
    }
}
