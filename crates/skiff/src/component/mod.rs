//! Single components against any API server: `skiff scheduler`, `skiff controller-manager`. The flags are upstream's.

mod account;
mod election;
mod endpoint;
mod network;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use client::{Auth, Caches, Client, Config, HttpsTransport, Kubeconfig, Overrides, Roots};
use driver::{Driver, Identity, SchedulerHandle, Selection};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logs;

/// Flags that every component has.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// The API server, and as whom; else $KUBECONFIG, ~/.kube/config, or the service account of the pod
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Address of the API server, instead of the kubeconfig's
    #[arg(long)]
    master: Option<String>,
    #[command(flatten)]
    election: election::ElectionOptions,
    #[command(flatten)]
    endpoint: endpoint::EndpointOptions,
    /// What is logged to standard error, as `tracing` filters it
    #[arg(long, env = "SKIFF_LOG", default_value = "info")]
    log: String,
}

/// Options of `skiff scheduler`.
#[derive(Debug, Clone, clap::Args)]
pub struct SchedulerOptions {
    #[command(flatten)]
    common: Common,
    /// A KubeSchedulerConfiguration file: profiles, plugins and their arguments, back-offs
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Options of `skiff controller-manager`.
#[derive(Debug, Clone, clap::Args)]
pub struct ControllerManagerOptions {
    #[command(flatten)]
    common: Common,
    /// Controllers to run: `*` is all that are on by default, `foo` one, `-foo` all but one; what comes first wins
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// Each controller acts as its own service account, with a token of its own
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    use_service_account_credentials: bool,
    #[command(flatten)]
    network: network::NetworkOptions,
    /// Authorities that pods verify the API server with; else those of the kubeconfig
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
}

/// Which component it is.
enum Component {
    Scheduler(SchedulerHandle),
    ControllerManager {
        selection: Selection,
        accounts: Accounts,
        root_ca: String,
        network: controllers::Network,
    },
}

/// As whom controllers act.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accounts {
    Own,
    Kubeconfigs,
}

impl Component {
    fn name(&self) -> &'static str {
        match self {
            Component::Scheduler(_) => "kube-scheduler",
            Component::ControllerManager { .. } => "kube-controller-manager",
        }
    }

    fn port(&self) -> u16 {
        match self {
            Component::Scheduler(_) => 10259,
            Component::ControllerManager { .. } => 10257,
        }
    }
}

/// Runs the scheduler until a signal, or until another one leads.
pub fn scheduler(options: &SchedulerOptions) -> Result<ExitCode> {
    let handle = match &options.config {
        Some(path) => configured(path).with_context(|| format!("{} (--config)", path.display()))?,
        None => SchedulerHandle::default(),
    };
    run(&options.common, Component::Scheduler(handle))
}

/// The scheduler that a file describes. Leader election and the connection are the flags' business.
fn configured(path: &std::path::Path) -> Result<SchedulerHandle> {
    let text = std::fs::read_to_string(path).context("read it")?;
    let file: serde_json::Value = serde_saphyr::from_str(&text).context("parse it")?;
    Ok(SchedulerHandle::configured(&file)?)
}

/// Runs the controllers until a signal, or until another manager leads.
pub fn controller_manager(options: &ControllerManagerOptions) -> Result<ExitCode> {
    let selection = selection(&options.controllers)?;
    let config = options.common.connection()?;
    let root_ca = match (&options.root_ca_file, &config.roots) {
        (Some(path), _) => {
            std::fs::read_to_string(path).with_context(|| format!("read {} (--root-ca-file)", path.display()))?
        }
        (None, Roots::Pem(pem)) => String::from_utf8_lossy(pem).into_owned(),
        (None, Roots::Native | Roots::Insecure) => String::new(),
    };
    let accounts = match options.use_service_account_credentials {
        true => Accounts::Own,
        false => Accounts::Kubeconfigs,
    };
    let component = Component::ControllerManager {
        selection,
        accounts,
        root_ca,
        network: options.network.read()?,
    };
    run(&options.common, component)
}

/// Reads `--controllers`.
pub fn selection(entries: &[String]) -> Result<Selection> {
    let known: Vec<&str> = controllers::ALL.iter().map(|controller| controller.name).collect();
    Selection::parse(entries, &known).context("--controllers")
}

impl Common {
    fn connection(&self) -> Result<Config> {
        let overrides = Overrides {
            server: self.master.clone(),
            ..Overrides::default()
        };
        let kubeconfig = match &self.kubeconfig {
            Some(path) => Kubeconfig::read(path)?,
            None => match Config::in_cluster() {
                Ok(config) => return Ok(config),
                Err(_) => Kubeconfig::load()?,
            },
        };
        kubeconfig
            .config(&overrides)
            .context("the kubeconfig (--kubeconfig) names no usable connection")
    }
}

fn run(common: &Common, component: Component) -> Result<ExitCode> {
    logs::start(&common.log)?;
    let config = common.connection()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)))
        .enable_all()
        .build()?;
    let result = runtime.block_on(work(common, component, config));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

async fn work(common: &Common, component: Component, config: Config) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (name, shutdown) = (component.name(), CancellationToken::new());
    let client =
        Client::https(config.clone())?.with_user_agent(&format!("skiff/{} ({name})", env!("CARGO_PKG_VERSION")));
    let serving = endpoint::serve(&common.endpoint, &component, client.clone(), shutdown.clone()).await?;
    let caches = Caches::new(client.clone(), shutdown.clone());
    let mut options = driver::Options {
        election: common.election.candidacy(),
        ..driver::Options::default()
    };
    let mut accounts = Accounts::Kubeconfigs;
    match component {
        Component::Scheduler(handle) => {
            options.schedule = true;
            options.scheduler = handle;
        }
        Component::ControllerManager {
            selection,
            accounts: own,
            root_ca,
            network,
        } => {
            options.controllers = Some(selection);
            options.root_ca = root_ca;
            options.network = network;
            accounts = own;
        }
    }
    let clients = identities(accounts, &client, config)?;
    let driver = Driver::start(controllers::ALL, clients, caches, options, &shutdown);
    let stopped = driver.stopped();
    tokio::pin!(stopped);
    let lost = tokio::select! {
        () = &mut stopped => true,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    shutdown.cancel();
    if lost {
        eprintln!("error: leader election lost; start {name} again to take part in the next one");
        return Ok(ExitCode::FAILURE);
    }
    tokio::select! {
        () = &mut stopped => {}
        // A second signal is an order.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Who asks for what.
fn identities(
    accounts: Accounts,
    root: &Client,
    config: Config,
) -> Result<impl Fn(Identity) -> Client + Send + Sync + 'static> {
    let nobody = Config {
        auth: Auth::None,
        ..config
    };
    let shared = Arc::new(HttpsTransport::new(nobody)?);
    let root = root.clone();
    Ok(move |identity| match identity {
        Identity::Controller(account) if accounts == Accounts::Own => {
            account::client(shared.clone(), root.clone(), account)
        }
        Identity::Controller(_) | Identity::Scheduler | Identity::ControllerManager => root.clone(),
    })
}
