//! An example of every kind with every field set, made from the schema by the rules by which upstream
//! makes its serialization test data (apimachinery `pkg/api/apitesting/roundtrip/construct.go`): texts are
//! `<field>Value`, numbers the protobuf number of the field, times years after 2000.
//!
//! `data/upstream.sha256` has the digests of upstream's own files (`<kind> <protobuf> <yaml>`), so that
//! what is made here is known to be theirs, byte for byte, without having them. With `SKIFF_UPDATE=1` and
//! `SKIFF_GOLDEN` naming their folder (kubernetes/api `testdata/HEAD`) the digests are taken anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use schema::codec::{decode_json, decode_yaml, protobuf, unknown, yaml};
use schema::{Shape, TypeDef, TypeRef, builtin, normalize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Makes values; `path` has the structs that are being made, and `lists` what the lists are of that are
/// being made: neither is made again inside itself.
#[derive(Default)]
struct Maker<'s> {
    path: Vec<TypeRef<'s>>,
    lists: Vec<TypeRef<'s>>,
}

impl<'s> Maker<'s> {
    fn make(&mut self, ty: TypeRef<'s>, name: &str, number: i64) -> Value {
        let text = || Value::from(format!("{name}Value"));
        let year = 2000 + number;
        match ty.kind() {
            Shape::Bool => true.into(),
            Shape::Integer(_) => number.into(),
            Shape::Number => json!(number as f64 + 0.5),
            Shape::String | Shape::IntOrString => text(),
            Shape::Bytes => {
                use base64::Engine;
                base64::engine::general_purpose::STANDARD.encode([number as u8]).into()
            }
            Shape::Quantity => "0".into(),
            Shape::Time => format!("{year:04}-01-01T01:01:01Z").into(),
            Shape::MicroTime => format!("{year:04}-01-01T01:01:01.{number:06}Z").into(),
            Shape::Duration => "1ns".into(),
            Shape::Any => match ty.def() {
                TypeDef::FieldsV1 => json!({}),
                _ => json!({"apiVersion": "example.com/v1", "kind": "CustomType",
                    "spec": {"replicas": 1}, "status": {"available": 1}}),
            },
            Shape::List(list) => {
                if self.lists.iter().any(|known| known.id() == list.elem().id()) {
                    return Value::Null;
                }
                self.lists.push(list.elem());
                let item = self.make(list.elem(), name, number);
                self.lists.pop();
                json!([item])
            }
            Shape::Map(map) => {
                let value = match map.value().kind() {
                    // Times are filled behind pointers only.
                    Shape::Time => Value::Null,
                    _ => self.make(map.value(), name, number),
                };
                json!({format!("{name}Key"): value})
            }
            Shape::Struct(structure) => {
                let mut made = Map::new();
                if self.path.iter().any(|known| known.id() == ty.id()) {
                    return Value::Object(made);
                }
                self.path.push(ty);
                for field in structure.fields() {
                    // Kind and version are the envelope's.
                    let in_type_meta = structure
                        .wire_fields()
                        .any(|f| f.inline() && f.number() == 0 && f.ty().field(field.name()).is_some());
                    let again = field.pointer() && self.path.iter().any(|known| known.id() == field.ty().id());
                    if in_type_meta || again {
                        continue;
                    }
                    let number = match field.number() {
                        0 => -(field.name().len() as i64),
                        number => i64::from(number),
                    };
                    made.insert(field.name().to_owned(), self.make(field.ty(), field.name(), number));
                }
                self.path.pop();
                Value::Object(made)
            }
        }
    }
}

/// The example of a kind.
fn example(ty: TypeRef<'_>, group: &str, version: &str, kind: &str) -> Value {
    let mut value = Maker::default().make(ty, "", 0);
    normalize(ty, &mut value);
    let api_version = match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    };
    value["kind"] = kind.into();
    value["apiVersion"] = api_version.into();
    value
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/upstream.sha256")
}

/// What upstream's files digest to: of protobuf and of YAML, by `<group>.<version>.<kind>`.
fn digests() -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(file()).expect("the digests can be read");
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[0].to_owned(), (words[1].to_owned(), words[2].to_owned()))
        })
        .collect()
}

