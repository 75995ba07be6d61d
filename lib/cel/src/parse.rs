//! Tokens to a syntax tree: recursive descent over cel-go's grammar.

use std::sync::Arc;

use crate::ast::{Ast, Expr, FieldInit, Id, Literal, MapEntry, NODES_MAX, Node};
use crate::error::{CompileError, Source};
use crate::lexer::{self, Kind, Token};
use crate::schema::KEYWORDS;
use crate::{literal, macros};

/// cel-go's limit of an expression, in code points.
const CODE_POINTS_MAX: usize = 100_000;
/// How deep an expression may nest; cel-go's limit.
const DEPTH_MAX: usize = 250;
/// Nodes beneath each other in a tree with macros expanded. Evaluation recurses once for each.
const TREE_DEPTH_MAX: u32 = 700;

/// The keywords that the lexer takes for identifiers.
const RESERVED: &[&str] = KEYWORDS.split_at(4).1;

const EXPRESSION: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Which macros are declared beside the standard ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Macros {
    pub bind: bool,
}

/// The syntax tree of an expression with its macros expanded.
pub(crate) fn parse(source: &Source, macros: Macros) -> Result<Ast, Vec<CompileError>> {
    let size = source.text.chars().count();
    if size > CODE_POINTS_MAX {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {CODE_POINTS_MAX}");
        return Err(vec![source.error(0, message)]);
    }
    let (tokens, mut errors) = lexer::tokens(&source.text, source);
    let mut parser = Parser { source, tokens, at: 0, depth: 0, ast: Ast::default(), depths: Vec::new(), macros };
    let root = parser.expr().and_then(|root| match parser.peek().kind {
        Kind::End => Ok(root),
        _ => Err(parser.unexpected("<EOF>")),
    });
    match root {
        Ok(root) if errors.is_empty() => {
            parser.ast.root = root;
            Ok(parser.ast)
        }
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(error);
            errors.sort_by_key(|e| (e.line, e.column));
            Err(errors)
        }
    }
}

pub(crate) struct Parser<'s> {
    source: &'s Source,
    tokens: Vec<Token<'s>>,
    at: usize,
    depth: usize,
    pub ast: Ast,
    /// Of each node, how many lie beneath each other from it downwards.
    depths: Vec<u32>,
    macros: Macros,
}

pub(crate) type Parsed<T = Id> = Result<T, CompileError>;

