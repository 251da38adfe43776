//! Groups and versions that other API servers serve (`kube-aggregator`).
//!
//! ```text
//!   APIServices (watch cache) ─► controller ─► Remote ─► Registry (swapped): routing, discovery, OpenAPI
//!                                   └─► watchdog a Remote: Service, endpoints, discovery ─► Available
//! ```
//!
//! A request for a remote version is authenticated and authorized here, and passed on with the user in
//! headers that the other server believes because of our front-proxy certificate.
//!
//! # Invariants
//! - Headers that name a user never come from a client, unless it shows a front-proxy certificate itself.
//! - The other server's certificate is verified by what the APIService says, or the request is not sent.

mod check;
mod controller;
mod discovery;
mod exchange;
pub(crate) mod front_proxy;
mod proxy;
mod watchdog;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::{Value, meta};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use rustls::ClientConfig;

pub(crate) use controller::start;
pub use front_proxy::FrontProxy;
pub(crate) use proxy::{forward, forward_as};

use crate::usage;

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
pub(crate) const PLURAL: &str = "apiservices";

/// A group and version that another server serves.
pub(crate) struct Remote {
    /// The APIService's name: `v1.group`.
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// How the server is spoken to, or why it cannot be.
    tls: Result<Arc<ClientConfig>, String>,
    /// The same without looking at its certificate, for checks.
    unverified: Arc<ClientConfig>,
    available: AtomicBool,
    found: ArcSwapOption<Found>,
    /// This server answers itself.
    built_in: bool,
}

/// What the server says of the version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// An entry of `versions` in aggregated discovery, without freshness.
    pub discovery: Value,
    /// Where its OpenAPI v3 document is.
    pub openapi_url: Option<String>,
    /// What its OpenAPI v2 document says of the version's paths, as JSON.
    pub swagger: Option<Bytes>,
    /// The tag of that document, by which it is asked for again.
    pub swagger_tag: Option<String>,
}

impl Remote {
    /// From an APIService; `None` if it is a local one.
    fn of(object: &Value, front_proxy: Option<&FrontProxy>) -> Option<Remote> {
        let spec = &object["spec"];
        let service = spec["service"].as_object()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let field = |name: &str| service.get(name).map(&text).unwrap_or_default();
        let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
        let insecure = spec["insecureSkipTLSVerify"] == Value::Bool(true);
        let unverified = Arc::new(crate::server::trusting(
            exchange::tls(&text(&spec["caBundle"]), front_proxy).ok().as_ref(),
        ));
        let tls = if insecure {
            Ok(unverified.clone())
        } else {
            exchange::tls(&text(&spec["caBundle"]), front_proxy).map(Arc::new)
        };
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let available = conditions
            .into_iter()
            .any(|c| c["type"] == "Available" && c["status"] == "True");
        Some(Remote {
            name: meta::name(object).to_owned(),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
            version_priority: spec["versionPriority"].as_i64().unwrap_or(0),
            namespace: field("namespace"),
            service: field("name"),
            port: u16::try_from(port).unwrap_or(443),
            tls,
            unverified,
            available: AtomicBool::new(available),
            found: ArcSwapOption::empty(),
            built_in: false,
        })
    }

    /// The version that is served here until somebody installs a server of it.
    fn built_in() -> Remote {
        let found = Found {
            discovery: usage::discovery(),
            ..Found::default()
        };
        let unverified = Arc::new(crate::server::trusting(None));
        Remote {
            name: format!("{}.{}", usage::VERSION, usage::GROUP),
            group: usage::GROUP.to_owned(),
            version: usage::VERSION.to_owned(),
            group_priority: 100,
            version_priority: 100,
            namespace: String::new(),
            service: String::new(),
            port: 0,
            tls: Err("served here".to_owned()),
            unverified,
            available: AtomicBool::new(true),
            found: ArcSwapOption::from_pointee(found),
            built_in: true,
        }
    }

    /// Whether this server answers for the version itself.
    pub fn is_built_in(&self) -> bool {
        self.built_in
    }

    /// Whether requests are passed on.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// What is known of the version.
    pub fn found(&self) -> Option<Arc<Found>> {
        self.found.load_full()
    }

    /// The path that the version's resources are under.
    pub fn root(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }
}
