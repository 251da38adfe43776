//! Options of the API server, by upstream's names.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::audit::{self, LogMode, LogOptions, Truncation, WebhookOptions};
use apiserver::{Limits, TracingOptions};
use client::{Auth, Kubeconfig, Overrides};
use http::HeaderValue;

/// What kube-apiserver's flags of these names mean.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "API server")]
pub struct ApiOptions {
    /// The audit policy: how much of which request is recorded
    #[arg(long, env = "SKIFF_AUDIT_POLICY_FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where audit events are logged; `-` is standard output
    #[arg(long, env = "SKIFF_AUDIT_LOG_PATH", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// Days that old audit logs are kept; 0 is for ever
    #[arg(long, env = "SKIFF_AUDIT_LOG_MAXAGE", default_value_t = 0)]
    audit_log_maxage: u32,
    /// Old audit logs that are kept; 0 is all
    #[arg(long, env = "SKIFF_AUDIT_LOG_MAXBACKUP", default_value_t = 0)]
    audit_log_maxbackup: usize,
    /// Megabytes after which the audit log is turned over; 0 is 100
    #[arg(long, env = "SKIFF_AUDIT_LOG_MAXSIZE", default_value_t = 0)]
    audit_log_maxsize: u64,
    /// Whether requests wait for the audit log, and fail if it cannot be written
    #[arg(long, env = "SKIFF_AUDIT_LOG_MODE", default_value = "blocking", value_parser = log_mode)]
    audit_log_mode: LogMode,
    /// Cut audit events that are too long for the log
    #[arg(long, env = "SKIFF_AUDIT_LOG_TRUNCATE_ENABLED")]
    audit_log_truncate_enabled: bool,
    /// The longest audit event of the log in bytes, if long ones are cut
    #[arg(long, env = "SKIFF_AUDIT_LOG_TRUNCATE_MAX_EVENT_SIZE", default_value_t = 100 << 10)]
    audit_log_truncate_max_event_size: usize,
    /// A kubeconfig of the server that audit events are posted to
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_CONFIG_FILE", requires = "audit_policy_file")]
    audit_webhook_config_file: Option<PathBuf>,
    /// Audit events posted at a time at most
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_BATCH_MAX_SIZE", default_value_t = 400)]
    audit_webhook_batch_max_size: usize,
    /// How long the first audit event of a portion waits for others, in Go's form
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_BATCH_MAX_WAIT", default_value = "30s", value_parser = duration)]
    audit_webhook_batch_max_wait: Duration,
    /// The pause before a failed post of audit events is tried again, in Go's form
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_INITIAL_BACKOFF", default_value = "10s", value_parser = duration)]
    audit_webhook_initial_backoff: Duration,
    /// Cut audit events that are too long to be posted
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_TRUNCATE_ENABLED")]
    audit_webhook_truncate_enabled: bool,
    /// The longest audit event that is posted in bytes, if long ones are cut
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_TRUNCATE_MAX_EVENT_SIZE", default_value_t = 100 << 10)]
    audit_webhook_truncate_max_event_size: usize,
    /// The most bytes of audit events that are posted together, if long ones are cut
    #[arg(long, env = "SKIFF_AUDIT_WEBHOOK_TRUNCATE_MAX_BATCH_SIZE", default_value_t = 10 << 20)]
    audit_webhook_truncate_max_batch_size: usize,
    /// A TracingConfiguration: where spans of requests are sent by OTLP, and of how many
    #[arg(long, env = "SKIFF_TRACING_CONFIG_FILE")]
    tracing_config_file: Option<PathBuf>,
    /// Requests that only read and are served at a time; with the next option, what priority levels share
    #[arg(long, env = "SKIFF_MAX_REQUESTS_INFLIGHT", default_value_t = 400)]
    max_requests_inflight: u32,
    /// Requests that change something and are served at a time
    #[arg(long, env = "SKIFF_MAX_MUTATING_REQUESTS_INFLIGHT", default_value_t = 200)]
    max_mutating_requests_inflight: u32,
    /// The API server alone: no controllers, no scheduler, no node. For measurements
    #[arg(long, hide = true)]
    pub api_only: bool,
    /// How long the server goes on after it has turned unready, in Go's form
    #[arg(long, env = "SKIFF_SHUTDOWN_DELAY_DURATION", default_value = "0s", value_parser = duration)]
    shutdown_delay_duration: Duration,
}

