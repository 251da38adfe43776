//! The messages of `openapiv2/OpenAPIv2.proto`.

use serde_json::Value;

use super::{As, Message, REFERENCE, message};
use crate::codec::protobuf::wire::Back;

pub(super) static DOCUMENT: Message = Message(&[
    (1, "swagger", As::Text),
    (2, "info", As::One(&INFO)),
    (3, "host", As::Text),
    (4, "basePath", As::Text),
    (5, "schemes", As::Texts),
    (6, "consumes", As::Texts),
    (7, "produces", As::Texts),
    (8, "paths", As::One(&PATHS)),
    (9, "definitions", As::One(&SCHEMAS)),
    (10, "parameters", As::One(&PARAMETERS)),
    (11, "responses", As::One(&Message(&[(1, "*", As::One(&RESPONSE))]))),
    (12, "security", As::Each(&As::One(&REQUIREMENT))),
    (13, "securityDefinitions", As::One(&SECURITY)),
    (14, "tags", As::Each(&As::One(&TAG))),
    (15, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (16, "x-", As::Any),
]);

static INFO: Message = Message(&[
    (1, "title", As::Text),
    (2, "version", As::Text),
    (3, "description", As::Text),
    (4, "termsOfService", As::Text),
    (7, "x-", As::Any),
]);

static TAG: Message = Message(&[
    (1, "name", As::Text),
    (2, "description", As::Text),
    (3, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (4, "x-", As::Any),
]);

static EXTERNAL_DOCS: Message = Message(&[(1, "description", As::Text), (2, "url", As::Text), (3, "x-", As::Any)]);

static REQUIREMENT: Message = Message(&[(1, "*", As::TextList)]);

/// Of the kinds of security definitions the API key, which is what Kubernetes' servers declare.
static SECURITY: Message = Message(&[(1, "*", As::Wrapped(2, &As::One(&API_KEY)))]);

static API_KEY: Message = Message(&[
    (1, "type", As::Text),
    (2, "name", As::Text),
    (3, "in", As::Text),
    (4, "description", As::Text),
    (5, "x-", As::Any),
]);

static PATHS: Message = Message(&[(1, "x-", As::Any), (2, "*", As::One(&PATH_ITEM))]);

static PATH_ITEM: Message = Message(&[
    (1, "$ref", As::Text),
    (2, "get", As::One(&OPERATION)),
    (3, "put", As::One(&OPERATION)),
    (4, "post", As::One(&OPERATION)),
    (5, "delete", As::One(&OPERATION)),
    (6, "options", As::One(&OPERATION)),
    (7, "head", As::One(&OPERATION)),
    (8, "patch", As::One(&OPERATION)),
    (9, "parameters", As::Each(&As::Parameter)),
    (10, "x-", As::Any),
]);

static OPERATION: Message = Message(&[
    (1, "tags", As::Texts),
    (2, "summary", As::Text),
    (3, "description", As::Text),
    (4, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (5, "operationId", As::Text),
    (6, "produces", As::Texts),
    (7, "consumes", As::Texts),
    (8, "parameters", As::Each(&As::Parameter)),
    (9, "responses", As::One(&RESPONSES)),
    (10, "schemes", As::Texts),
    (11, "deprecated", As::Bool),
    (12, "security", As::Each(&As::One(&REQUIREMENT))),
    (13, "x-", As::Any),
]);

static RESPONSES: Message = Message(&[(1, "*", As::OrReference(&RESPONSE)), (2, "x-", As::Any)]);

static RESPONSE: Message = Message(&[
    (1, "description", As::Text),
    (2, "schema", As::Wrapped(1, &As::One(&SCHEMA))),
    (5, "x-", As::Any),
]);

/// `ParametersItem`: a parameter or a reference to one of the document's.
pub(super) fn parameter(out: &mut Back, number: u32, value: &Value) {
    message(out, number, |out| match value.get("$ref") {
        Some(_) => message(out, 2, |out| REFERENCE.write(out, value)),
        None => declared(out, 1, value),
    });
}

/// `Parameter`: one in the body, or one of four other places.
pub(super) fn declared(out: &mut Back, number: u32, value: &Value) {
    message(out, number, |out| {
        let (place, shape) = match value["in"].as_str() {
            Some("body") => return message(out, 1, |out| BODY.write(out, value)),
            Some("header") => (1, &ELSEWHERE),
            Some("formData") => (2, &IN_QUERY),
            Some("path") => (4, &ELSEWHERE),
            _ => (3, &IN_QUERY),
        };
        message(out, 2, |out| message(out, place, |out| shape.write(out, value)));
    });
}

static PARAMETERS: Message = Message(&[(1, "*", As::Declaration)]);

static BODY: Message = Message(&[
    (1, "description", As::Text),
    (2, "name", As::Text),
    (3, "in", As::Text),
    (4, "required", As::Bool),
    (5, "schema", As::One(&SCHEMA)),
    (6, "x-", As::Any),
]);

/// In the path or a header.
static ELSEWHERE: Message = Message(&[
    (1, "required", As::Bool),
    (2, "in", As::Text),
    (3, "description", As::Text),
    (4, "name", As::Text),
    (5, "type", As::Text),
    (6, "format", As::Text),
    (8, "collectionFormat", As::Text),
    (9, "default", As::Any),
    (10, "maximum", As::Double),
    (12, "minimum", As::Double),
    (14, "maxLength", As::Whole),
    (15, "minLength", As::Whole),
    (16, "pattern", As::Text),
    (19, "uniqueItems", As::Bool),
    (20, "enum", As::Each(&As::Any)),
    (22, "x-", As::Any),
]);

/// In the query or a form.
static IN_QUERY: Message = Message(&[
    (1, "required", As::Bool),
    (2, "in", As::Text),
    (3, "description", As::Text),
    (4, "name", As::Text),
    (5, "allowEmptyValue", As::Bool),
    (6, "type", As::Text),
    (7, "format", As::Text),
    (8, "items", As::One(&PRIMITIVES)),
    (9, "collectionFormat", As::Text),
    (10, "default", As::Any),
    (11, "maximum", As::Double),
    (13, "minimum", As::Double),
    (15, "maxLength", As::Whole),
    (16, "minLength", As::Whole),
    (17, "pattern", As::Text),
    (20, "uniqueItems", As::Bool),
    (21, "enum", As::Each(&As::Any)),
    (23, "x-", As::Any),
]);

static PRIMITIVES: Message = Message(&[
    (1, "type", As::Text),
    (2, "format", As::Text),
    (3, "items", As::One(&PRIMITIVES)),
    (4, "collectionFormat", As::Text),
    (5, "default", As::Any),
    (16, "enum", As::Each(&As::Any)),
    (18, "x-", As::Any),
]);

static SCHEMAS: Message = Message(&[(1, "*", As::One(&SCHEMA))]);

static SCHEMA: Message = Message(&[
    (1, "$ref", As::Text),
    (2, "format", As::Text),
    (3, "title", As::Text),
    (4, "description", As::Text),
    (5, "default", As::Any),
    (6, "multipleOf", As::Double),
    (7, "maximum", As::Double),
    (8, "exclusiveMaximum", As::Bool),
    (9, "minimum", As::Double),
    (10, "exclusiveMinimum", As::Bool),
    (11, "maxLength", As::Whole),
    (12, "minLength", As::Whole),
    (13, "pattern", As::Text),
    (14, "maxItems", As::Whole),
    (15, "minItems", As::Whole),
    (16, "uniqueItems", As::Bool),
    (17, "maxProperties", As::Whole),
    (18, "minProperties", As::Whole),
    (19, "required", As::Texts),
    (20, "enum", As::Each(&As::Any)),
    (21, "additionalProperties", As::OrBool(&As::One(&SCHEMA))),
    (22, "type", As::TextList),
    (23, "items", As::Wrapped(1, &As::One(&SCHEMA))),
    (24, "allOf", As::Each(&As::One(&SCHEMA))),
    (25, "properties", As::One(&SCHEMAS)),
    (26, "discriminator", As::Text),
    (27, "readOnly", As::Bool),
    (29, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (30, "example", As::Any),
    (31, "x-", As::Any),
]);
