//! Objects and lists as answers: plain, as tables, as metadata only.

use std::sync::Arc;

use api::{Gvk, Status, Value};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;

use super::list::Listing;
use super::table;
use crate::body::{self, Body, BoxError};
use crate::cache::{self, Entry, ListPage};
use crate::call::Call;
use crate::codec;
use crate::negotiate::{Encoding, MetaVersion, Output, Transform};
use crate::resource::{Resource, is_cached_version};
use crate::respond::{self, Answer};

/// A list is sent in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// An object that is not in the cache (yet): the result of a write.
pub(crate) fn object(
    call: &Call,
    resource: &Resource,
    output: Output,
    code: u16,
    value: &Value,
) -> Result<Answer, Status> {
    let kind = &resource.kind;
    match output.transform {
        Transform::None => respond::object(code, output, kind.schema.get(kind.root), &kind.gvk, value),
        Transform::Partial(version) => {
            let (gvk, partial) = partial(value, version);
            meta_object(code, output, &gvk, &partial)
        }
        Transform::Table(version) => {
            let include = table::Include::read(&call.query)?;
            let rows = vec![table::row(resource, value, include, version, call.now)];
            let value = table::table(
                resource,
                version,
                &json!({"resourceVersion": api::meta::resource_version(value)}),
                rows,
                &call.query,
            );
            Ok(respond::encoded(
                code,
                output.encoding.media_type(),
                encode_untyped(output, &value)?,
            ))
        }
        Transform::PartialList(_) => Err(not_acceptable()),
    }
}

/// What was just written; stored and sent as the same bytes where they are known.
pub(crate) fn written(
    call: &Call,
    resource: &Resource,
    output: Output,
    code: u16,
    value: &Value,
    json: Option<&Bytes>,
) -> Result<Answer, Status> {
    match json {
        Some(json) if output.is_plain_json() => Ok(respond::encoded(code, output.encoding.media_type(), json.clone())),
        _ => object(call, resource, output, code, value),
    }
}

fn not_acceptable() -> Status {
    Status::not_acceptable(&[
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ])
}

/// An object of the cache; its bytes are shared where nothing has to be changed.
pub(crate) fn entry(call: &Call, resource: &Resource, output: Output, entry: &Entry) -> Result<Answer, Status> {
    let content = output.encoding.media_type();
    match (output.transform, output.encoding) {
        (Transform::None, Encoding::Json) if !output.pretty => Ok(respond::encoded(200, content, resource.json(entry))),
        (Transform::None, Encoding::Protobuf) => {
            let raw = bare_protobuf(resource, entry)?;
            let wrapped = schema::codec::unknown::wrap(&resource.kind.gvk, &raw);
            Ok(respond::encoded(200, content, wrapped))
        }
        _ => object(call, resource, output, 200, &resource.value(entry)),
    }
}

/// An entry in protobuf without envelope; made once for the stored version.
///
/// # Errors
/// 406 if the type has no protobuf form.
pub(crate) fn bare_protobuf(resource: &Resource, entry: &Entry) -> Result<Bytes, Status> {
    let kind = &resource.kind;
    let make =
        |entry: &Entry| codec::to_bare_protobuf(kind.schema.get(kind.root), &resource.value(entry)).map(Bytes::from);
    if !is_cached_version(kind) {
        return make(entry);
    }
    let mut failed = None;
    let bytes = entry.encoded(cache::Encoding::Protobuf, |entry| {
        make(entry).unwrap_or_else(|status| {
            failed = Some(status);
            Bytes::new()
        })
    });
    failed.map_or(Ok(bytes), Err)
}

/// The kind and value of an object's PartialObjectMetadata.
pub(crate) fn partial(value: &Value, version: MetaVersion) -> (Gvk, Value) {
    let gvk = meta_gvk("PartialObjectMetadata", version);
    let mut partial = json!({"metadata": value.get("metadata").cloned().unwrap_or_default()});
    gvk.stamp(&mut partial);
    (gvk, partial)
}

