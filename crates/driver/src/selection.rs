//! Which controllers run: `--controllers` of upstream's controller manager (`GenericControllerManagerConfiguration`).

/// The collector of garbage, which is not among the other controllers: its view is another.
pub const GARBAGE_COLLECTOR: &str = "garbage-collector-controller";

/// Controllers that run only when they are named: upstream's `ControllersDisabledByDefault`.
pub const OFF_BY_DEFAULT: [&str; 2] = ["bootstrap-signer-controller", "token-cleaner-controller"];

/// Upstream's names of controllers whose events come from another name.
const UPSTREAM: [(&str, &str); 7] = [
    ("horizontal-pod-autoscaler", "horizontal-pod-autoscaler-controller"),
    ("node-controller", "node-lifecycle-controller"),
    ("pod-garbage-collector", "pod-garbage-collector-controller"),
    ("service-account-controller", "serviceaccount-controller"),
    ("endpoint-controller", "endpoints-controller"),
    ("endpoint-slice-controller", "endpointslice-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
];

/// Names of before v1.28, which upstream still takes.
const FORMERLY: [(&str, &str); 35] = [
    ("serviceaccount-token", "serviceaccount-token-controller"),
    ("endpoint", "endpoints-controller"),
    ("endpointslice", "endpointslice-controller"),
    ("endpointslicemirroring", "endpointslice-mirroring-controller"),
    ("replicationcontroller", "replicationcontroller-controller"),
    ("podgc", "pod-garbage-collector-controller"),
    ("resourcequota", "resourcequota-controller"),
    ("namespace", "namespace-controller"),
    ("serviceaccount", "serviceaccount-controller"),
    ("garbagecollector", GARBAGE_COLLECTOR),
    ("daemonset", "daemonset-controller"),
    ("job", "job-controller"),
    ("deployment", "deployment-controller"),
    ("replicaset", "replicaset-controller"),
    ("horizontalpodautoscaling", "horizontal-pod-autoscaler-controller"),
    ("disruption", "disruption-controller"),
    ("statefulset", "statefulset-controller"),
    ("cronjob", "cronjob-controller"),
    ("csrsigning", "certificatesigningrequest-signing-controller"),
    ("csrapproving", "certificatesigningrequest-approving-controller"),
    ("csrcleaner", "certificatesigningrequest-cleaner-controller"),
    ("ttl", "ttl-controller"),
    ("bootstrapsigner", "bootstrap-signer-controller"),
    ("tokencleaner", "token-cleaner-controller"),
    ("nodeipam", "node-ipam-controller"),
    ("nodelifecycle", "node-lifecycle-controller"),
    ("attachdetach", "persistentvolume-attach-detach-controller"),
    ("persistentvolume-binder", "persistentvolume-binder-controller"),
    ("persistentvolume-expander", "persistentvolume-expander-controller"),
    ("pvc-protection", "persistentvolumeclaim-protection-controller"),
    ("pv-protection", "persistentvolume-protection-controller"),
    ("ttl-after-finished", "ttl-after-finished-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
    ("ephemeral-volume", "ephemeral-volume-controller"),
    ("clusterrole-aggregation", "clusterrole-aggregation-controller"),
];

/// Upstream's controllers that may be named although nobody here does their work under that name.
const ELSEWHERE: [&str; 5] = [
    "horizontal-pod-autoscaler-controller",
    "serviceaccount-token-controller",
    "node-route-controller",
    "cloud-node-lifecycle-controller",
    "storageversion-garbage-collector-controller",
];

/// A name that is no controller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not in the list of known controllers: {known}")]
pub struct UnknownController {
    /// What was given.
    pub name: String,
    /// All names, separated by commas.
    pub known: String,
}

/// A choice of controllers, in upstream's syntax: `*` for all that are on by default, `foo` for one, `-foo` for all but
/// one; what comes first wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<String>);

impl Default for Selection {
    fn default() -> Selection {
        Selection(vec!["*".to_owned()])
    }
}

impl Selection {
    /// Reads a choice among the controllers that events come from under the names `known`.
    ///
    /// # Errors
    /// A name is no controller's.
    pub fn parse(entries: &[String], known: &[&str]) -> Result<Selection, UnknownController> {
        let mut names: Vec<&str> = known.iter().map(|name| upstream(name)).collect();
        names.extend(ELSEWHERE);
        names.extend(FORMERLY.iter().map(|(_, name)| *name));
        names.push(GARBAGE_COLLECTOR);
        names.sort_unstable();
        names.dedup();
        let mut chosen = Vec::new();
        for entry in entries
            .iter()
            .map(|entry| entry.trim())
            .filter(|entry| !entry.is_empty())
        {
            let (sign, name) = entry.strip_prefix('-').map_or(("", entry), |name| ("-", name));
            let name = upstream(current(name));
            if entry != "*" && !names.contains(&name) {
                return Err(UnknownController {
                    name: name.to_owned(),
                    known: names.join(", "),
                });
            }
            chosen.push(format!("{sign}{name}"));
        }
        Ok(Selection(chosen))
    }

    /// Whether the controller runs.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        let name = upstream(name);
        for entry in &self.0 {
            if entry == name {
                return true;
            }
            if entry.strip_prefix('-') == Some(name) {
                return false;
            }
        }
        self.0.iter().any(|entry| entry == "*") && !OFF_BY_DEFAULT.contains(&name)
    }
}

fn upstream(name: &str) -> &str {
    let found = UPSTREAM.iter().find(|(own, _)| *own == name);
    found.map_or(name, |(_, upstream)| upstream)
}

fn current(name: &str) -> &str {
    let found = FORMERLY.iter().find(|(former, _)| *former == name);
    found.map_or(name, |(_, current)| current)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = [
        "deployment-controller",
        "node-controller",
        "bootstrap-signer-controller",
        "pod-garbage-collector",
    ];

    fn chosen(text: &str) -> Result<String, UnknownController> {
        let entries: Vec<String> = text.split(',').map(str::to_owned).collect();
        let selection = Selection::parse(&entries, &KNOWN)?;
        let all = KNOWN.into_iter().chain([GARBAGE_COLLECTOR]);
        Ok(all.map(|name| if selection.runs(name) { 'x' } else { '.' }).collect())
    }

    #[test]
    fn the_first_entry_about_a_controller_wins() {
        let table = [
            ("*", "xx.xx"),
            ("", "....."),
            ("*,-foo-not", "error"),
            ("*,-deployment", ".x.xx"),
            ("*,-deployment-controller", ".x.xx"),
            ("-deployment,deployment,*", ".x.xx"),
            ("*,bootstrapsigner", "xxxxx"),
            ("nodelifecycle, podgc", ".x.x."),
            ("node-lifecycle-controller,-garbagecollector,*", "xx.x."),
            ("*,-node-route-controller", "xx.xx"),
        ];
        for (text, expected) in table {
            assert_eq!(chosen(text).unwrap_or_else(|_| "error".into()), expected, "{text}");
        }
        let error = chosen("*,-nonsense").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"nonsense\" is not in the list of known controllers")
        );
    }
}
