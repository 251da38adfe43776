//! `roles`. Upstream has no columns of its own for them.

use apiserver::Kind;
use apiserver::kind::NameRule;

use super::{GROUP, Scope, rules};

pub(crate) fn kind() -> Kind {
    Kind::namespaced(GROUP, "v1", "Role", "roles")
        .name_rule(NameRule::PathSegment)
        .allow_create_on_update()
        .validate(|role| rules(role, Scope::Namespaced))
}
