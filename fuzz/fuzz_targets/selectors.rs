//! Label and field selectors: what parses prints as something that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = api::labels::Selector::parse(text) {
        let printed = selector.to_string();
        let again = api::labels::Selector::parse(&printed).expect("a printed selector parses");
        assert_eq!(again.to_string(), printed);
    }
    let _ = api::fields::Selector::parse(text);
});
