//! Between bytes and objects: the only file that calls `schema`'s coders.

use api::{Gvk, Status, Value};
use bytes::{BufMut, Bytes, BytesMut};
use schema::{Schema, TypeRef};

use crate::custom::Custom;
use crate::kind::Kind;
use crate::negotiate::Encoding;

/// Compact JSON.
pub(crate) fn to_json(value: &Value) -> Bytes {
    serde_json::to_vec(value)
        .expect("a tree of values has only string keys")
        .into()
}

/// An object's JSON as it is stored and sent: kind and version first, as upstream writes them, so that
/// an item of a list is the same bytes after a beginning that is known ([`type_head`]).
pub(crate) fn to_object_json(object: &Value) -> Bytes {
    object_json(object, |out, _, value| put_json(out, value))
}

/// The same without `metadata.resourceVersion`, which the store keeps beside the object.
pub(crate) fn to_stored_json(object: &Value) -> Bytes {
    object_json(object, |out, key, value| match value.as_object() {
        Some(metadata) if key == "metadata" => {
            out.push(b'{');
            let kept = metadata.iter().filter(|(key, _)| *key != "resourceVersion");
            for (at, (key, value)) in kept.enumerate() {
                put_member(out, at, key);
                put_json(out, value);
            }
            out.push(b'}');
        }
        _ => put_json(out, value),
    })
}

fn put_json(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a tree of values has only string keys");
}

fn put_member(out: &mut Vec<u8>, at: usize, key: &str) {
    if at > 0 {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, key).expect("a string is JSON");
    out.push(b':');
}

fn object_json(object: &Value, put: impl Fn(&mut Vec<u8>, &str, &Value)) -> Bytes {
    let Some(map) = object.as_object() else {
        return to_json(object);
    };
    let mut out = Vec::with_capacity(2048);
    out.push(b'{');
    let head = ["kind", "apiVersion"];
    let head = head.into_iter().filter_map(|key| map.get_key_value(key));
    let rest = map.iter().filter(|(key, _)| *key != "kind" && *key != "apiVersion");
    for (at, (key, value)) in head.chain(rest).enumerate() {
        put_member(&mut out, at, key);
        put(&mut out, key, value);
    }
    out.push(b'}');
    out.into()
}

/// What [`to_object_json`] of any object of this kind begins with.
pub(crate) fn type_head(gvk: &Gvk) -> Vec<u8> {
    let (kind, version) = (Value::from(&*gvk.kind), Value::from(gvk.api_version()));
    format!("{{\"kind\":{kind},\"apiVersion\":{version},").into_bytes()
}

/// Appends an object's JSON without its kind and version: the items of built-in lists have none.
pub(crate) fn put_item(out: &mut BytesMut, head: &[u8], json: &Bytes) {
    if let Some(rest) = json.strip_prefix(head) {
        out.put_u8(b'{');
        out.put_slice(rest);
        return;
    }
    // Written by an older version, or an object of nothing else.
    let mut value: Value = serde_json::from_slice(json).unwrap_or_default();
    strip_type(&mut value);
    out.put_slice(&to_json(&value));
}

/// Removes kind and version.
pub(crate) fn strip_type(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
}

/// JSON indented by two.
pub(crate) fn to_pretty_json(value: &Value) -> Bytes {
    serde_json::to_vec_pretty(value)
        .expect("a tree of values has only string keys")
        .into()
}

/// YAML.
pub(crate) fn to_yaml(value: &Value) -> Result<Bytes, Status> {
    serde_saphyr::to_string(value)
        .map(Bytes::from)
        .map_err(Status::internal)
}

/// Protobuf in its envelope.
///
/// # Errors
/// 406 if the type has no protobuf form.
pub(crate) fn to_protobuf(ty: TypeRef<'_>, gvk: &Gvk, value: &Value) -> Result<Bytes, Status> {
    Ok(schema::codec::unknown::wrap(gvk, &to_bare_protobuf(ty, value)?).into())
}

/// Protobuf without the envelope, as it stands inside lists; errors as [`to_protobuf`].
pub(crate) fn to_bare_protobuf(ty: TypeRef<'_>, value: &Value) -> Result<Vec<u8>, Status> {
    schema::codec::protobuf::encode(ty, value).map_err(|error| {
        tracing::debug!(%error, "an object has no protobuf form");
        Status::not_acceptable(&["application/json", "application/yaml"])
    })
}

