//! Estimated costs of Kubernetes' functions and of cel-go's extensions.

use crate::limits::{AUTHORIZATION_CHECK_COST, MAX_FORMAT_SIZE, MAX_NAME_FORMAT_REGEX_SIZE};
use crate::types::Type;

use super::{CostEstimate, LIST, REGEX_FACTOR, STRING_FACTOR, STRUCT, SizeEstimate};

/// An argument of a call, as far as its cost depends on it.
pub(super) struct Argument {
    pub ty: Type,
    /// The size it has at most, if anything is known about it.
    pub size: Option<SizeEstimate>,
    /// The size of its elements, if it is a list about whose elements the hints know.
    pub element_size: Option<SizeEstimate>,
    /// The number it is, if it is a literal.
    pub int: Option<i64>,
}

impl Argument {
    pub fn size(&self) -> SizeEstimate {
        self.size.unwrap_or(SizeEstimate::UNKNOWN)
    }

    /// A number that the size of a result is computed from.
    fn number(&self, default: u64) -> u64 {
        self.int.map_or(default, |number| u64::try_from(number).unwrap_or(0))
    }

    fn element(&self) -> Option<(&Type, SizeEstimate)> {
        let size = self.element_size.unwrap_or(SizeEstimate::UNKNOWN);
        self.ty.parameters().first().map(|ty| (*ty, size))
    }
}

/// The cost of a call without that of its arguments, and the size of what it gives.
pub(super) struct CallEstimate {
    pub cost: CostEstimate,
    pub size: Option<SizeEstimate>,
}

fn plain(cost: CostEstimate) -> Option<CallEstimate> {
    Some(CallEstimate { cost, size: None })
}

fn sized(cost: CostEstimate, size: SizeEstimate) -> Option<CallEstimate> {
    Some(CallEstimate { cost, size: Some(size) })
}

const ONE: CostEstimate = CostEstimate::fixed(1);

/// What parsing a selector costs.
pub(super) fn selector(length: SizeEstimate) -> CostEstimate {
    let requirements = length.by(0.5).by((LIST + STRUCT) as f64);
    CostEstimate::fixed(LIST)
        .plus(length.by(STRING_FACTOR))
        .plus(requirements)
}

fn regex(text: SizeEstimate, pattern: SizeEstimate) -> CostEstimate {
    text.add(SizeEstimate::fixed(1))
        .by(STRING_FACTOR)
        .times(pattern.by(REGEX_FACTOR))
}

fn allocating(factor: f64, size: SizeEstimate) -> Option<CallEstimate> {
    sized(size.by(factor).plus(ONE).plus(CostEstimate::fixed(LIST)), size)
}

/// Costs of the `sets` and `lists` extensions, which go before all others.
pub(super) fn extension(overload: &str, target: Option<&Argument>, args: &[Argument]) -> Option<CallEstimate> {
    match (overload, target, args) {
        ("list_sets_contains_list" | "list_sets_intersects_list", _, [one, two]) => {
            plain(one.size().times(two.size()).by(1.0).plus(ONE))
        }
        ("list_sets_equivalent_list", _, [one, two]) => plain(one.size().times(two.size()).by(2.0).plus(ONE)),
        ("list_slice", Some(target), [start, end]) => {
            let length = end.number(target.size().max).wrapping_sub(start.number(0));
            allocating(1.0, SizeEstimate::fixed(length))
        }
        ("lists_range", None, [end]) => allocating(1.0, SizeEstimate::fixed(end.number(u64::MAX))),
        ("list_reverse", Some(target), []) => allocating(1.0, target.size()),
        ("list_flatten" | "list_flatten_int", Some(target), _) => {
            let depth = args.first().map_or(1, |depth| depth.number(u64::MAX));
            allocating(depth as f64, target.size())
        }
        ("list_distinct", Some(target), []) => allocating(2.0, target.size().times(target.size())),
        (_, Some(target), _) if overload.ends_with("_sort") || overload.ends_with("_sortByAssociatedKeys") => {
            let keys = args.first().unwrap_or(target);
            let texts = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
            let factor = if texts { 2.0 + STRING_FACTOR } else { 2.0 };
            allocating(factor, keys.size().times(keys.size()))
        }
        _ => None,
    }
}

