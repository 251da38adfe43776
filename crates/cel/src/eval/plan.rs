//! From a checked tree to a plan: names become places, constants are computed, and the accesses to fields and elements of
//! one variable become one attribute, as their cost depends on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use crate::check::{Checked, Reference};
use crate::env::Scope;
use crate::function::{Body, Function};
use crate::library::regex as patterns;
use crate::provider::TypeProvider;
use crate::syntax::{ACCUMULATOR, Comprehension, Expr, NodeId, Position};
use crate::value::{Key, Map, Text, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepId(u32);

/// A planned expression.
pub(crate) struct Plan {
    pub(super) steps: Vec<(Step, Position)>,
    pub(super) root: StepId,
    pub(super) slots: usize,
}

pub(super) enum Step {
    Const(Value),
    Attribute(Attribute),
    Test(Attribute),
    And(StepId, StepId),
    Or(StepId, StepId),
    Equal {
        one: StepId,
        two: StepId,
        negated: bool,
    },
    NotStrictlyFalse(StepId),
    Call(Box<Call>),
    InSet {
        value: StepId,
        set: Set,
    },
    List {
        elements: Vec<(StepId, bool)>,
    },
    Map {
        entries: Vec<(StepId, StepId, bool)>,
    },
    Struct {
        name: Arc<str>,
        fields: Vec<(Text, StepId, bool)>,
        provider: Option<Arc<dyn TypeProvider>>,
    },
    Fold(Box<Fold>),
    Bind {
        slot: usize,
        init: StepId,
        result: StepId,
    },
    OptionalOr {
        optional: StepId,
        other: StepId,
        value: bool,
    },
}

#[derive(Clone)]
pub(super) struct Attribute {
    pub base: Base,
    pub qualifiers: Vec<Qualifier>,
}

#[derive(Clone)]
pub(super) enum Base {
    Variable(Arc<str>),
    Local(usize),
    Of(StepId),
    Conditional(StepId, Box<Attribute>, Box<Attribute>),
}

#[derive(Clone)]
pub(super) struct Qualifier {
    pub index: Index,
    pub optional: bool,
    /// Only asks whether it is there.
    pub test: bool,
    pub position: Position,
}

#[derive(Clone)]
pub(super) enum Index {
    Const(Value),
    Attribute(Box<Attribute>),
    Of(StepId),
}

pub(super) struct Call {
    pub function: Arc<Function>,
    /// The only overload that fits, or none where the arguments' types decide.
    pub overload: Option<usize>,
    pub member: bool,
    pub args: Vec<StepId>,
    pub regex: Option<Regex>,
}

/// Constants that `in` looks a value up in.
pub(super) struct Set {
    keys: BTreeSet<Key>,
    /// The bits of numbers that are not whole.
    fractions: BTreeSet<u64>,
}

pub(super) struct Fold {
    pub range: StepId,
    pub var: usize,
    pub var2: Option<usize>,
    pub accu: usize,
    pub init: StepId,
    pub condition: StepId,
    pub each: Each,
    pub result: StepId,
}

/// What a loop does with each element.
pub(super) enum Each {
    /// Evaluates a step; an error does not end the loop where a later element may absorb it.
    Eval { step: StepId, absorbs: bool },
    /// Adds to the list in place, which costs what adding two lists costs.
    Append {
        filter: Option<StepId>,
        element: StepId,
        cost: u64,
    },
    /// Adds to the map in place.
    Insert {
        filter: Option<StepId>,
        args: Vec<StepId>,
        function: Arc<Function>,
    },
}

/// Plans a checked expression.
pub(crate) fn plan(checked: &Checked, scope: &Scope) -> Plan {
    let mut planner = Planner {
        checked,
        scope,
        steps: Vec::new(),
        locals: Vec::new(),
        slots: 0,
    };
    let root = planner.plan(checked.ast.root);
    Plan {
        steps: planner.steps,
        root,
        slots: planner.slots,
    }
}

struct Planner<'c> {
    checked: &'c Checked,
    scope: &'c Scope,
    steps: Vec<(Step, Position)>,
    /// Variables of the comprehensions around; each lives in the slot of its depth.
    locals: Vec<Arc<str>>,
    slots: usize,
}

