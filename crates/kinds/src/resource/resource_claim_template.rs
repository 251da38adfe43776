//! `resourceclaimtemplates`.

use api::field::Path;
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use super::{GROUP, request};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced(GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates")
        .returns_deleted_object()
        .default(|template| {
            if tree::at(template, "spec.spec").is_some() {
                request::default(tree::child(tree::child(template, "spec"), "spec"));
            }
        })
        .validate(|template| {
            let path = Path::new("spec");
            let metadata = path.child("metadata");
            let part = |at: &str| tree::at(template, &format!("spec.metadata.{at}"));
            let mut errors = validate::annotations(part("annotations"), &metadata.child("annotations"));
            errors.extend(validate::labels(part("labels"), &metadata.child("labels")));
            let spec = tree::at(template, "spec.spec").unwrap_or(&Value::Null);
            errors.extend(request::claim_spec(spec, &path.child("spec")));
            errors
        })
        .validate_update(|new, old| checks::immutable(new, old, "spec", &Path::new("spec")))
        .table(vec![Column::name(), Column::age()], |template, now| {
            vec![cells::name(template), cells::age(template, now)]
        })
}
