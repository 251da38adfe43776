//! Round trips over upstream's golden objects: every kind, JSON, YAML and protobuf.
//!
//! `SKIFF_GOLDEN` names the folder; without it `../shared/data/golden-v1.37` beside the workspace is
//! read when it is there, and always the corpus in `tests/data`.

use std::fs;
use std::path::{Path, PathBuf};

use schema::codec::{decode_json, decode_yaml, protobuf, unknown, yaml};
use schema::{TypeRef, builtin, defaults, normalize};
use serde_json::Value;

/// Folders with `<group>.<version>.<kind>.{json,pb,yaml}`.
fn folders() -> Vec<PathBuf> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![crate_dir.join("tests/data")];
    match std::env::var_os("SKIFF_GOLDEN") {
        Some(folder) => found.push(folder.into()),
        None => found.push(crate_dir.join("../../../shared/data/golden-v1.37")),
    }
    found.retain(|folder| folder.is_dir());
    found
}

fn objects() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders() {
        for entry in fs::read_dir(folder).expect("the folder can be listed") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "json") && path.with_extension("pb").exists() {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 10, "the corpus in tests/data is missing");
    found
}

fn kind_of(path: &Path) -> TypeRef<'static> {
    let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name");
    let (rest, kind) = stem.rsplit_once('.').expect("a kind");
    let (group, version) = rest.rsplit_once('.').expect("a version");
    let group = if group == "core" { "" } else { group };
    builtin()
        .kind(group, version, kind)
        .unwrap_or_else(|| panic!("no kind {stem}"))
}

fn read(path: &Path, extension: &str) -> Vec<u8> {
    fs::read(path.with_extension(extension)).expect("the golden file can be read")
}

#[test]
fn json_yaml_and_protobuf_are_the_same_object() {
    let mut failures = Vec::new();
    for path in objects() {
        if let Err(problem) = check(&path) {
            failures.push(format!("{}: {problem}", path.display()));
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn check(path: &Path) -> Result<(), String> {
    let json = read(path, "json");
    let ty = kind_of(path);
    let tree: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
    let mut decoded = decode_json(ty, &json).map_err(|e| format!("json: {e}"))?;
    if !decoded.strict.is_empty() {
        return Err(format!("strict: {:?}", decoded.strict));
    }
    same("json", &tree, &decoded.value)?;
    normalize(ty, &mut decoded.value);
    same("normalized json", &tree, &decoded.value)?;

    let from_yaml = decode_yaml(ty, &read(path, "yaml")).map_err(|e| e.to_string())?;
    same("yaml", &tree, &from_yaml.value)?;
    if !from_yaml.strict.is_empty() {
        return Err(format!("yaml strict: {:?}", from_yaml.strict));
    }

    let printed = yaml::to_string(&tree);
    if printed.as_bytes() != read(path, "yaml") {
        let golden = String::from_utf8(read(path, "yaml")).expect("text");
        let line = printed.lines().zip(golden.lines()).find(|(a, b)| a != b);
        return Err(format!("YAML differs: {line:?}"));
    }

    let golden = read(path, "pb");
    let mut from_wire = protobuf::decode_object(ty, &golden).map_err(|e| format!("protobuf: {e}"))?;
    normalize(ty, &mut from_wire);
    same("protobuf", &tree, &from_wire)?;
    let encoded = protobuf::encode_object(ty, &tree).map_err(|e| format!("encode: {e}"))?;
    if encoded != golden {
        let at = encoded
            .iter()
            .zip(&golden)
            .position(|(a, b)| a != b)
            .unwrap_or(encoded.len().min(golden.len()));
        return Err(format!(
            "bytes differ at {at}: {} written, {} golden",
            encoded.len(),
            golden.len()
        ));
    }
    Ok(())
}

fn same(what: &str, wanted: &Value, got: &Value) -> Result<(), String> {
    match difference(wanted, got, String::new()) {
        None => Ok(()),
        Some(at) => Err(format!("{what}: {at}")),
    }
}

fn difference(wanted: &Value, got: &Value, at: String) -> Option<String> {
    match (wanted, got) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|k| {
            difference(
                a.get(k).unwrap_or(&Value::Null),
                b.get(k).unwrap_or(&Value::Null),
                format!("{at}.{k}"),
            )
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (a, b))| difference(a, b, format!("{at}[{i}]"))),
        _ => (wanted != got).then(|| format!("{at}: wanted {wanted}, got {got}")),
    }
}

#[test]
fn an_empty_object_has_the_shape_that_go_prints() {
    for path in objects() {
        let ty = kind_of(&path);
        let mut once = Value::Object(Default::default());
        normalize(ty, &mut once);
        let mut twice = once.clone();
        normalize(ty, &mut twice);
        assert_eq!(once, twice, "{}", path.display());
        let bytes = protobuf::encode(ty, &once).expect("zero values encode");
        let mut back = protobuf::decode(ty, &bytes).expect("zero values decode");
        normalize(ty, &mut back);
        assert_eq!(once, back, "{}", path.display());
        assert_eq!(
            bytes,
            protobuf::encode(ty, &Value::Null).expect("nothing encodes like zero")
        );
        defaults::apply(ty, &mut back);
        let mut again = back.clone();
        defaults::apply(ty, &mut again);
        assert_eq!(back, again, "{}", path.display());
    }
}

#[test]
fn cut_or_flipped_messages_never_panic() {
    for path in objects()
        .into_iter()
        .filter(|path| path.components().any(|c| c.as_os_str() == "tests"))
    {
        let golden = read(&path, "pb");
        let ty = kind_of(&path);
        let raw = unknown::unwrap(&golden).expect("an envelope").raw.to_vec();
        for at in (0..raw.len()).step_by(131) {
            let _ = protobuf::decode(ty, &raw[..at]);
            let mut flipped = raw.clone();
            flipped[at] ^= 0xff;
            let _ = protobuf::decode(ty, &flipped);
        }
    }
}
