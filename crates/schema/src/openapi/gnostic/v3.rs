//! The messages of `openapiv3/OpenAPIv3.proto`, as far as Kubernetes' documents use them.

use super::{As, Message};

pub(super) static DOCUMENT: Message = Message(&[
    (1, "openapi", As::Text),
    (2, "info", As::One(&INFO)),
    (4, "paths", As::One(&PATHS)),
    (5, "components", As::One(&COMPONENTS)),
    (6, "security", As::Each(&As::One(&REQUIREMENT))),
    (8, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (9, "x-", As::Any),
]);

static INFO: Message = Message(&[
    (1, "title", As::Text),
    (2, "description", As::Text),
    (3, "termsOfService", As::Text),
    (6, "version", As::Text),
    (7, "x-", As::Any),
    (8, "summary", As::Text),
]);

static EXTERNAL_DOCS: Message = Message(&[(1, "description", As::Text), (2, "url", As::Text), (3, "x-", As::Any)]);

static REQUIREMENT: Message = Message(&[(1, "*", As::TextList)]);

static COMPONENTS: Message = Message(&[
    (1, "schemas", As::One(&SCHEMAS)),
    (
        2,
        "responses",
        As::One(&Message(&[(1, "*", As::OrReference(&RESPONSE))])),
    ),
    (
        3,
        "parameters",
        As::One(&Message(&[(1, "*", As::OrReference(&PARAMETER))])),
    ),
    (
        5,
        "requestBodies",
        As::One(&Message(&[(1, "*", As::OrReference(&BODY))])),
    ),
    (
        7,
        "securitySchemes",
        As::One(&Message(&[(1, "*", As::OrReference(&SECURITY))])),
    ),
    (10, "x-", As::Any),
]);

static SECURITY: Message = Message(&[
    (1, "type", As::Text),
    (2, "description", As::Text),
    (3, "name", As::Text),
    (4, "in", As::Text),
    (5, "scheme", As::Text),
    (6, "bearerFormat", As::Text),
    (8, "openIdConnectUrl", As::Text),
    (9, "x-", As::Any),
]);

static PATHS: Message = Message(&[(1, "*", As::One(&PATH_ITEM)), (2, "x-", As::Any)]);

static PATH_ITEM: Message = Message(&[
    (1, "$ref", As::Text),
    (2, "summary", As::Text),
    (3, "description", As::Text),
    (4, "get", As::One(&OPERATION)),
    (5, "put", As::One(&OPERATION)),
    (6, "post", As::One(&OPERATION)),
    (7, "delete", As::One(&OPERATION)),
    (8, "options", As::One(&OPERATION)),
    (9, "head", As::One(&OPERATION)),
    (10, "patch", As::One(&OPERATION)),
    (11, "trace", As::One(&OPERATION)),
    (13, "parameters", As::Each(&As::OrReference(&PARAMETER))),
    (14, "x-", As::Any),
]);

static OPERATION: Message = Message(&[
    (1, "tags", As::Texts),
    (2, "summary", As::Text),
    (3, "description", As::Text),
    (4, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (5, "operationId", As::Text),
    (6, "parameters", As::Each(&As::OrReference(&PARAMETER))),
    (7, "requestBody", As::OrReference(&BODY)),
    (8, "responses", As::One(&RESPONSES)),
    (10, "deprecated", As::Bool),
    (11, "security", As::Each(&As::One(&REQUIREMENT))),
    (13, "x-", As::Any),
]);

static PARAMETER: Message = Message(&[
    (1, "name", As::Text),
    (2, "in", As::Text),
    (3, "description", As::Text),
    (4, "required", As::Bool),
    (5, "deprecated", As::Bool),
    (6, "allowEmptyValue", As::Bool),
    (7, "style", As::Text),
    (8, "explode", As::Bool),
    (9, "allowReserved", As::Bool),
    (10, "schema", As::OrReference(&SCHEMA)),
    (11, "example", As::Any),
    (13, "content", As::One(&CONTENT)),
    (14, "x-", As::Any),
]);

static BODY: Message = Message(&[
    (1, "description", As::Text),
    (2, "content", As::One(&CONTENT)),
    (3, "required", As::Bool),
    (4, "x-", As::Any),
]);

static CONTENT: Message = Message(&[(1, "*", As::One(&MEDIA))]);

static MEDIA: Message = Message(&[
    (1, "schema", As::OrReference(&SCHEMA)),
    (2, "example", As::Any),
    (5, "x-", As::Any),
]);

static RESPONSES: Message = Message(&[
    (1, "default", As::OrReference(&RESPONSE)),
    (2, "*", As::OrReference(&RESPONSE)),
    (3, "x-", As::Any),
]);

static RESPONSE: Message = Message(&[
    (1, "description", As::Text),
    (3, "content", As::One(&CONTENT)),
    (5, "x-", As::Any),
]);

static SCHEMAS: Message = Message(&[(1, "*", As::OrReference(&SCHEMA))]);

static SCHEMA: Message = Message(&[
    (1, "nullable", As::Bool),
    (3, "readOnly", As::Bool),
    (4, "writeOnly", As::Bool),
    (6, "externalDocs", As::One(&EXTERNAL_DOCS)),
    (7, "example", As::Any),
    (8, "deprecated", As::Bool),
    (9, "title", As::Text),
    (10, "multipleOf", As::Double),
    (11, "maximum", As::Double),
    (12, "exclusiveMaximum", As::Bool),
    (13, "minimum", As::Double),
    (14, "exclusiveMinimum", As::Bool),
    (15, "maxLength", As::Whole),
    (16, "minLength", As::Whole),
    (17, "pattern", As::Text),
    (18, "maxItems", As::Whole),
    (19, "minItems", As::Whole),
    (20, "uniqueItems", As::Bool),
    (21, "maxProperties", As::Whole),
    (22, "minProperties", As::Whole),
    (23, "required", As::Texts),
    (24, "enum", As::Each(&As::Any)),
    (25, "type", As::Text),
    (26, "allOf", As::Each(&As::OrReference(&SCHEMA))),
    (27, "oneOf", As::Each(&As::OrReference(&SCHEMA))),
    (28, "anyOf", As::Each(&As::OrReference(&SCHEMA))),
    (29, "not", As::One(&SCHEMA)),
    (30, "items", As::Wrapped(1, &As::OrReference(&SCHEMA))),
    (31, "properties", As::One(&SCHEMAS)),
    (32, "additionalProperties", As::OrBool(&As::OrReference(&SCHEMA))),
    (33, "default", As::Scalar),
    (34, "description", As::Text),
    (35, "format", As::Text),
    (36, "x-", As::Any),
]);
