//! The macros: calls that the parser replaces, as cel-go expands them, so that costs and absorbed errors are the same.

use std::sync::Arc;

use crate::ast::{Comprehension, Expr, Id, Literal, MapEntry};
use crate::parse::{Macros, Parsed, Parser};

/// The accumulator's name, which no identifier can have.
pub(crate) const ACCU: &str = "@result";

const NO_IDENTIFIER: &str = "argument is not an identifier";

/// The expansion of a call, when it is one of a macro.
pub(crate) fn expand(
    p: &mut Parser<'_>,
    name: &str,
    target: Option<Id>,
    args: &[Id],
    at: u32,
    macros: Macros,
) -> Parsed<Option<Id>> {
    let Some(target) = target else {
        return match (name, args) {
            ("has", [arg]) => has(p, *arg, at).map(Some),
            _ => Ok(None),
        };
    };
    let m = Macro { target, at };
    match (name, args) {
        ("all", [var, body]) => m.all(p, &[*var], *body),
        ("all", [a, b, body]) => m.all(p, &[*a, *b], *body),
        ("exists", [var, body]) => m.exists(p, &[*var], *body),
        ("exists", [a, b, body]) => m.exists(p, &[*a, *b], *body),
        ("exists_one" | "existsOne", [var, body]) => m.exists_one(p, &[*var], *body),
        ("exists_one" | "existsOne", [a, b, body]) => m.exists_one(p, &[*a, *b], *body),
        ("map", [var, value]) => m.map(p, *var, None, *value),
        ("map", [var, test, value]) => m.map(p, *var, Some(*test), *value),
        ("filter", [var, test]) => m.filter(p, *var, *test),
        ("transformList", [a, b, value]) => m.collect(p, &[*a, *b], None, *value),
        ("transformList", [a, b, test, value]) => m.collect(p, &[*a, *b], Some(*test), *value),
        ("transformMap", [a, b, value]) => m.insert(p, &[*a, *b], None, *value, true),
        ("transformMap", [a, b, test, value]) => m.insert(p, &[*a, *b], Some(*test), *value, true),
        ("transformMapEntry", [a, b, value]) => m.insert(p, &[*a, *b], None, *value, false),
        ("transformMapEntry", [a, b, test, value]) => m.insert(p, &[*a, *b], Some(*test), *value, false),
        ("optMap", [var, value]) => m.optional(p, name, *var, *value, true),
        ("optFlatMap", [var, value]) => m.optional(p, name, *var, *value, false),
        ("sortBy", [var, key]) => m.sort_by(p, *var, *key),
        ("bind", [var, init, result]) if macros.bind && p.ast.qualified_name(target).as_deref() == Some("cel") => {
            m.bind(p, *var, *init, *result)
        }
        _ => return Ok(None),
    }
    .map(Some)
}

fn has(p: &mut Parser<'_>, arg: Id, at: u32) -> Parsed {
    match p.ast.expr(arg) {
        Expr::Select { operand, field, test_only: false } => {
            let expr = Expr::Select { operand: *operand, field: field.clone(), test_only: true };
            p.add(expr, at)
        }
        _ => Err(p.error(arg, "invalid argument to has() macro")),
    }
}

#[derive(Clone, Copy)]
struct Macro {
    target: Id,
    at: u32,
}

struct Fold {
    init: Id,
    condition: Id,
    step: Id,
    result: Id,
}

impl Macro {
    fn ident(self, p: &mut Parser<'_>, name: &str) -> Parsed {
        p.add(Expr::Ident(name.into()), self.at)
    }

    fn accu(self, p: &mut Parser<'_>) -> Parsed {
        self.ident(p, ACCU)
    }

    fn bool(self, p: &mut Parser<'_>, value: bool) -> Parsed {
        p.literal(Literal::Bool(value), self.at)
    }

    fn fold(self, p: &mut Parser<'_>, vars: &[Id], fold: Fold) -> Parsed {
        let names = names(p, vars)?;
        let Fold { init, condition, step, result } = fold;
        let comprehension = Comprehension {
            range: self.target,
            var: names[0].clone(),
            var2: names.get(1).cloned(),
            accu: ACCU.into(),
            init,
            condition,
            step,
            result,
        };
        p.add(Expr::Comprehension(Box::new(comprehension)), self.at)
    }

    fn all(self, p: &mut Parser<'_>, vars: &[Id], body: Id) -> Parsed {
        let init = self.bool(p, true)?;
        let accu = self.accu(p)?;
        let condition = p.call("@not_strictly_false", vec![accu], self.at)?;
        let accu = self.accu(p)?;
        let step = p.call("_&&_", vec![accu, body], self.at)?;
        let result = self.accu(p)?;
        self.fold(p, vars, Fold { init, condition, step, result })
    }

    fn exists(self, p: &mut Parser<'_>, vars: &[Id], body: Id) -> Parsed {
        let init = self.bool(p, false)?;
        let accu = self.accu(p)?;
        let not = p.call("!_", vec![accu], self.at)?;
        let condition = p.call("@not_strictly_false", vec![not], self.at)?;
        let accu = self.accu(p)?;
        let step = p.call("_||_", vec![accu, body], self.at)?;
        let result = self.accu(p)?;
        self.fold(p, vars, Fold { init, condition, step, result })
    }

    fn exists_one(self, p: &mut Parser<'_>, vars: &[Id], body: Id) -> Parsed {
        let init = p.literal(Literal::Int(0), self.at)?;
        let condition = self.bool(p, true)?;
        let (accu, one) = (self.accu(p)?, p.literal(Literal::Int(1), self.at)?);
        let more = p.call("_+_", vec![accu, one], self.at)?;
        let same = self.accu(p)?;
        let step = p.call("_?_:_", vec![body, more, same], self.at)?;
        let (accu, one) = (self.accu(p)?, p.literal(Literal::Int(1), self.at)?);
        let result = p.call("_==_", vec![accu, one], self.at)?;
        self.fold(p, vars, Fold { init, condition, step, result })
    }