fn log_mode(text: &str) -> Result<LogMode, String> {
    match text {
        "batch" => Ok(LogMode::Batch),
        "blocking" => Ok(LogMode::Blocking),
        "blocking-strict" => Ok(LogMode::BlockingStrict),
        _ => Err(format!("{text:?} is none of batch, blocking and blocking-strict")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = api::time::parse_go_duration(text).filter(|duration| !duration.is_negative());
    parsed
        .map(jiff::SignedDuration::unsigned_abs)
        .ok_or_else(|| format!("{text:?} is no duration such as 30s or 1m"))
}

impl ApiOptions {
    /// How much is done at a time.
    pub fn limits(&self) -> Limits {
        Limits {
            in_flight: self
                .max_requests_inflight
                .saturating_add(self.max_mutating_requests_inflight),
            shutdown_delay: self.shutdown_delay_duration,
        }
    }

    /// Where spans of requests go, if anywhere.
    pub fn tracing(&self) -> Result<Option<TracingOptions>> {
        let Some(path) = &self.tracing_config_file else {
            return Ok(None);
        };
        let what = || format!("{} (--tracing-config-file)", path.display());
        let text = std::fs::read_to_string(path).with_context(what)?;
        TracingOptions::parse(&text).map(Some).with_context(what)
    }

    /// What is recorded, if anything.
    pub fn audit(&self) -> Result<Option<audit::Options>> {
        let Some(policy) = &self.audit_policy_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(policy)
            .with_context(|| format!("read the audit policy {} (--audit-policy-file)", policy.display()))?;
        let log = self.audit_log_path.as_ref().map(|path| LogOptions {
            path: path.clone(),
            max_age_days: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            max_size_mib: self.audit_log_maxsize,
            mode: self.audit_log_mode,
            truncation: self.audit_log_truncate_enabled.then(|| Truncation {
                max_event_bytes: self.audit_log_truncate_max_event_size,
                ..Truncation::default()
            }),
        });
        Ok(Some(audit::Options {
            policy: text,
            log,
            webhook: self.webhook()?,
        }))
    }

    fn webhook(&self) -> Result<Option<WebhookOptions>> {
        let Some(path) = &self.audit_webhook_config_file else {
            return Ok(None);
        };
        let what = || format!("{} (--audit-webhook-config-file)", path.display());
        let config = Kubeconfig::read(path)?
            .config(&Overrides::default())
            .with_context(what)?;
        let url = config.server.parse().with_context(what)?;
        let tls = client::tls_config(&config).with_context(what)?;
        let mut webhook = WebhookOptions::new(url, tls.into());
        webhook.authorization = match &config.auth {
            Auth::None | Auth::Certificate { .. } => None,
            Auth::Token(token) => Some(HeaderValue::from_str(&format!("Bearer {token}"))?),
            _ => bail!("{}: only client certificates and tokens are supported", what()),
        };
        webhook.batch_size = self.audit_webhook_batch_max_size.max(1);
        webhook.batch_wait = self.audit_webhook_batch_max_wait;
        webhook.truncation = self.audit_webhook_truncate_enabled.then_some(Truncation {
            max_event_bytes: self.audit_webhook_truncate_max_event_size,
            max_batch_bytes: self.audit_webhook_truncate_max_batch_size,
        });
        webhook.first_pause = self.audit_webhook_initial_backoff;
        Ok(Some(webhook))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("soon").is_err());
        assert!(duration("-1s").is_err());
    }
}
