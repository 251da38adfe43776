//! Content negotiation (upstream `endpoints/handlers/negotiation`).

use api::Status;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use crate::request::Query;

/// An encoding of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Encoding {
    const ALL: [Encoding; 3] = [Encoding::Json, Encoding::Yaml, Encoding::Protobuf];

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What the object is turned into before it is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Nothing else.
    #[default]
    None,
    /// A Table of that `meta.k8s.io` version.
    Table(MetaVersion),
    /// PartialObjectMetadata of that version.
    Partial(MetaVersion),
    /// PartialObjectMetadataList of that version.
    PartialList(MetaVersion),
}

/// A version of `meta.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaVersion {
    /// `v1`
    V1,
    /// `v1beta1`
    V1beta1,
}

impl MetaVersion {
    /// `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`.
    pub const fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How the answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// The encoding.
    pub encoding: Encoding,
    /// Whether JSON is indented.
    pub pretty: bool,
    /// What the object is turned into.
    pub transform: Transform,
}

impl Output {
    /// Whether objects are sent as they are, in compact JSON.
    pub(crate) fn is_plain_json(self) -> bool {
        self.transform == Transform::None && self.encoding == Encoding::Json && !self.pretty
    }

    /// Plain JSON.
    pub const JSON: Output = Output {
        encoding: Encoding::Json,
        pretty: false,
        transform: Transform::None,
    };
}

/// What an endpoint can do, beyond the three encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offers {
    /// Tables and partial objects: ordinary resources.
    Transforms,
    /// The same, but objects as they are have no protobuf form: custom resources, of which only the
    /// metadata has one (`RequestScope.StandardSerializers`).
    Custom,
    /// Neither.
    Plain,
}

/// Chooses the output by the `Accept` header, `pretty` and the user agent.
///
/// # Errors
/// 406 if nothing fits.
pub fn output(headers: &HeaderMap, query: &Query, offers: Offers) -> Result<Output, Status> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let mut chosen = if accept.is_empty() {
        Output::JSON
    } else {
        clauses(accept)
            .iter()
            .find_map(|clause| accept_clause(clause, offers))
            .ok_or_else(not_acceptable)?
    };
    chosen.pretty = chosen.pretty || wants_pretty(headers, query);
    Ok(chosen)
}

/// The output for an error: never fails, and never transforms.
pub fn output_or_json(headers: &HeaderMap, query: &Query) -> Output {
    let mut output = output(headers, query, Offers::Transforms).unwrap_or(Output::JSON);
    output.transform = Transform::None;
    output
}

fn not_acceptable() -> Status {
    Status::not_acceptable(&Encoding::ALL.map(Encoding::media_type))
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(value) = query.non_empty("pretty") {
        return matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|prefix| agent.starts_with(prefix))
}

/// Whether the client asks for aggregated discovery first, in which encoding and version.
pub(crate) fn aggregated_discovery(headers: &HeaderMap) -> Option<(Encoding, &'static str)> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    clauses(accept).iter().find_map(|clause| {
        let param = |name: &str| clause.params.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let encoding = Encoding::ALL.into_iter().find(|encoding| clause.fits(*encoding))?;
        // A plain clause that comes first means the older documents.
        let Some(kind) = param("as") else { return Some(None) };
        let version = ["v2", "v2beta1"].into_iter().find(|v| param("v") == Some(*v))?;
        let is_list = kind == "APIGroupDiscoveryList" && param("g") == Some("apidiscovery.k8s.io");
        (is_list && encoding != Encoding::Yaml).then_some(Some((encoding, version)))
    })?
}

/// The first of these media types that the `Accept` header asks for, best first: its place in the list.
/// Parameters do not count; no header asks for anything.
pub(crate) fn media(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let accept = if accept.is_empty() { "*/*" } else { accept };
    clauses(accept).iter().find_map(|clause| {
        offered.iter().position(|media| {
            let (kind, subtype) = media.split_once('/').unwrap_or((media, ""));
            (clause.kind == kind || clause.kind == "*") && (clause.subtype == subtype || clause.subtype == "*")
        })
    })
}

struct Clause<'h> {
    kind: &'h str,
    subtype: &'h str,
    params: Vec<(&'h str, &'h str)>,
    quality: f32,
}

impl Clause<'_> {
    fn fits(&self, encoding: Encoding) -> bool {
        let (kind, subtype) = encoding.media_type().split_once('/').unwrap_or_default();
        (self.kind == kind || self.kind == "*")
            && (self.subtype == subtype || self.subtype == "*")
            && (self.kind != "*" || self.subtype == "*")
    }
}

/// The header's clauses, best first.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header.split(',').filter_map(clause).collect();
    clauses.sort_by(|a, b| {
        b.quality
            .total_cmp(&a.quality)
            .then((a.kind == "*").cmp(&(b.kind == "*")))
            .then((a.subtype == "*").cmp(&(b.subtype == "*")))
    });
    clauses
}