impl Planner<'_> {
    fn add(&mut self, step: Step, position: Position) -> StepId {
        self.steps.push((step, position));
        StepId(self.steps.len() as u32 - 1)
    }

    fn push_local(&mut self, name: &Arc<str>) -> usize {
        self.locals.push(name.clone());
        self.slots = self.slots.max(self.locals.len());
        self.locals.len() - 1
    }

    fn constant(&self, step: StepId) -> Option<&Value> {
        match &self.steps[step.0 as usize].0 {
            Step::Const(value) => Some(value),
            _ => None,
        }
    }

    fn plan(&mut self, id: NodeId) -> StepId {
        let position = self.checked.ast.position(id);
        if let Reference::Type(ty) = self.checked.reference(id) {
            return self.add(Step::Const(Value::Type(ty.clone())), position);
        }
        let step = match self.checked.ast.get(id).clone() {
            Expr::Literal(value) => Step::Const(value),
            Expr::Ident(name) => Step::Attribute(Attribute {
                base: self.base(&name),
                qualifiers: Vec::new(),
            }),
            Expr::Select { operand, field, test } => {
                let index = Index::Const(Value::string(field));
                let qualifier = Qualifier {
                    index,
                    optional: false,
                    test,
                    position,
                };
                let attribute = self.qualified(operand, qualifier);
                if test {
                    Step::Test(attribute)
                } else {
                    Step::Attribute(attribute)
                }
            }
            Expr::Call { target, function, args } => self.call(id, target, &function, &args),
            Expr::List { elements } => self.list(&elements),
            Expr::Map { entries } => {
                let entries = entries
                    .iter()
                    .map(|entry| (self.plan(entry.key), self.plan(entry.value), entry.optional))
                    .collect();
                self.map(entries)
            }
            Expr::Struct { name, fields } => {
                let fields = fields
                    .iter()
                    .map(|field| (Text::from(field.name.clone()), self.plan(field.value), field.optional))
                    .collect();
                let provider = self
                    .scope
                    .providers
                    .iter()
                    .find(|provider| provider.can_construct(&name))
                    .cloned();
                Step::Struct { name, fields, provider }
            }
            Expr::Comprehension(it) if self.checked.ast.is_bind(&it) => {
                let init = self.plan(it.init);
                let slot = self.push_local(&it.accu);
                let result = self.plan(it.result);
                self.locals.pop();
                Step::Bind { slot, init, result }
            }
            Expr::Comprehension(it) => self.fold(&it),
        };
        self.add(step, position)
    }

    fn base(&self, name: &Arc<str>) -> Base {
        match self.locals.iter().rposition(|local| local == name) {
            Some(slot) => Base::Local(slot),
            None => Base::Variable(name.trim_start_matches('.').into()),
        }
    }

    /// The attribute that a planned node is, or one of what it gives.
    fn attribute(&mut self, step: StepId) -> Attribute {
        match &self.steps[step.0 as usize].0 {
            Step::Attribute(attribute) | Step::Test(attribute) => attribute.clone(),
            _ => Attribute {
                base: Base::Of(step),
                qualifiers: Vec::new(),
            },
        }
    }

    fn qualified(&mut self, operand: NodeId, qualifier: Qualifier) -> Attribute {
        let step = self.plan(operand);
        let mut attribute = self.attribute(step);
        attribute.add(qualifier);
        attribute
    }

    fn list(&mut self, elements: &[(NodeId, bool)]) -> Step {
        let elements: Vec<(StepId, bool)> = elements
            .iter()
            .map(|(element, optional)| (self.plan(*element), *optional))
            .collect();
        let constants: Option<Vec<Value>> = elements
            .iter()
            .map(|(element, optional)| self.constant(*element).filter(|_| !optional).cloned())
            .collect();
        match constants {
            Some(values) if !self.scope.unoptimized => Step::Const(Value::list(values)),
            _ => Step::List { elements },
        }
    }

    fn map(&mut self, entries: Vec<(StepId, StepId, bool)>) -> Step {
        let constants: Option<Vec<(Key, Value)>> = entries
            .iter()
            .map(|(key, value, optional)| {
                let key = Key::of(self.constant(*key)?)?;
                Some((key, self.constant(*value).filter(|_| !optional)?.clone()))
            })
            .collect();
        match constants {
            Some(entries) if !self.scope.unoptimized => Step::Const(Value::Map(Map::from_entries(entries))),
            _ => Step::Map { entries },
        }
    }

    fn call(&mut self, id: NodeId, target: Option<NodeId>, name: &str, nodes: &[NodeId]) -> Step {
        let position = self.checked.ast.position(id);
        if let ("_[_]" | "_[?_]" | "_?._", [operand, index]) = (name, nodes) {
            let operand = self.plan(*operand);
            let index = self.plan(*index);
            let index = match &self.steps[index.0 as usize].0 {
                Step::Const(value) => Index::Const(value.clone()),
                Step::Attribute(attribute) => Index::Attribute(Box::new(attribute.clone())),
                _ => Index::Of(index),
            };
            let mut attribute = self.attribute(operand);
            attribute.add(Qualifier {
                index,
                optional: name != "_[_]",
                test: false,
                position,
            });
            return Step::Attribute(attribute);
        }
        let args: Vec<StepId> = target.iter().chain(nodes).map(|node| self.plan(*node)).collect();
        match (name, &*args) {
            ("_&&_", [one, two]) => return Step::And(*one, *two),
            ("_||_", [one, two]) => return Step::Or(*one, *two),
            ("_==_" | "_!=_", [one, two]) => {
                return Step::Equal {
                    one: *one,
                    two: *two,
                    negated: name == "_!=_",
                };
            }
            ("@not_strictly_false", [value]) => return Step::NotStrictlyFalse(*value),
            ("_?_:_", [condition, one, two]) => {
                let (condition, one, two) = (*condition, self.attribute(*one), self.attribute(*two));
                let base = Base::Conditional(condition, Box::new(one), Box::new(two));
                return Step::Attribute(Attribute {
                    base,
                    qualifiers: Vec::new(),
                });
            }
            _ => {}
        }
        let Reference::Overloads(function, overloads) = self.checked.reference(id) else {
            return Step::Const(Value::Null);
        };
        let overload = if let [only] = **overloads { Some(only) } else { None };
        let overload_id = overload.map(|index| &*function.overloads[index].id);
        match (overload_id, &*args) {
            (Some("optional_or_optional" | "optional_orValue_value"), [optional, other]) => {
                return Step::OptionalOr {
                    optional: *optional,
                    other: *other,
                    value: name == "orValue",
                };
            }
            (Some("in_list"), [value, list]) => {
                if let Some(set) = self
                    .constant(*list)
                    .filter(|_| !self.scope.unoptimized)
                    .and_then(Set::of)
                {
                    return if set.is_empty() {
                        Step::Const(Value::Bool(false))
                    } else {
                        Step::InSet { value: *value, set }
                    };
                }
            }
            _ => {}
        }
        self.function(function.clone(), overload, target.is_some(), args)
    }

    fn function(&mut self, function: Arc<Function>, overload: Option<usize>, member: bool, args: Vec<StepId>) -> Step {
        const CONVERSIONS: &[&str] = &[
            "bool",
            "bytes",
            "double",
            "duration",
            "dyn",
            "int",
            "string",
            "timestamp",
            "type",
            "uint",
        ];
        if let ([arg], Some(index)) = (&*args, overload)
            && !self.scope.unoptimized
            && CONVERSIONS.contains(&function.name)
            && let (Some(value), Body::Native(native)) = (self.constant(*arg), function.overloads[index].body)
            && let Ok(value) = native(std::slice::from_ref(value))
        {
            return Step::Const(value);
        }
        let takes_regex = function
            .overloads
            .iter()
            .any(|overload| matches!(overload.body, Body::Regex(_)));
        let regex = match args.get(1).and_then(|pattern| self.constant(*pattern)) {
            Some(Value::String(pattern)) if takes_regex => patterns::compile(pattern).ok(),
            _ => None,
        };
        Step::Call(Box::new(Call {
            function,
            overload,
            member,
            args,
            regex,
        }))
    }

    fn fold(&mut self, it: &Comprehension) -> Step {
        let range = self.plan(it.range);
        let init = self.plan(it.init);
        let around = self.locals.len();
        let accu = self.push_local(&it.accu);
        let var = self.push_local(&it.var);
        let var2 = it.var2.as_ref().map(|name| self.push_local(name));
        let condition = self.plan(it.condition);
        let each = self.each(it);
        self.locals.truncate(around + 1);
        let result = self.plan(it.result);
        self.locals.truncate(around);
        Step::Fold(Box::new(Fold {
            range,
            var,
            var2,
            accu,
            init,
            condition,
            each,
            result,
        }))
    }

    fn is_accumulator(&self, id: NodeId) -> bool {
        matches!(self.checked.ast.get(id), Expr::Ident(name) if &**name == ACCUMULATOR)
    }

    /// Recognises the loops by which macros make lists and maps.
    fn each(&mut self, it: &Comprehension) -> Each {
        let ast = &self.checked.ast;
        let (filter, step) = match ast.get(it.step) {
            Expr::Call { function, args, .. } if &**function == "_?_:_" && self.is_accumulator(args[2]) => {
                (Some(args[0]), args[1])
            }
            _ => (None, it.step),
        };
        if let Expr::Call {
            target: None,
            function,
            args,
        } = ast.get(step).clone()
            && args.first().is_some_and(|first| self.is_accumulator(*first))
        {
            if let ("_+_", Expr::List { elements }) = (&*function, ast.get(args[1]).clone())
                && let [(element, false)] = *elements
            {
                let filter = filter.map(|filter| self.plan(filter));
                let element = self.plan(element);
                let folded = self.constant(element).is_some() && !self.scope.unoptimized;
                let list = if folded { 0 } else { 10 };
                return Each::Append {
                    filter,
                    element,
                    cost: 2 + list,
                };
            }
            if let ("cel.@mapInsert", Reference::Overloads(found, _)) = (&*function, self.checked.reference(step)) {
                let found = found.clone();
                let filter = filter.map(|filter| self.plan(filter));
                let args = args[1..].iter().map(|arg| self.plan(*arg)).collect();
                return Each::Insert {
                    filter,
                    args,
                    function: found,
                };
            }
        }
        let step = self.plan(it.step);
        let absorbs = matches!(self.steps[step.0 as usize].0, Step::And(..) | Step::Or(..));
        Each::Eval { step, absorbs }
    }
}

