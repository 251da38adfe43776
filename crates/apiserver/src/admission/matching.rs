//! What webhooks and policies match: rules, equivalent resources, selectors
//! (upstream `admission/plugin/webhook/predicates`, `admission/plugin/policy/matching`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::labels::Selector;
use api::{Gvk, Gvr, Status, Value, meta};

use schema::TypeRef;

use super::{Attributes, Operation};
use crate::codec;
use crate::kind::Kind;
use crate::resource::{Resource, to_served, to_stored};
use crate::state::State;

/// Whether a rule is about namespaced objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Namespaced,
    Cluster,
    /// No scope that anybody knows; matches nothing.
    Unknown,
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    scope: Scope,
    /// Names of single objects; empty means all.
    names: Vec<String>,
}

/// The resource a rule is held against.
struct Candidate<'a> {
    group: &'a str,
    version: &'a str,
    plural: &'a str,
}

impl Rule {
    /// Reads a `RuleWithOperations` or `NamedRuleWithOperations`.
    pub fn read(rule: &Value) -> Rule {
        Rule {
            groups: strings(rule, "apiGroups"),
            versions: strings(rule, "apiVersions"),
            resources: strings(rule, "resources"),
            operations: strings(rule, "operations"),
            scope: match rule.get("scope").and_then(Value::as_str) {
                None | Some("*") => Scope::All,
                Some("Namespaced") => Scope::Namespaced,
                Some("Cluster") => Scope::Cluster,
                Some(_) => Scope::Unknown,
            },
            names: strings(rule, "resourceNames"),
        }
    }

    /// Every rule of a list that may be absent.
    pub fn read_all(list: Option<&Value>) -> Vec<Rule> {
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.map(Rule::read).collect()
    }

    fn matches(&self, attributes: &Attributes<'_>, candidate: &Candidate<'_>) -> bool {
        let named = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
        self.matches_scope(attributes, candidate)
            && named(&self.operations, attributes.operation.as_str())
            && named(&self.groups, candidate.group)
            && named(&self.versions, candidate.version)
            && self.resources.iter().any(|text| {
                let (resource, subresource) = text.split_once('/').unwrap_or((text, ""));
                (resource == "*" || resource == candidate.plural)
                    && (subresource == "*" || subresource == attributes.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    fn matches_scope(&self, attributes: &Attributes<'_>, candidate: &Candidate<'_>) -> bool {
        // A request for a Namespace names it as its namespace, but is cluster-scoped.
        let cluster = attributes.namespace.is_empty()
            || (candidate.group.is_empty() && candidate.version == "v1" && candidate.plural == "namespaces");
        match self.scope {
            Scope::All => true,
            Scope::Namespaced => !cluster,
            Scope::Cluster => cluster,
            Scope::Unknown => false,
        }
    }
}

/// A list of strings.
pub(super) fn strings(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Whether a rule about one version is about the others too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MatchPolicy {
    Exact,
    Equivalent,
}

impl MatchPolicy {
    /// Reads the field; absent means `Equivalent`.
    pub fn read(object: &Value) -> MatchPolicy {
        match object.get("matchPolicy").and_then(Value::as_str) {
            Some("Exact") => MatchPolicy::Exact,
            _ => MatchPolicy::Equivalent,
        }
    }
}

/// How a request matched: as what is to be told of it.
#[derive(Clone)]
pub(super) struct Match {
    pub gvr: Gvr,
    pub gvk: Gvk,
    /// The other version, if it is not the request's own.
    other: Option<Arc<Resource>>,
}

/// The first way in which rules match the request.
pub(super) fn find(state: &State, attributes: &Attributes<'_>, rules: &[Rule], policy: MatchPolicy) -> Option<Match> {
    let resource = attributes.resource;
    let asked = candidate(&resource.kind);
    if rules.iter().any(|rule| rule.matches(attributes, &asked)) {
        return Some(own(attributes));
    }
    if policy == MatchPolicy::Exact {
        return None;
    }
    let registry = state.registry.load();
    let others: Vec<&Arc<Resource>> = registry
        .all()
        .iter()
        .filter(|other| other.prefix == resource.prefix && other.gvr() != resource.gvr())
        .filter(|other| attributes.subresource.is_empty() || kind_of(other, attributes.subresource).is_some())
        .collect();
    let mut pairs = rules
        .iter()
        .flat_map(|rule| others.iter().map(move |other| (rule, *other)));
    let (_, other) = pairs.find(|(rule, other)| rule.matches(attributes, &candidate(&other.kind)))?;
    let gvk = match attributes.subresource {
        "" => other.kind.gvk.clone(),
        subresource => kind_of(other, subresource)?,
    };
    Some(Match {
        gvr: other.gvr(),
        gvk,
        other: Some(other.clone()),
    })
}

/// The request as it is.
pub(super) fn own(attributes: &Attributes<'_>) -> Match {
    Match {
        gvr: attributes.resource.gvr(),
        gvk: attributes.gvk.clone(),
        other: None,
    }
}

fn candidate(kind: &Kind) -> Candidate<'_> {
    Candidate {
        group: &kind.gvk.group,
        version: &kind.gvk.version,
        plural: &kind.plural,
    }
}

fn kind_of(resource: &Resource, subresource: &str) -> Option<Gvk> {
    let found = resource.kind.find_subresource(subresource)?;
    Some(found.gvk.clone().unwrap_or_else(|| resource.kind.gvk.clone()))
}

impl Match {
    /// An object of the request, if there is one, as the matched version shows it.
    ///
    /// # Errors
    /// What a conversion webhook says.
    pub async fn shown<'v>(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&'v Value>,
    ) -> Result<Option<Cow<'v, Value>>, Status> {
        Ok(match (&self.other, object) {
            (Some(other), Some(object)) if self.converts(attributes) => Some(Cow::Owned(
                convert(&attributes.resource.kind, &other.kind, object).await?,
            )),
            _ => object.map(Cow::Borrowed),
        })
    }

    /// An object of the matched version as the request has it; errors as [`Match::shown`].
    pub async fn taken_back(&self, attributes: &Attributes<'_>, object: Value) -> Result<Value, Status> {
        match &self.other {
            Some(other) if self.converts(attributes) => convert(&other.kind, &attributes.resource.kind, &object).await,
            _ => Ok(object),
        }
    }

    /// Brings a changed object of the matched version into its type's shape, pruned and with defaults.
    ///
    /// # Errors
    /// A message if a field has a wrong type.
    pub fn complete(&self, attributes: &Attributes<'_>, object: &Value) -> Result<Value, String> {
        let kind = match &self.other {
            Some(other) if self.converts(attributes) => &other.kind,
            _ => &attributes.resource.kind,
        };
        if *attributes.gvk == attributes.resource.kind.gvk {
            let mut shaped = codec::reshape(kind, object)?.value;
            codec::complete(kind, &mut shaped);
            return Ok(shaped);
        }
        let Some(ty) = attributes.object_type() else {
            return Ok(object.clone());
        };
        let decoded = schema::codec::decode_json(ty, &codec::to_json(object)).map_err(|error| error.to_string())?;
        let mut shaped = decoded.value;
        schema::defaults::apply(ty, &mut shaped);
        schema::normalize(ty, &mut shaped);
        Ok(shaped)
    }

    /// The type of the request's objects in the matched version.
    pub fn object_type<'t>(&'t self, attributes: &'t Attributes<'_>) -> Option<TypeRef<'t>> {
        match &self.other {
            Some(other) if self.converts(attributes) => Some(other.kind.schema.get(other.kind.root)),
            _ => attributes.object_type(),
        }
    }

