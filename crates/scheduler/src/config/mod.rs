//! The KubeSchedulerConfiguration file (kubescheduler.config.k8s.io/v1): read strictly, defaulted, checked with all
//! findings at once, and made into profiles (upstream pkg/scheduler/apis/config).

pub mod args;
pub mod extender;
mod plugin_sets;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::framework::Profile;
use crate::queue::Patience;
use args::PluginArgs;
use extender::Extender;
use plugin_sets::Plugins;

/// Everything that the scheduler itself takes from the file.
#[derive(Debug)]
pub struct Configuration {
    /// One for each scheduler name.
    pub profiles: Vec<Profile>,
    /// Back-offs.
    pub patience: Patience,
    /// Webhooks.
    pub extenders: Vec<Extender>,
    /// `leaderElection`, as it stands in the file.
    pub leader_election: Value,
    /// `clientConnection`, as it stands in the file.
    pub client_connection: Value,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler's configuration is not valid: {}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    parallelism: Option<i64>,
    #[serde(default)]
    leader_election: Value,
    #[serde(default)]
    client_connection: Value,
    healthz_bind_address: Option<String>,
    metrics_bind_address: Option<String>,
    #[serde(rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(rename = "enableContentionProfiling")]
    _enable_contention_profiling: Option<bool>,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Option<bool>,
    percentage_of_nodes_to_score: Option<i64>,
    pod_initial_backoff_seconds: Option<i64>,
    pod_max_backoff_seconds: Option<i64>,
    #[serde(default)]
    profiles: Vec<FileProfile>,
    #[serde(default)]
    extenders: Vec<Extender>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileProfile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    #[serde(default)]
    plugins: Plugins,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";

impl Configuration {
    /// Reads a file that was parsed from YAML or JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(file: &Value) -> Result<Configuration, Invalid> {
        let mut file: File =
            File::deserialize(file).map_err(|error| Invalid(vec![format!("strict decoding error: {error}")]))?;
        let mut wrong = Vec::new();
        if file.api_version != API_VERSION || file.kind != "KubeSchedulerConfiguration" {
            let (version, kind) = (&file.api_version, &file.kind);
            wrong.push(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        if file.profiles.is_empty() {
            file.profiles.push(FileProfile::default());
        }
        if let [only] = file.profiles.as_mut_slice() {
            only.scheduler_name
                .get_or_insert_with(|| "default-scheduler".to_owned());
        }
        file.check(&mut wrong);
        let profiles = file.profiles(&mut wrong);
        if !wrong.is_empty() {
            return Err(Invalid(wrong));
        }
        Ok(Configuration {
            profiles,
            patience: Patience {
                initial_backoff: SignedDuration::from_secs(file.initial_backoff()),
                max_backoff: SignedDuration::from_secs(file.max_backoff()),
                ..Patience::default()
            },
            extenders: file.extenders,
            leader_election: file.leader_election,
            client_connection: file.client_connection,
        })
    }
}

impl File {
    fn initial_backoff(&self) -> i64 {
        self.pod_initial_backoff_seconds.unwrap_or(1)
    }

    fn max_backoff(&self) -> i64 {
        self.pod_max_backoff_seconds.unwrap_or(10)
    }

    /// Upstream `ValidateKubeSchedulerConfiguration`.
    fn check(&self, wrong: &mut Vec<String>) {
        if let Some(parallelism) = self.parallelism.filter(|parallelism| *parallelism <= 0) {
            let why = "should be an integer value greater than zero";
            wrong.push(format!("parallelism: Invalid value: {parallelism}: {why}"));
        }
        check_percentage("percentageOfNodesToScore", self.percentage_of_nodes_to_score, wrong);
        for (at, profile) in self.profiles.iter().enumerate() {
            let name = profile.scheduler_name.as_deref().unwrap_or_default();
            if name.is_empty() {
                wrong.push(format!("profiles[{at}].schedulerName: Required value"));
            } else if let Some(first) = self.profiles[..at]
                .iter()
                .position(|other| other.scheduler_name == profile.scheduler_name)
            {
                let duplicate = format!("profiles[{first}].schedulerName");
                wrong.push(format!("profiles[{at}].schedulerName: Duplicate value: {duplicate:?}"));
            }
            let path = format!("profiles[{at}].percentageOfNodesToScore");
            check_percentage(&path, profile.percentage_of_nodes_to_score, wrong);
        }
        let addresses = [
            ("healthzBindAddress", &self.healthz_bind_address),
            ("metricsBindAddress", &self.metrics_bind_address),
        ];
        for (field, address) in addresses {
            if let Some(address) = address
                .as_deref()
                .filter(|address| !address.is_empty() && !address.ends_with(":0"))
            {
                let why = "must be empty or with an explicit 0 port";
                wrong.push(format!("{field}: Invalid value: {address:?}: {why}"));
            }
        }
        let (initial, max) = (self.initial_backoff(), self.max_backoff());
        if initial <= 0 {
            wrong.push(format!(
                "podInitialBackoffSeconds: Invalid value: {initial}: must be greater than 0"
            ));
        }
        if max < initial {
            let why = "must be greater than or equal to PodInitialBackoffSeconds";
            wrong.push(format!("podMaxBackoffSeconds: Invalid value: {max}: {why}"));
        }
        extender::check(&self.extenders, wrong);
    }

    fn profiles(&self, wrong: &mut Vec<String>) -> Vec<Profile> {
        let made = self.profiles.iter().enumerate().map(|(at, file)| {
            let path = format!("profiles[{at}]");
            let mut args = plugin_args(&path, &file.plugin_config, wrong);
            let managed = self.extenders.iter().flat_map(|extender| &extender.managed_resources);
            let ignored = managed.filter(|resource| resource.ignored_by_scheduler);
            args.ignored_resources
                .extend(ignored.map(|resource| resource.name.clone()));
            let name = file.scheduler_name.as_deref().unwrap_or_default();
            let mut profile = file.plugins.profile(&path, name, &args, wrong);
            let percentage = file.percentage_of_nodes_to_score.or(self.percentage_of_nodes_to_score);
            profile.percentage_of_nodes_to_score = percentage.and_then(|percentage| usize::try_from(percentage).ok());
            profile
        });
        made.collect()
    }
}

fn check_percentage(path: &str, percentage: Option<i64>, wrong: &mut Vec<String>) {
    if let Some(percentage) = percentage.filter(|percentage| !(0..=100).contains(percentage)) {
        wrong.push(format!(
            "{path}: Invalid value: {percentage}: not in valid range [0-100]"
        ));
    }
}

fn plugin_args(path: &str, configs: &[PluginConfig], wrong: &mut Vec<String>) -> PluginArgs {
    let mut args = PluginArgs::default();
    for (at, config) in configs.iter().enumerate() {
        let path = format!("{path}.pluginConfig[{at}]");
        if configs[..at].iter().any(|other| other.name == config.name) {
            wrong.push(format!("{path}: Duplicate value: {:?}", config.name));
        }
        args.read(&format!("{path}.args"), &config.name, &config.args, wrong);
    }
    args
}

#[cfg(test)]
mod tests;
