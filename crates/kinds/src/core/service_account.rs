//! `serviceaccounts`.

use api::field::Path;
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::{cells, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts")
        .short_names(&["sa"])
        .subresource(Subresource::token())
        .returns_deleted_object()
        .prepare_create(|_, account| keep_names_of_secrets(account))
        .prepare_update(|_, account, _| keep_names_of_secrets(account))
        .warnings(|new, old| {
            const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
            let has = |account| meta::annotation(account, ENFORCE).is_some();
            if !has(new) || old.is_some_and(has) {
                return Vec::new();
            }
            let path = Path::new("metadata").child("annotations").key(ENFORCE);
            let message = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
            vec![format!("{path}: {message}")]
        })
        .table(
            vec![
                Column::name(),
                Column::string("Secrets", "Number of secrets the account may use."),
                Column::age(),
            ],
            |account, now| {
                let secrets = tree::list(account, "secrets").len();
                vec![cells::name(account), secrets.into(), cells::age(account, now)]
            },
        )
}

/// Of the secrets of an account only the names count (`cleanSecretReferences`).
fn keep_names_of_secrets(account: &mut Value) {
    for secret in tree::items_mut(account, "secrets") {
        if let Some(map) = secret.as_object_mut() {
            map.retain(|field, _| field == "name");
        }
    }
}
