//! Whatever the text and the data: nothing panics, nothing overflows the stack, and time and memory are bounded.

use std::sync::OnceLock;

use cel::{Activation, Env, EnvBuilder, ErrorKind, Library, Type, Value, limits};
use proptest::prelude::*;
use serde_json::json;

fn env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(make_env)
}

fn make_env() -> Env {
    [Library::Math, Library::Bindings, Library::JsonPatch]
        .into_iter()
        .fold(Env::kubernetes(), EnvBuilder::library)
        .variable("self", Type::Dyn)
        .variable("m", Type::map(Type::String, Type::Dyn))
        .variable("l", Type::list(Type::String))
        .build()
}

fn activation() -> Activation {
    let value = |json| Value::from_dynamic_json(json).expect("a value");
    Activation::new()
        .with(
            "self",
            value(json!({"a": {"b": [1, 2.5, "x", null, true]}, "s": "text", "t": "2020-01-01T00:00:00Z"})),
        )
        .with("m", value(json!({"k": {"n": 1}, "z": null})))
        .with("l", value(json!(["a", "b", "ab"])))
}

/// Compiles and evaluates, which may fail but not panic; gives what it came to.
fn run(source: &str) -> Result<Value, String> {
    let program = env().compile(source).map_err(|issues| issues.to_string())?;
    let estimate = program.cost_estimate(&cel::NoHints);
    assert!(estimate.min <= estimate.max || estimate.max == 0, "{source}");
    let (value, cost) = program
        .evaluate(&activation(), limits::PER_CALL_LIMIT)
        .map_err(|error| error.to_string())?;
    assert!(cost <= limits::PER_CALL_LIMIT);
    let _ = value.to_json();
    Ok(value)
}

/// Runs on a stack of the size that threads of the server have.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(test)
        .expect("a thread");
    thread.join().expect("it does not overflow");
}

#[test]
fn deep_texts_are_refused_or_evaluated() {
    on_small_stack(|| {
        for depth in [100, 240, 251, 5_000, 30_000] {
            let nested = |open: &str, inside: &str, close: &str| {
                let text = format!("{}{inside}{}", open.repeat(depth), close.repeat(depth));
                text.chars()
                    .take(limits::MAX_EXPRESSION_CODE_POINTS + 1)
                    .collect::<String>()
            };
            for source in [
                nested("(", "1", ")"),
                nested("[", "1", "]"),
                nested("{'a':", "1", "}"),
                nested("!(", "true", ")"),
                nested("-(", "1", ")"),
                nested("", "1", "+1"),
                nested("1+(", "1", ")"),
                nested("", "true", "&&true"),
                nested("true||(", "true", ")"),
                nested("", "self", ".a"),
                nested("", "self", "[0]"),
                nested("", "self", ".?a"),
                nested("true?1:(", "1", ")"),
                nested("", "true?1:", "1"),
                nested("[1].map(x,", "x", ")"),
                nested("", "[1]", ".map(x,x)"),
                nested("[1].all(x,", "true", ")"),
                nested("cel.bind(x,1,", "x", ")"),
                nested("optional.of(", "1", ")"),
                nested("", "optional.of(1)", ".optMap(x,x)"),
                nested("size([", "1", "])"),
                nested("", "'a'", ".trim()"),
                nested("Object{a:", "1", "}"),
                nested("!", "true", ""),
                nested("-", "1", ""),
                nested("((((", "", ""),
                nested("[", "", ""),
            ] {
                let _ = run(&source);
            }
        }
    });
}

#[test]
fn limits_have_upstreams_messages() {
    let chain = format!("1{}", "+1".repeat(251));
    assert!(
        run(&chain)
            .expect_err("too deep")
            .contains("max recursion depth exceeded")
    );
    assert!(run(&format!("1{}", "+1".repeat(240))).is_ok());
    let nested = format!("{}1{}", "(".repeat(260), ")".repeat(260));
    assert!(
        run(&nested)
            .expect_err("too deep")
            .contains("expression recursion limit exceeded: 250")
    );
    let long = format!("'{}'", "a".repeat(limits::MAX_EXPRESSION_CODE_POINTS));
    assert!(
        run(&long)
            .expect_err("too long")
            .contains("expression code point size exceeds limit: size: 100002, limit 100000")
    );
    assert!(
        run("1 +")
            .expect_err("no operand")
            .starts_with("ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'['")
    );
    assert_eq!(
        run("ü + x").expect_err("a bad character").lines().next(),
        Some("ERROR: <input>:1:1: Syntax error: token recognition error at: 'ü'")
    );
    assert_eq!(
        run("'ü' + x").expect_err("no variable"),
        "ERROR: <input>:1:7: undeclared reference to 'x' (in container '')\n | 'ü' + x\n | .．....^"
    );
}

