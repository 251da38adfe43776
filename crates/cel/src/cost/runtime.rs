//! Costs of calls as they are evaluated (cel-go's interpreter/runtimecost.go).

use crate::limits::AUTHORIZATION_CHECK_COST;
use crate::value::{Opaque, Value};

use super::calls::{is_text_order, selector};
use super::{LIST, REGEX_FACTOR, STRING_FACTOR, SizeEstimate, scale};

/// The cost of a call that is done, without that of its arguments. `overload` is empty where it was not known before.
pub(crate) fn call_cost(function: &str, overload: &str, args: &[Value], result: Option<&Value>) -> u64 {
    extension(overload, args, result)
        .or_else(|| kubernetes(function, overload, args, result))
        .unwrap_or_else(|| standard(overload, args))
}

fn size(args: &[Value], index: usize) -> u64 {
    args.get(index).map_or(1, Value::cost_size)
}

/// The size by Kubernetes' rule, by which an optional value has the size 1.
fn plain_size(args: &[Value], index: usize) -> u64 {
    args.get(index).and_then(Value::sized).unwrap_or(1)
}

fn result_size(result: Option<&Value>) -> u64 {
    result.and_then(Value::sized).unwrap_or(1)
}

fn allocating(factor: f64, size: u64) -> u64 {
    ((size as f64 * factor) as u64).saturating_add(1 + LIST)
}

fn extension(overload: &str, args: &[Value], result: Option<&Value>) -> Option<u64> {
    let product = |factor: f64| {
        let product = plain_size(args, 0).saturating_mul(plain_size(args, 1));
        ((product as f64 * factor) as u64).saturating_add(1)
    };
    let pairs = |index: usize| {
        let Some(Value::List(list)) = args.get(index) else {
            return 1;
        };
        let texts = matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))));
        let size = list.len() as u64;
        allocating(if texts { 2.0 + STRING_FACTOR } else { 2.0 }, size.saturating_mul(size))
    };
    Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => product(1.0),
        "list_sets_equivalent_list" => product(2.0),
        "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, result_size(result)),
        "list_flatten" | "list_flatten_int" => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => *depth as f64,
                _ => 1.0,
            };
            allocating(depth, plain_size(args, 0))
        }
        "list_distinct" => pairs(0),
        _ if overload.ends_with("_sort") => pairs(0),
        _ if overload.ends_with("_sortByAssociatedKeys") => pairs(1),
        _ => return None,
    })
}

fn kubernetes(function: &str, overload: &str, args: &[Value], result: Option<&Value>) -> Option<u64> {
    let walk = |index: usize, factor: f64| scale(plain_size(args, index), factor * STRING_FACTOR);
    Some(match function {
        "check" => AUTHORIZATION_CHECK_COST,
        "serviceAccount"
        | "path"
        | "group"
        | "resource"
        | "subresource"
        | "namespace"
        | "name"
        | "allowed"
        | "reason"
        | "error"
        | "errored"
        | "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => 1,
        "fieldSelector" | "labelSelector" => selector(SizeEstimate::fixed(plain_size(args, 1))).max,
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            args.first().map_or(0, |value| traversal(value, &mut 1_000_000))
        }
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => walk(0, 1.0),
        "replace" | "split" => walk(0, 2.0),
        "join" => scale(result_size(result), 2.0 * STRING_FACTOR),
        "find" | "findAll" => matching(plain_size(args, 0), plain_size(args, 1)),
        "ip" if overload == "cidr_ip" => 1,
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => walk(0, 1.0),
        "ip.isCanonical" => walk(0, 2.0),
        "containsIP" => {
            let text = if overload == "cidr_contains_ip_string" {
                walk(1, 1.0)
            } else {
                0
            };
            walk(0, 2.0) + text
        }
        "containsCIDR" => {
            let text = if overload == "cidr_contains_cidr_string" {
                walk(1, 1.0)
            } else {
                0
            };
            walk(0, 2.0) + walk(0, 1.0) + 1 + text
        }
        "validate" => match args.first() {
            Some(Value::Opaque(format)) => match &**format {
                Opaque::Format(format) => matching(plain_size(args, 1), format.regex_size),
                _ => return None,
            },
            _ => return None,
        },
        "_==_" if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        _ => return None,
    })
}

fn matching(text: u64, pattern: u64) -> u64 {
    scale(text.saturating_add(1), STRING_FACTOR).saturating_mul(scale(pattern, REGEX_FACTOR))
}

fn standard(overload: &str, args: &[Value]) -> u64 {
    let walk = |index: usize| scale(size(args, index), STRING_FACTOR);
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
        | "string_format" => walk(0),
        "in_list" => size(args, 1),
        "equals" | "not_equals" => scale(size(args, 0).min(size(args, 1)), STRING_FACTOR),
        "add_string" | "add_bytes" => scale(size(args, 0).saturating_add(size(args, 1)), STRING_FACTOR),
        "matches_string" => matching(size(args, 0), size(args, 1)),
        "contains_string" => walk(0).saturating_mul(walk(1)),
        _ if is_text_order(overload) => scale(size(args, 0).min(size(args, 1)), STRING_FACTOR),
        _ => 1,
    }
}

/// The cost of walking a value as a tree. `budget` bounds the work of counting.
fn traversal(value: &Value, budget: &mut u64) -> u64 {
    if *budget == 0 {
        return 0;
    }
    *budget -= 1;
    match value {
        Value::String(text) => (text.len() as f64 * STRING_FACTOR) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * STRING_FACTOR) as u64,
        Value::List(list) => list
            .iter()
            .flatten()
            .fold(0, |sum, value| sum + traversal(&value, budget)),
        Value::Map(map) => map.entries().into_iter().flatten().fold(0, |sum, (key, value)| {
            sum + traversal(&key.value(), budget) + traversal(&value, budget)
        }),
        _ => 1,
    }
}
