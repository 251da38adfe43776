//! FlowSchemas: which requests belong where (`flowcontrol/rule.go`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use api::{Value, meta};
use serde::Deserialize;

use super::Class;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// A request, as FlowSchemas see it.
pub(super) struct Digest<'a> {
    pub info: &'a RequestInfo,
    pub user: &'a UserInfo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

/// One FlowSchema.
#[derive(Debug)]
pub(super) struct Schema {
    pub name: String,
    pub uid: String,
    pub level: String,
    /// Set once the level is known.
    pub class: Option<Arc<Class>>,
    pub precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NonResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == "*" || item == value)
}

impl Schema {
    /// Reads an object; nothing if it is none.
    pub fn parse(object: &Value) -> Option<Schema> {
        let spec = object.get("spec")?;
        let text = |path: &str| crate::kind::value_at(spec, path).and_then(Value::as_str).unwrap_or("");
        Some(Schema {
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            level: text("priorityLevelConfiguration.name").to_owned(),
            class: None,
            precedence: spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(1000),
            distinguisher: match text("distinguisherMethod.type") {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: spec
                .get("rules")
                .and_then(|rules| serde_json::from_value(rules.clone()).ok())
                .unwrap_or_default(),
        })
    }

    /// Whether the request is one of this schema's.
    pub fn matches(&self, digest: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(digest))
    }

    /// The same number for all requests of a flow.
    pub fn flow_hash(&self, digest: &Digest<'_>) -> u64 {
        let distinguisher = match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &digest.user.name,
            Distinguisher::Namespace => &digest.info.namespace,
        };
        let mut hasher = DefaultHasher::new();
        (&self.name, distinguisher).hash(&mut hasher);
        hasher.finish()
    }
}

impl Rule {
    fn matches(&self, digest: &Digest<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.matches(digest.user)) {
            return false;
        }
        let info = digest.info;
        if info.is_resource {
            self.resource_rules.iter().any(|rule| rule.matches(info))
        } else {
            self.non_resource_rules.iter().any(|rule| rule.matches(info))
        }
    }
}

impl Subject {
    fn matches(&self, user: &UserInfo) -> bool {
        match (self.kind.as_str(), &self.user, &self.group, &self.service_account) {
            ("User", Some(wanted), _, _) => wanted.name == "*" || wanted.name == user.name,
            ("Group", _, Some(wanted), _) => wanted.name == "*" || user.in_group(&wanted.name),
            ("ServiceAccount", _, _, Some(wanted)) => user.as_service_account().is_some_and(|(namespace, name)| {
                namespace == wanted.namespace && (wanted.name == "*" || name == wanted.name)
            }),
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let resource = if info.subresource.is_empty() {
            has(&self.resources, &info.resource)
        } else {
            let wanted = format!("{}/{}", info.resource, info.subresource);
            has(&self.resources, &wanted)
        };
        resource && has(&self.verbs, &info.verb) && has(&self.api_groups, &info.group) && self.covers(info)
    }

    fn covers(&self, info: &RequestInfo) -> bool {
        if info.namespace.is_empty() {
            return self.cluster_scope;
        }
        has(&self.namespaces, &info.namespace)
    }
}

impl NonResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let path = |pattern: &String| {
            pattern == "*"
                || *pattern == info.path
                || pattern
                    .strip_suffix('*')
                    .is_some_and(|start| start.ends_with('/') && info.path.starts_with(start))
        };
        has(&self.verbs, &info.verb) && self.non_resource_urls.iter().any(path)
    }
}
