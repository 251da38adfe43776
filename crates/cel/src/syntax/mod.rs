//! From text to a tree, with macros expanded.

mod ast;
mod lexer;
mod literal;
mod macros;
mod parser;

pub(crate) use ast::{ACCUMULATOR, Ast, Comprehension, Expr, Field, NodeId, Position};
pub(crate) use parser::{children, parse};

use std::collections::BTreeSet;

use crate::library::Library;

/// What of the language an environment has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Syntax {
    pub libraries: BTreeSet<Library>,
}

impl Syntax {
    pub fn has(&self, library: Library) -> bool {
        self.libraries.contains(&library)
    }
}