/// Costs of Kubernetes' functions, and of those that it counts by its own rules.
pub(super) fn kubernetes(
    function: &str,
    overload: &str,
    target: Option<&Argument>,
    args: &[Argument],
) -> Option<CallEstimate> {
    match function {
        "check" => return plain(CostEstimate::fixed(AUTHORIZATION_CHECK_COST)),
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
        | "getQuery" => return plain(ONE),
        "_==_" => return equality(args),
        _ => {}
    }
    if let Some(found) = target.and_then(|target| on_receiver(function, target, args)) {
        return Some(found);
    }
    let first = args.first()?;
    match function {
        "fieldSelector" | "labelSelector" if args.len() == 1 => plain(selector(first.size())),
        "url" | "jsonpatch.escapeKey" if args.len() == 1 => sized(first.size().by(STRING_FACTOR), first.size()),
        "ip" if overload == "cidr_ip" => plain(ONE),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            plain(first.size().by(STRING_FACTOR))
        }
        "ip.isCanonical" => plain(first.size().by(2.0 * STRING_FACTOR)),
        "containsIP" | "containsCIDR" => plain(containment(function, overload, first)),
        "validate" => {
            let pattern = MAX_NAME_FORMAT_REGEX_SIZE as f64 * REGEX_FACTOR;
            plain(first.size().by(STRING_FACTOR).by(pattern))
        }
        _ => {
            if function == "ip" && overload == "cidr_ip" {
                return plain(ONE);
            }
            None
        }
    }
}

fn containment(function: &str, overload: &str, other: &Argument) -> CostEstimate {
    let bytes = SizeEstimate { min: 4, max: 16 };
    let mut cost = bytes.add(bytes).by(STRING_FACTOR);
    if function == "containsCIDR" {
        cost = cost.plus(bytes.by(STRING_FACTOR)).plus(ONE);
    }
    if overload.ends_with("_string") {
        cost = cost.plus(other.size().by(STRING_FACTOR));
    }
    cost
}

fn on_receiver(function: &str, target: &Argument, args: &[Argument]) -> Option<CallEstimate> {
    let size = target.size();
    match function {
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            let Some((ty, element)) = target.element() else {
                let cost = if function == "includes" {
                    size.by_cost(ONE)
                } else {
                    size.by(STRING_FACTOR)
                };
                return plain(cost);
            };
            let texts = matches!(ty, Type::String | Type::Bytes);
            let each = if texts {
                ONE.plus(element.by(STRING_FACTOR))
            } else {
                ONE
            };
            plain(size.by_cost(each))
        }
        "lowerAscii" | "upperAscii" | "substring" | "trim" => sized(size.by(STRING_FACTOR), size),
        "replace" if args.len() >= 2 => sized(
            size.by(2.0 * STRING_FACTOR),
            replaced(size, args[0].size(), args[1].size()),
        ),
        "split" => {
            let max = args
                .get(1)
                .and_then(|limit| limit.int)
                .map_or(size.max, |limit| limit as u64);
            sized(size.by(2.0 * STRING_FACTOR), SizeEstimate { min: 0, max })
        }
        "join" => {
            let mut joined = SizeEstimate { min: 0, max: 0 };
            if let Some((_, element)) = target.element() {
                joined = size.times(element);
            }
            if let Some(separator) = args.first() {
                let count = SizeEstimate {
                    min: size.min.saturating_sub(1),
                    max: size.max.saturating_sub(1),
                };
                joined = joined.add(separator.size().times(count));
            }
            sized(joined.by(STRING_FACTOR), joined)
        }
        "find" | "findAll" if !args.is_empty() => {
            sized(regex(size, args[0].size()), SizeEstimate { min: 0, max: size.max })
        }
        _ => None,
    }
}