impl Attribute {
    /// Adds an access; to both branches, when it is of what a condition chooses.
    fn add(&mut self, qualifier: Qualifier) {
        match &mut self.base {
            Base::Conditional(_, one, two) => {
                one.add(qualifier.clone());
                two.add(qualifier);
            }
            _ => self.qualifiers.push(qualifier),
        }
    }
}

impl Plan {
    pub(super) fn get(&self, id: StepId) -> &(Step, Position) {
        &self.steps[id.0 as usize]
    }
}

impl Set {
    /// A set of a constant list of scalars.
    fn of(value: &Value) -> Option<Self> {
        let Value::List(list) = value else { return None };
        let mut set = Self {
            keys: BTreeSet::new(),
            fractions: BTreeSet::new(),
        };
        for value in list.iter() {
            let value = value.ok()?;
            match (&value, Key::lookup(&value)) {
                (_, Some(key)) => {
                    set.keys.insert(key);
                }
                (Value::Double(number), None) => {
                    set.fractions.insert(number.to_bits());
                }
                _ => return None,
            }
        }
        Some(set)
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.fractions.is_empty()
    }

    pub fn contains(&self, value: &Value) -> bool {
        match (value, Key::lookup(value)) {
            (_, Some(key)) => self.keys.contains(&key),
            (Value::Double(number), None) => !number.is_nan() && self.fractions.contains(&number.to_bits()),
            _ => false,
        }
    }
}