fn clause(text: &str) -> Option<Clause<'_>> {
    let mut pieces = text.split(';').map(str::trim);
    let media = pieces.next()?;
    let (kind, subtype) = match media.split_once('/') {
        Some(parts) => parts,
        None if media == "*" => ("*", "*"),
        None => return None,
    };
    let mut clause = Clause {
        kind,
        subtype,
        params: Vec::new(),
        quality: 1.0,
    };
    for piece in pieces {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        if name == "q" {
            clause.quality = value.parse().unwrap_or(1.0);
        } else {
            clause.params.push((name.trim(), value.trim()));
        }
    }
    Some(clause)
}

fn accept_clause(clause: &Clause<'_>, offers: Offers) -> Option<Output> {
    Encoding::ALL.into_iter().find_map(|encoding| {
        if !clause.fits(encoding) {
            return None;
        }
        let param = |name: &str| clause.params.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        if param("stream").is_some_and(|s| !s.is_empty() && s != "watch") {
            return None;
        }
        if encoding == Encoding::Yaml && param("stream").is_some_and(|s| !s.is_empty()) {
            return None;
        }
        let transform = transform(param("as"), param("g"), param("v"), encoding, offers)?;
        if offers == Offers::Custom && encoding == Encoding::Protobuf && transform == Transform::None {
            return None;
        }
        Some(Output {
            encoding,
            pretty: param("pretty") == Some("1"),
            transform,
        })
    })
}

fn transform(
    kind: Option<&str>,
    group: Option<&str>,
    version: Option<&str>,
    encoding: Encoding,
    offers: Offers,
) -> Option<Transform> {
    if kind.is_none() && group.is_none() && version.is_none() {
        return Some(Transform::None);
    }
    if offers == Offers::Plain || group != Some("meta.k8s.io") {
        return None;
    }
    let version = match version {
        Some("v1") => MetaVersion::V1,
        Some("v1beta1") => MetaVersion::V1beta1,
        _ => return None,
    };
    match kind {
        Some("Table") if encoding != Encoding::Protobuf => Some(Transform::Table(version)),
        Some("PartialObjectMetadata") => Some(Transform::Partial(version)),
        Some("PartialObjectMetadataList") => Some(Transform::PartialList(version)),
        _ => None,
    }
}

/// The encoding of a request body, by `Content-Type`; absent means JSON.
///
/// # Errors
/// 415 if it is none that the server reads.
pub fn input(headers: &HeaderMap) -> Result<Encoding, Status> {
    let header = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if header.is_empty() {
        return Ok(Encoding::Json);
    }
    let media = header.split(';').next().unwrap_or("").trim();
    Encoding::ALL
        .into_iter()
        .find(|encoding| media.eq_ignore_ascii_case(encoding.media_type()))
        .ok_or_else(|| Status::unsupported_media_type(&Encoding::ALL.map(Encoding::media_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(accept: &str) -> Option<(Encoding, Transform)> {
        choose_of(Offers::Transforms, accept)
    }

    fn choose_of(offers: Offers, accept: &str) -> Option<(Encoding, Transform)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        output(&headers, &Query::default(), offers)
            .ok()
            .map(|o| (o.encoding, o.transform))
    }

    #[test]
    fn custom_objects_have_no_protobuf_but_their_metadata_has() {
        let protobuf = "application/vnd.kubernetes.protobuf";
        let choose = |accept: &str| choose_of(Offers::Custom, accept);
        assert_eq!(choose(protobuf), None);
        assert_eq!(choose(&format!("{protobuf};stream=watch")), None);
        let both = format!("{protobuf},application/json");
        assert_eq!(choose(&both), Some((Encoding::Json, Transform::None)));
        let metadata = format!("{protobuf};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");
        let want = (Encoding::Protobuf, Transform::Partial(MetaVersion::V1));
        assert_eq!(choose(&metadata), Some(want));
    }

    #[test]
    fn cbor_is_neither_read_nor_written() {
        assert_eq!(choose("application/cbor"), None);
        let either = "application/cbor,application/json;q=0.9";
        assert_eq!(choose(either), Some((Encoding::Json, Transform::None)));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/cbor".parse().unwrap());
        assert_eq!(input(&headers).map_err(|status| status.code), Err(415));
    }

    #[test]
    fn kubectl_tables() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,\
            application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let want = (Encoding::Json, Transform::Table(MetaVersion::V1));
        assert_eq!(choose(accept), Some(want));
    }

    #[test]
    fn preferences() {
        assert_eq!(choose("*/*"), Some((Encoding::Json, Transform::None)));
        assert_eq!(choose("application/*"), Some((Encoding::Json, Transform::None)));
        let both = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(choose(both), Some((Encoding::Protobuf, Transform::None)));
        let weighted = "application/json;q=0.5,application/yaml;q=0.9";
        assert_eq!(choose(weighted), Some((Encoding::Yaml, Transform::None)));
        assert_eq!(choose("text/html"), None);
        assert_eq!(choose("text/html,*/*;q=0.1"), Some((Encoding::Json, Transform::None)));
        assert_eq!(choose("application/json;as=Cake;v=v1;g=meta.k8s.io"), None);
    }
}
