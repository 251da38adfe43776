//! GET of a collection: options, selectors, pages (upstream `endpoints/handlers/get.go`,
//! `storage/cacher`).

use std::sync::Arc;

use api::field::{Error, Path};
use api::{Status, fields, labels};

use super::output;
use super::token::{self, Continue};
use crate::cache::{At, CacheError, Entry, ListPage, ListParams, Selection};
use crate::call::Call;
use crate::request::Query;
use crate::resource::{Resource, cache_status};
use crate::respond::Answer;

/// Said when a page is asked for whose revision is gone (`etcd3/errors.go`).
const EXPIRED_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// A parsed list request.
pub(crate) struct Listing {
    pub selection: Selection,
    pub limit: usize,
    pub at: At,
    /// Where the token says to go on.
    pub after: Option<Continue>,
    /// The prefix that tokens are relative to.
    pub prefix: String,
    /// Whether a selector narrows it, so that the rest cannot be counted.
    pub selective: bool,
}

/// Handles the request.
pub(crate) async fn handle(call: &Call, resource: &Arc<Resource>) -> Result<Answer, Status> {
    let output = call.output_of(resource)?;
    let listing = Listing::read(call, resource)?;
    let page = listing.fetch(resource).await?;
    output::list(call, resource, output, &listing, page)
}

/// The `resourceVersion` parameter; absent and empty are `None`.
///
/// # Errors
/// 500 without a reason if it is no number; a list says 400 ([`list_revision`]).
pub(crate) fn revision(query: &Query) -> Result<Option<i64>, Status> {
    let Some(text) = query.non_empty("resourceVersion") else {
        return Ok(None);
    };
    text.parse::<i64>().ok().filter(|r| *r >= 0).map(Some).ok_or_else(|| {
        let path = Path::new("resourceVersion");
        let detail = format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            api::field::go_quote(text)
        );
        Status::failure(500, "", Error::invalid(&path, text, detail).to_string())
    })
}

/// The same of a list (`storage/interfaces.go`, ValidateListOptions).
fn list_revision(query: &Query) -> Result<Option<i64>, Status> {
    revision(query).map_err(|status| Status::bad_request(format!("invalid resource version: {}", status.message)))
}

/// Namespace, name, labels and fields of a list or watch request.
///
/// # Errors
/// 400 if a selector does not parse or names a field that is not selectable.
pub(crate) fn selection(call: &Call, resource: &Resource) -> Result<(Selection, bool), Status> {
    let query = &call.query;
    let labels = labels::Selector::parse(query.get("labelSelector").unwrap_or(""))
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let fields = fields::Selector::parse(query.get("fieldSelector").unwrap_or(""))
        .map_err(|error| Status::bad_request(error.to_string()))?;
    for requirement in fields.requirements() {
        check_field(resource, &requirement.field)?;
    }
    let exact_name = fields.exact("metadata.name").map(str::to_owned);
    if call.info.named && exact_name.as_ref().is_some_and(|name| *name != call.info.name) {
        return Err(Status::bad_request(
            "fieldSelector metadata.name doesn't match requested name",
        ));
    }
    let name = if call.info.named {
        Some(call.info.name.clone())
    } else {
        exact_name
    };
    let indexed = fields
        .requirements()
        .iter()
        .find(|r| r.equals && !r.field.starts_with("metadata."))
        .map(|r| (r.field.clone(), r.value.clone()));
    let selective = !labels.is_everything() || !fields.is_everything() || name.is_some();
    let plain = labels.is_everything() && fields.is_everything();
    let matcher = move |entry: &Entry| labels.matches(entry.labels()) && fields.matches_by(|field| entry.field(field));
    let namespace = &call.info.namespace;
    Ok((
        Selection {
            namespace: (resource.kind.is_namespaced() && !namespace.is_empty()).then(|| namespace.clone()),
            name,
            field: indexed,
            matcher: (!plain).then(|| Arc::new(matcher) as crate::cache::Matcher),
        },
        selective,
    ))
}

