//! `clusterroles`. Upstream has no columns of its own for them.

use api::field::{Error, Path};
use api::labels::Selector;
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::NameRule;

use super::{GROUP, Scope, rules};
use crate::tree;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "ClusterRole", "clusterroles")
        .name_rule(NameRule::PathSegment)
        .allow_create_on_update()
        .validate(role)
}

fn role(role: &Value) -> Vec<Error> {
    let mut errors = rules(role, Scope::Cluster);
    if tree::at(role, "aggregationRule").is_none() {
        return errors;
    }
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = tree::list(role, "aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        errors.extend(validate::label_selector(selector, &path));
        if Selector::from_label_selector(Some(selector)).is_err() {
            errors.push(Error::invalid(&path, Value::Null, "invalid label selector."));
        }
    }
    errors
}
