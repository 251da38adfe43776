//! Strategic merge patches of any shape, with any directives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: (&[u8], &[u8])| {
    let ty = schema::builtin().kind("", "v1", "Pod").expect("a built-in kind");
    let (Ok(original), Ok(patch)) = (
        serde_json::from_slice::<Value>(data.0),
        serde_json::from_slice::<Value>(data.1),
    ) else {
        return;
    };
    let _ = schema::patch::strategic::apply(ty, &original, &patch);
});
