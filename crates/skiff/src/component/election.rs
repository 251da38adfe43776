//! Flags of leader election: upstream's names and defaults.

use std::time::Duration;

use driver::{Candidacy, Terms};

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Leader election")]
pub(super) struct ElectionOptions {
    /// Work only while leading, so that any number of these can run
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true")]
    leader_elect: bool,
    /// How long others wait for a leader that does not renew its lease, in Go's form
    #[arg(long, default_value = "15s", value_parser = duration)]
    leader_elect_lease_duration: Duration,
    /// How long a leader tries to renew before it gives up, in Go's form
    #[arg(long, default_value = "10s", value_parser = duration)]
    leader_elect_renew_deadline: Duration,
    /// Between two attempts, in Go's form
    #[arg(long, default_value = "2s", value_parser = duration)]
    leader_elect_retry_period: Duration,
    /// Name of the lease; else the component's
    #[arg(long)]
    leader_elect_resource_name: Option<String>,
    /// Namespace of the lease
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
}

impl ElectionOptions {
    /// The part that this process takes, if any.
    pub(super) fn candidacy(&self) -> Option<Candidacy> {
        let host = crate::host::name();
        self.leader_elect.then(|| Candidacy {
            identity: format!("{host}_{:016x}{:016x}", rand_word(), rand_word()),
            lease: self.leader_elect_resource_name.clone(),
            terms: Terms {
                namespace: self.leader_elect_resource_namespace.clone(),
                lease: self.leader_elect_lease_duration,
                renew_within: self.leader_elect_renew_deadline,
                retry: self.leader_elect_retry_period,
            },
        })
    }
}

/// A word that no other process has: the hasher's keys are random.
fn rand_word() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = api::time::parse_go_duration(text).filter(|duration| duration.is_positive());
    parsed
        .map(jiff::SignedDuration::unsigned_abs)
        .ok_or_else(|| format!("{text:?} is no duration such as 15s or 1m"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        election: ElectionOptions,
    }

    fn parsed(flags: &[&str]) -> ElectionOptions {
        let all = ["test"].iter().chain(flags);
        Flags::try_parse_from(all).map(|flags| flags.election).unwrap()
    }

    #[test]
    fn the_terms_are_upstreams_unless_told() {
        let candidacy = parsed(&[]).candidacy().unwrap();
        assert_eq!((candidacy.lease, candidacy.terms), (None, Terms::default()));
        assert!(candidacy.identity.contains('_'));
        assert!(parsed(&["--leader-elect=false"]).candidacy().is_none());
        let flags = [
            "--leader-elect",
            "--leader-elect-lease-duration=1m",
            "--leader-elect-resource-name=mine",
        ];
        let candidacy = parsed(&flags).candidacy().unwrap();
        assert_eq!(candidacy.lease.as_deref(), Some("mine"));
        assert_eq!(candidacy.terms.lease, Duration::from_secs(60));
        assert_ne!(candidacy.identity, parsed(&flags).candidacy().unwrap().identity);
    }
}