fn update(folder: &Path) {
    let mut lines = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "pb") {
            let name = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
            let of = |extension| sha(&fs::read(path.with_extension(extension)).expect("a file"));
            lines.insert(name, format!("{} {}", of("pb"), of("yaml")));
        }
    }
    let mut text = String::from("# SHA-256 of kubernetes/api's testdata/HEAD: kind, protobuf, YAML\n");
    for (name, digests) in lines {
        let _ = writeln!(text, "{name} {digests}");
    }
    fs::write(file(), text).expect("the digests can be written");
}

/// Kinds that upstream has a file of.
fn named(name: &str) -> Option<(TypeRef<'static>, Value)> {
    let (rest, kind) = name.rsplit_once('.')?;
    let (group, version) = rest.rsplit_once('.')?;
    let group = if group == "core" { "" } else { group };
    let ty = builtin().kind(group, version, kind)?;
    Some((ty, example(ty, group, version, kind)))
}

#[test]
fn examples_are_upstreams_byte_for_byte() {
    if let (Some(_), Some(folder)) = (std::env::var_os("SKIFF_UPDATE"), std::env::var_os("SKIFF_GOLDEN")) {
        update(Path::new(&folder));
    }
    let (mut failures, mut checked) = (Vec::new(), 0);
    for (name, (wire, text)) in digests() {
        // Versions that v1.37 no longer serves are in upstream's data too.
        let Some((ty, value)) = named(&name) else { continue };
        // It has no kind of its own.
        if name.ends_with(".WatchEvent") {
            continue;
        }
        checked += 1;
        match protobuf::encode_object(ty, &value) {
            Ok(bytes) if sha(&bytes) == wire => {}
            Ok(_) => failures.push(format!("{name}: protobuf differs")),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
        if sha(yaml::to_string(&value).as_bytes()) != text {
            failures.push(format!("{name}: YAML differs"));
        }
    }
    assert!(failures.is_empty(), "of {checked}:\n{}", failures.join("\n"));
    assert!(checked > 120, "{checked}");
}

#[test]
fn examples_of_every_kind_survive_every_encoding() {
    let mut failures = Vec::new();
    for (group, version, kind, id) in builtin().roots() {
        // One has no kind of its own, and cells of the other have no protobuf form.
        if ["WatchEvent", "Table"].contains(&kind) {
            continue;
        }
        let ty = builtin().get(id);
        let value = example(ty, group, version, kind);
        if let Err(why) = round_trips(ty, &value) {
            failures.push(format!("{group}/{version} {kind}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn round_trips(ty: TypeRef<'_>, value: &Value) -> Result<(), String> {
    let same = |what: &str, mut got: Value, strict: &[String]| {
        normalize(ty, &mut got);
        match (got == *value, strict) {
            (true, []) => Ok(()),
            (true, strict) => Err(format!("{what}: {strict:?}")),
            (false, _) => Err(format!("{what}: {got} is not {value}")),
        }
    };
    let text = serde_json::to_vec(value).map_err(|e| e.to_string())?;
    let json = decode_json(ty, &text).map_err(|e| e.to_string())?;
    same("JSON", json.value, &json.strict)?;
    let text = yaml::to_string(value);
    let yaml = decode_yaml(ty, text.as_bytes()).map_err(|e| e.to_string())?;
    same("YAML", yaml.value, &yaml.strict)?;
    // Types with members of any shape have no protobuf form.
    let Ok(bytes) = protobuf::encode_object(ty, value) else {
        return Ok(());
    };
    let wire = protobuf::decode_object(ty, &bytes).map_err(|e| e.to_string())?;
    same("protobuf", wire, &[])
}

/// How many values a tree has.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(map) => map.values().map(values).sum(),
        _ => 0,
    }
}

fn messages() -> Vec<(TypeRef<'static>, Vec<u8>)> {
    let names = [
        "core.v1.Pod",
        "apps.v1.Deployment",
        "core.v1.Node",
        "networking.k8s.io.v1.Ingress",
        "core.v1.Secret",
    ];
    let made = names.iter().map(|name| {
        let (ty, value) = named(name).expect("a kind");
        let bytes = protobuf::encode_object(ty, &value).expect("encodes");
        (ty, unknown::unwrap(&bytes).expect("an envelope").raw.to_vec())
    });
    made.collect()
}

/// What is decoded has no more values than the message has bytes, and can be worked with.
fn check_bounded(ty: TypeRef<'_>, bytes: &[u8]) {
    let Ok(mut value) = protobuf::decode(ty, bytes) else {
        return;
    };
    assert!(
        values(&value) <= bytes.len() + 1,
        "{} of {} bytes",
        values(&value),
        bytes.len()
    );
    normalize(ty, &mut value);
    let again = protobuf::encode(ty, &value).expect("what was read can be written");
    let mut back = protobuf::decode(ty, &again).expect("and read again");
    normalize(ty, &mut back);
    assert_eq!(value, back);
}

#[derive(Clone, Debug)]
enum Damage {
    /// Another byte, which may be a length.
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    /// A part once more, somewhere.
    Again(prop::sample::Index, prop::sample::Index, prop::sample::Index),
    /// A length of ten bytes.
    Endless(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        place().prop_map(Damage::Cut),
        (place(), place(), place()).prop_map(|(a, b, at)| Damage::Again(a, b, at)),
        place().prop_map(Damage::Endless),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let length = bytes.len() + 1;
        match damage {
            Damage::Set(at, byte) => {
                if let Some(found) = bytes.get_mut(at.index(length)) {
                    *found = *byte;
                }
            }
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Again(a, b, at) => {
                let (a, b) = (a.index(length), b.index(length));
                let part = bytes[a.min(b)..a.max(b)].to_vec();
                let at = at.index(length);
                bytes.splice(at..at, part);
            }
            Damage::Endless(at) => {
                let at = at.index(length);
                bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
            }
        }
        bytes.truncate(200_000);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_messages_are_refused_or_read_within_bounds(damages in prop::collection::vec(damage(), 1..6)) {
        for (ty, bytes) in messages() {
            check_bounded(ty, &damaged(bytes, &damages));
        }
    }

    #[test]
    fn damaged_texts_are_refused_or_read_within_bounds(damages in prop::collection::vec(damage(), 1..4)) {
        let (ty, value) = named("core.v1.Pod").expect("a kind");
        let text = serde_json::to_vec(&value).expect("a tree");
        let text = damaged(text, &damages);
        if let Ok(decoded) = decode_json(ty, &text) {
            prop_assert!(values(&decoded.value) <= text.len() + 1);
        }
        let text = damaged(yaml::to_string(&value).into_bytes(), &damages);
        if let Ok(decoded) = decode_yaml(ty, &text) {
            prop_assert!(values(&decoded.value) <= text.len() + 1);
        }
    }
}

/// Messages in messages, deeper than any object is.
#[test]
fn depth_is_limited() {
    let ty = builtin()
        .kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
        .expect("a kind");
    let schema = builtin().by_name("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let schema = builtin().get(schema.expect("a type"));
    let field = schema.field("not").expect("a field");
    let mut bytes = Vec::new();
    for _ in 0..40_000 {
        let mut length = bytes.len();
        let mut outer = vec![(field.number() << 3 | 2) as u8 | 0x80, (field.number() >> 4) as u8];
        if field.number() < 16 {
            outer = vec![(field.number() << 3 | 2) as u8];
        }
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&bytes);
        bytes = outer;
        if bytes.len() > 100_000 {
            break;
        }
    }
    assert!(protobuf::decode(schema, &bytes).is_err());
    let deep = format!("{}{}", "{\"not\":".repeat(50_000), "}".repeat(50_000));
    assert!(decode_json(schema, deep.as_bytes()).is_err());
    let deep = format!("{{\"spec\":{{\"versions\":{}", "[".repeat(100_000));
    assert!(decode_json(ty, deep.as_bytes()).is_err());
    assert!(decode_yaml(ty, deep.as_bytes()).is_err());
}

/// Texts that are no UTF-8 are mended or refused, never passed on.
#[test]
fn texts_are_utf_8() {
    let ty = builtin().kind("", "v1", "ConfigMap").expect("a kind");
    let wire = [0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe];
    if let Ok(value) = protobuf::decode(ty, &wire) {
        assert_eq!(value["metadata"]["name"], "\u{fffd}\u{fffd}");
    }
    assert!(
        decode_json(ty, b"{\"metadata\":{\"name\":\"\xff\xfe\"}}").map_or(true, |decoded| {
            decoded.value["metadata"]["name"] == "\u{fffd}\u{fffd}"
        })
    );
}
