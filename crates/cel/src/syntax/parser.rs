//! A parser by recursive descent (the grammar is cel-go's parser/gen/CEL.g4). Nesting is limited before the tree is built,
//! so that no later walk over the tree can overflow the stack.

use std::sync::Arc;

use crate::escape::RESERVED;
use crate::issue::Issues;
use crate::library::Library;
use crate::limits::{MAX_EXPRESSION_CODE_POINTS, MAX_NODES, MAX_RECURSION_DEPTH, MAX_TREE_DEPTH};
use crate::value::Value;

use super::Syntax;
use super::ast::{Ast, Expr, Field, MapEntry, NodeId, Position};
use super::lexer::{Failure, Lexeme, Lexer, Token};
use super::literal::unescape;
use super::macros;

const EXPECTED: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                        BYTES, IDENTIFIER}";

/// Parses an expression and expands its macros.
pub(crate) fn parse(source: &str, syntax: &Syntax) -> Result<Ast, Issues> {
    let mut issues = Issues::new(source.into());
    let lexer = Lexer::new(source);
    if lexer.len() > MAX_EXPRESSION_CODE_POINTS {
        let message = format!(
            "expression code point size exceeds limit: size: {}, limit {MAX_EXPRESSION_CODE_POINTS}",
            lexer.len()
        );
        issues.report((-1, -1), message);
        return Err(issues);
    }
    let parsed = lexer
        .run()
        .map_err(|(at, message)| (at, format!("Syntax error: {message}")))
        .and_then(|lexemes| {
            let mut parser = Parser {
                lexemes,
                next: 0,
                depth: 0,
                ast: Ast::new(),
                heights: Vec::new(),
                syntax,
                errors: Vec::new(),
            };
            let root = parser.whole()?;
            parser.ast.root = root;
            Ok(parser)
        });
    match parsed {
        Ok(parser) if parser.errors.is_empty() => return Ok(parser.ast),
        Ok(parser) => {
            for (position, message) in parser.errors {
                issues.report(position, message);
            }
        }
        Err((position, message)) => issues.report(position, message),
    }
    Err(issues.sorted())
}

/// Operators, their functions, and how tightly they bind.
const OPERATORS: [(&str, &str, u8); 12] = [
    ("<", "_<_", 1),
    ("<=", "_<=_", 1),
    (">=", "_>=_", 1),
    (">", "_>_", 1),
    ("==", "_==_", 1),
    ("!=", "_!=_", 1),
    ("in", "@in", 1),
    ("+", "_+_", 2),
    ("-", "_-_", 2),
    ("*", "_*_", 3),
    ("/", "_/_", 3),
    ("%", "_%_", 3),
];

/// Operands and operators that are not in the tree yet, and the terms of `&&` and `||` with their places.
#[derive(Default)]
struct Pending {
    operands: Vec<NodeId>,
    operators: Vec<(&'static str, u8, Position)>,
    and: (Vec<NodeId>, Vec<Position>),
    or: (Vec<NodeId>, Vec<Position>),
}

pub(super) struct Parser<'s> {
    lexemes: Vec<Lexeme>,
    next: usize,
    depth: usize,
    pub(super) ast: Ast,
    /// How deep the tree below each node is: in the nodes that cel-go counts, and in all.
    heights: Vec<(u16, u16)>,
    pub(super) syntax: &'s Syntax,
    /// What is wrong, without being in the way of parsing on.
    pub(super) errors: Vec<Failure>,
}

