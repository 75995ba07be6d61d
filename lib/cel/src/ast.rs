//! The syntax tree: nodes in one arena, so that nothing recurses when it is dropped or copied.

use std::sync::Arc;

/// Where a node is in [`Ast::nodes`].
pub(crate) type Id = u32;

/// Most nodes of one expression, macros expanded. `optMap` copies its target, so that a short chain of them could
/// otherwise grow without end.
pub(crate) const NODES_MAX: usize = 200_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
pub(crate) struct MapEntry {
    pub key: Id,
    pub value: Id,
    pub optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct FieldInit {
    pub name: Arc<str>,
    pub value: Id,
    pub optional: bool,
    pub offset: u32,
}

/// A fold: `accu` starts as `init`; while `condition` holds, each element makes it `step`; the value is `result`.
#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub range: Id,
    pub var: Arc<str>,
    pub var2: Option<Arc<str>>,
    pub accu: Arc<str>,
    pub init: Id,
    pub condition: Id,
    pub step: Id,
    pub result: Id,
}

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Literal),
    Ident(Arc<str>),
    Select { operand: Id, field: Arc<str>, test_only: bool },
    Call { function: Arc<str>, target: Option<Id>, args: Vec<Id> },
    List { elements: Vec<Id>, optional: Vec<bool> },
    Map(Vec<MapEntry>),
    Struct { name: Arc<str>, fields: Vec<FieldInit> },
    Comprehension(Box<Comprehension>),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub expr: Expr,
    /// In code points from the start of the source.
    pub offset: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ast {
    pub nodes: Vec<Node>,
    pub root: Id,
}

impl Ast {
    pub fn add(&mut self, expr: Expr, offset: u32) -> Id {
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node { expr, offset });
        id
    }

    pub fn expr(&self, id: Id) -> &Expr {
        &self.nodes[id as usize].expr
    }

    pub fn offset(&self, id: Id) -> u32 {
        self.nodes[id as usize].offset
    }

    /// `a.b.c` when the node is nothing but names and selections.
    pub fn qualified_name(&self, id: Id) -> Option<String> {
        match self.expr(id) {
            Expr::Ident(name) => Some(name.to_string()),
            Expr::Select { operand, field, test_only: false } => {
                let mut name = self.qualified_name(*operand)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }

    /// A copy of the tree beneath a node. `None` when the arena is full.
    pub fn copy(&mut self, id: Id) -> Option<Id> {
        if self.nodes.len() >= NODES_MAX {
            return None;
        }
        let Node { mut expr, offset } = self.nodes[id as usize].clone();
        match &mut expr {
            Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Select { operand, .. } => *operand = self.copy(*operand)?,
            Expr::Call { target, args, .. } => {
                if let Some(target) = target {
                    *target = self.copy(*target)?;
                }
                for arg in args {
                    *arg = self.copy(*arg)?;
                }
            }
            Expr::List { elements, .. } => {
                for element in elements {
                    *element = self.copy(*element)?;
                }
            }
            Expr::Map(entries) => {
                for entry in entries {
                    entry.key = self.copy(entry.key)?;
                    entry.value = self.copy(entry.value)?;
                }
            }
            Expr::Struct { fields, .. } => {
                for field in fields {
                    field.value = self.copy(field.value)?;
                }
            }
            Expr::Comprehension(c) => {
                for part in [&mut c.range, &mut c.init, &mut c.condition, &mut c.step, &mut c.result] {
                    *part = self.copy(*part)?;
                }
            }
        }
        Some(self.add(expr, offset))
    }
}
