//! One way to talk to a Kubernetes API, for every component and for the command line.
//!
//! ```text
//!   Client ── Handle<K> (typed) / Handle<Value> (by Gvr) ── Arc<dyn Transport>
//!     │                                                      ├─ in process (given by the binary)
//!     │                                                      └─ HTTPS: HTTP/2, client certificate or token
//!   Caches ── Cache<K>: list + watch, indexes, changes; one a kind a process
//! ```
//!
//! # Invariants
//! - A [`Cache`] shows some past state of the server per object, in order, never a mixture of two
//!   versions of one object, and never goes back except after a relist (410).
//! - [`Cache::revision`] is never ahead of what the cache shows.
//! - Nothing polls: caches follow watches; a broken watch is resumed with backoff.
//!
//! # What it does not know
//! Any kind's semantics, the store, the API server's implementation, and who calls it: the identity
//! belongs to the transport.

mod cache;
mod client;
mod config;
mod discovery;
mod error;
mod handle;
mod https;
mod kubeconfig;
mod params;
mod recorder;
mod tls;
mod token;
mod transport;
mod watch;

pub use cache::{Cache, CacheOptions, Caches, Change, Changes, Key, PartialObject, Trim, index};
pub use client::Client;
pub use config::{Auth, Config, ConfigError, Roots};
pub use discovery::{ApiResource, discover};
pub use error::ClientError;
pub use handle::{Deleted, Handle, List, Object};
pub use https::HttpsTransport;
pub use kubeconfig::{
    ClusterEntry, ContextEntry, Kubeconfig, KubeconfigError, NamedCluster, NamedContext, NamedUser, Overrides,
    UserEntry,
};
pub use params::{DeleteParams, ListParams, PatchKind, Preconditions, Propagation, WatchParams, WriteParams};
pub use recorder::{EventRecorder, EventSpec};
pub use tls::client_config as tls_config;
pub use transport::{Body, BoxError, BoxFuture, Io, Transport, Upgraded, full_body};
pub use watch::{WatchEvent, WatchStream};
