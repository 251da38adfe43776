//! `/healthz`, `/livez`, `/readyz` and their single checks (`apiserver/pkg/server/healthz`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::request::Query;
use crate::respond::{self, Answer};
use crate::route;

type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync + 'static>;

/// Which endpoints a check belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// All three.
    All,
    /// `/readyz` only.
    Ready,
}

struct Check {
    name: String,
    endpoints: Endpoints,
    probe: Probe,
}

/// A check that takes longer has failed.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// The checks, in the order they were added.
#[derive(Default)]
pub(crate) struct Health(RwLock<Vec<Check>>);

impl Health {
    /// Adds a check; the message of a failure is for the log, clients see only that it failed.
    pub fn add<F>(&self, name: &str, endpoints: Endpoints, probe: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let probe: Probe = Arc::new(move || Box::pin(probe()));
        self.0.write().push(Check {
            name: name.to_owned(),
            endpoints,
            probe,
        });
    }

    /// Runs one check; `None` if there is none of that name.
    pub async fn check(&self, name: &str) -> Option<Result<(), String>> {
        let probe = {
            let all = self.0.read();
            all.iter()
                .find(|check| check.name == name)
                .map(|check| check.probe.clone())
        };
        Some(run(name, &probe?).await)
    }

    /// Answers a health path; `None` for other paths.
    pub async fn answer(&self, path: &str, query: &Query) -> Option<Answer> {
        let (endpoint, single) = match path.trim_matches('/').split_once('/') {
            Some((endpoint, single)) => (endpoint, Some(single)),
            None => (path.trim_matches('/'), None),
        };
        if !matches!(endpoint, "healthz" | "livez" | "readyz") {
            return None;
        }
        let checks: Vec<(String, Probe)> = {
            let all = self.0.read();
            all.iter()
                .filter(|c| c.endpoints == Endpoints::All || endpoint == "readyz")
                .map(|c| (c.name.clone(), c.probe.clone()))
                .collect()
        };
        let Some(single) = single else {
            return Some(all(endpoint, checks, query).await);
        };
        let Some((name, probe)) = checks.into_iter().find(|(name, _)| name == single) else {
            return Some(route::not_found());
        };
        Some(match run(&name, &probe).await {
            Ok(()) => respond::text(200, "ok"),
            Err(reason) => respond::text(500, format!("internal server error: {reason}\n")),
        })
    }
}

async fn run(name: &str, probe: &Probe) -> Result<(), String> {
    let result = tokio::time::timeout(PROBE_LIMIT, probe()).await;
    let result = result.unwrap_or_else(|_| Err("timed out".to_owned()));
    if let Err(reason) = &result {
        tracing::info!(check = name, reason, "a health check failed");
    }
    result
}

async fn all(endpoint: &str, checks: Vec<(String, Probe)>, query: &Query) -> Answer {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|name| !checks.iter().any(|(known, _)| known == *name))
        .map(|name| api::field::go_quote(name))
        .collect();
    let mut report = String::new();
    let mut failed = false;
    for (name, probe) in &checks {
        if excluded.contains(&name.as_str()) {
            report.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if run(name, probe).await.is_ok() {
            report.push_str(&format!("[+]{name} ok\n"));
        } else {
            failed = true;
            report.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    if !unknown.is_empty() {
        report.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
        ));
    }
    if failed {
        return respond::text(500, format!("{report}{endpoint} check failed\n"));
    }
    if query.get("verbose").is_none() {
        return respond::text(200, "ok");
    }
    respond::text(200, format!("{report}{endpoint} check passed\n"))
}