    /// Objects of subresources with kinds of their own are the same in all versions.
    fn converts(&self, attributes: &Attributes<'_>) -> bool {
        self.gvk != *attributes.gvk && *attributes.gvk == attributes.resource.kind.gvk
    }
}

async fn convert(from: &Kind, to: &Kind, object: &Value) -> Result<Value, Status> {
    let version = meta::resource_version(object).to_owned();
    let mut converted = match &from.custom {
        Some(custom) => custom.between(&to.gvk, object.clone()).await?,
        None => to_served(to, to_stored(from, object.clone()).await?),
    };
    codec::complete(to, &mut converted);
    if !version.is_empty() {
        meta::set_resource_version(&mut converted, &version);
    }
    Ok(converted)
}

/// Selectors of namespaces and objects; an unreadable one fails requests it might be about.
#[derive(Clone, Debug)]
pub(super) struct Selectors {
    namespace: Result<Selector, String>,
    object: Result<Selector, String>,
}

impl Selectors {
    /// Reads `namespaceSelector` and `objectSelector`; absent ones select everything.
    pub fn read(object: &Value) -> Selectors {
        let selector = |field: &str| match object.get(field).filter(|s| !s.is_null()) {
            None => Ok(Selector::everything()),
            some => Selector::from_label_selector(some).map_err(|error| error.to_string()),
        };
        Selectors {
            namespace: selector("namespaceSelector"),
            object: selector("objectSelector"),
        }
    }

    /// Whether the request's object, now or before, is selected.
    ///
    /// # Errors
    /// 500 if the selector cannot be read.
    pub fn match_object(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<bool, Status> {
        let selector = self.object.as_ref().map_err(Status::internal)?;
        let selected = |object: Option<&Value>| {
            object.is_some_and(|object| object.is_object() && selector.matches(&meta::labels(object)))
        };
        Ok(selector.is_everything() || selected(object) || selected(attributes.old))
    }

    /// Whether the request's namespace is selected; what has none always is.
    ///
    /// # Errors
    /// 404 if the namespace does not exist, 500 if the selector cannot be read.
    pub async fn match_namespace(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<bool, Status> {
        if attributes.namespace.is_empty() && attributes.resource.kind.plural != "namespaces" {
            return Ok(true);
        }
        let selector = self.namespace.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        Ok(selector.matches(&namespace_labels(state, attributes, object).await?))
    }
}

/// The labels of the request's namespace; of one that is being written the new ones.
async fn namespace_labels(
    state: &State,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
) -> Result<BTreeMap<String, String>, Status> {
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if written && attributes.subresource.is_empty() && attributes.resource.kind.plural == "namespaces" {
        return Ok(object.map(meta::labels).unwrap_or_default());
    }
    namespace(state, attributes.namespace).await.map(|n| meta::labels(&n))
}

/// A namespace as it is now.
///
/// # Errors
/// 404 if it does not exist.
pub(super) async fn namespace(state: &State, name: &str) -> Result<Value, Status> {
    let missing = || Status::not_found(&api::GroupResource::new("", "namespaces"), name);
    let namespaces = state.resource("", "v1", "namespaces").ok_or_else(missing)?;
    let entry = namespaces.latest("", name).await?.ok_or_else(missing)?;
    Ok(namespaces.value(&entry))
}

/// Whether the request is about what governs admission itself: no webhook and no policy may be in
/// the way of repairing a broken one (`IsExemptAdmissionConfigurationResource`).
pub(super) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    attributes.gvk.group == "admissionregistration.k8s.io"
        && matches!(
            attributes.gvk.kind.as_str(),
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}
