//! `serviceaccounts`.

use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::{cells, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts")
        .short_names(&["sa"])
        .subresource(Subresource::token())
        .returns_deleted_object()
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