impl Parser<'_> {
    fn peek(&self) -> &Lexeme {
        &self.lexemes[self.next]
    }

    fn advance(&mut self) -> Lexeme {
        let lexeme = self.lexemes[self.next].clone();
        if self.next + 1 < self.lexemes.len() {
            self.next += 1;
        }
        lexeme
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek().token, Token::Sign(found) if found == sign)
    }

    /// Whether the token after the next is a sign.
    fn then_is(&self, ahead: usize, sign: &str) -> bool {
        matches!(self.lexemes.get(self.next + ahead).map(|lexeme| &lexeme.token), Some(Token::Sign(found)) if *found == sign)
    }

    fn take(&mut self, sign: &str) -> Option<Position> {
        self.is(sign).then(|| self.advance().position)
    }

    fn expect(&mut self, sign: &str) -> Result<Position, Failure> {
        match self.take(sign) {
            Some(position) => Ok(position),
            None => {
                let next = self.peek();
                Err((
                    next.position,
                    format!("Syntax error: missing '{sign}' at '{}'", next.text),
                ))
            }
        }
    }

    fn mismatch(&self, expected: &str) -> Failure {
        let next = self.peek();
        (
            next.position,
            format!("Syntax error: mismatched input '{}' expecting {expected}", next.text),
        )
    }

    /// Adds a node. The height is that of the highest child, and one more for the nodes on which cel-go's parser
    /// recurses; arguments of calls to macros are counted where they end up.
    pub(super) fn add(&mut self, expr: Expr, position: Position, counted: bool) -> Result<NodeId, Failure> {
        if self.ast.len() >= MAX_NODES {
            return Err((
                position,
                "expression is too complex after its macros are expanded".to_owned(),
            ));
        }
        let below = children(&expr).into_iter().map(|child| self.heights[child.index()]);
        let (mut height, mut whole) = below.fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
        height += u16::from(counted);
        whole += 1;
        if usize::from(height) > MAX_RECURSION_DEPTH || usize::from(whole) > MAX_TREE_DEPTH {
            return Err(((-1, -1), "max recursion depth exceeded".to_owned()));
        }
        self.heights.push((height, whole));
        Ok(self.ast.add(expr, position))
    }

    pub(super) fn call(&mut self, function: &str, args: Vec<NodeId>, position: Position) -> Result<NodeId, Failure> {
        self.add(
            Expr::Call {
                target: None,
                function: function.into(),
                args,
            },
            position,
            true,
        )
    }

    fn whole(&mut self) -> Result<NodeId, Failure> {
        let root = self.expr()?;
        if self.peek().token == Token::End {
            return Ok(root);
        }
        let next = self.peek();
        let last = self.next + 2 >= self.lexemes.len();
        let what = if last { "extraneous" } else { "mismatched" };
        Err((
            next.position,
            format!("Syntax error: {what} input '{}' expecting <EOF>", next.text),
        ))
    }

    fn expr(&mut self) -> Result<NodeId, Failure> {
        self.depth += 1;
        if self.depth > MAX_RECURSION_DEPTH {
            return Err((
                (-1, -1),
                format!("expression recursion limit exceeded: {MAX_RECURSION_DEPTH}"),
            ));
        }
        let condition = self.operators()?;
        let result = if let Some(position) = self.take("?") {
            let one = self.operators()?;
            self.expect(":")?;
            let other = self.expr()?;
            self.call("_?_:_", vec![condition, one, other], position)
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        result
    }

    /// Operands joined by operators, in one frame for all their levels: nested expressions come back here, and the stack
    /// is bounded by that of 250 of them.
    fn operators(&mut self) -> Result<NodeId, Failure> {
        let mut pending = Pending::default();
        loop {
            let operand = self.unary()?;
            pending.operands.push(operand);
            if !self.operator(&mut pending)? {
                return self.disjunction(&mut pending);
            }
        }
    }

    /// Takes the operator that follows an operand; false when none does.
    fn operator(&mut self, pending: &mut Pending) -> Result<bool, Failure> {
        let Token::Sign(sign) = self.peek().token else {
            return Ok(false);
        };
        if let Some((_, function, level)) = OPERATORS.iter().find(|(found, ..)| *found == sign) {
            let position = self.advance().position;
            self.reduce(pending, *level)?;
            pending.operators.push((function, *level, position));
            return Ok(true);
        }
        match sign {
            "&&" => {
                self.reduce(pending, 0)?;
                pending.and.0.extend(pending.operands.pop());
                pending.and.1.push(self.advance().position);
            }
            "||" => {
                let term = self.conjunction(pending)?;
                pending.or.0.push(term);
                pending.or.1.push(self.advance().position);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Makes calls of the operators that bind at least as tightly as a level; they bind to the left.
    fn reduce(&mut self, pending: &mut Pending, level: u8) -> Result<(), Failure> {
        while let Some((function, found, position)) = pending.operators.last().copied() {
            if found < level {
                break;
            }
            pending.operators.pop();
            if let (Some(right), Some(left)) = (pending.operands.pop(), pending.operands.pop()) {
                pending.operands.push(self.call(function, vec![left, right], position)?);
            }
        }
        Ok(())
    }

    fn conjunction(&mut self, pending: &mut Pending) -> Result<NodeId, Failure> {
        self.reduce(pending, 0)?;
        pending.and.0.extend(pending.operands.pop());
        let (terms, positions) = std::mem::take(&mut pending.and);
        self.balance("_&&_", &terms, &positions)
    }

    fn disjunction(&mut self, pending: &mut Pending) -> Result<NodeId, Failure> {
        let term = self.conjunction(pending)?;
        pending.or.0.push(term);
        let (terms, positions) = std::mem::take(&mut pending.or);
        self.balance("_||_", &terms, &positions)
    }

    /// As cel-go's balancer: the operator in the middle is the root.
    fn balance(&mut self, function: &str, terms: &[NodeId], operators: &[Position]) -> Result<NodeId, Failure> {
        if operators.is_empty() {
            return Ok(terms[0]);
        }
        let middle = operators.len() / 2;
        let left = self.balance(function, &terms[..=middle], &operators[..middle])?;
        let right = self.balance(function, &terms[middle + 1..], &operators[middle + 1..])?;
        let call = Expr::Call {
            target: None,
            function: function.into(),
            args: vec![left, right],
        };
        self.add(call, operators[middle], false)
    }

    fn unary(&mut self) -> Result<NodeId, Failure> {
        let (sign, function) = match self.peek().token {
            Token::Sign("!") => ("!", "!_"),
            Token::Sign("-") => ("-", "-_"),
            _ => return self.member(),
        };
        // A sign before a number belongs to it, unless there are several.
        let number = matches!(
            self.lexemes.get(self.next + 1).map(|lexeme| &lexeme.token),
            Some(Token::Int(_) | Token::Double(_))
        );
        if sign == "-" && number {
            return self.member();
        }
        let first = self.peek().position;
        let mut count = 0;
        while self.is(sign) {
            self.advance();
            count += 1;
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            Ok(operand)
        } else {
            self.call(function, vec![operand], first)
        }
    }

    fn member(&mut self) -> Result<NodeId, Failure> {
        let mut node = self.primary()?;
        loop {
            if let Some(position) = self.take(".") {
                node = self.select(node, position)?;
            } else if let Some(position) = self.take("[") {
                let optional = self.optional("unsupported syntax '[?'")?;
                let index = self.expr()?;
                self.expect("]")?;
                node = self.call(if optional { "_[?_]" } else { "_[_]" }, vec![node, index], position)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// Takes a `?`, where optional values are enabled.
    fn optional(&mut self, unsupported: &str) -> Result<bool, Failure> {
        match self.take("?") {
            Some(_) if self.syntax.has(Library::Optional) => Ok(true),
            Some(position) => Err((position, unsupported.to_owned())),
            None => Ok(false),
        }
    }

    fn select(&mut self, operand: NodeId, position: Position) -> Result<NodeId, Failure> {
        let optional = self.optional("unsupported syntax '.?'")?;
        let name_at = self.peek().position;
        let name = self.name()?;
        if optional {
            let field = self.add(Expr::Literal(Value::string(name)), name_at, false)?;
            return self.call("_?._", vec![operand, field], position);
        }
        if let Some(open) = self.take("(") {
            let args = self.arguments()?;
            return self.call_or_macro(Some(operand), name, args, open);
        }
        self.add(
            Expr::Select {
                operand,
                field: name.into(),
                test: false,
            },
            position,
            true,
        )
    }

    /// A name after a dot: reserved words are names here.
    fn name(&mut self) -> Result<String, Failure> {
        match &self.peek().token {
            Token::Ident(name) => {
                let name = name.clone();
                self.advance();
                Ok(name)
            }
            Token::Escaped(_) => {
                let position = self.peek().position;
                Err((position, "unsupported syntax: '`'".to_owned()))
            }
            _ => Err(self.mismatch("IDENTIFIER")),
        }
    }

    fn arguments(&mut self) -> Result<Vec<NodeId>, Failure> {
        let mut args = Vec::new();
        if self.take(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect(")")?;
        Ok(args)
    }

    fn call_or_macro(
        &mut self,
        target: Option<NodeId>,
        function: String,
        args: Vec<NodeId>,
        position: Position,
    ) -> Result<NodeId, Failure> {
        match macros::expand(self, target, &function, &args, position) {
            Ok(Some(expanded)) => Ok(expanded),
            Ok(None) => {
                let function: Arc<str> = function.into();
                self.add(Expr::Call { target, function, args }, position, target.is_some())
            }
            Err(failure) => {
                self.errors.push(failure);
                self.add(Expr::Literal(Value::Null), position, false)
            }
        }
    }

    fn primary(&mut self) -> Result<NodeId, Failure> {
        match self.peek().token {
            Token::Sign("(") => {
                self.advance();
                let inside = self.expr()?;
                self.expect(")")?;
                Ok(inside)
            }
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.map(),
            Token::Sign("." | "-") | Token::Ident(_) => self.name_or_number(),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<NodeId, Failure> {
        let Lexeme { token, position, .. } = self.peek().clone();
        let value = match &token {
            Token::True | Token::False => Value::Bool(token == Token::True),
            Token::Null => Value::Null,
            Token::Int(_) | Token::Uint(_) | Token::Double(_) => {
                self.advance();
                return self.number(token, "", position);
            }
            Token::Text { raw, bytes } => {
                self.advance();
                return self.text(raw, *bytes, position);
            }
            _ => return Err(self.mismatch(EXPECTED)),
        };
        self.advance();
        self.add(Expr::Literal(value), position, false)
    }

    fn name_or_number(&mut self) -> Result<NodeId, Failure> {
        if let Some(position) = self.take("-") {
            let number = self.advance();
            return self.number(number.token, "-", position);
        }
        let dot = self.take(".");
        let lexeme = self.peek().clone();
        let Token::Ident(name) = lexeme.token else {
            return Err(self.mismatch("IDENTIFIER"));
        };
        if let Some(length) = self.struct_name() {
            return self.structure(dot.is_some(), length);
        }
        self.advance();
        if RESERVED.contains(&name.as_str()) {
            let at = dot.unwrap_or(lexeme.position);
            self.errors.push((at, format!("reserved identifier: {name}")));
            if let Some(open) = self.take("(") {
                self.arguments()?;
                return self.add(Expr::Literal(Value::Null), open, false);
            }
            return self.add(Expr::Literal(Value::Null), lexeme.position, false);
        }
        let name = if dot.is_some() { format!(".{name}") } else { name };
        if let Some(open) = self.take("(") {
            let args = self.arguments()?;
            return self.call_or_macro(None, name, args, open);
        }
        self.add(Expr::Ident(name.into()), lexeme.position, false)
    }

    /// How many tokens of names and dots come before a brace, if that is what comes.
    fn struct_name(&self) -> Option<usize> {
        let mut ahead = 0;
        loop {
            if !matches!(self.lexemes.get(self.next + ahead)?.token, Token::Ident(_)) {
                return None;
            }
            ahead += 1;
            if self.then_is(ahead, "{") {
                return Some(ahead);
            }
            if !self.then_is(ahead, ".") {
                return None;
            }
            ahead += 1;
        }
    }

    fn structure(&mut self, dot: bool, length: usize) -> Result<NodeId, Failure> {
        let mut name = if dot { ".".to_owned() } else { String::new() };
        for _ in 0..length {
            name.push_str(&self.advance().text);
        }
        let position = self.expect("{")?;
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.optional("unsupported syntax '?'")?;
            let field = self.name()?;
            let colon = self.expect(":")?;
            let value = self.expr()?;
            fields.push(Field {
                name: field.into(),
                value,
                optional,
                position: colon,
            });
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        self.add(
            Expr::Struct {
                name: name.into(),
                fields,
            },
            position,
            false,
        )
    }

    fn list(&mut self) -> Result<NodeId, Failure> {
        let position = self.expect("[")?;
        let mut elements = Vec::new();
        while !self.is("]") {
            let optional = self.optional("unsupported syntax '?'")?;
            elements.push((self.expr()?, optional));
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect("]")?;
        self.add(Expr::List { elements }, position, false)
    }

    fn map(&mut self) -> Result<NodeId, Failure> {
        let position = self.expect("{")?;
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.optional("unsupported syntax '?'")?;
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            entries.push(MapEntry { key, value, optional });
            if self.take(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        self.add(Expr::Map { entries }, position, false)
    }

    fn number(&mut self, token: Token, sign: &str, position: Position) -> Result<NodeId, Failure> {
        let digits = |text: &str| match text.strip_prefix("0x") {
            Some(text) => (format!("{sign}{text}"), 16),
            None => (format!("{sign}{text}"), 10),
        };
        let (value, name) = match token {
            Token::Int(text) => {
                let (text, radix) = digits(&text);
                (i64::from_str_radix(&text, radix).ok().map(Value::Int), "int")
            }
            Token::Uint(text) => {
                let (text, radix) = digits(&text);
                (u64::from_str_radix(&text, radix).ok().map(Value::Uint), "uint")
            }
            Token::Double(text) => {
                let value = format!("{sign}{text}")
                    .parse::<f64>()
                    .ok()
                    .filter(|value| value.is_finite());
                (value.map(Value::Double), "double")
            }
            _ => return Err(self.mismatch(EXPECTED)),
        };
        let value = value.unwrap_or_else(|| {
            self.errors.push((position, format!("invalid {name} literal")));
            Value::Null
        });
        self.add(Expr::Literal(value), position, false)
    }

    fn text(&mut self, raw: &str, bytes: bool, position: Position) -> Result<NodeId, Failure> {
        let value = match unescape(raw, bytes) {
            Ok(content) if bytes => Value::Bytes(content.into()),
            Ok(content) => Value::string(String::from_utf8_lossy(&content).into_owned()),
            Err(message) => {
                self.errors.push((position, message));
                Value::Null
            }
        };
        self.add(Expr::Literal(value), position, false)
    }
}

/// The nodes directly below an expression.
pub(crate) fn children(expr: &Expr) -> Vec<NodeId> {
    match expr {
        Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
        Expr::Select { operand, .. } => vec![*operand],
        Expr::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
        Expr::List { elements } => elements.iter().map(|(element, _)| *element).collect(),
        Expr::Map { entries } => entries.iter().flat_map(|entry| [entry.key, entry.value]).collect(),
        Expr::Struct { fields, .. } => fields.iter().map(|field| field.value).collect(),
        Expr::Comprehension(it) => vec![it.range, it.init, it.condition, it.step, it.result],
    }
}
