//! How a server comes to be: its parts, its checks, and what has to be done before it is ready.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{ApiServer, Config, StartError};
use crate::admission::{self, Pipeline};
use crate::aggregation::FrontProxy;
use crate::allocate::{self, Pools};
use crate::audit::Audit;
use crate::authn::token_keys::TokenKeys;
use crate::authz::Rbac;
use crate::flow_control::{self, FlowControl};
use crate::health::{Endpoints, Health};
use crate::metrics::Metrics;
use crate::resource::Registry;
use crate::state::State;

/// How long to wait before a failed repair is tried again.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

impl ApiServer {
    /// Makes a server and starts its caches. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the service-account keys or the admission plugins cannot be used.
    pub fn new(config: Config) -> Result<ApiServer, StartError> {
        let shutdown = CancellationToken::new();
        let registry = Registry::new(config.kinds, &config.store, &shutdown);
        let metrics = Arc::new(Metrics::new());
        let audit = config.audit.map(|options| Audit::new(options, metrics.clone()));
        let audit = audit.transpose()?.map(Arc::new);
        let state = Arc::new(State {
            pools: Pools::new(config.pools, &config.store, &registry),
            registry: ArcSwap::from_pointee(registry),
            store: config.store,
            admission: Pipeline::new(&config.admission)?,
            rbac: Rbac::new(),
            tokens: config.service_account.map(TokenKeys::new).transpose()?,
            client_certificates: config.client_certificates,
            kubelet_tls: config.kubelet_tls,
            unverified_tls: Arc::new(super::trusting(None)),
            health: Health::default(),
            flow_control: Arc::new(FlowControl::new(config.limits.in_flight, metrics.clone())),
            audit,
            shutdown_delay: config.limits.shutdown_delay,
            metrics,
            address: config.address,
            draining: AtomicBool::new(false),
            repaired: CancellationToken::new(),
            front_proxy: OnceLock::new(),
            spans: OnceLock::new(),
            mounted: OnceLock::new(),
            more_metrics: OnceLock::new(),
            usage: crate::usage::Samples::default(),
            kinds_changed: Arc::default(),
            customs_served: CancellationToken::new(),
            shutdown,
        });
        add_checks(&state);
        tokio::spawn(repair(state.clone()));
        tokio::spawn(flow_control::follow(state.clone()));
        tokio::spawn(admission::watch_status(Arc::downgrade(&state)));
        let server = ApiServer { state };
        crate::custom::start(&server);
        crate::aggregation::start(&server);
        Ok(server)
    }
}

impl ApiServer {
    /// Makes this server one that passes requests on to others, which believe it, and one that believes
    /// other front proxies. Only the first call counts.
    pub fn use_front_proxy(&self, front_proxy: FrontProxy) {
        if self.state.front_proxy.set(front_proxy).is_ok() {
            self.state.kinds_changed.notify_one();
        }
    }

    /// Sends spans of sampled requests to a collector from now on. Only the first call counts. Must be
    /// called inside a tokio runtime.
    pub fn export_spans(&self, options: crate::TracingOptions) {
        self.state.spans.get_or_init(|| crate::spans::Spans::start(options));
    }
}

/// Waits until the caches are filled and allocations are mended.
pub(super) async fn ready(state: &State) {
    let registry = state.registry.load_full();
    for resource in registry.all() {
        // An error means that the store has closed; there is nothing to wait for.
        drop(resource.cache.ready().await);
    }
    let made = async {
        state.repaired.cancelled().await;
        state.customs_served.cancelled().await;
    };
    tokio::select! {
        () = made => {}
        () = state.shutdown.cancelled() => {}
    }
}

/// Mends the claims of allocated values, until that has worked once.
async fn repair(state: Arc<State>) {
    while !state.shutdown.is_cancelled() {
        let registry = state.registry.load_full();
        match allocate::repair(&state.store, &registry, &state.pools).await {
            Ok(count) => {
                if count > 0 {
                    tracing::info!(count, "claims of allocated values were repaired");
                }
                break;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot repair the claims of allocated values; trying again");
                tokio::time::sleep(REPAIR_PAUSE).await;
            }
        }
    }
    state.repaired.cancel();
}

/// What of the start has to be over, and the checks that upstream has for parts of it.
type Hooks = (fn(&State) -> &CancellationToken, &'static [&'static str]);

const HOOKS: [Hooks; 2] = [
    (
        |state| &state.repaired,
        &[
            "poststarthook/start-kube-apiserver-admission-initializer",
            "poststarthook/generic-apiserver-start-informers",
            "poststarthook/priority-and-fairness-config-consumer",
            "poststarthook/priority-and-fairness-filter",
            "poststarthook/storage-object-count-tracker-hook",
            "poststarthook/start-service-ip-repair-controllers",
        ],
    ),
    (
        |state| &state.customs_served,
        &[
            "poststarthook/start-apiextensions-informers",
            "poststarthook/start-apiextensions-controllers",
            "poststarthook/crd-informer-synced",
            "poststarthook/start-kube-aggregator-informers",
            "poststarthook/apiservice-registration-controller",
            "poststarthook/apiservice-status-available-controller",
            "poststarthook/kube-apiserver-autoregistration",
            "autoregister-completion",
            "poststarthook/apiservice-openapi-controller",
            "poststarthook/apiservice-openapiv3-controller",
            "poststarthook/apiservice-discovery-controller",
        ],
    ),
];

/// The checks upstream has too, by its names.
fn add_checks(state: &Arc<State>) {
    let fine = || std::future::ready(Ok(()));
    state.health.add("ping", Endpoints::All, fine);
    state.health.add("log", Endpoints::All, fine);
    let store = state.store.clone();
    state.health.add("etcd", Endpoints::All, move || {
        let store = store.clone();
        async move { store.get("/registry/health").await.map(drop).map_err(|e| e.to_string()) }
    });
    // The checks are part of the state they look at, so they must not keep it alive.
    let weak = Arc::downgrade(state);
    state.health.add("informer-sync", Endpoints::Ready, move || {
        let state = weak.upgrade();
        async move {
            let Some(state) = state else {
                return Err("gone".to_owned());
            };
            let registry = state.registry.load_full();
            let waiting = registry
                .all()
                .iter()
                .filter_map(|r| r.cache.started())
                .filter(|cache| cache.ready().now_or_never().is_none());
            match waiting.count() {
                0 => Ok(()),
                count => Err(format!("{count} caches are not filled yet")),
            }
        }
    });
    for (done, hooks) in HOOKS {
        for hook in hooks {
            let weak = Arc::downgrade(state);
            state.health.add(hook, Endpoints::All, move || {
                let done = weak.upgrade().is_some_and(|state| done(&state).is_cancelled());
                std::future::ready(if done { Ok(()) } else { Err("not finished".to_owned()) })
            });
        }
    }
    let weak = Arc::downgrade(state);
    state.health.add("shutdown", Endpoints::Ready, move || {
        let draining = weak.upgrade().is_none_or(|s| s.draining.load(Ordering::Relaxed));
        std::future::ready(if draining {
            Err("process is shutting down".to_owned())
        } else {
            Ok(())
        })
    });
}