/// The size of a string in which something is replaced: the most of the longest, the least of the shortest.
fn replaced(text: SizeEstimate, old: SizeEstimate, new: SizeEstimate) -> SizeEstimate {
    let ratio = |one: u64, two: u64| (one as f64 / two as f64).ceil() as u64;
    let (mut count, mut kept) = (SizeEstimate { min: 0, max: 0 }, SizeEstimate { min: 0, max: 0 });
    if old.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = ratio(text.max, old.min);
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = ratio(text.min, old.max);
    }
    count.times(new).add(kept)
}

/// Equality of values of Kubernetes' types.
fn equality(args: &[Argument]) -> Option<CallEstimate> {
    let [one, two] = args else { return None };
    if one.ty != two.ty {
        return None;
    }
    match &one.ty {
        Type::Opaque(name, _) if matches!(&**name, "net.IP" | "net.CIDR") => plain(ONE),
        Type::Object(name) => match &**name {
            "kubernetes.Quantity"
            | "kubernetes.Semver"
            | "kubernetes.authorization.Authorizer"
            | "kubernetes.authorization.PathCheck"
            | "kubernetes.authorization.GroupCheck"
            | "kubernetes.authorization.ResourceCheck"
            | "kubernetes.authorization.Decision" => plain(ONE),
            "kubernetes.NamedFormat" => plain(
                CostEstimate {
                    min: 1,
                    max: MAX_FORMAT_SIZE,
                }
                .by(STRING_FACTOR),
            ),
            "kubernetes.URL" => {
                let max = two.size.map_or(1, |size| size.max);
                plain(CostEstimate { min: 1, max }.by(STRING_FACTOR))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Costs of the standard functions, whose arguments are all in `all`, the receiver first.
pub(super) fn standard(overload: &str, target: Option<&Argument>, args: &[Argument]) -> Option<CallEstimate> {
    match (overload, target, args) {
        ("string_format", Some(target), _) => plain(target.size().by(STRING_FACTOR)),
        ("string_to_bytes", _, [text]) => {
            let size = text.size();
            sized(
                size.by(STRING_FACTOR),
                SizeEstimate {
                    min: size.min,
                    max: size.max.wrapping_mul(4),
                },
            )
        }
        ("bytes_to_string", _, [bytes]) => {
            let size = bytes.size();
            sized(
                size.by(STRING_FACTOR),
                SizeEstimate {
                    min: size.min / 4,
                    max: size.max,
                },
            )
        }
        ("strings_quote", _, [text]) => {
            let size = text.size();
            let quoted = SizeEstimate {
                min: size.min.wrapping_add(2),
                max: size.max.wrapping_mul(2).wrapping_add(2),
            };
            sized(size.by(STRING_FACTOR), quoted)
        }
        ("starts_with_string" | "ends_with_string", _, [part]) => plain(part.size().by(STRING_FACTOR)),
        ("in_list", _, [_, list]) => plain(list.size().by(1.0)),
        ("matches_string", Some(text), [pattern]) => plain(regex(text.size(), pattern.size())),
        ("contains_string", Some(text), [part]) => {
            plain(text.size().by(STRING_FACTOR).times(part.size().by(STRING_FACTOR)))
        }
        ("equals" | "not_equals", _, [one, two]) => plain(comparison(one, two)),
        (_, _, [one, two]) if is_text_order(overload) => plain(comparison(one, two)),
        _ => None,
    }
}

fn comparison(one: &Argument, two: &Argument) -> CostEstimate {
    let max = one.size().max.min(two.size().max);
    CostEstimate {
        min: u64::from(max > 0),
        max,
    }
    .by(STRING_FACTOR)
}

/// Whether an overload orders strings or bytes.
pub(super) fn is_text_order(overload: &str) -> bool {
    ["less_", "less_equals_", "greater_", "greater_equals_"]
        .iter()
        .any(|prefix| matches!(overload.strip_prefix(prefix), Some("string" | "bytes")))
}