#[test]
fn work_is_bounded_by_cost_or_by_limits() {
    let doubling = |start: &str, each: &str, times: usize| format!("{start}{}", each.repeat(times));
    for source in [
        // Values and types that share their parts are exponentially large when they are walked.
        format!("{} == {0}", doubling("[[1]]", ".map(x, [x, x])", 60)),
        doubling("[[1]]", ".map(x, [x, x])", 60),
        doubling("[1]", ".map(x, {'a': x, 'b': x})", 40),
        doubling("optional.of(1)", ".optMap(x, [x, x])", 40),
        // Loops within loops.
        "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, a + b + c >= 0)))".to_owned(),
        "lists.range(1000000000).size() > 0".to_owned(),
        // Strings that grow.
        doubling("'aaaaaaaaaa'", ".replace('', 'aaaaaaaaaa')", 20),
        doubling("'aaaaaaaaaa'", ".replace('a', 'aaaaaaaaaaaaaaaaaaaa')", 20),
        doubling("['aaaaaaaaaa'].map(x, x + x)", ".map(x, x + x)", 40),
        // Patterns.
        r"'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.matches('(a*)*b')".to_owned(),
        r"'a'.matches('((((a{1,100}){1,100}){1,100}){1,100})')".to_owned(),
        "'%.1000000000f'.format([1.0]).size() > 0".to_owned(),
    ] {
        let _ = run(&source);
    }
    let program = env()
        .compile("lists.range(100000).all(x, x >= 0)")
        .expect("an expression");
    let error = program.evaluate(&activation(), 1_000).expect_err("it costs more");
    assert_eq!(error.kind(), ErrorKind::CostLimit);
    assert_eq!(error.message(), "operation cancelled: actual cost limit exceeded");
    let program = env()
        .compile("self.a.b.all(x, lists.range(100000).all(y, y >= 0)) || true")
        .expect("an expression");
    assert_eq!(
        program
            .evaluate(&activation(), 1_000)
            .expect_err("no || absorbs it")
            .kind(),
        ErrorKind::CostLimit
    );
}

/// Pieces of the language, which random texts are made of.
const PIECES: &[&str] = &[
    "self",
    "m",
    "l",
    "x",
    "y",
    "1",
    "-1",
    "2u",
    "1.5",
    "'a'",
    "b'a'",
    "true",
    "null",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    ",",
    "?",
    ":",
    "+",
    "-",
    "*",
    "/",
    "%",
    "<",
    "<=",
    "==",
    "!=",
    "&&",
    "||",
    "!",
    "in",
    ".a",
    ".?a",
    "[0]",
    "[?0]",
    ".b",
    ".size()",
    ".all(x, x)",
    ".map(x, [x])",
    ".filter(x, true)",
    ".exists(x, y, x == y)",
    "has(",
    "has(self.a)",
    "cel.bind(x, self, ",
    "optional.of(",
    ".orValue(",
    ".optMap(x, ",
    ".matches('a')",
    "matches(",
    ".replace('a', 'b')",
    ".split('')",
    ".join(',')",
    ".format([",
    "dyn(",
    "int(",
    "string(",
    "duration('1s')",
    "timestamp(self.t)",
    "type(",
    "quantity('1')",
    "ip('::1')",
    "cidr('::/1')",
    "semver('1.2.3')",
    "url('/a')",
    "format.named('uuid')",
    ".sort()",
    ".sortBy(x, x)",
    ".distinct()",
    ".flatten()",
    ".slice(0, 1)",
    "math.least(",
    "math.greatest(",
    ".transformMap(k, v, v)",
    ".transformList(i, v, v)",
    ".indexOf('a')",
    ".substring(1)",
    ".charAt(0)",
    ".getFullYear()",
    ".getHours('+01:00')",
    "sets.contains(",
    ".value()",
    ".hasValue()",
    ".isSorted()",
    ".sum()",
    ".max()",
    "'",
    "\"",
    "r'",
    "`a`",
    "//",
    "\n",
    "0x",
    "1e",
    "@",
    "\\",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_taken(source in "\\PC{0,60}") {
        let _ = run(&source);
    }

    #[test]
    fn any_pieces_are_taken(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        let _ = run(&pieces.concat());
        let _ = run(&pieces.join(" "));
    }

    #[test]
    fn any_operation_on_any_value_is_taken(
        left in prop::sample::select(PIECES),
        operator in prop::sample::select(&["+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!=", "in", "&&", "||"][..]),
        right in prop::sample::select(PIECES),
        member in prop::sample::select(PIECES),
    ) {
        let _ = run(&format!("dyn({left}) {operator} dyn({right})"));
        let _ = run(&format!("dyn({left}){member}"));
    }

    #[test]
    fn integers_are_computed_as_in_rust(one in any::<i64>(), two in any::<i64>()) {
        let number = |source: String| match run(&source) {
            Ok(Value::Int(value)) => Some(value),
            _ => None,
        };
        prop_assert_eq!(number(format!("{one} + {two}")), one.checked_add(two));
        prop_assert_eq!(number(format!("{one} - ({two})")), one.checked_sub(two));
        prop_assert_eq!(number(format!("{one} * {two}")), one.checked_mul(two));
        prop_assert_eq!(number(format!("{one} / {two}")), one.checked_div(two));
        prop_assert_eq!(number(format!("{one} % {two}")), one.checked_rem(two));
    }
}
