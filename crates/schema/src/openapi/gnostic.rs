//! A v2 document as protobuf (`gnostic-models/openapiv2`), which client-go asks for as
//! `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.

use serde_json::{Map, Value};

use crate::codec::protobuf::wire::Back;

/// Encodes a document that [`super::v2`] made. Members that it never has are not looked for.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Back::with_capacity(4 << 20);
    if let Some(document) = document.as_object() {
        self::document(&mut out, document);
    }
    out.finish()
}

type Object = Map<String, Value>;

fn document(out: &mut Back, from: &Object) {
    nested(out, 13, from, "securityDefinitions", |out, from| {
        for (name, value) in from.iter().rev() {
            named(out, 1, name, value, |out, from| {
                message(out, 2, |out| api_key(out, from))
            });
        }
    });
    each(out, 12, from, "security", |out, from| {
        for name in from.keys().rev() {
            named(out, 1, name, &Value::Object(Object::new()), |_, _| ());
        }
    });
    nested(out, 9, from, "definitions", |out, from| {
        named_each(out, 1, from, schema)
    });
    nested(out, 8, from, "paths", |out, from| named_each(out, 2, from, path_item));
    nested(out, 2, from, "info", |out, from| {
        text(out, 2, from, "version");
        text(out, 1, from, "title");
    });
    text(out, 1, from, "swagger");
}

fn api_key(out: &mut Back, from: &Object) {
    for (number, key) in [(4, "description"), (3, "in"), (2, "name"), (1, "type")] {
        text(out, number, from, key);
    }
}

fn path_item(out: &mut Back, from: &Object) {
    each(out, 9, from, "parameters", parameters_item);
    for (number, method) in [
        (8, "patch"),
        (7, "head"),
        (6, "options"),
        (5, "delete"),
        (4, "post"),
        (3, "put"),
        (2, "get"),
    ] {
        nested(out, number, from, method, operation);
    }
}

fn operation(out: &mut Back, from: &Object) {
    extensions(out, 13, from);
    texts(out, 10, from, "schemes");
    nested(out, 9, from, "responses", |out, from| {
        named_each(out, 1, from, |out, from| message(out, 1, |out| response(out, from)));
    });
    each(out, 8, from, "parameters", parameters_item);
    texts(out, 7, from, "consumes");
    texts(out, 6, from, "produces");
    text(out, 5, from, "operationId");
    text(out, 3, from, "description");
    texts(out, 1, from, "tags");
}

fn response(out: &mut Back, from: &Object) {
    nested(out, 2, from, "schema", |out, from| {
        message(out, 1, |out| schema(out, from))
    });
    text(out, 1, from, "description");
}

/// `ParametersItem` > `Parameter` > body, query or path.
fn parameters_item(out: &mut Back, from: &Object) {
    message(out, 1, |out| match from.get("in").and_then(Value::as_str) {
        Some("body") => message(out, 1, |out| {
            nested(out, 5, from, "schema", schema);
            boolean(out, 4, from, "required");
            text(out, 3, from, "in");
            text(out, 2, from, "name");
        }),
        Some("path") => message(out, 2, |out| {
            message(out, 4, |out| {
                boolean(out, 19, from, "uniqueItems");
                text(out, 5, from, "type");
                named_parameter(out, from);
            });
        }),
        _ => message(out, 2, |out| {
            message(out, 3, |out| {
                boolean(out, 20, from, "uniqueItems");
                text(out, 6, from, "type");
                named_parameter(out, from);
            });
        }),
    });
}

fn named_parameter(out: &mut Back, from: &Object) {
    text(out, 4, from, "name");
    text(out, 3, from, "description");
    text(out, 2, from, "in");
    boolean(out, 1, from, "required");
}

fn schema(out: &mut Back, from: &Object) {
    extensions(out, 31, from);
    nested(out, 25, from, "properties", |out, from| {
        named_each(out, 1, from, schema)
    });
    each(out, 24, from, "allOf", schema);
    nested(out, 23, from, "items", |out, from| {
        message(out, 1, |out| schema(out, from))
    });
    if let Some(ty) = from.get("type").and_then(Value::as_str) {
        message(out, 22, |out| out.string(1, ty));
    }
    nested(out, 21, from, "additionalProperties", |out, from| {
        message(out, 1, |out| schema(out, from))
    });
    for value in array(from, "enum").iter().rev() {
        message(out, 20, |out| any(out, value));
    }
    texts(out, 19, from, "required");
    if let Some(value) = from.get("default") {
        message(out, 5, |out| any(out, value));
    }
    text(out, 4, from, "description");
    text(out, 2, from, "format");
    text(out, 1, from, "$ref");
}

/// `Any` as YAML, of which JSON is a part.
fn any(out: &mut Back, value: &Value) {
    out.string(2, &format!("{value}\n"));
}

fn extensions(out: &mut Back, number: u32, from: &Object) {
    for (name, value) in from.iter().rev().filter(|(name, _)| name.starts_with("x-")) {
        message(out, number, |out| {
            message(out, 2, |out| any(out, value));
            out.string(1, name);
        });
    }
}

fn message(out: &mut Back, number: u32, content: impl FnOnce(&mut Back)) {
    let mark = out.written();
    content(out);
    out.close(number, mark);
}

fn nested(out: &mut Back, number: u32, from: &Object, key: &str, content: impl FnOnce(&mut Back, &Object)) {
    if let Some(inner) = from.get(key).and_then(Value::as_object) {
        message(out, number, |out| content(out, inner));
    }
}

fn each(out: &mut Back, number: u32, from: &Object, key: &str, content: impl Fn(&mut Back, &Object)) {
    for item in array(from, key).iter().rev().filter_map(Value::as_object) {
        message(out, number, |out| content(out, item));
    }
}

/// Members as repeated `{name = 1, value = 2}`.
fn named_each(out: &mut Back, number: u32, from: &Object, content: impl Fn(&mut Back, &Object)) {
    for (name, value) in from.iter().rev() {
        named(out, number, name, value, &content);
    }
}

fn named(out: &mut Back, number: u32, name: &str, value: &Value, content: impl FnOnce(&mut Back, &Object)) {
    message(out, number, |out| {
        if let Some(value) = value.as_object() {
            message(out, 2, |out| content(out, value));
        }
        out.string(1, name);
    });
}

fn array<'v>(from: &'v Object, key: &str) -> &'v [Value] {
    from.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(out: &mut Back, number: u32, from: &Object, key: &str) {
    if let Some(value) = from.get(key).and_then(Value::as_str) {
        out.string(number, value);
    }
}

fn texts(out: &mut Back, number: u32, from: &Object, key: &str) {
    for value in array(from, key).iter().rev().filter_map(Value::as_str) {
        out.string(number, value);
    }
}

fn boolean(out: &mut Back, number: u32, from: &Object, key: &str) {
    if from.get(key).and_then(Value::as_bool) == Some(true) {
        out.varint(number, 1);
    }
}
