//! Field numbers of `generated.proto`, to check the tags of the Go types against.

use std::collections::BTreeMap;

/// Message name to its fields: number and name.
pub type Messages = BTreeMap<String, BTreeMap<u32, String>>;

/// Reads the messages of a proto file.
pub fn messages(text: &str) -> Messages {
    let mut found = Messages::new();
    let mut current: Option<(String, BTreeMap<u32, String>)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("message ") {
            current = Some((rest.trim_end_matches('{').trim().to_owned(), BTreeMap::new()));
        } else if line == "}" {
            found.extend(current.take());
        } else if let Some((_, fields)) = &mut current
            && !line.starts_with("//")
            && let Some((left, right)) = line.split_once('=')
            && let Some(name) = left.split_whitespace().last()
            && let Ok(number) = right.trim().trim_end_matches(';').parse()
        {
            fields.insert(number, name.to_owned());
        }
    }
    found
}
