//! Puts everything together.

use std::sync::Arc;

use client::{Caches, Client, EventRecorder};
use controllers::{BUDGETS, Controller, Key, Network, QUOTAS, World, autoscale, quotas_in};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::execute::Executor;
use crate::garbage;
use crate::hands::Live;
use crate::keys::Keys;
use crate::leader::{LeaderElection, Terms};
use crate::metadata::Metadata;
use crate::queue::Queue;
use crate::runner::{Turns, run};
use crate::scales::Scales;
use crate::scheduling::{self, SchedulerHandle};
use crate::selection::{GARBAGE_COLLECTOR, Selection};
use crate::volume_disk::LocalDisk;
use crate::world::CacheWorld;

/// Turns of one controller at once, as most of upstream's.
const WORKERS: usize = 5;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `system:kube-controller-manager`: leases.
    ControllerManager,
    /// `system:kube-scheduler`.
    Scheduler,
    /// `system:serviceaccount:kube-system:<account>`.
    Controller(&'static str),
}

/// How the driver runs.
#[derive(Clone, Default)]
pub struct Options {
    /// The authority that pods verify the API server with, in PEM.
    pub root_ca: String,
    /// What controllers have to know of the cluster's network.
    pub network: Network,
    /// Part in leader elections; `None` is for a control plane of one.
    pub election: Option<Candidacy>,
    /// Whether pods are scheduled.
    pub schedule: bool,
    /// What schedules them.
    pub scheduler: SchedulerHandle,
    /// The disk of this machine's node, if volumes are made on it.
    pub local_disk: Option<LocalDisk>,
    /// Which controllers run; `None` is for no controller manager at all.
    pub controllers: Option<Selection>,
    /// The cluster's keys; without them no certificates are signed and no tokens made.
    pub keys: Option<Arc<dyn Keys>>,
}

/// How this process takes part in leader elections.
#[derive(Clone, Debug)]
pub struct Candidacy {
    /// Name of this process.
    pub identity: String,
    /// Name of the lease, if not the component's.
    pub lease: Option<String>,
    /// Times and place.
    pub terms: Terms,
}

