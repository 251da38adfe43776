//! YAML bodies: alias bombs, depth and duplicates are refused within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ty = schema::builtin().kind("", "v1", "Pod").expect("a built-in kind");
    let _ = schema::codec::decode_yaml(ty, data);
});
