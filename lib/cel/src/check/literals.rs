//! What upstream's environment checks of literals after the types: lists and maps of one type, and durations, timestamps
//! and patterns that read.

use super::Checked;
use crate::ast::{Expr, Id, Literal};
use crate::error::{CompileError, Source};
use crate::library::regex;
use crate::types::Type;
use crate::value::time;

pub(super) fn check(checked: &Checked, source: &Source) -> Vec<CompileError> {
    let mut exempt = vec![false; checked.ast.nodes.len()];
    for id in 0..checked.ast.nodes.len() {
        if matches!(&checked.ast.nodes[id].expr, Expr::Call { function, .. } if function.as_ref() == "format") {
            mark(checked, id as Id, &mut exempt);
        }
    }
    let mut errors = Vec::new();
    reached(checked, checked.ast.root, &mut |id| match checked.ast.expr(id) {
        Expr::List { elements, optional } if !exempt[id as usize] => {
            let elements = elements.iter().zip(optional).map(|(e, o)| (*e, *o));
            same_type(checked, source, elements, &mut errors);
        }
        Expr::Map(entries) if !exempt[id as usize] => {
            same_type(checked, source, entries.iter().map(|e| (e.key, false)), &mut errors);
            same_type(checked, source, entries.iter().map(|e| (e.value, e.optional)), &mut errors);
        }
        Expr::Call { function, args, .. } => {
            let Some(Expr::Literal(Literal::String(text))) = args.last().map(|a| checked.ast.expr(*a)) else { return };
            let bad = match (function.as_ref(), args.len()) {
                ("duration", 1) => time::duration(text).is_err(),
                ("timestamp", 1) => time::timestamp(text).is_err(),
                ("matches", 1 | 2) => regex::compile(text).is_err(),
                _ => false,
            };
            if bad {
                let offset = checked.ast.offset(args[args.len() - 1]);
                errors.push(source.error(offset, format!("invalid {function} argument")));
            }
        }
        _ => {}
    });
    errors
}

/// Calls `visit` for the node and everything beneath it.
fn reached(checked: &Checked, id: Id, visit: &mut impl FnMut(Id)) {
    visit(id);
    for child in children(checked.ast.expr(id)) {
        reached(checked, child, visit);
    }
}

fn mark(checked: &Checked, id: Id, exempt: &mut [bool]) {
    if !exempt[id as usize] {
        exempt[id as usize] = true;
        for child in children(checked.ast.expr(id)) {
            mark(checked, child, exempt);
        }
    }
}

fn children(expr: &Expr) -> Vec<Id> {
    match expr {
        Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
        Expr::Select { operand, .. } => vec![*operand],
        Expr::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
        Expr::List { elements, .. } => elements.clone(),
        Expr::Map(entries) => entries.iter().flat_map(|e| [e.key, e.value]).collect(),
        Expr::Struct { fields, .. } => fields.iter().map(|f| f.value).collect(),
        Expr::Comprehension(c) => vec![c.range, c.init, c.condition, c.step, c.result],
    }
}

fn same_type(checked: &Checked, source: &Source, ids: impl Iterator<Item = (Id, bool)>, errors: &mut Vec<CompileError>) {
    let mut first: Option<Type> = None;
    for (id, optional) in ids {
        let ty = &checked.types[id as usize];
        let ty = if optional { ty.unwrap_optional().0 } else { ty };
        match &first {
            None => first = Some(ty.clone()),
            Some(expected) if expected != ty => {
                let message = format!("expected type '{expected}' but found '{ty}'");
                errors.push(source.error(checked.ast.offset(id), message));
                return;
            }
            Some(_) => {}
        }
    }
}
