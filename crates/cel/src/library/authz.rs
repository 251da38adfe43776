//! Functions of the variable `authorizer` (k8s.io/apiserver/pkg/cel/library/authz.go).

use crate::error::EvalError;
use crate::function::Functions;
use crate::value::{Opaque, Value};

fn call(function: &str, arguments: &[Value]) -> Result<Value, EvalError> {
    let Some((Value::Opaque(receiver), rest)) = arguments.split_first() else {
        return Err(EvalError::no_such_overload());
    };
    let Opaque::Authorizer(receiver) = &**receiver else {
        return Err(EvalError::no_such_overload());
    };
    let texts: Option<Vec<&str>> = rest.iter().map(Value::as_str).collect();
    receiver.call(function, &texts.ok_or_else(EvalError::no_such_overload)?)
}

macro_rules! functions {
    ($functions:ident: $($name:literal $id:literal $receiver:literal $rest:literal $result:literal),+ $(,)?) => {$(
        $functions.native(
            $name,
            $id,
            concat!(".(kubernetes.authorization.", $receiver, $rest, "):", $result),
            |arguments| call($name, arguments),
        );
    )+};
}

/// Declares the checks.
pub(super) fn declare(functions: &mut Functions) {
    functions!(functions:
        "path" "authorizer_path" "Authorizer" ",string" "kubernetes.authorization.PathCheck",
        "group" "authorizer_group" "Authorizer" ",string" "kubernetes.authorization.GroupCheck",
        "serviceAccount" "authorizer_serviceaccount" "Authorizer" ",string,string" "kubernetes.authorization.Authorizer",
        "resource" "groupcheck_resource" "GroupCheck" ",string" "kubernetes.authorization.ResourceCheck",
        "subresource" "resourcecheck_subresource" "ResourceCheck" ",string" "kubernetes.authorization.ResourceCheck",
        "namespace" "resourcecheck_namespace" "ResourceCheck" ",string" "kubernetes.authorization.ResourceCheck",
        "name" "resourcecheck_name" "ResourceCheck" ",string" "kubernetes.authorization.ResourceCheck",
        "check" "pathcheck_check" "PathCheck" ",string" "kubernetes.authorization.Decision",
        "check" "resourcecheck_check" "ResourceCheck" ",string" "kubernetes.authorization.Decision",
        "errored" "decision_errored" "Decision" "" "bool",
        "error" "decision_error" "Decision" "" "string",
        "allowed" "decision_allowed" "Decision" "" "bool",
        "reason" "decision_reason" "Decision" "" "string",
    );
}

/// Declares the selectors of checks.
pub(super) fn declare_selectors(functions: &mut Functions) {
    functions!(functions:
        "fieldSelector" "authorizer_fieldselector" "ResourceCheck" ",string" "kubernetes.authorization.ResourceCheck",
        "labelSelector" "authorizer_labelselector" "ResourceCheck" ",string" "kubernetes.authorization.ResourceCheck",
    );
}
