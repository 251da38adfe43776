//! `clusterrolebindings`.

use apiserver::Kind;
use apiserver::kind::NameRule;

use super::{GROUP, Scope, binding, binding_columns, binding_row, default_binding, role_is_kept};

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings")
        .name_rule(NameRule::PathSegment)
        .allow_create_on_update()
        .default(default_binding)
        .validate(|object| binding(object, Scope::Cluster))
        .validate_update(|new, old| {
            let mut errors = binding(new, Scope::Cluster);
            errors.extend(role_is_kept(new, old));
            errors
        })
        .table(binding_columns(), binding_row)
}
