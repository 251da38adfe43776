//! The estimate of an expression's cost (cel-go's checker/cost.go).

use std::collections::HashMap;
use std::sync::Arc;

use crate::check::{Checked, Reference};
use crate::syntax::{ACCUMULATOR, Comprehension, Expr, NodeId};
use crate::types::Type;
use crate::value::Value;

use super::calls::{self, Argument, CallEstimate};
use super::{CostEstimate, IDENT, LIST, MAP, STRING_FACTOR, STRUCT, SizeEstimate, SizeHints};

/// Estimates what a checked expression costs.
pub(crate) fn estimate(checked: &Checked, hints: &dyn SizeHints) -> CostEstimate {
    let mut coster = Coster {
        checked,
        hints,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    coster.cost(checked.ast.root)
}

/// The sizes of what a list or map holds.
#[derive(Clone, Copy)]
struct Entry {
    list: bool,
    key: SizeEstimate,
    value: SizeEstimate,
}

struct Local {
    name: Arc<str>,
    path: Vec<String>,
    size: Option<SizeEstimate>,
    entry: Option<Entry>,
}

struct Coster<'c> {
    checked: &'c Checked,
    hints: &'c dyn SizeHints,
    paths: HashMap<NodeId, Vec<String>>,
    sizes: HashMap<NodeId, SizeEstimate>,
    entries: HashMap<NodeId, Entry>,
    locals: Vec<Local>,
}

