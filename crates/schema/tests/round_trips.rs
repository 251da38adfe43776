//! Arbitrary objects of arbitrary kinds survive JSON, YAML and protobuf.

use proptest::prelude::*;
use schema::codec::{decode_json, decode_yaml, protobuf, yaml};
use schema::{Shape, TypeDef, TypeRef, builtin, defaults, normalize};
use serde_json::{Map, Value, json};

/// Choices taken from a finite supply of bytes; when it is used up, everything is absent.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.next() % n == n - 1
    }
}

fn tree(ty: TypeRef<'_>, choices: &mut Choices<'_>, depth: usize) -> Value {
    let n = choices.next();
    match ty.kind() {
        Shape::Bool => json!(n.is_multiple_of(2)),
        Shape::Integer(_) => json!(i64::from(n) - 128),
        Shape::Number => json!(f64::from(n) + 0.5),
        Shape::String => ["", "a", "x: y", "yes", "012", "é\"\\\n", "null", "1e3"][usize::from(n) % 8].into(),
        Shape::Bytes => ["", "AA==", "aGVsbG8="][usize::from(n) % 3].into(),
        Shape::Quantity => ["0", "100m", "1Gi", "5", "1500m"][usize::from(n) % 5].into(),
        Shape::IntOrString => {
            if n.is_multiple_of(2) {
                json!(n)
            } else {
                json!("25%")
            }
        }
        Shape::Time => "2024-05-06T07:08:09Z".into(),
        Shape::MicroTime => "2024-05-06T07:08:09.000010Z".into(),
        Shape::Duration => ["0s", "1h0m5s", "1.5ms"][usize::from(n) % 3].into(),
        Shape::Any if *ty.def() == TypeDef::Any => json!(null),
        Shape::Any => json!({"a": [n, "b", null, {"c": true}]}),
        Shape::List(list) => (0..=n % 3).map(|_| tree(list.elem(), choices, depth + 1)).collect(),
        Shape::Map(map) => {
            let keys = ["a", "b.c/d", "é"];
            let pairs = keys.iter().take(usize::from(n) % 3 + 1);
            Value::Object(
                pairs
                    .map(|k| ((*k).to_owned(), tree(map.value(), choices, depth + 1)))
                    .collect(),
            )
        }
        Shape::Struct(structure) => {
            let mut map = Map::new();
            for field in structure.fields() {
                // TypeMeta travels in the envelope.
                let in_type_meta = structure
                    .wire_fields()
                    .any(|f| f.inline() && f.number() == 0 && f.ty().field(field.name()).is_some());
                let on_wire = field.number() > 0 && !in_type_meta;
                if on_wire && depth < 12 && choices.one_in(4) {
                    map.insert(field.name().to_owned(), tree(field.ty(), choices, depth + 1));
                }
            }
            Value::Object(map)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_survive(pick in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let schema = builtin();
        let kinds: Vec<_> = schema.roots().collect();
        let ty = schema.get(pick.get(&kinds).3);
        let mut object = tree(ty, &mut Choices(bytes.iter()), 0);
        normalize(ty, &mut object);

        let text = serde_json::to_vec(&object).expect("a tree");
        let mut back = decode_json(ty, &text).expect("decodes");
        prop_assert!(back.strict.is_empty());
        normalize(ty, &mut back.value);
        prop_assert_eq!(&object, &back.value);

        let mut back = decode_yaml(ty, &text).expect("JSON is YAML");
        normalize(ty, &mut back.value);
        prop_assert_eq!(&object, &back.value);

        let printed = yaml::to_string(&object);
        prop_assert_eq!(&object, &yaml::to_value(printed.as_bytes()).expect("prints YAML").value, "{}", printed);

        if let Ok(message) = protobuf::encode(ty, &object) {
            let mut back = protobuf::decode(ty, &message).expect("decodes");
            normalize(ty, &mut back);
            prop_assert_eq!(&object, &back);
        }

        defaults::apply(ty, &mut object);
        let once = object.clone();
        defaults::apply(ty, &mut object);
        prop_assert_eq!(once, object);
    }

    #[test]
    fn any_text_survives_yaml(texts in prop::collection::vec("[-a-z0-9 :#'\"{}\\[\\],&*!|>%@`~.+_\\n\\té€😀\u{85}]{0,12}", 0..4), words in "([a-z]{1,9} {1,2}){0,40}") {
        let object = json!({"list": texts, "words": words, "map": texts.iter().map(|t| (t.clone(), json!({"k": t}))).collect::<Map<_, _>>()});
        let printed = yaml::to_string(&object);
        prop_assert_eq!(&object, &yaml::to_value(printed.as_bytes()).expect("prints YAML").value, "{}", printed);
    }

    #[test]
    fn arbitrary_bytes_never_panic(pick in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let schema = builtin();
        let kinds: Vec<_> = schema.roots().collect();
        let ty = schema.get(pick.get(&kinds).3);
        if let Ok(mut value) = protobuf::decode(ty, &bytes) {
            normalize(ty, &mut value);
            let _ = protobuf::encode(ty, &value);
        }
        let _ = decode_json(ty, &bytes);
        let _ = decode_yaml(ty, &bytes);
    }

    #[test]
    fn any_tree_is_normalized_without_panic(text in "\\{(\"(spec|metadata|status|kind|data|items)\":(\\{\\}|\\[\\]|1|\"x\"|null),)*\"a\":1\\}") {
        let schema = builtin();
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        for (.., id) in schema.roots().step_by(20) {
            let ty = schema.get(id);
            normalize(ty, &mut value);
            defaults::apply(ty, &mut value);
            let _ = protobuf::encode(ty, &value);
        }
    }
}
