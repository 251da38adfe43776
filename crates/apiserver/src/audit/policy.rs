//! The policy: how much of which request is recorded (`apiserver/pkg/audit/policy/checker.go`).

use serde::Deserialize;

use super::AuditError;
use super::event::Stage;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when.
    Metadata,
    /// And what the client sent.
    Request,
    /// And what it got.
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// A parsed policy.
pub(super) struct Policy(Document);

/// What the policy is asked about.
pub(super) struct Subject<'a> {
    pub info: &'a RequestInfo,
    pub user: &'a UserInfo,
}

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads YAML or JSON.
    pub fn parse(text: &str) -> Result<Policy, AuditError> {
        let document: Document = serde_saphyr::from_str(text).map_err(|error| AuditError::Policy(error.to_string()))?;
        if document.kind != "Policy" || document.api_version != "audit.k8s.io/v1" {
            let what = format!(
                "it is a {} of {:?}, not a Policy of audit.k8s.io/v1",
                document.kind, document.api_version
            );
            return Err(AuditError::Policy(what));
        }
        if document.rules.is_empty() {
            return Err(AuditError::Policy("it has no rules".to_owned()));
        }
        for rule in &document.rules {
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if of_resources && !rule.non_resource_urls.is_empty() {
                let what = "rules cannot apply to both regular resources and non-resource URLs";
                return Err(AuditError::Policy(what.to_owned()));
            }
        }
        Ok(Policy(document))
    }

    /// The first rule that matches decides; without one nothing is recorded.
    pub fn decide(&self, subject: &Subject<'_>) -> Decision {
        let document = &self.0;
        let Some(rule) = document.rules.iter().find(|rule| rule.matches(subject)) else {
            return Decision {
                level: Level::None,
                omit_stages: Vec::new(),
                omit_managed_fields: false,
            };
        };
        let mut omit_stages = document.omit_stages.clone();
        omit_stages.extend(&rule.omit_stages);
        Decision {
            level: rule.level,
            omit_stages,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(document.omit_managed_fields),
        }
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == value)
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let (info, user) = (subject.info, subject.user);
        let of_user = (self.users.is_empty() || has(&self.users, &user.name))
            && (self.user_groups.is_empty() || self.user_groups.iter().any(|group| user.in_group(group)));
        if !of_user || !(self.verbs.is_empty() || has(&self.verbs, &info.verb)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return self.matches_resource(info);
        }
        if !self.non_resource_urls.is_empty() {
            return !info.is_resource && self.non_resource_urls.iter().any(|pattern| covers(pattern, &info.path));
        }
        true
    }

    fn matches_resource(&self, info: &RequestInfo) -> bool {
        if !info.is_resource || !(self.namespaces.is_empty() || has(&self.namespaces, &info.namespace)) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|group| group.matches(info))
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !has(&self.resource_names, &info.name) {
            return false;
        }
        let combined = if info.subresource.is_empty() {
            info.resource.clone()
        } else {
            format!("{}/{}", info.resource, info.subresource)
        };
        self.resources.iter().any(|pattern| match pattern.split_once('/') {
            _ if pattern == "*" || *pattern == combined => true,
            Some((resource, "*")) => resource == info.resource,
            Some(("*", subresource)) => subresource == info.subresource,
            _ => false,
        })
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}
