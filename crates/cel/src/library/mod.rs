//! The libraries of functions, and which of them Kubernetes enables.

mod authz;
pub mod format;
mod lists;
mod math;
pub mod network;
mod optional;
mod quantity;
pub(crate) mod regex;
pub mod semver;
mod sets;
mod std;
mod strings;
mod strings_format;
pub mod url;

pub(crate) use strings_format::check as check_format;

use crate::function::Functions;

/// A library of functions and macros that an environment can have besides the standard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    /// Optional values: `optional.of(x)`, `a.?b`, `a[?b]`, `optMap`, … (cel-go's `OptionalTypes`).
    Optional,
    /// `strings` extension, version 2.
    Strings,
    /// `sets` extension.
    Sets,
    /// `lists` extension, version 3.
    Lists,
    /// `math` extension, version 2. Kubernetes does not enable it.
    Math,
    /// `cel.bind`. Kubernetes enables it for DRA only.
    Bindings,
    /// Comprehensions over two variables.
    TwoVariables,
    /// Kubernetes' own lists: `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`, `includes`.
    KubernetesLists,
    /// `find`, `findAll`
    Regex,
    /// `url`, `isURL`
    Url,
    /// `quantity`, `isQuantity`
    Quantity,
    /// `ip`, `isIP`
    Ip,
    /// `cidr`, `isCIDR`
    Cidr,
    /// `format.named`, `format.dns1123Label`, …
    Format,
    /// `semver`, `isSemver`, version 1.
    Semver,
    /// Functions of the variable `authorizer`.
    Authorizer,
    /// `fieldSelector`, `labelSelector` of authorization checks.
    AuthorizerSelectors,
    /// `jsonpatch.escapeKey`; only for mutating admission policies.
    JsonPatch,
}

impl Library {
    /// What every environment of Kubernetes v1.37 has (k8s.io/apiserver/pkg/cel/environment/base.go).
    pub const KUBERNETES: &[Library] = &[
        Library::Url,
        Library::Regex,
        Library::Authorizer,
        Library::Optional,
        Library::Quantity,
        Library::Strings,
        Library::Sets,
        Library::Ip,
        Library::Cidr,
        Library::Format,
        Library::AuthorizerSelectors,
        Library::TwoVariables,
        Library::Semver,
        Library::Lists,
        Library::KubernetesLists,
    ];

    pub(crate) fn declare(self, functions: &mut Functions) {
        match self {
            Library::Optional => optional::declare(functions),
            Library::Strings => strings::declare(functions),
            Library::Sets => sets::declare(functions),
            Library::Lists => lists::declare(functions),
            Library::Math => math::declare(functions),
            Library::Bindings => {}
            Library::TwoVariables => std::declare_map_insert(functions),
            Library::KubernetesLists => lists::declare_kubernetes(functions),
            Library::Regex => regex::declare(functions),
            Library::Url => url::declare(functions),
            Library::Quantity => quantity::declare(functions),
            Library::Ip => network::declare_ip(functions),
            Library::Cidr => network::declare_cidr(functions),
            Library::Format => format::declare(functions),
            Library::Semver => semver::declare(functions),
            Library::Authorizer => authz::declare(functions),
            Library::AuthorizerSelectors => authz::declare_selectors(functions),
            Library::JsonPatch => strings::declare_json_patch(functions),
        }
    }
}

pub(crate) use std::{declare as declare_standard, named_type};
