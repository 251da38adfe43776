//! A workload, step by step.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, Kubeconfig, Overrides};
use http::Method;
use node::hollow::{Hollow, HollowConfig, Registration};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::super::api::{Server, Target};
use super::Options;
use super::cases::{Churn, Csi, Pods, Role, Step, Workload};
use super::load::{Load, Requests, bound, post};
use super::templates::{HIGH_PRIORITY, MARK, NAMED_NODE, NodeTemplate, PodTemplate, Volumes, csi_node};
use super::watch::Bound;

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub pods: usize,
    /// From before the first pod was sent until the last one was seen bound.
    pub time: Duration,
    /// Of each pod: from before it was sent until it was seen bound.
    pub latencies: Vec<Duration>,
    /// Of the server with its scheduler, in that time.
    pub cpu: Option<Duration>,
    pub peak_rss_bytes: Option<u64>,
}

impl Figures {
    pub fn pods_per_second(&self) -> f64 {
        self.pods as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Milliseconds that this share of the pods took at most.
    pub fn latency_ms(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share) as usize;
        let found = sorted.get(at.min(sorted.len().saturating_sub(1)));
        found.map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// A workload on a cluster.
pub struct Run<'a> {
    options: &'a Options,
    workload: &'a Workload,
    target: Target,
    server: Server,
    client: Client,
    background: CancellationToken,
    bound: OnceCell<Bound>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.background.cancel();
    }
}

