//! Checks of literals in a tree whose types are right (cel-go's cel/validator.go, ext/formatting.go).

use crate::issue::Issues;
use crate::library::{check_format, regex};
use crate::syntax::{Expr, NodeId, children};
use crate::time::{self, Timestamp};
use crate::types::Type;
use crate::value::Value;

use super::{Checked, Reference};

/// Reports what is wrong with literals: durations, moments, regular expressions, formats.
pub(super) fn validate(checked: &Checked, mixed_literals: bool, issues: &mut Issues) {
    if !mixed_literals {
        homogeneous(checked, checked.ast.root, issues);
    }
    let nodes = checked.references.iter().enumerate();
    for (id, reference) in nodes {
        let Reference::Overloads(function, _) = reference else {
            continue;
        };
        let Some((target, args, id)) = checked.ast.call_at(id) else {
            continue;
        };
        let literal = |index: usize| {
            let node = *target.iter().chain(args).nth(index)?;
            match checked.ast.get(node) {
                Expr::Literal(Value::String(text)) => Some((node, text.clone())),
                _ => None,
            }
        };
        let invalid = match function.name {
            "duration" => literal(0).filter(|(_, text)| time::parse_duration(text).is_none()),
            "timestamp" => literal(0).filter(|(_, text)| {
                time::parse_rfc3339(text)
                    .and_then(|(seconds, nanos, _)| Timestamp::new(seconds, nanos))
                    .is_none()
            }),
            "matches" => literal(1).filter(|(_, text)| regex::compile(text).is_err()),
            "format" => {
                format(checked, issues, (id, literal(0).map(|(_, text)| text), args));
                None
            }
            _ => None,
        };
        if let Some((node, _)) = invalid {
            issues.report(
                checked.ast.position(node),
                format!("invalid {} argument", function.name),
            );
        }
    }
}

type FormatCall<'a> = (
    crate::syntax::NodeId,
    Option<crate::value::Text>,
    &'a [crate::syntax::NodeId],
);

fn format(checked: &Checked, issues: &mut Issues, (id, text, args): FormatCall<'_>) {
    let (Some(text), [list]) = (text, args) else { return };
    let Expr::List { elements } = checked.ast.get(*list) else {
        return;
    };
    let types: Vec<Type> = elements
        .iter()
        .map(|(element, _)| checked.ty(*element).clone())
        .collect();
    if let Err((message, about)) = check_format(&text, &types) {
        let place = about.map_or(id, |index| elements[index].0);
        issues.report(checked.ast.position(place), message);
    }
}

/// Reports literals that mix types, except in the arguments of `format`.
fn homogeneous(checked: &Checked, root: NodeId, issues: &mut Issues) {
    let mut rest = vec![root];
    while let Some(id) = rest.pop() {
        let expr = checked.ast.get(id);
        match expr {
            Expr::Call { function, .. } if &**function == "format" => continue,
            Expr::List { elements } => same(checked, elements.iter().copied(), issues),
            Expr::Map { entries } => {
                same(checked, entries.iter().map(|entry| (entry.key, false)), issues);
                same(
                    checked,
                    entries.iter().map(|entry| (entry.value, entry.optional)),
                    issues,
                );
            }
            _ => {}
        }
        rest.extend(children(expr));
    }
}

fn same(checked: &Checked, nodes: impl Iterator<Item = (NodeId, bool)>, issues: &mut Issues) {
    let mut first: Option<&Type> = None;
    for (id, optional) in nodes {
        let ty = checked.ty(id);
        let ty = if optional { ty.optional_of().unwrap_or(ty) } else { ty };
        match first {
            None => first = Some(ty),
            Some(first) if first != ty => {
                issues.report(
                    checked.ast.position(id),
                    format!("expected type '{first}' but found '{ty}'"),
                );
                return;
            }
            Some(_) => {}
        }
    }
}
