//! Certificates, store, API server, bootstrap objects, controllers and scheduler.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use apiserver::{ApiServer, Pool, UserInfo, Values};
use client::Caches;
use driver::{Driver, Identity};
use pki::{Pki, PkiConfig};
use store::Store;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bootstrap::{self, Endpoint};
use super::identity;
use super::keys::ClusterKeys;
use super::progress::Progress;
use super::{Options, kubeconfig, local_url, local_volumes};
use crate::{component, transport};

/// A running control plane.
pub struct ControlPlane {
    pub server: ApiServer,
    pub pki: Pki,
    pub url: String,
    pub kubeconfig: PathBuf,
    /// Shared by every component of this process; reads as a superuser.
    pub caches: Caches,
    pub address: IpAddr,
    /// Ends the API server after everything else.
    serving: CancellationToken,
    serve: JoinHandle<()>,
    driver: Option<Driver>,
}

impl ControlPlane {
    pub async fn start(options: &Options, progress: &Progress, shutdown: &CancellationToken) -> Result<ControlPlane> {
        let since = Instant::now();
        // The store's lock says whether another skiff runs here: before anything is touched.
        let store = Store::open(options.data_dir.join("store"))
            .with_context(|| format!("open the store in {}", options.data_dir.display()))?;
        progress.done("store", since);

        let since = Instant::now();
        let address = options.address();
        let pki = open_pki(options, address)?;
        progress.done("certificates", since);

        let since = Instant::now();
        let url = local_url(options.bind_address, options.secure_port);
        let listen = SocketAddr::new(options.bind_address, options.secure_port);
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("listen on {listen} (is another API server running? --secure-port chooses another port)")
        })?;
        let server = ApiServer::new(config(options, store, &pki)?).context("start the API server")?;
        server.use_front_proxy(apiserver::FrontProxy {
            identity: pki::chain_and_key(&pki.front_proxy_client)?,
            verifier: pki::client_verifier(&pki.front_proxy_ca_pem)?,
            allowed_names: vec!["front-proxy-client".to_owned()],
            ca_pem: pki.front_proxy_ca_pem.clone(),
            client_ca_pem: pki.ca_pem.clone(),
        });
        if let Some(tracing) = options.api.tracing()? {
            server.export_spans(tracing);
        }
        let serving = CancellationToken::new();
        // Clients choose their certificate by the authorities that are named to them.
        let authorities = format!("{}{}", pki.ca_pem, pki.front_proxy_ca_pem);
        let tls = pki::asking_server_config(&pki.apiserver, &authorities)?;
        let serve = tokio::spawn({
            let (server, serving) = (server.clone(), serving.clone());
            async move { server.serve(listener, tls, serving).await }
        });
        server.ready().await;
        progress.done("API server", since);

        let since = Instant::now();
        let root = transport::client(&server, UserInfo::api_server());
        let endpoint = Endpoint {
            service_cidrs: vec![options.service_cidr.to_string()],
            service_ip: options.service_ip(1).into(),
            address,
            port: options.secure_port,
            authority: pki.ca_pem.clone(),
        };
        let bootstrapped = bootstrap::checks(&server);
        bootstrap::ensure(&root, &endpoint).await?;
        bootstrapped.cancel();
        let has_node = options.hollow_nodes == 0 && !options.api.api_only;
        let mut local_disk = None;
        if has_node {
            local_disk = Some(local_volumes::disk(&options.data_dir, &options.node_name)?);
            local_volumes::ensure_class(&root).await?;
        }
        let kubeconfig = options.data_dir.join("admin.kubeconfig");
        kubeconfig::write(&kubeconfig, &url, &pki)?;
        progress.done("bootstrap objects", since);

        let caches = Caches::new(root.clone(), shutdown.clone());
        let name = crate::host::name();
        tokio::spawn(identity::keep(root.clone(), name, shutdown.clone()));
        tokio::spawn(bootstrap::keep(root, endpoint, caches.clone(), shutdown.clone()));
        let selection = component::selection(&options.controllers)?;
        let identities = server.clone();
        let keys = ClusterKeys::open(&options.data_dir.join("pki"), server.clone())?;
        let scheduler = driver::SchedulerHandle::default();
        if !options.api.api_only {
            let (told, counted) = (scheduler.clone(), scheduler.clone());
            server.mount(VERDICTS, move |path| {
                let verdicts = told.verdicts(&path);
                Box::pin(async move { verdicts })
            });
            server.add_metrics(move || counted.metrics());
        }
        let driver = (!options.api.api_only).then(|| {
            Driver::start(
                controllers::ALL,
                move |identity| transport::client(&identities, user(&identity)),
                caches.clone(),
                driver::Options {
                    root_ca: pki.ca_pem.clone(),
                    network: options.network(),
                    election: None,
                    schedule: true,
                    scheduler,
                    controllers: Some(selection),
                    keys: Some(Arc::new(keys)),
                    local_disk,
                },
                shutdown,
            )
        });
        Ok(ControlPlane {
            server,
            pki,
            url,
            kubeconfig,
            caches,
            address,
            serving,
            serve,
            driver,
        })
    }

    /// Waits for the controllers, then ends the API server.
    pub async fn stop(self) {
        if let Some(driver) = self.driver {
            driver.stopped().await;
        }
        self.serving.cancel();
        let _ = self.serve.await;
    }
}

