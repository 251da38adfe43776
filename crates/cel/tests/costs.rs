//! Costs, estimated and counted, against the numbers of upstream's own tests: k8s.io/apiserver/pkg/cel/library's (rows
//! with `k`), and cel-go's checker/cost_test.go and interpreter/runtimecost_test.go. A row has the expression `e`, the
//! estimate's bounds `s`, the cost `r`, variables' types `t` and values `b`, and hints on sizes `h` by path. Neither test
//! lets constants be computed beforehand.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use cel::authorizer::{Answer, Authorizer, Request};
use cel::{Activation, Env, EnvBuilder, Library, SizeEstimate, SizeHints, Type, TypeProvider, Value};
use serde_json::Value as Json;

/// The message that cel-go's tests use, as far as the rows need it.
#[derive(Debug)]
struct Message;

impl TypeProvider for Message {
    fn has_type(&self, name: &str) -> bool {
        name == "obj"
    }

    fn field_type(&self, _: &str, field: &str) -> Option<Type> {
        match field {
            "single_int32" | "single_int64" => Some(Type::Int),
            "single_string" => Some(Type::String),
            _ => Some(Type::Dyn),
        }
    }
}

struct Hints {
    paths: HashMap<String, u64>,
    /// The tests of Kubernetes take strings and bytes to have twelve characters at most.
    kubernetes: bool,
}

impl SizeHints for Hints {
    fn size(&self, path: &[String], ty: &Type) -> Option<SizeEstimate> {
        if self.kubernetes {
            return matches!(ty, Type::String | Type::Bytes).then_some(SizeEstimate { min: 0, max: 12 });
        }
        self.paths
            .get(&path.join("."))
            .map(|max| SizeEstimate { min: 0, max: *max })
    }
}

struct Allow;

impl Authorizer for Allow {
    fn authorize(&self, _: &Request) -> Answer {
        Answer {
            allowed: true,
            ..Answer::default()
        }
    }
}

fn env(row: &Json) -> Env {
    let mut builder = Env::builder().mixed_literals().types(Arc::new(Message)).unoptimized();
    if row["k"] == 1 {
        let libraries = Library::KUBERNETES.iter().filter(|library| **library != Library::Lists);
        builder = libraries
            .copied()
            .chain([Library::JsonPatch])
            .fold(builder, EnvBuilder::library);
        builder = builder.variable("authorizer", Type::object("kubernetes.authorization.Authorizer"));
    }
    for (name, ty) in row["t"].as_object().into_iter().flatten() {
        builder = builder.variable(name, support::ty(ty.as_str().expect("a type")));
    }
    builder.build()
}

fn check(row: &Json) -> Vec<String> {
    let expression = row["e"].as_str().expect("an expression");
    let program = match env(row).compile(expression) {
        Ok(program) => program,
        Err(issues) => return vec![issues.to_string()],
    };
    let mut problems = Vec::new();
    if let Some(bounds) = row["s"].as_array() {
        let hints = row["h"].as_object().into_iter().flatten();
        let paths = hints
            .map(|(path, size)| (path.clone(), size.as_u64().expect("a size")))
            .collect();
        let hints = Hints {
            paths,
            kubernetes: row["k"] == 1,
        };
        let estimate = program.cost_estimate(&hints);
        if [estimate.min, estimate.max] != [bounds[0].as_u64().expect("a cost"), bounds[1].as_u64().expect("a cost")] {
            problems.push(format!(
                "estimated {}..{} instead of {}..{}",
                estimate.min, estimate.max, bounds[0], bounds[1]
            ));
        }
    }
    if let Some(cost) = row["r"].as_u64() {
        let mut activation = Activation::new().with("authorizer", Value::authorizer(Arc::new(Allow)));
        for (name, value) in row["b"].as_object().into_iter().flatten() {
            activation = activation.with(name, support::value(value));
        }
        match program.evaluate(&activation, u64::MAX) {
            Ok((_, counted)) if counted == cost => {}
            Ok((value, counted)) => problems.push(format!("cost {counted} instead of {cost} for {value}")),
            Err(error) if error.cost() == cost => {}
            Err(error) => problems.push(format!("{error}, cost {} instead of {cost}", error.cost())),
        }
    }
    problems
}

#[test]
fn costs_are_upstreams() {
    let rows: Vec<Json> = include_str!("data/costs.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row of JSON"))
        .collect();
    assert!(rows.len() > 350, "the table is whole");
    let wrong: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            check(row)
                .into_iter()
                .map(|problem| format!("{}\n    {problem}", row["e"]))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} costs of {} rows are wrong:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}