impl Candidacy {
    /// Under upstream's terms.
    pub fn new(identity: &str) -> Candidacy {
        Candidacy {
            identity: identity.to_owned(),
            lease: None,
            terms: Terms::default(),
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct Driver {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Driver {
    /// Starts controllers, garbage collector and scheduler. `clients` gives each its identity;
    /// `caches` are shared with the whole process. All ends, gracefully, with `shutdown`.
    pub fn start(
        controllers: &'static [Controller],
        clients: impl Fn(Identity) -> Client + Send + Sync + 'static,
        caches: Caches,
        options: Options,
        shutdown: &CancellationToken,
    ) -> Self {
        let stop = shutdown.child_token();
        let mut tasks = JoinSet::new();
        let clients = Arc::new(clients);
        if options.schedule {
            let client = clients(Identity::Scheduler);
            let lead = election(&options, "kube-scheduler", &client);
            let (caches, handle, stop) = (caches.clone(), options.scheduler.clone(), stop.clone());
            tasks.spawn(led(lead, stop, move |stop| {
                scheduling::run(client, caches, handle, stop)
            }));
        }
        if let Some(selection) = options.controllers.clone() {
            let leases = clients(Identity::ControllerManager);
            let lead = election(&options, "kube-controller-manager", &leases);
            let manager = Manager {
                controllers,
                selection,
                clients,
                caches,
                root_ca: options.root_ca,
                network: options.network,
                keys: options.keys,
                local_disk: options.local_disk,
            };
            tasks.spawn(led(lead, stop.clone(), move |stop| manager.run(stop)));
        }
        Self { tasks, stop }
    }

    /// Resolves when all has ended: after the shutdown, or when leadership was lost.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the driver panicked");
            }
            // What lost its leadership must not go on alone.
            self.stop.cancel();
        }
    }
}

fn election(options: &Options, lease: &str, client: &Client) -> Option<LeaderElection> {
    let candidacy = options.election.as_ref()?;
    let lease = candidacy.lease.as_deref().unwrap_or(lease);
    let election = LeaderElection::new(client.clone(), lease, &candidacy.identity);
    Some(election.with_terms(candidacy.terms.clone()))
}

async fn led<F: Future<Output = ()>>(
    election: Option<LeaderElection>,
    stop: CancellationToken,
    body: impl FnOnce(CancellationToken) -> F,
) {
    let Some(election) = election else {
        return body(stop).await;
    };
    if let Some(leadership) = election.lead(&stop).await {
        body(leadership.lost()).await;
        leadership.release().await;
    }
}

struct Manager<C> {
    controllers: &'static [Controller],
    selection: Selection,
    clients: Arc<C>,
    caches: Caches,
    root_ca: String,
    network: Network,
    keys: Option<Arc<dyn Keys>>,
    local_disk: Option<LocalDisk>,
}

impl<C: Fn(Identity) -> Client> Manager<C> {
    async fn run(self, stop: CancellationToken) {
        let metadata = Metadata::start(self.caches.clone(), stop.clone());
        let place = self.local_disk.as_ref().map(|disk| disk.place.clone());
        let scales = Scales::start((self.clients)(Identity::Controller(BUDGETS)), metadata.clone());
        let world = Arc::new(CacheWorld::start(
            &self.caches,
            metadata.clone(),
            self.root_ca.clone(),
            self.network.clone(),
            place,
            scales.clone(),
        ));
        let mut tasks = JoinSet::new();
        if self.selection.runs(GARBAGE_COLLECTOR) {
            let collector = self.executor("generic-garbage-collector", GARBAGE_COLLECTOR, &stop);
            tasks.spawn(garbage::collect(metadata.clone(), collector, stop.clone()));
        }
        if self.selection.runs(autoscale::NAME) {
            let scaler = self.executor(autoscale::NAME, autoscale::NAME, &stop);
            let (world, metadata, stop) = (world.clone(), metadata.clone(), stop.clone());
            tasks.spawn(crate::autoscale::run(world, metadata, scaler, stop));
        }
        let can = |name: &str| self.keys.is_some() || !needs_keys(name);
        let chosen = self.controllers.iter();
        for controller in chosen.filter(|controller| self.selection.runs(controller.name) && can(controller.name)) {
            let queue: Arc<Queue<Key>> = Arc::default();
            for trigger in controller.triggers {
                world.attach(*trigger, &queue);
            }
            if controller.name == BUDGETS {
                follow_scales(&world, &scales, &queue);
            }
            let needs_contents = looks_at_contents(controller.name);
            if needs_contents {
                follow_contents(controller.name, &world, &metadata, &queue);
            }
            let (decider, reconcile) = (world.clone(), controller.reconcile);
            let turns = Turns {
                name: controller.name,
                queue,
                executor: self.executor(controller.account, controller.name, &stop),
                sight: world.clone(),
                workers: WORKERS,
                decide: move |key: &Key, turn: &controllers::Turn| reconcile(&*decider, key, turn),
            };
            let (world, metadata, stop) = (world.clone(), metadata.clone(), stop.clone());
            tasks.spawn(async move {
                let ready = async {
                    world.synced().await;
                    if needs_contents {
                        metadata.synced().await;
                    }
                };
                if stop.run_until_cancelled(ready).await.is_some() {
                    run(turns, stop).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller's task panicked");
            }
        }
    }

    fn executor(&self, account: &'static str, component: &str, stop: &CancellationToken) -> Executor<Live> {
        let identity = match account {
            "" => Identity::ControllerManager,
            account => Identity::Controller(account),
        };
        let client = (self.clients)(identity);
        let recorder = EventRecorder::start(client.clone(), component, "", stop.clone());
        Executor {
            hands: Live { client, recorder },
            keys: self.keys.clone(),
            local_disk: self.local_disk.clone(),
        }
    }
}

/// Whether a controller can do nothing without the cluster's keys: it does not run then, as upstream's.
pub fn needs_keys(controller: &str) -> bool {
    NEED_KEYS.contains(&controller)
}

const NEED_KEYS: [&str; 2] = [
    "certificatesigningrequest-signing-controller",
    "serviceaccount-token-controller",
];

/// The controller that looks at what is in namespaces.
const NAMESPACES: &str = "namespace-controller";

/// Whether a controller looks at whole namespaces: all that is in them, of any kind.
pub fn looks_at_contents(controller: &str) -> bool {
    [NAMESPACES, QUOTAS].contains(&controller)
}

/// Runs a namespace's disruption budgets when a scale in it is known.
fn follow_scales(world: &Arc<CacheWorld>, scales: &Scales, queue: &Arc<Queue<Key>>) {
    let (world, queue) = (Arc::downgrade(world), queue.clone());
    scales.on_news(move |namespace| {
        let Some(world) = world.upgrade() else { return };
        for budget in world.pod_disruption_budgets().list(namespace) {
            queue.add(Key::of(&*budget));
        }
    });
}

/// What a controller that looks at whole namespaces runs after an object of any kind came into one, left it
/// (`moved`), or changed in it: the namespace, while it is being deleted; the quotas, when what there is has changed.
pub fn keys_of_contents(controller: &str, world: &dyn World, namespace: &str, moved: bool) -> Vec<Key> {
    match controller {
        NAMESPACES => {
            let known = world.namespaces().get("", namespace);
            let going = known.is_some_and(|known| known.metadata.deletion_timestamp.is_some());
            going.then(|| Key::new("", namespace)).into_iter().collect()
        }
        QUOTAS if moved => quotas_in(world, namespace),
        _ => Vec::new(),
    }
}

fn follow_contents(controller: &'static str, world: &Arc<CacheWorld>, metadata: &Metadata, queue: &Arc<Queue<Key>>) {
    let (world, queue) = (Arc::downgrade(world), queue.clone());
    metadata.listen(move |_, change| {
        let namespace = change.object().metadata.namespace.as_deref();
        if let (Some(world), Some(namespace)) = (world.upgrade(), namespace) {
            let moved = change.old.is_none() || change.new.is_none();
            for key in keys_of_contents(controller, &*world, namespace, moved) {
                queue.add(key);
            }
        }
    });
}