/// Appends the JSON of an entry's PartialObjectMetadata, cut out of the object's own. False if that cannot be done.
pub(crate) fn put_partial(out: &mut BytesMut, resource: &Resource, entry: &Entry, version: MetaVersion) -> bool {
    let metadata = is_cached_version(&resource.kind).then(|| cache::metadata_of(&entry.json));
    let Some(metadata) = metadata.flatten() else {
        return false;
    };
    out.put_slice(b"{\"apiVersion\":\"");
    out.put_slice(version.api_version().as_bytes());
    out.put_slice(b"\",\"kind\":\"PartialObjectMetadata\",\"metadata\":");
    out.put_slice(metadata);
    out.put_u8(b'}');
    true
}

fn meta_gvk(kind: &str, version: MetaVersion) -> Gvk {
    let version = match version {
        MetaVersion::V1 => "v1",
        MetaVersion::V1beta1 => "v1beta1",
    };
    Gvk::new("meta.k8s.io", version, kind)
}

/// An object of `meta.k8s.io`, whose types both versions share.
fn meta_object(code: u16, output: Output, gvk: &Gvk, value: &Value) -> Result<Answer, Status> {
    let bytes = encode_meta(output, gvk, value)?;
    Ok(respond::encoded(code, output.encoding.media_type(), bytes))
}

/// The bytes of an object of `meta.k8s.io`.
pub(crate) fn encode_meta(output: Output, gvk: &Gvk, value: &Value) -> Result<Bytes, Status> {
    let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{}", gvk.kind);
    match (output.encoding, schema::builtin().by_name(&name)) {
        (Encoding::Protobuf, Some(id)) => codec::to_protobuf(schema::builtin().get(id), gvk, value),
        (Encoding::Protobuf, None) => Err(Status::internal(format!("no type {name}"))),
        _ => encode_untyped(output, value),
    }
}

fn encode_untyped(output: Output, value: &Value) -> Result<Bytes, Status> {
    match output.encoding {
        Encoding::Yaml => codec::to_yaml(value),
        _ => Ok(respond::json(value, output.pretty)),
    }
}

/// A page of a list.
pub(crate) fn list(
    call: &Call,
    resource: &Arc<Resource>,
    output: Output,
    listing: &Listing,
    page: ListPage,
) -> Result<Answer, Status> {
    let metadata = list_metadata(listing, &page);
    let content = output.encoding.media_type();
    match (output.transform, output.encoding) {
        (Transform::None, Encoding::Json) if !output.pretty => {
            let head = format!(
                "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
                Value::from(&*resource.kind.list_kind),
                Value::from(resource.kind.gvk.api_version())
            );
            let size: usize = page.entries.iter().map(|entry| entry.json.len()).sum();
            let body = json_pieces(head, page.entries, items(resource));
            Ok(respond::sized(respond::stream(200, content, body), size))
        }
        (Transform::None, Encoding::Protobuf) => Ok(respond::encoded(
            200,
            content,
            protobuf_list(resource, &metadata, &page)?,
        )),
        (Transform::None, _) => {
            let item = |entry: &Arc<Entry>| {
                let mut item = resource.value(entry);
                if resource.kind.is_builtin() {
                    codec::strip_type(&mut item);
                }
                item
            };
            let items = page.entries.iter().map(item).collect();
            let value = plain_list(
                &resource.kind.list_kind,
                &resource.kind.gvk.api_version(),
                metadata,
                items,
            );
            Ok(respond::encoded(200, content, encode_untyped(output, &value)?))
        }
        (Transform::Table(version), _) => {
            let include = table::Include::read(&call.query)?;
            let rows: Vec<Value> = page
                .entries
                .iter()
                .map(|e| table::row(resource, &resource.value(e), include, version, call.now))
                .collect();
            let value = table::table(resource, version, &metadata, rows, &call.query);
            Ok(respond::encoded(200, content, encode_untyped(output, &value)?))
        }
        (Transform::PartialList(version), Encoding::Json) if !output.pretty => {
            let head = format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
                version.api_version()
            );
            let resource = resource.clone();
            let body = json_pieces(head, page.entries, move |out, entry| {
                if !put_partial(out, &resource, entry, version) {
                    out.put_slice(&codec::to_json(&partial(&resource.value(entry), version).1));
                }
            });
            Ok(respond::stream(200, content, body))
        }
        (Transform::PartialList(version), _) => {
            let items: Vec<Value> = page
                .entries
                .iter()
                .map(|entry| partial(&resource.value(entry), version).1)
                .collect();
            let gvk = meta_gvk("PartialObjectMetadataList", version);
            let value = plain_list(&gvk.kind, version.api_version(), metadata, items);
            meta_object(200, output, &gvk, &value)
        }
        (Transform::Partial(_), _) => Err(not_acceptable()),
    }
}

