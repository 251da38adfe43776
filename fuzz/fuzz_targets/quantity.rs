//! Quantities, durations, times and names.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(quantity) = text.parse::<api::Quantity>() {
        let printed = quantity.to_string();
        let again: api::Quantity = printed.parse().expect("a printed quantity parses");
        assert_eq!(again, quantity);
        assert_eq!(again.to_string(), printed);
    }
    let _ = api::time::parse(text);
    let _ = api::time::parse_go_duration(text);
    let _ = api::validate::dns1123_subdomain(text);
    let _ = api::validate::path_segment_name(text);
});
