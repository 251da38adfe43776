//! The tree of an expression: nodes in an arena, so that a deep tree is dropped without recursion.

use std::sync::Arc;

use crate::value::Value;

/// The name of the variable in which a comprehension gathers its result; no text can name it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// Line (from 1) and column (from 0).
pub(crate) type Position = (i32, i32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Value),
    Ident(Arc<str>),
    Select {
        operand: NodeId,
        field: Arc<str>,
        test: bool,
    },
    Call {
        target: Option<NodeId>,
        function: Arc<str>,
        args: Vec<NodeId>,
    },
    List {
        elements: Vec<(NodeId, bool)>,
    },
    Map {
        entries: Vec<MapEntry>,
    },
    Struct {
        name: Arc<str>,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

#[derive(Clone, Debug)]
pub(crate) struct MapEntry {
    pub key: NodeId,
    pub value: NodeId,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub name: Arc<str>,
    pub value: NodeId,
    pub optional: bool,
    pub position: Position,
}

#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub range: NodeId,
    pub var: Arc<str>,
    pub var2: Option<Arc<str>>,
    pub accu: Arc<str>,
    pub init: NodeId,
    pub condition: NodeId,
    pub step: NodeId,
    pub result: NodeId,
}

#[derive(Clone, Debug)]
pub(crate) struct Ast {
    nodes: Vec<(Expr, Position)>,
    pub root: NodeId,
}

impl Ast {
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: NodeId(0),
        }
    }

    pub fn add(&mut self, expr: Expr, position: Position) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push((expr, position));
        id
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn get(&self, id: NodeId) -> &Expr {
        &self.nodes[id.index()].0
    }

    pub fn set(&mut self, id: NodeId, expr: Expr) {
        self.nodes[id.index()].0 = expr;
    }

    pub fn position(&self, id: NodeId) -> Position {
        self.nodes[id.index()].1
    }

    /// The receiver and the arguments of the call that is the node of an index.
    pub fn call_at(&self, index: usize) -> Option<(Option<NodeId>, &[NodeId], NodeId)> {
        match &self.nodes.get(index)?.0 {
            Expr::Call { target, args, .. } => Some((*target, args, NodeId(index as u32))),
            _ => None,
        }
    }

    /// A comprehension that only binds a variable: nothing to loop over (`cel.bind`, `optMap`).
    pub fn is_bind(&self, comprehension: &Comprehension) -> bool {
        matches!(self.get(comprehension.range), Expr::List { elements } if elements.is_empty())
            && matches!(self.get(comprehension.condition), Expr::Literal(Value::Bool(false)))
            && &*comprehension.accu != ACCUMULATOR
    }

    /// The dotted name that a chain of plain selections on an identifier is.
    pub fn qualified_name(&self, id: NodeId) -> Option<String> {
        let mut parts: Vec<&str> = Vec::new();
        let mut next = id;
        loop {
            match self.get(next) {
                Expr::Ident(name) => {
                    parts.push(name);
                    parts.reverse();
                    return Some(parts.join("."));
                }
                Expr::Select {
                    operand,
                    field,
                    test: false,
                } => {
                    parts.push(field);
                    next = *operand;
                }
                _ => return None,
            }
        }
    }
}
