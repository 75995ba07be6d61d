//! What is known of an expression before it is evaluated: lists, maps and conversions of constants are values (they cost
//! nothing then, as in cel-go), constant patterns are compiled, and steps of a fold that add to its accumulator are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Ast, Comprehension, Expr, Id, Literal};
use crate::budget::Meter;
use crate::check::{Checked, Meaning};
use crate::library;
use crate::macros::ACCU;
use crate::value::{Key, List, Map, Str, Value};

/// What constant folding may cost.
const FOLDING_COST_MAX: u64 = 1_000_000;

pub(crate) struct Plan {
    pub steps: Vec<Step>,
}

/// How a node is evaluated, where its syntax does not say it all.
#[derive(Debug, Default)]
pub(crate) enum Step {
    #[default]
    Syntax,
    Constant(Value<'static>),
    /// A call with a pattern that is constant.
    Pattern(Arc<Regex>),
    /// `x in [constants]`: costs nothing.
    Member,
}

/// How a fold's step adds to its accumulator, where it does nothing else.
pub(crate) enum Growth {
    Append(Id),
    Insert { key: Option<Id>, value: Id },
}

/// Finds the steps, or the constant conversion that fails.
pub(crate) fn plan(checked: &Checked) -> Result<Plan, (Id, String)> {
    let mut steps = Vec::new();
    steps.resize_with(checked.ast.nodes.len(), Step::default);
    let mut planner = Planner { checked, steps, meter: Meter::new(FOLDING_COST_MAX) };
    planner.visit(checked.ast.root)?;
    Ok(Plan { steps: planner.steps })
}

struct Planner<'c> {
    checked: &'c Checked,
    steps: Vec<Step>,
    meter: Meter,
}

const CONVERSIONS: [&str; 10] = ["bool", "bytes", "double", "dyn", "duration", "int", "string", "timestamp", "type", "uint"];

impl Planner<'_> {
    fn constant(&self, id: Id) -> Option<&Value<'static>> {
        match &self.steps[id as usize] {
            Step::Constant(value) => Some(value),
            _ => None,
        }
    }

    fn visit(&mut self, id: Id) -> Result<(), (Id, String)> {
        let checked = self.checked;
        self.steps[id as usize] = match (&checked.meanings[id as usize], checked.ast.expr(id)) {
            (Meaning::Type(ty), _) => Step::Constant(Value::Type(ty.clone())),
            (Meaning::Variable(_), _) | (_, Expr::Ident(_)) => Step::Syntax,
            (_, Expr::Literal(literal)) => Step::Constant(literal_value(literal)),
            (_, Expr::Select { operand, .. }) => {
                self.visit(*operand)?;
                Step::Syntax
            }
            (_, Expr::Call { function, target, args }) => {
                for arg in target.iter().chain(args) {
                    self.visit(*arg)?;
                }
                self.call(id, function, *target, args)?
            }
            (_, Expr::List { elements, optional }) => {
                for element in elements {
                    self.visit(*element)?;
                }
                self.list(elements, optional)
            }
            (_, Expr::Map(entries)) => {
                for entry in entries {
                    self.visit(entry.key)?;
                    self.visit(entry.value)?;
                }
                let pairs: Option<BTreeMap<Key, Value<'static>>> = entries
                    .iter()
                    .map(|e| Some((Key::from_value(self.constant(e.key)?)?, self.constant(e.value)?.clone())))
                    .collect();
                match pairs {
                    Some(map) if map.len() == entries.len() && entries.iter().all(|e| !e.optional) => {
                        Step::Constant(Value::Map(Map::new(map)))
                    }
                    _ => Step::Syntax,
                }
            }
            (_, Expr::Struct { fields, .. }) => {
                for field in fields {
                    self.visit(field.value)?;
                }
                Step::Syntax
            }
            (_, Expr::Comprehension(c)) => {
                for part in [c.range, c.init, c.condition, c.step, c.result] {
                    self.visit(part)?;
                }
                Step::Syntax
            }
        };
        Ok(())
    }

    fn list(&self, elements: &[Id], optional: &[bool]) -> Step {
        let values: Option<Vec<Value<'static>>> = elements.iter().map(|e| self.constant(*e).cloned()).collect();
        match values {
            Some(values) if !optional.contains(&true) => Step::Constant(Value::List(List::new(values))),
            _ => Step::Syntax,
        }
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> Result<Step, (Id, String)> {
        let Meaning::Call(overloads) = &self.checked.meanings[id as usize] else { return Ok(Step::Syntax) };
        if let (None, [arg], [overload, ..]) = (target, args, overloads.as_slice())
            && CONVERSIONS.contains(&function)
            && let Some(value) = self.constant(*arg).cloned()
        {
            let value = (overload.run)(&mut self.meter, &[value]).map_err(|e| (id, e.to_string()))?;
            return Ok(Step::Constant(value));
        }
        let pattern = match (function, target.is_some()) {
            ("matches", false) => args.get(1),
            ("matches" | "find" | "findAll", true) => args.first(),
            _ => None,
        };
        if let Some(Value::String(pattern)) = pattern.and_then(|arg| self.constant(*arg)) {
            let compiled = library::regex::compile(pattern).map_err(|e| (id, e.to_string()))?;
            return Ok(Step::Pattern(Arc::new(compiled)));
        }
        match (function, args.get(1).and_then(|arg| self.constant(*arg))) {
            ("@in", Some(Value::List(list))) if list.iter().flatten().all(|v| is_plain(&v)) => Ok(Step::Member),
            _ => Ok(Step::Syntax),
        }
    }
}

fn is_plain(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_))
}

fn literal_value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(s) => Value::String(Str::Shared(s.clone())),
        Literal::Bytes(b) => Value::Bytes(b.clone()),
    }
}

/// Whether a node adds to the fold's accumulator.
pub(crate) fn growth(ast: &Ast, c: &Comprehension, step: Id) -> Option<Growth> {
    let is_accu = |id: Id| c.accu.as_ref() == ACCU && matches!(ast.expr(id), Expr::Ident(name) if name.as_ref() == ACCU);
    let Expr::Call { function, target: None, args } = ast.expr(step) else { return None };
    match (function.as_ref(), args.as_slice()) {
        ("_+_", [accu, one]) if is_accu(*accu) => match ast.expr(*one) {
            Expr::List { elements, optional } if elements.len() == 1 && !optional[0] => Some(Growth::Append(elements[0])),
            _ => None,
        },
        ("cel.@mapInsert", [accu, key, value]) if is_accu(*accu) => Some(Growth::Insert { key: Some(*key), value: *value }),
        ("cel.@mapInsert", [accu, value]) if is_accu(*accu) => Some(Growth::Insert { key: None, value: *value }),
        _ => None,
    }
}