fn plain_list(kind: &str, api_version: &str, metadata: Value, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})
}

fn list_metadata(listing: &Listing, page: &ListPage) -> Value {
    // What is not stored has no revision.
    let mut metadata = match page.revision {
        0 => json!({}),
        revision => json!({"resourceVersion": revision.to_string()}),
    };
    if let Some(token) = listing.next_token(page) {
        metadata["continue"] = token.into();
        if let (false, Some(remaining)) = (listing.selective, page.remaining) {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    metadata
}

/// How an item of a list is written: items of built-in kinds have no kind and version.
fn items(resource: &Arc<Resource>) -> impl Fn(&mut BytesMut, &Entry) + Send + 'static {
    let head = codec::type_head(&resource.kind.gvk);
    let resource = resource.clone();
    move |out, entry| {
        let json = resource.json(entry);
        if resource.kind.is_builtin() {
            codec::put_item(out, &head, &json);
        } else {
            out.put_slice(&json);
        }
    }
}

/// A JSON list, piece by piece: memory is bounded by the connection, not by the list.
fn json_pieces(head: String, entries: Vec<Arc<Entry>>, put: impl Fn(&mut BytesMut, &Entry) + Send + 'static) -> Body {
    let mut piece = BytesMut::from(head.as_bytes());
    let mut rest = entries.into_iter().enumerate();
    let mut next = move || -> Option<(Bytes, bool)> {
        for (at, entry) in rest.by_ref() {
            if at > 0 {
                piece.put_u8(b',');
            }
            put(&mut piece, &entry);
            if piece.len() >= PIECE_BYTES {
                return Some((piece.split().freeze(), false));
            }
        }
        piece.put_slice(b"]}\n");
        Some((piece.split().freeze(), true))
    };
    let first = next();
    match first {
        Some((bytes, true)) => body::full(bytes),
        first => {
            let pieces = stream::unfold((first, next), |(piece, mut next)| async move {
                let (bytes, last) = piece?;
                let following = if last { None } else { next() };
                Some((Ok::<_, BoxError>(Frame::data(bytes)), (following, next)))
            });
            body::boxed(StreamBody::new(pieces))
        }
    }
}

/// A list message: ListMeta in field 1, items in field 2.
fn protobuf_list(resource: &Resource, metadata: &Value, page: &ListPage) -> Result<Vec<u8>, Status> {
    let list_meta = schema::builtin().by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
    let mut raw = Vec::new();
    let meta = list_meta
        .map(|id| codec::to_bare_protobuf(schema::builtin().get(id), metadata))
        .transpose()?
        .unwrap_or_default();
    put_message(&mut raw, 1, &meta);
    for entry in &page.entries {
        put_message(&mut raw, 2, &bare_protobuf(resource, entry)?);
    }
    let gvk = resource.kind.gvk.group_version().with_kind(&*resource.kind.list_kind);
    Ok(schema::codec::unknown::wrap(&gvk, &raw))
}

/// Appends a length-delimited protobuf field.
pub(crate) fn put_message(out: &mut Vec<u8>, field: u8, message: &[u8]) {
    out.push(field << 3 | 2);
    let mut length = message.len();
    while length >= 0x80 {
        out.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(message);
}