/// Where the scheduler tells why pods are pending.
const VERDICTS: &str = "/scheduler/verdicts";

fn user(identity: &Identity) -> UserInfo {
    match identity {
        Identity::ControllerManager => UserInfo::new("system:kube-controller-manager", &[]),
        Identity::Scheduler => UserInfo::new("system:kube-scheduler", &[]),
        Identity::Controller(account) => UserInfo::service_account("kube-system", account),
    }
}

fn open_pki(options: &Options, address: IpAddr) -> Result<Pki> {
    let domain = &options.cluster_domain;
    let names = [crate::host::name(), options.node_name.clone()];
    let config = PkiConfig {
        apiserver: pki::apiserver_alt_names(domain, options.service_ip(1).into(), &names, &[address]),
        node_name: options.node_name.clone(),
        node_ips: vec![address, IpAddr::from([127, 0, 0, 1])],
    };
    Ok(Pki::open(&options.data_dir.join("pki"), &config)?)
}

fn config(options: &Options, store: Store, pki: &Pki) -> Result<apiserver::Config> {
    let pools = vec![
        Pool {
            name: kinds::pools::SERVICE_IPV4.into(),
            values: Values::Addresses(options.service_cidr.into()),
        },
        Pool {
            name: kinds::pools::NODE_PORTS.into(),
            values: Values::Ports(30000..=32767),
        },
    ];
    // Where it is reached from, pods among others: not the loopback address of the kubeconfig.
    let address = SocketAddr::new(options.address(), options.secure_port).to_string();
    let issuer = format!("https://kubernetes.default.svc.{}", options.cluster_domain);
    Ok(apiserver::Config {
        kinds: kinds::all(),
        store,
        pools,
        service_account: Some(apiserver::ServiceAccountConfig {
            audiences: vec![issuer.clone()],
            issuer,
            signing_key_pem: pki.service_account_key_pem.clone(),
            public_keys_pem: vec![pki.service_account_public_pem.clone()],
            jwks_uri: format!("https://{address}/openid/v1/jwks"),
        }),
        client_certificates: Some(pki::client_verifier(&pki.ca_pem)?),
        kubelet_tls: Some(Arc::new(pki::client_config(
            &pki.ca_pem,
            Some(&pki.apiserver_kubelet_client),
        )?)),
        address,
        audit: options.api.audit()?,
        limits: options.api.limits(),
        admission: apiserver::Admission {
            enable: options.enable_admission_plugins.clone(),
            disable: options.disable_admission_plugins.clone(),
            control_config_file: options.admission_control_config_file.clone(),
        },
    })
}
