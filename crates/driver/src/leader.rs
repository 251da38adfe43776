//! Leader election by a Lease (client-go `tools/leaderelection`).

use std::time::Duration;

use api::{Gvr, Value};
use client::{Client, ClientError, Handle, WriteParams};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How leaders are elected: upstream's `--leader-elect-…`, with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Namespace of the leases.
    pub namespace: String,
    /// After so long without renewal others may take over.
    pub lease: Duration,
    /// A leader that cannot renew for so long gives up.
    pub renew_within: Duration,
    /// Between attempts.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            namespace: "kube-system".to_owned(),
            lease: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A candidate.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    leases: Handle<Value>,
    name: String,
    identity: String,
    terms: Terms,
}

/// Leadership that was won.
#[derive(Debug)]
pub struct Leadership {
    election: LeaderElection,
    lost: CancellationToken,
    renewing: tokio::task::JoinHandle<()>,
}

/// A lease as last seen, and when, by our clock: holders' clocks may be wrong.
struct Observed {
    spec: Value,
    at: Instant,
}

impl LeaderElection {
    /// A candidate for the lease `name` in the terms' namespace, kube-system.
    pub fn new(client: Client, name: &str, identity: &str) -> Self {
        let leases = client.dynamic(&Gvr::new("coordination.k8s.io", "v1", "leases"));
        Self {
            leases,
            name: name.to_owned(),
            identity: identity.to_owned(),
            terms: Terms::default(),
        }
    }

    /// The same candidate under other terms.
    #[must_use]
    pub fn with_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Waits to become the leader; `None` if `stop` came first.
    pub async fn lead(self, stop: &CancellationToken) -> Option<Leadership> {
        let mut observed = None;
        loop {
            match self.try_once(&mut observed).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, error = error.report(), "cannot try to lead"),
            }
            let pause = self.terms.retry.mul_f64(1.0 + 0.2 * rand::random::<f64>());
            stop.run_until_cancelled(tokio::time::sleep(pause)).await?;
        }
        tracing::info!(lease = self.name, identity = self.identity, "leading");
        let lost = stop.child_token();
        let renewing = tokio::spawn(self.clone().renew(lost.clone(), observed));
        Some(Leadership {
            election: self,
            lost,
            renewing,
        })
    }

    async fn renew(self, lost: CancellationToken, mut observed: Option<Observed>) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < self.terms.renew_within {
            if lost
                .run_until_cancelled(tokio::time::sleep(self.terms.retry))
                .await
                .is_none()
            {
                return;
            }
            match tokio::time::timeout(self.terms.renew_within, self.try_once(&mut observed)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => break,
                Ok(Err(error)) => tracing::warn!(lease = self.name, error = error.report(), "cannot renew"),
                Err(_) => {}
            }
        }
        tracing::error!(lease = self.name, "leadership lost");
        lost.cancel();
    }

    /// Takes or renews the lease if it is free or ours; whether we hold it now.
    async fn try_once(&self, observed: &mut Option<Observed>) -> Result<bool, ClientError> {
        let params = WriteParams::default();
        let mut lease = match self.leases.get(&self.terms.namespace, &self.name).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": self.name, "namespace": self.terms.namespace},
                    "spec": self.held(Value::Null, 0),
                });
                return match self.leases.create(&self.terms.namespace, &lease, &params).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_already_exists() => Ok(false),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let spec = lease["spec"].clone();
        if observed.as_ref().is_none_or(|known| known.spec != spec) {
            *observed = Some(Observed {
                spec: spec.clone(),
                at: Instant::now(),
            });
        }
        let holder = spec["holderIdentity"].as_str().unwrap_or("");
        let fresh = observed
            .as_ref()
            .is_some_and(|known| known.at.elapsed() < self.terms.lease);
        if !holder.is_empty() && holder != self.identity && fresh {
            return Ok(false);
        }
        let transitions = spec["leaseTransitions"].as_i64().unwrap_or(0);
        lease["spec"] = if holder == self.identity {
            self.held(spec["acquireTime"].clone(), transitions)
        } else {
            self.held(Value::Null, transitions + 1)
        };
        // The update carries the resourceVersion that was read: of two candidates one fails.
        match self
            .leases
            .update(&self.terms.namespace, &self.name, &lease, &params)
            .await
        {
            Ok(updated) => {
                *observed = Some(Observed {
                    spec: updated["spec"].clone(),
                    at: Instant::now(),
                });
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn held(&self, acquired: Value, transitions: i64) -> Value {
        let now = json!(api::time::format_micro(Timestamp::now()));
        let acquired = if acquired.is_null() { now.clone() } else { acquired };
        json!({
            "holderIdentity": self.identity, "leaseDurationSeconds": self.terms.lease.as_secs(),
            "acquireTime": acquired, "renewTime": now, "leaseTransitions": transitions,
        })
    }
}

impl Leadership {
    /// Is cancelled when leadership is lost (or at the shutdown).
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Gives the lease up, so that another need not wait for it to expire.
    pub async fn release(self) {
        self.lost.cancel();
        // A renewal under way must not come after the release.
        let _ = self.renewing.await;
        let LeaderElection {
            leases,
            name,
            identity,
            terms,
        } = &self.election;
        let Ok(mut lease) = leases.get(&terms.namespace, name).await else {
            return;
        };
        if lease["spec"]["holderIdentity"] != identity.as_str() {
            return;
        }
        lease["spec"]["holderIdentity"] = json!("");
        lease["spec"]["leaseDurationSeconds"] = json!(1);
        if let Err(error) = leases
            .update(&terms.namespace, name, &lease, &WriteParams::default())
            .await
        {
            tracing::debug!(lease = name, error = error.report(), "the lease was not released");
        }
    }
}
