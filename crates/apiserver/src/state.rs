//! What every request shares.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::{Status, Value};
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use rustls::server::danger::ClientCertVerifier;
use store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admission::Pipeline;
use crate::aggregation::FrontProxy;
use crate::allocate::Pools;
use crate::audit::Audit;
use crate::authn::token_keys::TokenKeys;
use crate::authz::{self, Attributes, Rbac};
use crate::call::Call;
use crate::flow_control::FlowControl;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::resource::{Registry, Resource};
use crate::spans::Spans;

/// What a component of this process tells below a path that is about no resource.
pub(crate) struct Mounted {
    pub prefix: &'static str,
    /// Given the rest of the path.
    pub answer: Box<dyn Fn(String) -> BoxFuture<'static, Option<Value>> + Send + Sync>,
}

/// The server's parts.
pub(crate) struct State {
    pub store: Store,
    pub registry: ArcSwap<Registry>,
    pub pools: Pools,
    pub admission: Pipeline,
    pub rbac: Rbac,
    pub tokens: Option<TokenKeys>,
    /// What tells whether a client's certificate is good, if TLS does not.
    pub client_certificates: Option<Arc<dyn ClientCertVerifier>>,
    /// For connections to node agents: our certificate, and whom to trust.
    pub kubelet_tls: Option<Arc<ClientConfig>>,
    /// For `https` proxying to pods, whose certificates nobody vouches for.
    pub unverified_tls: Arc<ClientConfig>,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub flow_control: Arc<FlowControl>,
    pub audit: Option<Arc<Audit>>,
    /// How long the server goes on serving after it has turned unready.
    pub shutdown_delay: Duration,
    /// Where clients reach the server, as host and port.
    pub address: String,
    /// Set when the server is about to end: it is alive, but not ready.
    pub draining: AtomicBool,
    /// Set when the claims of allocated values have been mended once.
    pub repaired: CancellationToken,
    /// What makes this server a front proxy, once it is told.
    pub front_proxy: OnceLock<FrontProxy>,
    /// Where spans of requests go, if anywhere.
    pub spans: OnceLock<Spans>,
    /// What else is answered, below a path of its own.
    pub mounted: OnceLock<Mounted>,
    /// Numbers of other components of this process.
    pub more_metrics: OnceLock<Box<dyn Fn() -> String + Send + Sync>>,
    /// What nodes and pods used lately.
    pub usage: crate::usage::Samples,
    /// Told when the served kinds have changed.
    pub kinds_changed: Arc<Notify>,
    /// Cancelled when the kinds of custom resources have been read once.
    pub customs_served: CancellationToken,
    /// Cancelled when watches have to end.
    pub shutdown: CancellationToken,
}

impl Drop for State {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl State {
    /// The resource of that group, version and plural.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.registry.load().get(group, version, plural).cloned()
    }

    /// Some version of a group's resource.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.registry.load().any_version(group, plural).cloned()
    }

    /// Whether the user may create what an update of an absent object would create.
    ///
    /// # Errors
    /// 403 if not.
    pub async fn authorize_create(&self, call: &Call, _resource: &Resource) -> Result<(), Status> {
        let mut attributes = Attributes::of(&call.info, &call.user);
        attributes.verb = "create".to_owned();
        authz::require(self, &attributes).await
    }
}