impl<'a> Run<'a> {
    pub fn new(
        options: &'a Options,
        workload: &'a Workload,
        target: Target,
        server: Server,
        kubeconfig: &Path,
        context: Option<&str>,
    ) -> Result<Run<'a>> {
        let overrides = Overrides {
            context: context.map(str::to_owned),
            ..Overrides::default()
        };
        let client = Client::https(Kubeconfig::read(kubeconfig)?.config(&overrides)?)?;
        Ok(Run {
            options,
            workload,
            target,
            server,
            client: client.with_user_agent("skiff-bench"),
            background: CancellationToken::new(),
            bound: OnceCell::new(),
        })
    }

    /// All steps; the figures of the measured one.
    pub async fn all(&self) -> Result<Figures> {
        let load = Arc::new(Load::connect(&self.target, self.options.connections, self.options.clients).await?);
        self.server.reset_peak();
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": HIGH_PRIORITY, "labels": {MARK: "true"}}, "value": 10,
        });
        load.one(Method::POST, "/apis/scheduling.k8s.io/v1/priorityclasses", &class)
            .await?;
        for namespace in self.namespaces() {
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": {MARK: "true", "team": "devops"}},
            });
            load.one(Method::POST, "/api/v1/namespaces", &object).await?;
        }
        let bound = self
            .bound
            .get_or_try_init(|| Bound::follow(self.client.clone()))
            .await?;
        let mut figures = None;
        let mut made = 0;
        for (number, step) in self.workload.steps.iter().enumerate() {
            let patience = Duration::from_secs(self.options.timeout);
            let done = tokio::time::timeout(patience, self.step(step, &load, bound, &mut made)).await;
            let what = || format!("step {} ({})", number + 1, name_of(step));
            let done = match done {
                Ok(done) => done.with_context(what)?,
                Err(_) => bail!(
                    "{} took longer than {} s{}",
                    what(),
                    patience.as_secs(),
                    progress(step, bound)
                ),
            };
            figures = figures.or(done);
        }
        figures.context("the workload measures nothing")
    }

    /// Namespaces of all steps.
    fn namespaces(&self) -> Vec<String> {
        let mut names = Vec::new();
        for step in &self.workload.steps {
            match step {
                Step::Pods(pods) => names.push(pods.namespace.clone()),
                Step::Namespaces { prefix, count } => names.extend((0..*count).map(|n| format!("{prefix}-{n}"))),
                Step::Churn { .. } => names.push(CHURN.to_owned()),
                Step::Nodes { .. } | Step::Delete { .. } => {}
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    async fn step(&self, step: &Step, load: &Arc<Load>, bound: &Bound, made: &mut u32) -> Result<Option<Figures>> {
        match step {
            Step::Nodes {
                count,
                template,
                zones,
                csi,
            } => {
                self.make_nodes(load, *made, *count, *template, zones, *csi).await?;
                *made += count;
            }
            // They were all made in the beginning.
            Step::Namespaces { .. } => {}
            Step::Pods(pods) => return self.make_pods(load, bound, pods).await,
            Step::Churn { what, every } => self.churn(load.clone(), *what, *every),
            Step::Delete { namespace, per_second } => self.delete(load.clone(), bound, namespace, *per_second),
        }
        Ok(None)
    }

    async fn make_nodes(
        &self,
        load: &Load,
        from: u32,
        count: u32,
        template: NodeTemplate,
        zones: &'static [&'static str],
        csi: Csi,
    ) -> Result<()> {
        let name = move |index: u32| match template {
            NodeTemplate::Named => NAMED_NODE.to_owned(),
            _ => format!("scheduler-perf-{}", from + index),
        };
        let requests: Requests = Arc::new(move |index| {
            let zone = (index as usize).checked_rem(zones.len()).map(|at| zones[at]);
            let mut requests = vec![post("/api/v1/nodes", template.node(&name(index), zone))];
            if csi != Csi::None {
                let node = csi_node(&name(index), csi == Csi::Migrated);
                requests.push(post("/apis/storage.k8s.io/v1/csinodes", node));
            }
            requests
        });
        load.each(count, requests).await?;
        if self.options.live {
            let mut config = HollowConfig::new(0);
            config.names = (0..count).map(name).collect();
            config.registration = Registration::Others;
            let hollow = Hollow::start_with(self.client.clone(), config, self.background.clone());
            // Until the workload has ended.
            tokio::spawn(hollow.stopped());
        }
        Ok(())
    }

    async fn make_pods(&self, load: &Load, bound: &Bound, pods: &Pods) -> Result<Option<Figures>> {
        let before = bound.count(&pods.namespace);
        let requests = requests(pods, before as u32);
        let used = (pods.role == Role::Measured)
            .then(|| self.server.sample())
            .transpose()?;
        let start = Instant::now();
        let begun = load.each(pods.count, requests).await?;
        if pods.role == Role::Background {
            return Ok(None);
        }
        bound.wait(&pods.namespace, before + pods.count as usize).await;
        let Some(used) = used else { return Ok(None) };
        let used = self.server.between(&used, &self.server.sample()?);
        let times = bound.times(&pods.namespace);
        let seen = (0..pods.count).filter_map(|index| times.get(&pod_name(before as u32 + index)));
        let last = seen.clone().max().copied().context("no pod was bound")?;
        Ok(Some(Figures {
            pods: pods.count as usize,
            time: last - start,
            latencies: seen.zip(begun).map(|(at, begun)| *at - begun).collect(),
            cpu: used.map(|used| used.cpu),
            peak_rss_bytes: used.map(|used| used.peak_bytes),
        }))
    }

    /// Makes, and for a mix also removes, objects until the workload ends.
    fn churn(&self, load: Arc<Load>, what: Churn, every: Duration) {
        let stop = self.background.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let mut turn = 0_u32;
            loop {
                for (method, path, body) in churned(what, turn) {
                    if let Err(error) = load.one(method, &path, &body).await {
                        tracing::warn!(%error, "an object that comes and goes");
                    }
                }
                turn += 1;
                tokio::time::sleep(every).await;
            }
        }));
    }

    fn delete(&self, load: Arc<Load>, bound: &Bound, namespace: &'static str, per_second: u32) {
        let names: Vec<String> = bound.times(namespace).into_keys().collect();
        let stop = self.background.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            for name in names {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0");
                if let Err(error) = load.one(Method::DELETE, &path, &Value::Null).await {
                    tracing::warn!(%error, "a pod was not deleted");
                }
                tokio::time::sleep(Duration::from_secs(1) / per_second).await;
            }
        }));
    }

    /// Removes what all steps made.
    pub async fn clean_up(&self) -> Result<()> {
        self.background.cancel();
        let load = Load::connect(&self.target, 1, 1).await?;
        let delete = async |path: &str| load.one(Method::DELETE, path, &Value::Null).await;
        for namespace in self.namespaces() {
            let pods = format!("/api/v1/namespaces/{namespace}/pods?gracePeriodSeconds=0");
            delete(&pods).await?;
            delete(&format!("/api/v1/namespaces/{namespace}")).await?;
        }
        let kinds = [
            "/api/v1/nodes",
            "/api/v1/persistentvolumes",
            "/apis/storage.k8s.io/v1/csinodes",
            "/apis/scheduling.k8s.io/v1/priorityclasses",
        ];
        for kind in kinds {
            delete(&format!("{kind}?labelSelector={}", MARK.replace('/', "%2F"))).await?;
        }
        // The next workload uses the same names.
        let since = Instant::now();
        for namespace in self.namespaces() {
            let path = format!("/api/v1/namespaces/{namespace}");
            while load.get(&path).await.is_ok() {
                if since.elapsed() > Duration::from_secs(self.options.timeout) {
                    bail!("namespace {namespace} does not go");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

/// Namespace of what comes and goes.
const CHURN: &str = "churn";

pub fn pod_name(index: u32) -> String {
    format!("pod-{index}")
}

fn requests(pods: &Pods, from: u32) -> Requests {
    let pods = pods.clone();
    let path = format!("/api/v1/namespaces/{}/pods", pods.namespace);
    let claims = format!("/api/v1/namespaces/{}/persistentvolumeclaims", pods.namespace);
    let disks = "/api/v1/persistentvolumes";
    Arc::new(move |index| {
        let name = pod_name(from + index);
        let mut pod = pods.template.pod(&pods.namespace, &name);
        let mut requests = Vec::new();
        if let Some(volumes) = pods.volumes {
            let (volume, claim) = volumes.pair(&pods.namespace, &name);
            let volume_name = volume["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            requests.push(post(disks, volume));
            requests.push(post(&claims, claim));
            requests.push(bound(disks, &volume_name));
            requests.push(bound(&claims, &name));
            Volumes::attach(&mut pod, &name);
        }
        requests.push(post(&path, pod));
        requests
    })
}

fn churned(what: Churn, turn: u32) -> Vec<(Method, String, Value)> {
    let pods = format!("/api/v1/namespaces/{CHURN}/pods");
    match what {
        Churn::Pods(template) => vec![post(&pods, template.pod(CHURN, &pod_name(turn)))],
        Churn::Mixed => {
            let services = format!("/api/v1/namespaces/{CHURN}/services");
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "churn", "labels": {MARK: "true"}},
                "spec": {"selector": {"app": "foo"}, "ports": [{"protocol": "TCP", "port": 8080, "targetPort": 8080}]},
            });
            let gone = |path: String| (Method::DELETE, path, Value::Null);
            vec![
                gone("/api/v1/nodes/node-churn".to_owned()),
                post("/api/v1/nodes", NodeTemplate::Full.node("node-churn", None)),
                gone(format!("{pods}/churn?gracePeriodSeconds=0")),
                post(&pods, PodTemplate::HighPriorityLargeCpu.pod(CHURN, "churn")),
                gone(format!("{services}/churn")),
                post(&services, service),
            ]
        }
    }
}

fn name_of(step: &Step) -> String {
    match step {
        Step::Nodes { count, .. } => format!("{count} nodes"),
        Step::Namespaces { count, .. } => format!("{count} namespaces"),
        Step::Pods(pods) => format!("{} pods in {}", pods.count, pods.namespace),
        Step::Churn { .. } => "objects that come and go".to_owned(),
        Step::Delete { namespace, .. } => format!("deletion of the pods in {namespace}"),
    }
}

fn progress(step: &Step, bound: &Bound) -> String {
    match step {
        Step::Pods(pods) => format!("; {} of {} pods were bound", bound.count(&pods.namespace), pods.count),
        _ => String::new(),
    }
}
