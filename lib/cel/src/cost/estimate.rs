//! The range of what an expression can cost, found by a walk over the checked tree (cel-go's `checker.Cost`).

use std::collections::HashMap;
use std::sync::Arc;

use super::rules::{self, Operand};
use super::{Cost, LIST_CREATE, MAP_CREATE, Range, STRUCT_CREATE, Sizes};
use crate::ast::{Comprehension, Expr, Id, Literal, MapEntry};
use crate::check::{Checked, Meaning};
use crate::macros::ACCU;
use crate::types::Type;

type Path = Vec<Arc<str>>;

#[derive(Clone, Copy)]
struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(self, other: Self) -> Self {
        Self { is_list: self.is_list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

struct Local {
    name: Arc<str>,
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

pub(crate) struct Estimator<'e> {
    checked: &'e Checked,
    sizes: &'e dyn Sizes,
    paths: HashMap<Id, Path>,
    locals: Vec<Local>,
    known: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
}

impl<'e> Estimator<'e> {
    pub fn cost(checked: &'e Checked, sizes: &'e dyn Sizes) -> Range {
        let mut estimator =
            Self { checked, sizes, paths: HashMap::new(), locals: Vec::new(), known: HashMap::new(), entries: HashMap::new() };
        estimator.of(checked.ast.root)
    }

    fn ty(&self, id: Id) -> &'e Type {
        &self.checked.types[id as usize]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|l| l.name.as_ref() == name)
    }

    fn path(&self, id: Id) -> Path {
        if let Expr::Ident(name) = self.checked.ast.expr(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&id).cloned().unwrap_or_default()
    }

    fn path_to(&self, id: Id, step: &str) -> Path {
        let mut path = self.path(id);
        path.push(step.into());
        path
    }

    fn of(&mut self, id: Id) -> Range {
        let checked = self.checked;
        if let Meaning::Variable(name) = &checked.meanings[id as usize] {
            let path = match self.local(name) {
                Some(local) => local.path.clone(),
                None => vec![name.clone()],
            };
            self.paths.insert(id, path);
            return Range::fixed(1);
        }
        match checked.ast.expr(id) {
            Expr::Literal(_) => Range::ZERO,
            Expr::Ident(_) => Range::fixed(1),
            Expr::Select { operand, field, test_only } => self.select(id, *operand, field, *test_only),
            Expr::Call { function, target, args } => self.call(id, function, *target, args),
            Expr::List { elements, .. } => self.list(id, elements),
            Expr::Map(entries) => self.map(id, entries),
            Expr::Struct { fields, .. } => {
                let sum = fields.iter().fold(Range::ZERO, |sum, field| sum.plus(self.of(field.value)));
                sum.plus(Range::fixed(STRUCT_CREATE))
            }
            Expr::Comprehension(c) if self.is_bind(c) => self.bind(id, c),
            Expr::Comprehension(c) => self.comprehension(id, c),
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &Arc<str>, test_only: bool) -> Range {
        let cost = self.of(operand);
        if test_only {
            return cost;
        }
        let path = self.path_to(operand, field);
        self.paths.insert(id, path);
        match self.ty(operand) {
            Type::Map(..) | Type::Object(_) | Type::Param(_) => cost.plus(Range::fixed(1)),
            _ => cost,
        }
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> Range {
        if function == "dyn" && args.len() == 1 {
            let cost = self.of(args[0]);
            self.copy_sizes(id, args[0]);
            return cost.plus(Range::fixed(1));
        }
        let all: Vec<Id> = target.iter().chain(args).copied().collect();
        let costs: Vec<Range> = all.iter().map(|arg| self.of(*arg)).collect();
        let paid = costs.iter().fold(Range::ZERO, |sum, cost| sum.plus(*cost));
        let checked = self.checked;
        let Meaning::Call(overloads) = &checked.meanings[id as usize] else {
            // `a.?b`: cel-go finds an overload without a rule.
            return if function == "_?._" { paid.plus(Range::fixed(1)) } else { Range::ZERO };
        };
        let operands: Vec<Operand<'_>> = all.iter().map(|arg| self.operand(*arg)).collect();
        let mut total = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in overloads {
            let (cost, made) = match overload.cost {
                Cost::Logical => (Range { min: costs[0].min, max: costs[0].plus(costs[1]).max }, None),
                Cost::Conditional => {
                    let entries = self.entries_of(args[1]).zip(self.entries_of(args[2]));
                    self.set_entries(id, entries.map(|(a, b)| a.union(b)));
                    (costs[0].plus(costs[1].union(costs[2])), Some(operands[1].size.union(operands[2].size)))
                }
                rule => {
                    let estimate = rules::estimate(rule, &operands);
                    (estimate.cost.plus(paid), estimate.size)
                }
            };
            if matches!(overload.cost, Cost::Concat | Cost::ListConcat) {
                let entries = self.entries_of(all[0]).zip(self.entries_of(all[1]));
                self.set_entries(id, entries.map(|(a, b)| a.union(b)));
            }
            total = total.union(cost);
            size = match (size, made) {
                (Some(size), Some(made)) => Some(size.union(made)),
                (size, made) => size.or(made),
            };
            match overload.cost {
                Cost::IndexList | Cost::IndexMap => {
                    size = self.entries_of(args[0]).map(|e| e.value);
                    let step = if overload.cost == Cost::IndexList { "@items" } else { "@values" };
                    let path = self.path_to(args[0], step);
                    self.paths.insert(id, path);
                }
                _ => {}
            }
            if size.is_none() {
                size = self.size(id);
            }
        }
        if let Some(size) = size {
            self.known.insert(id, size);
        }
        total
    }

    fn operand(&mut self, id: Id) -> Operand<'e> {
        let item = match self.ty(id) {
            Type::List(item) => {
                let path = self.path(id);
                let path = if path.is_empty() || path[0].as_ref() == ACCU { Vec::new() } else { self.path_to(id, "@items") };
                self.declared(&path).or_else(|| scalar(item))
            }
            _ => None,
        };
        let literal = match self.checked.ast.expr(id) {
            Expr::Literal(Literal::Int(n)) => Some(*n),
            _ => None,
        };
        Operand { ty: self.ty(id), size: self.size(id).unwrap_or(Range::UNKNOWN), item, literal }
    }

    fn declared(&self, path: &[Arc<str>]) -> Option<Range> {
        if path.is_empty() { None } else { self.sizes.size(path) }
    }

    fn list(&mut self, id: Id, elements: &[Id]) -> Range {
        let mut sum = Range::fixed(LIST_CREATE);
        let mut item = Range { min: if elements.is_empty() { 0 } else { u64::MAX }, max: 0 };
        for element in elements {
            sum = sum.plus(self.of(*element));
            item = item.union(self.size(*element).unwrap_or(Range::UNKNOWN));
        }
        self.entries.insert(id, Entries { is_list: true, key: Range::fixed(1), value: item });
        sum
    }

    fn map(&mut self, id: Id, entries: &[MapEntry]) -> Range {
        let mut sum = Range::fixed(MAP_CREATE);
        let none = Range { min: if entries.is_empty() { 0 } else { u64::MAX }, max: 0 };
        let (mut key, mut value) = (none, none);
        for entry in entries {
            sum = sum.plus(self.of(entry.key)).plus(self.of(entry.value));
            key = key.union(self.size(entry.key).unwrap_or(Range::UNKNOWN));
            value = value.union(self.size(entry.value).unwrap_or(Range::UNKNOWN));
        }
        self.entries.insert(id, Entries { is_list: false, key, value });
        sum
    }

    fn is_bind(&self, c: &Comprehension) -> bool {
        let ast = &self.checked.ast;
        c.accu.as_ref() != ACCU
            && matches!(ast.expr(c.range), Expr::List { elements, .. } if elements.is_empty())
            && matches!(ast.expr(c.condition), Expr::Literal(Literal::Bool(false)))
    }

    fn push_accu(&mut self, c: &Comprehension) {
        let (path, size, entries) = (self.path(c.init), self.size(c.init), self.entries_of(c.init));
        self.locals.push(Local { name: c.accu.clone(), path, size, entries });
    }

    fn bind(&mut self, id: Id, c: &Comprehension) -> Range {
        let mut sum = self.of(c.range).plus(self.of(c.init));
        self.push_accu(c);
        sum = sum.plus(self.of(c.result));
        self.copy_sizes(id, c.result);
        self.locals.pop();
        sum
    }

    fn comprehension(&mut self, id: Id, c: &Comprehension) -> Range {
        let mut sum = self.of(c.range).plus(self.of(c.init));
        self.push_accu(c);
        let entries = self.entries_of(c.range);
        let is_list = entries.map_or(matches!(self.ty(c.range), Type::List(_)), |e| e.is_list);
        let (key, value) = (entries.map(|e| e.key), entries.map(|e| e.value));
        let (key_step, value_step) = if is_list { ("@indices", "@items") } else { ("@keys", "@values") };
        let mut push = |name: &Arc<str>, step: &str, size: Option<Range>| {
            let path = self.path_to(c.range, step);
            self.locals.push(Local { name: name.clone(), path, size, entries: None });
        };
        match &c.var2 {
            Some(var2) => {
                push(&c.var, key_step, key);
                push(var2, value_step, value);
            }
            None if is_list => push(&c.var, value_step, value),
            None => push(&c.var, key_step, key),
        }
        let each = self.of(c.condition).plus(self.of(c.step));
        self.locals.pop();
        if c.var2.is_some() {
            self.locals.pop();
        }
        sum = sum.plus(self.of(c.result));
        self.locals.pop();
        let count = self.size(c.range).unwrap_or(Range::UNKNOWN);
        match self.checked.ast.expr(c.init) {
            Expr::Literal(_) => {
                if let Some(size) = self.size(c.init) {
                    self.known.insert(id, size);
                }
            }
            Expr::List { .. } | Expr::Map(_) => {
                self.known.insert(id, count);
                let entries = self.entries_of(c.step);
                self.set_entries(id, entries);
            }
            _ => {}
        }
        sum.plus(count.times(each))
    }

    fn copy_sizes(&mut self, to: Id, from: Id) {
        if let Some(size) = self.size(from) {
            self.known.insert(to, size);
        }
        let entries = self.entries_of(from);
        self.set_entries(to, entries);
    }

    fn set_entries(&mut self, id: Id, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(id, entries);
        }
    }

    fn entries_of(&self, id: Id) -> Option<Entries> {
        self.entries.get(&id).copied().or_else(|| match self.checked.ast.expr(id) {
            Expr::Ident(name) => self.local(name).and_then(|l| l.entries),
            _ => None,
        })
    }

    fn size(&mut self, id: Id) -> Option<Range> {
        if let Some(size) = self.known.get(&id) {
            return Some(*size);
        }
        let written = match self.checked.ast.expr(id) {
            Expr::Literal(Literal::String(s)) => Some(s.chars().count()),
            Expr::Literal(Literal::Bytes(b)) => Some(b.len()),
            Expr::Literal(_) => Some(1),
            Expr::List { elements, .. } => Some(elements.len()),
            Expr::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(written) = written {
            return Some(Range::fixed(written as u64));
        }
        let path = self.path(id);
        if let Some(size) = self.declared(&path) {
            self.known.insert(id, size);
            return Some(size);
        }
        if let Some(size) = scalar(self.ty(id)) {
            return Some(size);
        }
        match self.checked.ast.expr(id) {
            Expr::Ident(name) => self.local(name).and_then(|l| l.size),
            _ => None,
        }
    }
}

/// The size of what always has the same.
fn scalar(ty: &Type) -> Option<Range> {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => Some(Range::fixed(1)),
        Type::Optional(inner) => scalar(inner),
        _ => None,
    }
}
