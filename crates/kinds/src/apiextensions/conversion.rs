//! Validation of `spec.conversion`; paths are those of upstream's internal type.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use api::validate;
use serde_json::Value;

use super::spec::list;

/// Whether a version of ConversionReview is one that the server speaks.
pub(super) fn is_known_review(version: &Value) -> bool {
    *version == "v1" || *version == "v1beta1"
}

pub(super) fn errors(conversion: &Value, require_known: bool, path: &Path) -> Vec<Error> {
    if !conversion.is_object() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let (webhook, config) = (&conversion["webhook"], &conversion["webhook"]["clientConfig"]);
    let at = path.child("webhookClientConfig");
    match conversion["strategy"].as_str().unwrap_or_default() {
        "" => errors.push(Error::required(&path.child("strategy"), "")),
        "None" | "Webhook" => {}
        other => errors.push(Error::not_supported(
            &path.child("strategy"),
            other,
            &["None", "Webhook"],
        )),
    }
    let reviews = list(webhook, "conversionReviewVersions");
    let reviews_path = path.child("conversionReviewVersions");
    if conversion["strategy"] != "Webhook" {
        if config.is_object() {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.push(Error::forbidden(&at, detail));
        }
        if !reviews.is_empty() {
            let detail = "should not be set when strategy is not set to Webhook";
            errors.push(Error::forbidden(&reviews_path, detail));
        }
        return errors;
    }
    if config.is_object() {
        errors.extend(client_errors(config, &at));
    } else {
        errors.push(Error::required(&at, "required when strategy is set to Webhook"));
    }
    errors.extend(review_errors(reviews, require_known, &reviews_path));
    errors
}

fn client_errors(config: &Value, path: &Path) -> Vec<Error> {
    let (url, service) = (config["url"].as_str(), &config["service"]);
    match (url, service.is_object()) {
        (None, false) | (Some(_), true) => {
            vec![Error::required(path, "exactly one of url or service is required")]
        }
        (Some(url), false) => url_errors(url, &path.child("url")),
        (None, true) => service_errors(service, &path.child("service")),
    }
}

/// `webhook.ValidateWebhookURL`, with https demanded.
fn url_errors(url: &str, path: &Path) -> Vec<Error> {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut errors = Vec::new();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Error::invalid(path, scheme, detail));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_empty() {
        errors.push(Error::invalid(path, host, format!("host must be specified{FORM}")));
    }
    if authority.contains('@') {
        let user = authority.split('@').next().unwrap_or_default();
        errors.push(Error::invalid(
            path,
            user,
            "user information is not permitted in the URL",
        ));
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        errors.push(Error::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    let query = rest.split('#').next().unwrap_or_default().split_once('?');
    if let Some((_, query)) = query.filter(|(_, query)| !query.is_empty()) {
        let detail = "query parameters are not permitted in the URL";
        errors.push(Error::invalid(path, query, detail));
    }
    errors
}

/// `webhook.ValidateWebhookService`, which is given name and namespace in the wrong order.
fn service_errors(service: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, told_at) in [("namespace", "name"), ("name", "namespace")] {
        if service[field].as_str().unwrap_or_default().is_empty() {
            errors.push(Error::required(&path.child(told_at), ""));
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    for message in validate::port_number(port) {
        let detail = format!("port is not valid: {message}");
        errors.push(Error::invalid(&path.child("port"), port, detail));
    }
    let Some(full) = service["path"].as_str().filter(|path| *path != "/") else {
        return errors;
    };
    let at = path.child("path");
    if full.is_empty() || !full.starts_with('/') {
        errors.push(Error::invalid(&at, full, "must start with a '/'"));
        return errors;
    }
    let steps = full[1..].strip_suffix('/').unwrap_or(&full[1..]);
    for (i, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            let detail = format!("segment[{i}] may not be empty");
            errors.push(Error::invalid(&at, full, detail));
            continue;
        }
        for message in validate::dns1123_subdomain(step) {
            errors.push(Error::invalid(&at, full, format!("segment[{i}]: {message}")));
        }
    }
    errors
}

fn review_errors(versions: &[Value], require_known: bool, path: &Path) -> Vec<Error> {
    if versions.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().filter_map(Value::as_str).enumerate() {
        if !seen.insert(version) {
            errors.push(Error::invalid(&path.index(i), version, "duplicate version"));
            continue;
        }
        for message in validate::dns1035_label(version) {
            errors.push(Error::invalid(&path.index(i), version, message));
        }
    }
    if require_known && !versions.iter().any(is_known_review) {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(path, versions.to_vec(), detail));
    }
    errors
}