/// What became of a request body.
pub(crate) struct Body {
    /// The object, stamped with the kind that was expected, in the type's shape.
    pub value: Value,
    /// Unknown and duplicate fields.
    pub strict: Vec<String>,
}

/// Reads a body as one kind.
///
/// # Errors
/// 400 with upstream's words if it is no such object (`transformDecodeError`).
pub(crate) fn decode(
    schema: &Schema,
    root: schema::TypeId,
    expected: &Gvk,
    encoding: Encoding,
    bytes: &[u8],
) -> Result<Body, Status> {
    let ty = schema.get(root);
    let decoded = match encoding {
        Encoding::Json => schema::codec::decode_json(ty, bytes),
        Encoding::Yaml => schema::codec::decode_yaml(ty, bytes),
        Encoding::Protobuf => return decode_protobuf(ty, expected, bytes),
    };
    let decoded = decoded.map_err(|error| undecodable(expected, bytes, encoding, &error))?;
    let mut value = decoded.value;
    check_kind(expected, api::meta::api_version(&value), api::meta::kind(&value))?;
    expected.stamp(&mut value);
    Ok(Body {
        value,
        strict: decoded.strict,
    })
}

fn decode_protobuf(ty: TypeRef<'_>, expected: &Gvk, bytes: &[u8]) -> Result<Body, Status> {
    let bad = |error: &dyn std::fmt::Display| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error} ({})",
            expected.kind,
            summary(bytes)
        ))
    };
    let unknown = schema::codec::unknown::unwrap(bytes).map_err(|e| bad(&e))?;
    check_kind(expected, &unknown.type_meta.api_version, &unknown.type_meta.kind)?;
    let mut value = schema::codec::protobuf::decode(ty, unknown.raw).map_err(|e| bad(&e))?;
    expected.stamp(&mut value);
    Ok(Body {
        value,
        strict: Vec::new(),
    })
}

/// The object must be of the kind that the path is about; what it does not say is assumed.
fn check_kind(expected: &Gvk, version: &str, kind: &str) -> Result<(), Status> {
    let version = if version.is_empty() {
        &expected.api_version()
    } else {
        version
    };
    let kind = if kind.is_empty() { &expected.kind } else { kind };
    if *version == expected.api_version() && *kind == expected.kind {
        return Ok(());
    }
    let last = version.rsplit('/').next().unwrap_or("");
    if schema::builtin().root(expected).is_none() {
        return Err(foreign_resource(expected, version, kind));
    }
    Err(Status::bad_request(format!(
        "{kind} in version {} cannot be handled as a {}: {}",
        api::field::go_quote(last),
        expected.kind,
        foreign_kind(expected, version, kind)
    )))
}

/// The same of custom resources (`apiextensions-apiserver/pkg/apiserver/customresource_handler.go`).
fn foreign_resource(expected: &Gvk, version: &str, kind: &str) -> Status {
    if kind != expected.kind {
        return Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {}: converting ({kind}) to ({}): unknown conversion",
            api::field::go_quote(version.rsplit('/').next().unwrap_or("")),
            expected.kind,
            expected.kind
        ));
    }
    Status::bad_request(format!(
        "the API version in the data ({version}) does not match the expected API version ({})",
        expected.api_version()
    ))
}

/// Why an object of a kind is none of another: nobody knows it, or it cannot be converted.
pub(crate) fn foreign_kind(expected: &Gvk, version: &str, kind: &str) -> String {
    let (group, last) = version.rsplit_once('/').unwrap_or(("", version));
    if schema::builtin().root_of(group, last, kind).is_none() {
        return unregistered(kind, version);
    }
    let short = |group: &str| match group.split('.').next() {
        None | Some("") => "core".to_owned(),
        Some(first) => first.to_owned(),
    };
    format!(
        "converting ({last}.{kind}) to ({}.{}): unknown conversion",
        short(&expected.group),
        expected.kind
    )
}