impl Coster<'_> {
    fn cost(&mut self, id: NodeId) -> CostEstimate {
        match self.checked.ast.get(id).clone() {
            Expr::Literal(_) => CostEstimate::fixed(0),
            Expr::Ident(name) => {
                let path = match self.local(&name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.trim_start_matches('.').to_owned()],
                };
                self.paths.insert(id, path);
                CostEstimate::fixed(IDENT)
            }
            Expr::Select { operand, field, test } => {
                let mut sum = self.cost(operand);
                if test {
                    return sum;
                }
                if matches!(
                    self.checked.ty(operand),
                    Type::Map(_) | Type::Object(_) | Type::Param(_)
                ) {
                    sum = sum.plus(CostEstimate::fixed(IDENT));
                }
                self.extend_path(id, operand, &field);
                sum
            }
            Expr::Call { target, function, args } => self.call(id, target, &function, &args),
            Expr::List { elements } => {
                let elements: Vec<NodeId> = elements.iter().map(|(element, _)| *element).collect();
                let (sum, value) = self.all(&elements);
                self.entries.insert(
                    id,
                    Entry {
                        list: true,
                        key: SizeEstimate::fixed(1),
                        value,
                    },
                );
                sum.plus(CostEstimate::fixed(LIST))
            }
            Expr::Map { entries } => {
                let keys: Vec<NodeId> = entries.iter().map(|entry| entry.key).collect();
                let values: Vec<NodeId> = entries.iter().map(|entry| entry.value).collect();
                let ((sum, key), (more, value)) = (self.all(&keys), self.all(&values));
                self.entries.insert(
                    id,
                    Entry {
                        list: false,
                        key,
                        value,
                    },
                );
                sum.plus(more).plus(CostEstimate::fixed(MAP))
            }
            Expr::Struct { fields, .. } => {
                let values: Vec<NodeId> = fields.iter().map(|field| field.value).collect();
                self.all(&values).0.plus(CostEstimate::fixed(STRUCT))
            }
            Expr::Comprehension(it) if self.checked.ast.is_bind(&it) => self.bind(id, &it),
            Expr::Comprehension(it) => self.comprehension(id, &it),
        }
    }

    /// The cost of some nodes, and the sizes that they have at least and at most.
    fn all(&mut self, nodes: &[NodeId]) -> (CostEstimate, SizeEstimate) {
        let mut sum = CostEstimate::fixed(0);
        let mut size = SizeEstimate {
            min: if nodes.is_empty() { 0 } else { u64::MAX },
            max: 0,
        };
        for node in nodes {
            sum = sum.plus(self.cost(*node));
            size = size.union(self.size(*node).unwrap_or(SizeEstimate::UNKNOWN));
        }
        (sum, size)
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn ident(&self, id: NodeId) -> Option<&Local> {
        match self.checked.ast.get(id) {
            Expr::Ident(name) => self.local(name),
            _ => None,
        }
    }

    fn path(&self, id: NodeId) -> Vec<String> {
        match self.ident(id) {
            Some(local) => local.path.clone(),
            None => self.paths.get(&id).cloned().unwrap_or_default(),
        }
    }

    fn extend_path(&mut self, id: NodeId, of: NodeId, step: &str) {
        let mut path = self.path(of);
        path.push(step.to_owned());
        self.paths.insert(id, path);
    }

    /// The size of a node, as far as it is known.
    fn size(&mut self, id: NodeId) -> Option<SizeEstimate> {
        if let Some(size) = self.sizes.get(&id) {
            return Some(*size);
        }
        match self.checked.ast.get(id) {
            Expr::Literal(value) => {
                return match value {
                    Value::Type(_) => None,
                    _ => Some(SizeEstimate::fixed(value.cost_size())),
                };
            }
            Expr::List { elements } => return Some(SizeEstimate::fixed(elements.len() as u64)),
            Expr::Map { entries } => return Some(SizeEstimate::fixed(entries.len() as u64)),
            _ => {}
        }
        if let Some(size) = self.hints.size(&self.path(id), self.checked.ty(id)) {
            self.sizes.insert(id, size);
            return Some(size);
        }
        if scalar(self.checked.ty(id)) {
            return Some(SizeEstimate::fixed(1));
        }
        self.ident(id).and_then(|local| local.size)
    }

    fn entry(&self, id: NodeId) -> Option<Entry> {
        self.entries
            .get(&id)
            .copied()
            .or_else(|| self.ident(id).and_then(|local| local.entry))
    }

    fn push(&mut self, name: &Arc<str>, node: NodeId) {
        let local = Local {
            name: name.clone(),
            path: self.path(node),
            size: self.size(node),
            entry: self.entry(node),
        };
        self.locals.push(local);
    }

    /// Declares a variable of a loop over a node's keys or values.
    fn push_element(&mut self, name: &Arc<str>, range: NodeId, wanted: Element) {
        let entry = self.entry(range);
        let list = entry.map_or_else(|| matches!(self.checked.ty(range), Type::List(_)), |entry| entry.list);
        let (step, is_key) = match (wanted, list) {
            (Element::Key, true) => ("@indices", true),
            (Element::Key | Element::Single, false) => ("@keys", true),
            (Element::Value, false) => ("@values", false),
            (Element::Value | Element::Single, true) => ("@items", false),
        };
        let mut path = self.path(range);
        path.push(step.to_owned());
        let size = entry.map(|entry| if is_key { entry.key } else { entry.value });
        self.locals.push(Local {
            name: name.clone(),
            path,
            size,
            entry: None,
        });
    }

    fn bind(&mut self, id: NodeId, it: &Comprehension) -> CostEstimate {
        let mut sum = self.cost(it.range).plus(self.cost(it.init));
        self.push(&it.accu, it.init);
        sum = sum.plus(self.cost(it.result));
        let (size, entry) = (self.size(it.result), self.entry(it.result));
        self.locals.pop();
        self.keep(id, size, entry);
        sum
    }

    fn keep(&mut self, id: NodeId, size: Option<SizeEstimate>, entry: Option<Entry>) {
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
        if let Some(entry) = entry {
            self.entries.insert(id, entry);
        }
    }

    fn comprehension(&mut self, id: NodeId, it: &Comprehension) -> CostEstimate {
        let mut sum = self.cost(it.range).plus(self.cost(it.init));
        self.push(&it.accu, it.init);
        let around = self.locals.len();
        match &it.var2 {
            Some(second) => {
                self.push_element(&it.var, it.range, Element::Key);
                self.push_element(second, it.range, Element::Value);
            }
            None => self.push_element(&it.var, it.range, Element::Single),
        }
        let each = self.cost(it.condition).plus(self.cost(it.step));
        let entry = self.entry(it.step);
        self.locals.truncate(around);
        sum = sum.plus(self.cost(it.result));
        self.locals.pop();
        let range = self.size(it.range).unwrap_or(SizeEstimate::UNKNOWN);
        sum = sum.plus(range.by_cost(each));
        match self.checked.ast.get(it.init) {
            Expr::Literal(_) => {
                let size = self.size(it.init);
                self.keep(id, size, None);
            }
            Expr::List { .. } | Expr::Map { .. } => self.keep(id, Some(range), entry),
            _ => {}
        }
        sum
    }

    fn argument(&mut self, id: NodeId) -> Argument {
        let mut path = self.path(id);
        if path.first().is_some_and(|first| first == ACCUMULATOR) {
            path.clear();
        }
        let computed = self.size(id);
        let size = computed.or_else(|| self.hints.size(&path, self.checked.ty(id)));
        if !path.is_empty() {
            path.push("@items".to_owned());
        }
        let element = self.checked.ty(id).parameters().first().copied();
        let element_size = element.and_then(|element| self.hints.size(&path, element));
        let int = match self.checked.ast.get(id) {
            Expr::Literal(Value::Int(number)) => Some(*number),
            _ => None,
        };
        Argument {
            ty: self.checked.ty(id).clone(),
            size,
            element_size,
            int,
        }
    }

    fn call(&mut self, id: NodeId, target: Option<NodeId>, function: &str, args: &[NodeId]) -> CostEstimate {
        if function == "dyn" {
            let cost = self.cost(args[0]).plus(CostEstimate::fixed(1));
            let (size, entry) = (self.size(args[0]), self.entry(args[0]));
            self.keep(id, size, entry);
            return cost;
        }
        let costs: Vec<CostEstimate> = args.iter().map(|arg| self.cost(*arg)).collect();
        let arguments: Vec<Argument> = args.iter().map(|arg| self.argument(*arg)).collect();
        let Reference::Overloads(found, overloads) = self.checked.reference(id).clone() else {
            return CostEstimate::fixed(0);
        };
        let mut sum = CostEstimate::fixed(0);
        let receiver = target.map(|target| {
            sum = sum.plus(self.cost(target));
            self.argument(target)
        });
        let mut total = CostEstimate { min: u64::MAX, max: 0 };
        let mut size: Option<SizeEstimate> = None;
        for index in overloads {
            let overload = found.overloads[index].id.clone();
            let one = self.one(id, function, &overload, (receiver.as_ref(), &arguments, args, &costs));
            total = total.union(one.cost);
            size = match (size, one.size) {
                (Some(before), Some(now)) => Some(before.union(now)),
                (before, now) => before.or(now),
            };
            let step = match &*overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let Some(step) = step {
                size = self.entry(args[0]).map(|entry| entry.value);
                self.extend_path(id, args[0], step);
            }
            if size.is_none() {
                size = self.size(id);
            }
        }
        self.keep(id, size, None);
        sum.plus(total)
    }

    /// The estimate for one overload, with the cost of the arguments.
    fn one(
        &mut self,
        id: NodeId,
        function: &str,
        overload: &str,
        (target, arguments, args, costs): (Option<&Argument>, &[Argument], &[NodeId], &[CostEstimate]),
    ) -> CallEstimate {
        let sum = costs.iter().fold(CostEstimate::fixed(0), |sum, cost| sum.plus(*cost));
        let known = calls::extension(overload, target, arguments)
            .or_else(|| calls::kubernetes(function, overload, target, arguments))
            .or_else(|| calls::standard(overload, target, arguments));
        if let Some(known) = known {
            return CallEstimate {
                cost: known.cost.plus(sum),
                size: known.size,
            };
        }
        match overload {
            "logical_or" | "logical_and" => {
                let max = costs[0].plus(costs[1]).max;
                CallEstimate {
                    cost: CostEstimate { min: costs[0].min, max },
                    size: None,
                }
            }
            "conditional" => {
                let size = arguments[1].size().union(arguments[2].size());
                if let (Some(one), Some(two)) = (self.entry(args[1]), self.entry(args[2])) {
                    self.keep(id, None, Some(one.union(two)));
                }
                CallEstimate {
                    cost: costs[0].plus(costs[1].union(costs[2])),
                    size: Some(size),
                }
            }
            "add_string" | "add_bytes" | "add_list" => {
                let size = arguments[0].size().add(arguments[1].size());
                if let (Some(one), Some(two)) = (self.entry(args[0]), self.entry(args[1])) {
                    self.keep(id, None, Some(one.union(two)));
                }
                let cost = if overload == "add_list" {
                    CostEstimate::fixed(1)
                } else {
                    size.by(STRING_FACTOR)
                };
                CallEstimate {
                    cost: cost.plus(sum),
                    size: Some(size),
                }
            }
            _ => CallEstimate {
                cost: CostEstimate::fixed(1).plus(sum),
                size: None,
            },
        }
    }
}

#[derive(Clone, Copy)]
enum Element {
    Key,
    Value,
    /// The only variable: a list's element or a map's key.
    Single,
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self {
            list: self.list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

/// Whether values of a type have one size.
fn scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        _ => ty.optional_of().is_some_and(scalar),
    }
}
