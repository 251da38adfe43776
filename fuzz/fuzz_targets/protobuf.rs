//! Protobuf bodies: lengths that lie are refused; what was read is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ty = schema::builtin().kind("", "v1", "Pod").expect("a built-in kind");
    if let Ok(unknown) = schema::codec::unknown::unwrap(data) {
        let _ = schema::codec::protobuf::decode(ty, unknown.raw);
    }
    if let Ok(value) = schema::codec::protobuf::decode(ty, data) {
        let bytes = schema::codec::protobuf::encode(ty, &value).expect("what was read can be written");
        let again = schema::codec::protobuf::decode(ty, &bytes).expect("and read again");
        assert_eq!(value, again);
    }
});