/// What is said of a kind that a scheme does not know.
pub(crate) fn unregistered(kind: &str, version: &str) -> String {
    format!(
        "no kind {} is registered for version {} in scheme \"pkg/runtime/scheme.go:104\"",
        api::field::go_quote(kind),
        api::field::go_quote(version)
    )
}

fn undecodable(expected: &Gvk, bytes: &[u8], encoding: Encoding, error: &dyn std::fmt::Display) -> Status {
    let named: Option<(String, String)> = (encoding == Encoding::Json)
        .then(|| serde_json::from_slice::<Value>(bytes).ok())
        .flatten()
        .filter(|value| !api::meta::kind(value).is_empty())
        .map(|value| {
            (
                api::meta::kind(&value).to_owned(),
                api::meta::api_version(&value).to_owned(),
            )
        });
    Status::bad_request(match named {
        Some((kind, version)) => format!(
            "{kind} in version {} cannot be handled as a {}: {error}",
            api::field::go_quote(version.rsplit('/').next().unwrap_or("")),
            expected.kind
        ),
        None => format!(
            "the object provided is unrecognized (must be of type {}): {} ({})",
            expected.kind,
            unreadable(bytes, encoding).unwrap_or_else(|| error.to_string()),
            summary(bytes)
        ),
    })
}

/// What is said of JSON from which not even the kind can be read (`runtime/serializer/json/meta.go`).
fn unreadable(bytes: &[u8], encoding: Encoding) -> Option<String> {
    let error = match encoding {
        Encoding::Json => schema::codec::type_meta(bytes).err()?,
        _ => return None,
    };
    let error = error.to_string().replace(
        "struct { APIVersion string; Kind string }",
        "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }",
    );
    Some(format!("couldn't get version/kind; json parse error: {error}"))
}

/// The start of a body for an error message (`summarizeData`).
fn summary(bytes: &[u8]) -> String {
    const LONGEST: usize = 30;
    match bytes {
        [] => "<empty>".to_owned(),
        [b'{', ..] if bytes.len() > LONGEST => {
            format!("{} ...", String::from_utf8_lossy(&bytes[..LONGEST]))
        }
        [b'{', ..] => String::from_utf8_lossy(bytes).into_owned(),
        _ => {
            let more = if bytes.len() > LONGEST { " ..." } else { "" };
            let shown = bytes.iter().take(LONGEST);
            shown.map(|b| format!("{b:02x}")).collect::<String>() + more
        }
    }
}

/// Reads a body as an object of a kind.
///
/// # Errors
/// As [`decode`]; 400 for custom resources in protobuf.
pub(crate) fn decode_kind(kind: &Kind, encoding: Encoding, bytes: &[u8]) -> Result<Body, Status> {
    let Some(custom) = &kind.custom else {
        return decode(&kind.schema, kind.root, &kind.gvk, encoding, bytes);
    };
    if encoding == Encoding::Protobuf {
        return Err(custom_protobuf(&kind.gvk, bytes));
    }
    let ty = schema::structural::any_resource();
    let meta = match encoding {
        Encoding::Json => schema::codec::type_meta(bytes).ok(),
        _ => None,
    };
    if let Some(meta) = &meta
        && !meta.kind.is_empty()
        && meta.kind != kind.gvk.kind
        && meta.api_version == kind.gvk.api_version()
    {
        let path = api::field::Path::new("kind");
        let wanted = format!("must be {}", kind.gvk.kind);
        let errors = vec![api::field::Error::invalid(&path, meta.kind.as_str(), wanted)];
        let object: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let name = api::meta::name(&object);
        return Err(Status::invalid(&kind.gvk.group, &meta.kind, name, errors));
    }
    // An unstructured object has no kind but its own (`runtime.NewMissingKindErr`).
    let absent = meta.and_then(|meta| match (&*meta.kind, &*meta.api_version) {
        ("", _) => Some("Kind"),
        (_, "") => Some("apiVersion"),
        _ => None,
    });
    if let Some(absent) = absent {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object '{absent}' is missing in '{}' ({})",
            kind.gvk.kind,
            String::from_utf8_lossy(bytes),
            summary(bytes)
        )));
    }
    let mut body = decode(ty.schema(), ty.id(), &kind.gvk, encoding, bytes)?;
    shape(custom, &mut body).map_err(|why| Status::bad_request(format!("error decoding: {why}")))?;
    Ok(body)
}