impl<'s> Parser<'s> {
    fn peek(&self) -> Token<'s> {
        self.tokens[self.at]
    }

    fn next(&mut self) -> Token<'s> {
        let token = self.peek();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    fn is(&self, symbol: &str) -> bool {
        let token = self.peek();
        token.kind == Kind::Symbol && token.text == symbol
    }

    fn accept(&mut self, symbol: &str) -> Option<Token<'s>> {
        self.is(symbol).then(|| self.next())
    }

    fn expect(&mut self, symbol: &str) -> Parsed<Token<'s>> {
        self.accept(symbol).ok_or_else(|| {
            let token = self.peek();
            let message = match symbol {
                "]" => format!("mismatched input '{}' expecting {{']', ','}}", token.text),
                _ => format!("missing '{symbol}' at '{}'", token.text),
            };
            self.syntax(message)
        })
    }

    fn syntax(&self, message: String) -> CompileError {
        self.source.error(self.peek().offset, format!("Syntax error: {message}"))
    }

    /// The parser of upstream drops one token where what follows it fits.
    fn unexpected(&self, expected: &str) -> CompileError {
        let token = self.peek();
        let following = self.tokens.get(self.at + 1);
        let fits = match expected {
            "<EOF>" => following.is_some_and(|t| t.kind == Kind::End),
            _ => following.is_some_and(|t| match t.kind {
                Kind::End | Kind::EscapedIdent => false,
                Kind::Symbol => matches!(t.text, "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null"),
                _ => true,
            }),
        };
        let what = if fits && token.kind != Kind::End { "extraneous" } else { "mismatched" };
        self.syntax(format!("{what} input '{}' expecting {expected}", token.text))
    }

    pub fn error(&self, id: Id, message: &str) -> CompileError {
        self.source.error(self.ast.offset(id), message)
    }

    /// Adds a node whose parts are already there.
    pub fn add(&mut self, expr: Expr, offset: u32) -> Parsed {
        let depth = self.depth_of(&expr);
        if self.ast.nodes.len() >= NODES_MAX {
            return Err(self.source.error(offset, format!("expression expands to more than {NODES_MAX} nodes")));
        }
        if depth > TREE_DEPTH_MAX {
            return Err(self.source.error(offset, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        self.depths.push(depth);
        Ok(self.ast.add(expr, offset))
    }

    fn depth_of(&self, expr: &Expr) -> u32 {
        let of = |id: &Id| self.depths[*id as usize];
        let deepest = match expr {
            Expr::Literal(_) | Expr::Ident(_) => 0,
            Expr::Select { operand, .. } => of(operand),
            Expr::Call { target, args, .. } => args.iter().chain(target).map(of).max().unwrap_or(0),
            Expr::List { elements, .. } => elements.iter().map(of).max().unwrap_or(0),
            Expr::Map(entries) => entries.iter().map(|e| of(&e.key).max(of(&e.value))).max().unwrap_or(0),
            Expr::Struct { fields, .. } => fields.iter().map(|f| of(&f.value)).max().unwrap_or(0),
            Expr::Comprehension(c) => [c.range, c.init, c.condition, c.step, c.result].iter().map(of).max().unwrap_or(0),
        };
        deepest + 1
    }

    /// A copy of the tree beneath a node.
    pub fn copy(&mut self, id: Id) -> Parsed {
        let before = self.ast.nodes.len();
        let copied = self.ast.copy(id);
        for i in before..self.ast.nodes.len() {
            let Node { expr, .. } = self.ast.nodes[i].clone();
            let depth = self.depth_of(&expr);
            self.depths.push(depth);
        }
        copied.ok_or_else(|| self.error(id, "expression expands to too many nodes"))
    }

    pub fn call(&mut self, function: &str, args: Vec<Id>, offset: u32) -> Parsed {
        self.add(Expr::Call { function: function.into(), target: None, args }, offset)
    }

    pub fn literal(&mut self, literal: Literal, offset: u32) -> Parsed {
        self.add(Expr::Literal(literal), offset)
    }

    fn expr(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let offset = self.peek().offset;
            return Err(self.source.error(offset, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        let value = self.conditional();
        self.depth -= 1;
        value
    }

    fn conditional(&mut self) -> Parsed {
        let condition = self.or()?;
        let Some(op) = self.accept("?") else { return Ok(condition) };
        let yes = self.or()?;
        self.expect(":")?;
        let no = self.expr()?;
        self.call("_?_:_", vec![condition, yes, no], op.offset)
    }

    fn or(&mut self) -> Parsed {
        self.logical("||", "_||_", Self::and)
    }

    fn and(&mut self) -> Parsed {
        self.logical("&&", "_&&_", Self::relation)
    }

    /// A chain of one logical operator, as a balanced tree: a thousand terms do not nest a thousand deep.
    fn logical(&mut self, symbol: &str, function: &str, operand: fn(&mut Self) -> Parsed) -> Parsed {
        let mut terms = vec![operand(self)?];
        let mut ops = Vec::new();
        while let Some(op) = self.accept(symbol) {
            ops.push(op.offset);
            terms.push(operand(self)?);
        }
        if ops.is_empty() {
            return Ok(terms[0]);
        }
        self.balanced(function, &terms, &ops)
    }

    fn balanced(&mut self, function: &str, terms: &[Id], ops: &[u32]) -> Parsed {
        if let [term] = terms {
            return Ok(*term);
        }
        let middle = ops.len() / 2;
        let left = self.balanced(function, &terms[..=middle], &ops[..middle])?;
        let right = self.balanced(function, &terms[middle + 1..], &ops[middle + 1..])?;
        self.call(function, vec![left, right], ops[middle])
    }

    fn relation(&mut self) -> Parsed {
        self.chain(
            &[("==", "_==_"), ("!=", "_!=_"), ("<=", "_<=_"), (">=", "_>=_"), ("<", "_<_"), (">", "_>_"), ("in", "@in")],
            Self::sum,
        )
    }

    fn sum(&mut self) -> Parsed {
        self.chain(&[("+", "_+_"), ("-", "_-_")], Self::product)
    }

    fn product(&mut self) -> Parsed {
        self.chain(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")], Self::unary)
    }

    fn chain(&mut self, operators: &[(&str, &str)], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = operand(self)?;
        let mut links = 0;
        while let Some((_, function)) = operators.iter().find(|(symbol, _)| self.is(symbol)) {
            let op = self.next();
            links += 1;
            if links > DEPTH_MAX {
                return Err(self.source.error(op.offset, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
            }
            let right = operand(self)?;
            left = self.call(function, vec![left, right], op.offset)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let Some(first) = self.accept(symbol) else { continue };
            let mut count = 1;
            if symbol == "-" && matches!(self.peek().kind, Kind::Int | Kind::Float) {
                let number = self.literal_token(true)?;
                return self.members(number);
            }
            while self.accept(symbol).is_some() {
                count += 1;
            }
            let operand = self.member()?;
            return if count % 2 == 0 { Ok(operand) } else { self.call(function, vec![operand], first.offset) };
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.members(primary)
    }

    /// Selections, calls and indexes after an operand.
    fn members(&mut self, mut operand: Id) -> Parsed {
        let mut links = 0;
        loop {
            if let Some(dot) = self.accept(".") {
                operand = self.selection(operand, dot.offset)?;
            } else if let Some(open) = self.accept("[") {
                let optional = self.accept("?").is_some();
                let index = self.expr()?;
                self.expect("]")?;
                operand = self.call(if optional { "_[?_]" } else { "_[_]" }, vec![operand, index], open.offset)?;
            } else {
                return Ok(operand);
            }
            links += 1;
            if links > DEPTH_MAX {
                let offset = self.peek().offset;
                return Err(self.source.error(offset, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
            }
        }
    }

    fn selection(&mut self, operand: Id, dot: u32) -> Parsed {
        let optional = self.accept("?").is_some();
        let name = self.field_name()?;
        if !optional && self.is("(") {
            let open = self.next().offset;
            let args = self.arguments()?;
            return match macros::expand(self, &name.text, Some(operand), &args, open, self.macros)? {
                Some(expanded) => Ok(expanded),
                None => self.add(Expr::Call { function: name.text, target: Some(operand), args }, open),
            };
        }
        if optional {
            let field = self.literal(Literal::String(name.text), name.offset)?;
            return self.call("_?._", vec![operand, field], dot);
        }
        self.add(Expr::Select { operand, field: name.text, test_only: false }, dot)
    }

    fn field_name(&mut self) -> Parsed<FieldName> {
        let token = self.peek();
        let text = match token.kind {
            Kind::Ident => token.text,
            Kind::EscapedIdent => return Err(self.source.error(token.offset, "unsupported syntax: '`'")),
            _ => return Err(self.source.error(token.offset, no_viable(token))),
        };
        self.at += 1;
        Ok(FieldName { text: text.into(), offset: token.offset })
    }

    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.accept(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.accept(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let token = self.peek();
        match (token.kind, token.text) {
            (Kind::Int | Kind::Uint | Kind::Float | Kind::String | Kind::Bytes, _) => self.literal_token(false),
            (Kind::Symbol, "true" | "false" | "null") => {
                self.at += 1;
                let value = if token.text == "null" { Literal::Null } else { Literal::Bool(token.text == "true") };
                self.literal(value, token.offset)
            }
            (Kind::Symbol, "(") => {
                self.at += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            (Kind::Symbol, "[") => self.list(),
            (Kind::Symbol, "{") => self.map(),
            (Kind::Symbol, ".") | (Kind::Ident, _) => self.name(),
            _ => Err(self.unexpected(EXPRESSION)),
        }
    }

    fn literal_token(&mut self, negative: bool) -> Parsed {
        let token = self.next();
        match literal::value(token.kind, token.text, negative) {
            Ok(value) => self.literal(value, token.offset),
            Err(message) => Err(self.source.error(token.offset, message)),
        }
    }

    fn list(&mut self) -> Parsed {
        let open = self.next().offset;
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        if self.is(",") && self.tokens[self.at + 1].text == "]" {
            self.next();
        }
        while !self.is("]") {
            optional.push(self.accept("?").is_some());
            elements.push(self.expr()?);
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("]")?;
        self.add(Expr::List { elements, optional }, open)
    }

    fn map(&mut self) -> Parsed {
        let open = self.next().offset;
        let mut entries = Vec::new();
        while !self.is("}") {
            let optional = self.accept("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            entries.push(MapEntry { key, value, optional });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        self.add(Expr::Map(entries), open)
    }

    /// A variable, a function call, or an object `a.b.C{…}`.
    fn name(&mut self) -> Parsed {
        let start = self.at;
        let leading = self.accept(".").is_some();
        let first = self.peek();
        if first.kind != Kind::Ident {
            return Err(self.source.error(first.offset, no_viable(first)));
        }
        self.at += 1;
        if let Some(object) = self.object(start)? {
            return Ok(object);
        }
        let dot = if leading { "." } else { "" };
        let name: Arc<str> = format!("{dot}{}", first.text).into();
        if RESERVED.contains(&first.text) {
            return Err(self.source.error(first.offset, format!("reserved identifier: {}", first.text)));
        }
        if self.is("(") {
            let open = self.next().offset;
            let args = self.arguments()?;
            return match macros::expand(self, &name, None, &args, open, self.macros)? {
                Some(expanded) => Ok(expanded),
                None => self.add(Expr::Call { function: name, target: None, args }, open),
            };
        }
        self.add(Expr::Ident(name), first.offset)
    }

    /// An object literal, when the names from `start` lead to a brace; else the parser stands after the first name.
    fn object(&mut self, start: usize) -> Parsed<Option<Id>> {
        let after_first = self.at;
        while self.is(".") && self.tokens[self.at + 1].kind == Kind::Ident {
            self.at += 2;
        }
        if !self.is("{") {
            self.at = after_first;
            return Ok(None);
        }
        let name: String = self.tokens[start..self.at].iter().map(|t| t.text).collect();
        let open = self.next().offset;
        let mut fields = Vec::new();
        while !self.is("}") {
            let optional = self.accept("?").is_some();
            let name = self.field_name()?;
            let colon = self.expect(":")?;
            let value = self.expr()?;
            fields.push(FieldInit { name: name.text, value, optional, offset: colon.offset });
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect("}")?;
        self.add(Expr::Struct { name: name.into(), fields }, open).map(Some)
    }
}

struct FieldName {
    text: Arc<str>,
    offset: u32,
}

fn no_viable(token: Token<'_>) -> String {
    format!("Syntax error: no viable alternative at input '.{}'", if token.kind == Kind::End { "" } else { token.text })
}