    /// `step` only where `test` holds.
    fn guarded(self, p: &mut Parser<'_>, test: Option<Id>, step: Id) -> Parsed {
        let Some(test) = test else { return Ok(step) };
        let same = self.accu(p)?;
        p.call("_?_:_", vec![test, step, same], self.at)
    }

    fn collect(self, p: &mut Parser<'_>, vars: &[Id], test: Option<Id>, value: Id) -> Parsed {
        let init = p.add(Expr::List { elements: Vec::new(), optional: Vec::new() }, self.at)?;
        let condition = self.bool(p, true)?;
        let accu = self.accu(p)?;
        let one = p.add(Expr::List { elements: vec![value], optional: vec![false] }, self.at)?;
        let step = p.call("_+_", vec![accu, one], self.at)?;
        let step = self.guarded(p, test, step)?;
        let result = self.accu(p)?;
        self.fold(p, vars, Fold { init, condition, step, result })
    }

    fn map(self, p: &mut Parser<'_>, var: Id, test: Option<Id>, value: Id) -> Parsed {
        named(p, &[var], NO_IDENTIFIER)?;
        self.collect(p, &[var], test, value)
    }

    fn filter(self, p: &mut Parser<'_>, var: Id, test: Id) -> Parsed {
        let names = named(p, &[var], NO_IDENTIFIER)?;
        let value = self.ident(p, &names[0])?;
        self.collect(p, &[var], Some(test), value)
    }

    fn insert(self, p: &mut Parser<'_>, vars: &[Id], test: Option<Id>, value: Id, keyed: bool) -> Parsed {
        let init = p.add(Expr::Map(Vec::<MapEntry>::new()), self.at)?;
        let condition = self.bool(p, true)?;
        let mut args = vec![self.accu(p)?];
        if keyed {
            let key = names(p, vars)?[0].clone();
            args.push(self.ident(p, &key)?);
        }
        args.push(value);
        let step = p.call("cel.@mapInsert", args, self.at)?;
        let step = self.guarded(p, test, step)?;
        let result = self.accu(p)?;
        self.fold(p, vars, Fold { init, condition, step, result })
    }

    /// A fold over nothing: its accumulator is a local variable.
    fn bind_to(self, p: &mut Parser<'_>, name: Arc<str>, init: Id, result: Id) -> Parsed {
        let range = p.add(Expr::List { elements: Vec::new(), optional: Vec::new() }, self.at)?;
        let condition = self.bool(p, false)?;
        let step = self.ident(p, &name)?;
        let comprehension = Comprehension { range, var: "#unused".into(), var2: None, accu: name, init, condition, step, result };
        p.add(Expr::Comprehension(Box::new(comprehension)), self.at)
    }

    fn bind(self, p: &mut Parser<'_>, var: Id, init: Id, result: Id) -> Parsed {
        let Expr::Ident(name) = p.ast.expr(var).clone() else {
            return Err(p.error(var, "cel.bind() variable names must be simple identifiers"));
        };
        self.bind_to(p, name, init, result)
    }

    fn optional(self, p: &mut Parser<'_>, name: &str, var: Id, value: Id, wrap: bool) -> Parsed {
        let Expr::Ident(variable) = p.ast.expr(var).clone() else {
            return Err(p.error(var, &format!("{name}() variable name must be a simple identifier")));
        };
        let member = |p: &mut Parser<'_>, function: &str, target: Id| {
            p.add(Expr::Call { function: function.into(), target: Some(target), args: Vec::new() }, self.at)
        };
        let has = member(p, "hasValue", self.target)?;
        let copy = p.copy(self.target)?;
        let init = member(p, "value", copy)?;
        let mut bound = self.bind_to(p, variable, init, value)?;
        if wrap {
            bound = p.call("optional.of", vec![bound], self.at)?;
        }
        let none = p.call("optional.none", Vec::new(), self.at)?;
        p.call("_?_:_", vec![has, bound, none], self.at)
    }

    fn sort_by(self, p: &mut Parser<'_>, var: Id, key: Id) -> Parsed {
        let target = p.ast.expr(self.target);
        if !matches!(
            target,
            Expr::Select { .. } | Expr::List { .. } | Expr::Ident(_) | Expr::Comprehension(_) | Expr::Call { .. }
        ) {
            return Err(p.error(
                self.target,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            ));
        }
        let name: Arc<str> = "@__sortBy_input__".into();
        let input = self.ident(p, &name)?;
        let keys = Macro { target: input, ..self }.collect(p, &[var], None, key)?;
        let input = self.ident(p, &name)?;
        let sorted =
            p.add(Expr::Call { function: "@sortByAssociatedKeys".into(), target: Some(input), args: vec![keys] }, self.at)?;
        self.bind_to(p, name, self.target, sorted)
    }
}

/// The names of a comprehension's variables.
fn names(p: &Parser<'_>, vars: &[Id]) -> Parsed<Vec<Arc<str>>> {
    named(p, vars, "argument must be a simple name")
}

fn named(p: &Parser<'_>, vars: &[Id], refusal: &str) -> Parsed<Vec<Arc<str>>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for var in vars {
        let Expr::Ident(name) = p.ast.expr(*var) else { return Err(p.error(*var, refusal)) };
        if name.as_ref() == "__result__" {
            return Err(p.error(*var, "iteration variable overwrites accumulator variable"));
        }
        if names.contains(name) {
            return Err(p.error(*var, &format!("duplicate variable name: {name}")));
        }
        names.push(name.clone());
    }
    Ok(names)
}
