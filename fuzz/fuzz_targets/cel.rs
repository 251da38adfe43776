//! CEL expressions of any text: refused with issues, or evaluated within their costs.
#![no_main]

use std::sync::{Arc, OnceLock};

use cel::{Activation, Decl, DeclTypes, Env, Value, limits};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fn environment() -> &'static (Env, Decl) {
    static MADE: OnceLock<(Env, Decl)> = OnceLock::new();
    MADE.get_or_init(|| {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": "integer"}, "s": {"type": "string"}, "t": {"type": "string", "format": "date-time"},
            "l": {"type": "array", "items": {"type": "string"}},
            "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        }});
        let decl = Decl::from_schema(&schema, "selfType", false).expect("a schema with a type");
        let types = Arc::new(DeclTypes::new([&decl]));
        let env = Env::kubernetes().types(types).variable("self", decl.ty()).build();
        (env, decl)
    })
}

fuzz_target!(|text: &str| {
    let (env, decl) = environment();
    match env.compile(text) {
        Ok(program) => {
            let object = json!({"n": 3, "s": "abc", "t": "2024-01-01T00:00:00Z", "l": ["a", "b"], "m": {"k": 1}});
            let value = Value::from_json(Arc::new(object), decl).expect("an object");
            let _ = program.evaluate(&Activation::new().with("self", value), limits::PER_CALL_LIMIT);
        }
        Err(issues) => drop(issues.to_string()),
    }
});