fn check_field(resource: &Resource, field: &str) -> Result<(), Status> {
    let kind = &resource.kind;
    let known =
        matches!(field, "metadata.name" | "metadata.namespace") || kind.selectable.iter().any(|f| f.name == field);
    if known {
        return Ok(());
    }
    Err(Status::bad_request(
        if kind.selectable.is_empty() && kind.custom.is_none() {
            format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                api::field::go_quote(field)
            )
        } else {
            format!("field label not supported: {field}")
        },
    ))
}

/// Refuses combinations of options that make no sense (`ValidateListOptions`).
fn validate(query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    if let Some(matching) = query.non_empty("resourceVersionMatch") {
        let path = Path::new("resourceVersionMatch");
        if query.non_empty("resourceVersion").is_none() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(Error::forbidden(&path, detail));
        }
        if query.non_empty("continue").is_some() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(Error::forbidden(&path, detail));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            let allowed = ["Exact", "NotOlderThan", ""];
            errors.push(Error::not_supported(&path, matching, &allowed));
        }
        if matching == "Exact" && query.get("resourceVersion") == Some("0") {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let path = Path::new("sendInitialEvents");
        errors.push(Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors))
}

impl Listing {
    /// Reads the query.
    ///
    /// # Errors
    /// 400 or 422 if it makes no sense.
    pub fn read(call: &Call, resource: &Resource) -> Result<Listing, Status> {
        let query = &call.query;
        validate(query)?;
        let (selection, selective) = selection(call, resource)?;
        let limit = query.integer("limit")?.unwrap_or(0).max(0);
        let prefix = match &selection.namespace {
            Some(namespace) => format!("{}{namespace}/", resource.prefix),
            None => resource.prefix.clone(),
        };
        let version = list_revision(query)?;
        let after = query
            .non_empty("continue")
            .map(|t| token::decode(&prefix, t))
            .transpose()?;
        let at = match (&after, version) {
            (Some(_), Some(version)) if version > 0 => {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            (
                Some(Continue {
                    revision: Some(revision),
                    ..
                }),
                _,
            ) => At::Exact(*revision),
            (Some(Continue { revision: None, .. }), _) | (None, None) => At::Latest,
            (None, Some(version)) => match query.get("resourceVersionMatch") {
                Some("Exact") => At::Exact(version),
                // A limit with a revision and no match rule means exactly that revision.
                None | Some("") if limit > 0 && version > 0 => At::Exact(version),
                _ if version == 0 => At::Any,
                _ => At::NotOlderThan(version),
            },
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Listing {
            selection,
            limit,
            at,
            after,
            prefix,
            selective,
        })
    }

    /// Reads the page.
    ///
    /// # Errors
    /// 410 with a token for going on regardless, if the page's revision is gone.
    pub async fn fetch(&self, resource: &Resource) -> Result<ListPage, Status> {
        let params = ListParams {
            at: self.at,
            selection: self.selection.clone(),
            limit: self.limit,
            start_after: self.after.as_ref().map(|next| next.after.clone()),
        };
        resource
            .cache
            .list(params)
            .await
            .map_err(|error| match (&error, &self.after) {
                (CacheError::Expired { .. }, Some(next)) => {
                    let mut status = Status::expired(EXPIRED_CONTINUE);
                    let next = Continue {
                        revision: None,
                        after: next.after.clone(),
                    };
                    status.metadata.continue_token = token::encode(&self.prefix, &next);
                    status
                }
                _ => cache_status(error),
            })
    }

    /// The token for the page after this one.
    pub fn next_token(&self, page: &ListPage) -> Option<String> {
        let last = page.entries.last().filter(|_| page.more)?;
        let revision = match &self.after {
            Some(Continue { revision: None, .. }) => None,
            _ => Some(page.revision),
        };
        Some(token::encode(
            &self.prefix,
            &Continue {
                revision,
                after: last.key().to_string(),
            },
        ))
    }
}
