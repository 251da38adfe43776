//! `/openapi/v2` and `/openapi/v3`: made from schema and descriptors when first asked for, and
//! kept compressed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use api::{GroupVersion, Status, Value};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, EXPIRES, LOCATION};
use schema::Docs;
use schema::openapi::{self, Answer as Answers, Custom, Endpoint, Verb as Operation};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::aggregation::Remote;
use crate::call::Call;
use crate::discovery::{tagged, tagged_as};
use crate::kind::{Behaviour, Connect, Kind, Scope, Subresource, Verb};
use crate::negotiate;
use crate::respond::{self, Answer};
use crate::route;

/// What is offered: JSON, and protobuf by its older and its newer name, of which the latter is answered.
const MEDIA_V2: [&str; 3] = [
    "application/json",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
const MEDIA_V3: [&str; 3] = [
    "application/json",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
];

/// What a document is made of.
struct Source {
    endpoints: Vec<Endpoint>,
    custom: Vec<Custom>,
}

/// The document of a group version; shared between registries in which it is the same.
#[derive(Clone)]
struct Part {
    source: Arc<Source>,
    /// Changes with what it is made of and the server.
    hash: String,
    json: Arc<OnceCell<Bytes>>,
    protobuf: Arc<OnceCell<Bytes>>,
}

/// The documents of one registry.
pub(crate) struct OpenApi {
    source: Arc<Source>,
    v2_json: OnceCell<Bytes>,
    v2_protobuf: OnceCell<Bytes>,
    v3: BTreeMap<GroupVersion, Part>,
}

/// What tells one state of a document from another.
fn digest(source: &Source) -> String {
    let mut digest = Sha256::new();
    digest.update(crate::version::labels().2);
    digest.update(format!("{:?}", source.endpoints));
    digest.update(format!("{:?}", source.custom));
    digest.finalize().iter().map(|b| format!("{b:02X}")).collect()
}

fn custom(kind: &Kind) -> Option<Custom> {
    let custom = kind.custom.as_ref()?;
    let (declared, preserves) = (custom.declared.clone(), custom.node.preserve_unknown);
    Some(Custom::new(
        kind.gvk.clone(),
        &kind.plural,
        &kind.list_kind,
        declared,
        preserves,
    ))
}

impl OpenApi {
    /// The documents of these kinds; what has not changed is taken from those `before`.
    pub fn new<'k>(kinds: impl Iterator<Item = &'k Kind>, before: Option<&OpenApi>) -> OpenApi {
        let mut whole = Source {
            endpoints: Vec::new(),
            custom: Vec::new(),
        };
        for kind in kinds {
            whole.endpoints.extend(endpoints(kind));
            whole.custom.extend(custom(kind));
        }
        let mut parts: BTreeMap<GroupVersion, Source> = BTreeMap::new();
        for endpoint in &whole.endpoints {
            let part = parts.entry(endpoint.group_version.clone()).or_insert_with(|| Source {
                endpoints: Vec::new(),
                custom: Vec::new(),
            });
            part.endpoints.push(endpoint.clone());
        }
        for custom in &whole.custom {
            if let Some(part) = parts.get_mut(&custom.gvk.group_version()) {
                part.custom.push(custom.clone());
            }
        }
        let v3 = parts
            .into_iter()
            .map(|(gv, source)| {
                let hash = digest(&source);
                let known = before.and_then(|b| b.v3.get(&gv)).filter(|part| part.hash == hash);
                let part = known.cloned().unwrap_or_else(|| Part {
                    source: Arc::new(source),
                    hash,
                    json: Arc::default(),
                    protobuf: Arc::default(),
                });
                (gv, part)
            })
            .collect();
        OpenApi {
            source: Arc::new(whole),
            v2_json: OnceCell::new(),
            v2_protobuf: OnceCell::new(),
            v3,
        }
    }

    /// Answers the paths below `/openapi`; `None` for other paths.
    pub async fn answer(&self, call: &Call, remotes: &[Arc<Remote>]) -> Option<Result<Answer, Status>> {
        let path = call.info.path.trim_matches('/');
        let segments: Vec<&str> = path.split('/').collect();
        match segments.as_slice() {
            ["openapi", "v2"] => Some(self.v2(call, remotes).await),
            ["openapi", "v3"] => Some(Ok(self.index(call, remotes))),
            ["openapi", "v3", "api", version] => Some(self.v3(call, GroupVersion::new("", *version)).await),
            ["openapi", "v3", "apis", group, version] => Some(self.v3(call, GroupVersion::new(*group, *version)).await),
            _ => None,
        }
    }

    /// All that this server and others serve.
    async fn v2(&self, call: &Call, remotes: &[Arc<Remote>]) -> Result<Answer, Status> {
        let Some(wanted) = negotiate::media(&call.headers, &MEDIA_V2) else {
            return Ok(not_acceptable());
        };
        let make = |encode: fn(&Value) -> Vec<u8>| {
            let source = self.source.clone();
            let others = swaggers(remotes);
            made(move || {
                let version = crate::version::labels().2;
                let types = (&**schema::builtin(), &Docs::builtin());
                let mut document = openapi::v2(types, version, &source.endpoints, &source.custom);
                for other in others {
                    match serde_json::from_slice(&other) {
                        Ok(other) => openapi::merge::merge(&mut document, other),
                        Err(error) => tracing::warn!(%error, "cannot read another server's OpenAPI document again"),
                    }
                }
                encode(&document)
            })
        };
        if wanted > 0 {
            let packed = self
                .v2_protobuf
                .get_or_try_init(|| make(openapi::gnostic::encode))
                .await?;
            return Ok(packed_answer(call, MEDIA_V2[2], packed, None));
        }
        let packed = self.v2_json.get_or_try_init(|| make(json_bytes)).await?;
        Ok(packed_answer(call, MEDIA_V2[0], packed, None))
    }

    fn index(&self, call: &Call, remotes: &[Arc<Remote>]) -> Answer {
        let mut paths: BTreeMap<String, Value> = self
            .v3
            .iter()
            .map(|(gv, part)| (path_of(gv), json!({"serverRelativeURL": part.url(gv)})))
            .collect();
        for remote in remotes {
            let path = remote.root().trim_start_matches('/').to_owned();
            // Its documents, not ours, describe what it serves.
            paths.remove(&path);
            if let Some(url) = remote.found().and_then(|found| found.openapi_url.clone()) {
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        let content = crate::codec::to_json(&json!({"paths": paths}));
        tagged(&call.headers, "application/json", &content)
    }

    /// The document of a group version. A request that knows its hash may keep the answer for ever; one
    /// with another hash is sent to the right one (kube-openapi `pkg/handler3`).
    async fn v3(&self, call: &Call, gv: GroupVersion) -> Result<Answer, Status> {
        let Some(part) = self.v3.get(&gv) else {
            return Ok(route::not_found());
        };
        let Some(wanted) = negotiate::media(&call.headers, &MEDIA_V3) else {
            return Ok(not_acceptable());
        };
        let asked = call.query.non_empty("hash");
        if asked.is_some_and(|hash| hash != part.hash) {
            return moved(&part.url(&gv));
        }
        let make = |encode: fn(&Value) -> Vec<u8>| {
            let (source, gv) = (part.source.clone(), gv.clone());
            made(move || {
                let version = crate::version::labels().2;
                let types = (&**schema::builtin(), &Docs::builtin());
                encode(&openapi::v3(types, version, &gv, &source.endpoints, &source.custom))
            })
        };
        let (media, packed) = if wanted > 0 {
            let encode = openapi::gnostic::encode_v3;
            (MEDIA_V3[2], part.protobuf.get_or_try_init(|| make(encode)).await?)
        } else {
            (MEDIA_V3[0], part.json.get_or_try_init(|| make(json_bytes)).await?)
        };
        let mut answer = packed_answer(call, media, packed, Some(&part.hash));
        if asked.is_some() {
            let headers = answer.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            let expires = call.now + jiff::SignedDuration::from_hours(365 * 24);
            let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            if let Ok(expires) = HeaderValue::from_str(&expires) {
                headers.insert(EXPIRES, expires);
            }
        }
        Ok(answer)
    }
}

impl Part {
    /// Where it is, and in which state.
    fn url(&self, gv: &GroupVersion) -> String {
        format!("/openapi/v3/{}?hash={}", path_of(gv), self.hash)
    }
}

/// `api/v1`, `apis/apps/v1`.
fn path_of(gv: &GroupVersion) -> String {
    if gv.group.is_empty() {
        format!("api/{}", gv.version)
    } else {
        format!("apis/{}/{}", gv.group, gv.version)
    }
}

/// The documents of other servers, greatest priority first.
fn swaggers(remotes: &[Arc<Remote>]) -> Vec<Bytes> {
    let mut sorted: Vec<&Arc<Remote>> = remotes.iter().collect();
    sorted.sort_by_key(|r| {
        (
            std::cmp::Reverse((r.group_priority, r.version_priority)),
            r.name.clone(),
        )
    });
    let found = sorted.into_iter().filter_map(|remote| remote.found());
    found.filter_map(|found| found.swagger.clone()).collect()
}

fn json_bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

fn not_acceptable() -> Answer {
    respond::text(406, "")
}

fn moved(url: &str) -> Result<Answer, Status> {
    let mut answer = respond::text(301, "");
    let url = HeaderValue::from_str(url).map_err(Status::internal)?;
    answer.headers_mut().insert(LOCATION, url);
    Ok(answer)
}

/// Makes a document away from the request tasks, and compresses it.
async fn made(make: impl FnOnce() -> Vec<u8> + Send + 'static) -> Result<Bytes, Status> {
    let packed = tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&make())?;
        encoder.finish()
    });
    match packed.await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => Err(Status::internal(error)),
        Err(error) => Err(Status::internal(error)),
    }
}