/// Custom resources negotiate protobuf, for their metadata's sake, and then cannot be read from it.
fn custom_protobuf(expected: &Gvk, bytes: &[u8]) -> Status {
    const UNABLE: &str = "object *unstructured.Unstructured does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message";
    match schema::codec::unknown::unwrap(bytes) {
        Ok(unknown) => {
            let meta = &unknown.type_meta;
            let kind = if meta.kind.is_empty() {
                &expected.kind
            } else {
                &meta.kind
            };
            let version = meta.api_version.rsplit('/').next().filter(|v| !v.is_empty());
            let version = api::field::go_quote(version.unwrap_or(&expected.version));
            let expected = &expected.kind;
            Status::bad_request(format!(
                "{kind} in version {version} cannot be handled as a {expected}: {UNABLE}"
            ))
        }
        Err(error) => undecodable(expected, bytes, Encoding::Protobuf, &error),
    }
}

fn shape(custom: &Custom, body: &mut Body) -> Result<(), String> {
    let unknown = custom.shape(&mut body.value).map_err(|error| error.to_string())?;
    let unknown = unknown
        .into_iter()
        .map(|field| format!("unknown field {}", api::field::go_quote(&field)));
    body.strict.extend(unknown);
    Ok(())
}

/// An object from the store in the shape that a request's object has.
pub(crate) fn complete_stored(kind: &Kind, value: &mut Value) {
    // The cache of custom resources holds them complete.
    if kind.custom.is_none() {
        complete(kind, value);
    }
}

/// Brings an object into its type's shape.
pub fn normalize(kind: &Kind, value: &mut Value) {
    if kind.custom.is_none() {
        return schema::normalize(kind.schema.get(kind.root), value);
    }
    if let Some(metadata) = value.get_mut("metadata") {
        schema::normalize(schema::structural::object_meta(), metadata);
    }
}

/// Brings an object into its type's shape and fills in defaults, the schema's and the kind's.
pub fn complete(kind: &Kind, value: &mut Value) {
    if let Some(custom) = &kind.custom {
        custom.complete(value);
        return normalize(kind, value);
    }
    let ty = kind.schema.get(kind.root);
    schema::defaults::apply(ty, value);
    if let Some(default) = &kind.strategy.default {
        default(value);
    }
    schema::normalize(ty, value);
}

/// As [`reshape`], of an object that was made from one in the type's shape: only what differs is looked at. False if
/// there is something to say about it; then it is in no particular shape.
pub(crate) fn reshape_changes(kind: &Kind, old: &Value, new: &mut Value) -> bool {
    kind.custom.is_none() && schema::codec::reshape_changes(kind.schema.get(kind.root), old, new)
}

/// Brings an object that did not come from a decoder (a patch result) into its type's shape,
/// and says which fields are unknown.
///
/// # Errors
/// A message if a field has the wrong type.
pub(crate) fn reshape(kind: &Kind, value: &Value) -> Result<Body, String> {
    let ty = match kind.custom {
        Some(_) => schema::structural::any_resource(),
        None => kind.schema.get(kind.root),
    };
    let decoded = schema::codec::decode_json(ty, &to_json(value)).map_err(|error| error.to_string())?;
    let mut body = Body {
        value: decoded.value,
        strict: decoded.strict,
    };
    if let Some(custom) = &kind.custom {
        shape(custom, &mut body)?;
    }
    Ok(body)
}

/// Reads options, which clients may send in any group's version.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_any_version(
    schema: &Schema,
    root: schema::TypeId,
    expected: &Gvk,
    encoding: Encoding,
    bytes: &[u8],
) -> Result<Value, Status> {
    let ty = schema.get(root);
    if encoding == Encoding::Protobuf {
        let unknown =
            schema::codec::unknown::unwrap(bytes).map_err(|error| undecodable(expected, bytes, encoding, &error))?;
        return schema::codec::protobuf::decode(ty, unknown.raw)
            .map_err(|error| undecodable(expected, bytes, encoding, &error));
    }
    schema::codec::decode_yaml(ty, bytes)
        .map(|decoded| decoded.value)
        .map_err(|error| undecodable(expected, bytes, encoding, &error))
}
