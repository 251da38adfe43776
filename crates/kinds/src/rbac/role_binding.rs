//! `rolebindings`.

use apiserver::Kind;
use apiserver::kind::NameRule;

use super::{GROUP, Scope, binding, binding_columns, binding_row, default_binding, role_is_kept};

pub(crate) fn kind() -> Kind {
    Kind::namespaced(GROUP, "v1", "RoleBinding", "rolebindings")
        .name_rule(NameRule::PathSegment)
        .allow_create_on_update()
        .default(default_binding)
        .validate(|object| binding(object, Scope::Namespaced))
        .validate_update(|new, old| {
            let mut errors = binding(new, Scope::Namespaced);
            errors.extend(role_is_kept(new, old));
            errors
        })
        .table(binding_columns(), binding_row)
}