/// A compressed document; without a `tag` of its own its bytes make one.
fn packed_answer(call: &Call, media: &'static str, packed: &Bytes, tag: Option<&str>) -> Answer {
    let tagged = |content: &Bytes| match tag {
        Some(tag) => tagged_as(&call.headers, media, content, tag),
        None => tagged(&call.headers, media, content),
    };
    let accepts = call
        .headers
        .get(ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    if accepts.contains("gzip") {
        let mut answer = tagged(packed);
        if answer.status() == http::StatusCode::OK {
            answer
                .headers_mut()
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        return answer;
    }
    let mut content = Vec::new();
    match GzDecoder::new(&packed[..]).read_to_end(&mut content) {
        Ok(_) => tagged(&content.into()),
        Err(error) => respond::text(500, error.to_string()),
    }
}

fn operation(verb: Verb) -> Option<Operation> {
    Some(match verb {
        Verb::Create => Operation::Create,
        Verb::Delete => Operation::Delete,
        Verb::DeleteCollection => Operation::DeleteCollection,
        Verb::Get => Operation::Get,
        Verb::List => Operation::List,
        Verb::Patch => Operation::Patch,
        Verb::Update => Operation::Update,
        Verb::Watch => return None,
    })
}

/// The paths of a kind.
fn endpoints(kind: &Kind) -> Vec<Endpoint> {
    let namespaced = kind.scope == Scope::Namespaced;
    let gv = kind.gvk.group_version();
    let root = if gv.group.is_empty() {
        format!("/api/{}", gv.version)
    } else {
        format!("/apis/{}/{}", gv.group, gv.version)
    };
    let all = format!("{root}/{}", kind.plural);
    let home = if namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        all.clone()
    };
    let operations = |wanted: &[Verb]| -> Vec<Operation> {
        wanted
            .iter()
            .filter(|v| kind.verbs.contains(v))
            .filter_map(|v| operation(*v))
            .collect()
    };
    let mut endpoints = Vec::new();
    let mut add = |path: String, operations: Vec<Operation>| {
        if !operations.is_empty() {
            endpoints.push(Endpoint::new(path, kind.gvk.clone(), namespaced, operations));
        }
    };
    add(
        home.clone(),
        operations(&[Verb::List, Verb::Create, Verb::DeleteCollection]),
    );
    if namespaced {
        add(all, operations(&[Verb::List]));
    }
    let one = format!("{home}/{{name}}");
    add(
        one.clone(),
        operations(&[Verb::Get, Verb::Update, Verb::Patch, Verb::Delete]),
    );
    for sub in &kind.subresources {
        endpoints.push(subresource(kind, &one, sub, namespaced));
    }
    endpoints
}

fn subresource(kind: &Kind, one: &str, sub: &Subresource, namespaced: bool) -> Endpoint {
    let object = sub.gvk.clone().unwrap_or_else(|| kind.gvk.clone());
    let mut verbs: Vec<Operation> = sub.verbs.iter().filter_map(|v| operation(*v)).collect();
    let mut options = None;
    let mut answers = Answers::Object;
    if let Behaviour::Connect(connect) = sub.behaviour {
        answers = Answers::Text;
        options = match connect {
            Connect::Log => Some(api::Gvk::new("", "v1", "PodLogOptions")),
            _ => Some(object.clone()),
        };
        if connect != Connect::Log {
            verbs = vec![Operation::Connect];
        }
    }
    let path = format!("{one}/{}", sub.name);
    let mut endpoint = Endpoint::new(path, kind.gvk.clone(), namespaced, verbs).subresource(sub.name, object);
    endpoint.options = options;
    endpoint.answer = answers;
    endpoint
}
