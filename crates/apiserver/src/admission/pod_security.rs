//! Namespaces say by labels how secure their pods must be: refused, audited, warned of
//! (`plugin/pkg/admission/security/podsecurity`, `pod-security-admission/admission`).
//!
//! The checks are pure functions of a pod; here is which apply to what.

mod baseline;
mod checks;
mod policy;
mod restricted;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin, Step};
use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::resource::cache_status;
use crate::state::State;
use policy::{Level, MODES, PREFIX, Policy, Rules};
use subject::{Subject, Violation, set};

/// The most pods of a namespace that are looked at when its labels change, and for how long.
const MOST_PODS: usize = 3000;
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Subresources of pods that do not change what the pod is.
const HARMLESS: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// What has a pod template, and where.
const TEMPLATES: [(&str, &str, &str); 8] = [
    ("", "replicationcontrollers", "spec.template"),
    ("", "podtemplates", "template"),
    ("apps", "replicasets", "spec.template"),
    ("apps", "deployments", "spec.template"),
    ("apps", "statefulsets", "spec.template"),
    ("apps", "daemonsets", "spec.template"),
    ("batch", "jobs", "spec.template"),
    ("batch", "cronjobs", "spec.jobTemplate.spec.template"),
];

/// Who and what is not looked at.
#[derive(Debug, Default)]
struct Exemptions {
    users: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct PodSecurity {
    defaults: Policy,
    exemptions: Exemptions,
}

impl PodSecurity {
    /// By a `PodSecurityConfiguration`.
    pub fn new(settings: Option<&Value>) -> Result<PodSecurity, String> {
        let Some(settings) = settings else {
            return Ok(PodSecurity::default());
        };
        if settings["kind"] != "PodSecurityConfiguration" {
            return Err("kind is not PodSecurityConfiguration".to_owned());
        }
        let texts = |field: &str| -> Vec<String> {
            let listed = value_at(settings, &format!("exemptions.{field}")).and_then(Value::as_array);
            let texts = listed.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Ok(PodSecurity {
            defaults: Policy::from_configuration(&settings["defaults"])?,
            exemptions: Exemptions {
                users: texts("usernames"),
                namespaces: texts("namespaces"),
                runtime_classes: texts("runtimeClasses"),
            },
        })
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Validate
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let kind = &attributes.resource.kind;
        let (group, plural) = (kind.gvk.group.as_str(), kind.plural.as_str());
        match (group, plural) {
            ("", "namespaces") if attributes.subresource.is_empty() => self.namespace(state, attributes, object).await,
            ("", "pods") if !HARMLESS.contains(&attributes.subresource) => self.pod(state, attributes, object).await,
            _ if attributes.subresource.is_empty() => {
                let template = TEMPLATES.iter().find(|line| (line.0, line.1) == (group, plural));
                if let Some(template) = template.and_then(|line| set(object, line.2)) {
                    self.template(state, attributes, template).await?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl PodSecurity {
    /// Whether somebody or something exempts the request; notes it for the audit.
    fn exempts(&self, attributes: &Attributes<'_>) -> bool {
        let lists = |list: &[String], name: &str| !name.is_empty() && list.iter().any(|known| known == name);
        let why = if lists(&self.exemptions.namespaces, attributes.namespace) {
            "namespace"
        } else if lists(&self.exemptions.users, &attributes.call.user.name) {
            "user"
        } else {
            return false;
        };
        attributes.annotate(&format!("{PREFIX}exempt"), why);
        true
    }

    async fn policy(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
    ) -> Result<(Policy, Vec<api::field::Error>), Status> {
        let name = attributes.namespace;
        let labels = match state.resource("", "v1", "namespaces") {
            Some(namespaces) => match namespaces.latest("", name).await? {
                Some(entry) => meta::labels(&namespaces.value(&entry)),
                None => {
                    let quoted = api::field::go_quote(name);
                    return Err(Status::internal(format!("failed to lookup namespace {quoted}")));
                }
            },
            None => BTreeMap::new(),
        };
        Ok(Policy::of_labels(&labels, self.defaults))
    }

    async fn pod(&self, state: &State, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
        if self.exempts(attributes) {
            return Ok(());
        }
        let (policy, errors) = self.policy(state, attributes).await?;
        if errors.is_empty() && policy.is_fully_privileged() {
            attributes.annotate(&format!("{PREFIX}enforce-policy"), "privileged:latest");
            return Ok(());
        }
        if attributes.old.is_some_and(|old| !changes_anything(pod, old)) {
            return Ok(());
        }
        self.judge(attributes, pod, policy, &errors, true)
    }

    async fn template(&self, state: &State, attributes: &Attributes<'_>, template: &Value) -> Result<(), Status> {
        if self.exempts(attributes) {
            return Ok(());
        }
        // Templates are never refused; the pods made of them are.
        let Ok((policy, errors)) = self.policy(state, attributes).await else {
            return Ok(());
        };
        let levels = (policy.audit.level, policy.warn.level);
        if errors.is_empty() && levels == (Level::Privileged, Level::Privileged) {
            return Ok(());
        }
        self.judge(attributes, template, policy, &errors, false)
    }

    fn judge(
        &self,
        attributes: &Attributes<'_>,
        pod: &Value,
        policy: Policy,
        errors: &[api::field::Error],
        enforce: bool,
    ) -> Result<(), Status> {
        let pod = Subject::of(pod);
        if self.exempts_runtime_class(&pod) {
            attributes.annotate(&format!("{PREFIX}exempt"), "runtimeClass");
            return Ok(());
        }
        if !errors.is_empty() {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = match all.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            attributes.annotate(&format!("{PREFIX}error"), format!("Failed to parse policy: {all}"));
        }
        let would = |rules: Rules, violations: &[Violation]| {
            format!("would violate PodSecurity \"{rules}\": {}", checks::details(violations))
        };
        let audit = checks::evaluate(policy.audit, &pod);
        if !audit.is_empty() {
            attributes.annotate(&format!("{PREFIX}audit-violations"), would(policy.audit, &audit));
        }
        if enforce {
            attributes.annotate(&format!("{PREFIX}enforce-policy"), policy.enforce.to_string());
            let violations = checks::evaluate(policy.enforce, &pod);
            if !violations.is_empty() {
                return Err(attributes.forbid(format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    checks::details(&violations)
                )));
            }
        }
        let warn = checks::evaluate(policy.warn, &pod);
        if !warn.is_empty() {
            attributes.call.warnings.add(would(policy.warn, &warn));
        }
        Ok(())
    }

    fn exempts_runtime_class(&self, pod: &Subject<'_>) -> bool {
        let class = subject::text(pod.spec, "runtimeClassName");
        !class.is_empty() && self.exemptions.runtime_classes.iter().any(|known| known == class)
    }

    async fn namespace(&self, state: &State, attributes: &Attributes<'_>, namespace: &Value) -> Result<(), Status> {
        let name = meta::name(namespace);
        let labels = meta::labels(namespace);
        let (policy, errors) = Policy::of_labels(&labels, self.defaults);
        let kind = &attributes.resource.kind;
        let invalid = |errors| Err(Status::invalid(&kind.gvk.group, &kind.gvk.kind, name, errors));
        let exempt = self.exemptions.namespaces.iter().any(|known| known == name);
        let Some(old) = attributes.old else {
            if !errors.is_empty() {
                return invalid(errors);
            }
            if exempt {
                self.warn_of_exemption(attributes, name, policy, &labels);
            }
            return Ok(());
        };
        let (before, old_errors) = Policy::of_labels(&meta::labels(old), self.defaults);
        if !errors.is_empty() && errors != old_errors {
            return invalid(errors);
        }
        let (now, was) = (policy.enforce, before.enforce);
        let relaxed = now.version == was.version && now.level <= was.level;
        if now == was || now.level == Level::Privileged || relaxed {
            return Ok(());
        }
        if exempt {
            self.warn_of_exemption(attributes, name, policy, &labels);
            return Ok(());
        }
        let warnings = self.look_at_pods(state, name, now).await;
        attributes.call.warnings.extend(warnings);
        Ok(())
    }

    fn warn_of_exemption(
        &self,
        attributes: &Attributes<'_>,
        name: &str,
        policy: Policy,
        labels: &BTreeMap<String, String>,
    ) {
        if policy.is_fully_privileged() || policy.is_equivalent(&self.defaults) {
            return;
        }
        let given = |mode: &str| {
            labels.contains_key(&format!("{PREFIX}{mode}")) || labels.contains_key(&format!("{PREFIX}{mode}-version"))
        };
        let parts: Vec<String> = MODES
            .into_iter()
            .filter(|mode| policy.of(mode).level != Level::Privileged && given(mode))
            .map(|mode| format!("{mode}={}", policy.of(mode)))
            .collect();
        attributes.call.warnings.add(format!(
            "namespace {} is exempt from Pod Security, and the policy ({}) will be ignored",
            api::field::go_quote(name),
            parts.join(", ")
        ));
    }

    /// Warnings of pods that are there and would not be let in any more.
    async fn look_at_pods(&self, state: &State, namespace: &str, rules: Rules) -> Vec<String> {
        let Some(resource) = state.resource("", "v1", "pods") else {
            return Vec::new();
        };
        let params = ListParams {
            at: At::Latest,
            selection: Selection::namespace(namespace),
            limit: 0,
            start_after: None,
        };
        let Ok(page) = resource.cache.list(params).await.map_err(cache_status) else {
            return vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()];
        };
        let begun = Instant::now();
        let pods: Vec<Value> = page.entries.iter().map(|entry| resource.value(entry)).collect();
        let pods = self.varied(&pods);
        let total = pods.len();
        let mut checked = 0;
        let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for pod in pods.into_iter().take(MOST_PODS) {
            if checked > 0 && begun.elapsed() > LONGEST_LOOK {
                break;
            }
            checked += 1;
            let violations = checks::evaluate(rules, &Subject::of(pod));
            if !violations.is_empty() {
                found
                    .entry(checks::reasons(&violations))
                    .or_default()
                    .push(meta::name(pod));
            }
        }
        report(namespace, rules, (checked, total), found)
    }

    /// The pods that are looked at; the first of each controller before all others.
    fn varied<'p>(&self, pods: &'p [Value]) -> Vec<&'p Value> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let looked_at = pods.iter().filter(|pod| !self.exempts_runtime_class(&Subject::of(pod)));
        let (first, more): (Vec<&Value>, Vec<&Value>) = looked_at.partition(|pod| {
            let owner = meta::controller_of(pod).map(|owner| owner.uid);
            owner.is_none_or(|uid| seen.insert(uid))
        });
        first.into_iter().chain(more).collect()
    }
}

/// The warnings about pods, by reason, each with the first pod by name.
fn report(
    namespace: &str,
    rules: Rules,
    (checked, total): (usize, usize),
    found: BTreeMap<String, Vec<&str>>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if checked < total {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level \"{rules}\"",
            api::field::go_quote(namespace)
        ));
    }
    let mut by_pod: Vec<String> = found
        .into_iter()
        .map(|(reason, names)| {
            let first = names.iter().min().copied().unwrap_or_default();
            match names.len() {
                0 | 1 => format!("{first}: {reason}"),
                2 => format!("{first} (and 1 other pod): {reason}"),
                many => format!("{first} (and {} other pods): {reason}", many - 1),
            }
        })
        .collect();
    by_pod.sort();
    warnings.extend(by_pod);
    warnings
}

/// Whether an update changes something that checks look at: images, and which containers there are.
fn changes_anything(new: &Value, old: &Value) -> bool {
    let image = |container: &Value| subject::text(container, "image").to_owned();
    let images = |pod: &Value, field: &str| -> Vec<String> {
        subject::list(pod, &format!("spec.{field}")).iter().map(image).collect()
    };
    if ["containers", "initContainers"]
        .into_iter()
        .any(|field| images(new, field) != images(old, field))
    {
        return true;
    }
    let before = subject::list(old, "spec.ephemeralContainers");
    subject::list(new, "spec.ephemeralContainers").iter().any(|container| {
        let name = subject::text(container, "name");
        let known = before.iter().find(|other| subject::text(other, "name") == name);
        known.is_none_or(|known| image(known) != image(container))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn exemptions_and_defaults_are_configured() {
        let settings = json!({"apiVersion": "pod-security.admission.config.k8s.io/v1",
            "kind": "PodSecurityConfiguration", "defaults": {"enforce": "baseline"},
            "exemptions": {"usernames": ["a"], "namespaces": ["b"], "runtimeClasses": ["c"]}});
        let plugin = PodSecurity::new(Some(&settings)).unwrap();
        assert_eq!(plugin.defaults.enforce.to_string(), "baseline:latest");
        assert!(plugin.exempts_runtime_class(&Subject::of(&json!({"spec": {"runtimeClassName": "c"}}))));
        assert_eq!(plugin.exemptions.users, ["a"]);
        assert!(PodSecurity::new(Some(&json!({"kind": "Other"}))).is_err());
        assert!(PodSecurity::new(None).unwrap().defaults.is_fully_privileged());
    }

    #[test]
    fn updates_that_matter() {
        let pod = |image: &str, debug: &[&str]| {
            let debug: Vec<Value> = debug.iter().map(|name| json!({"name": name, "image": "d"})).collect();
            json!({"spec": {"containers": [{"name": "c", "image": image}], "ephemeralContainers": debug}})
        };
        assert!(!changes_anything(&pod("a", &["x"]), &pod("a", &["x"])));
        assert!(changes_anything(&pod("b", &[]), &pod("a", &[])));
        assert!(changes_anything(&pod("a", &["x", "y"]), &pod("a", &["x"])));
    }

    #[test]
    fn warnings_about_pods_that_are_there() {
        let rules = Policy::default().enforce;
        let found = BTreeMap::from([
            ("privileged".to_owned(), vec!["b", "a", "c"]),
            ("hostPort".to_owned(), vec!["z", "y"]),
            ("x".to_owned(), vec!["d"]),
        ]);
        assert_eq!(
            report("ns", rules, (6, 7), found),
            [
                "new PodSecurity enforce level only checked against the first 6 of 7 existing pods",
                "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"privileged:latest\"",
                "a (and 2 other pods): privileged",
                "d: x",
                "y (and 1 other pod): hostPort",
            ]
        );
    }
}
