//! Selections, indexes and conditionals: one chain of accesses is one attribute of cel-go, whose parts cost 1 each and in
//! which `?.` makes the rest optional.

use std::sync::Arc;

use super::{Evaluator, Outcome};
use crate::ast::{Expr, Id};
use crate::check::Meaning;
use crate::error::EvalError;
use crate::value::{Key, Opaque, Str, Value, equal};

/// Where a chain has come to.
enum Reached<'a> {
    Value(Value<'a>),
    /// By an optional access: the result is an optional.
    Present(Value<'a>),
    Absent,
}

impl<'a> Reached<'a> {
    fn into_value(self) -> Value<'a> {
        match self {
            Self::Value(value) => value,
            Self::Present(value) => Value::some(value),
            Self::Absent => Value::Optional(None),
        }
    }

    /// As the operand of another access: an optional is entered.
    fn entered(self) -> Self {
        match self {
            Self::Value(Value::Optional(Some(inner))) => Self::Present((*inner).clone()),
            Self::Value(Value::Optional(None)) => Self::Absent,
            other => other,
        }
    }
}

impl<'a> Evaluator<'_, 'a> {
    /// The value of a chain.
    pub(super) fn attribute(&mut self, id: Id) -> Outcome<'a> {
        let reached = self.reach(id)?;
        if !self.begins_with_conditional(id) {
            self.meter.charge(1)?;
        }
        Ok(reached.into_value())
    }

    /// The parts of an access: its operand.
    fn operand(&self, id: Id) -> Option<Id> {
        match self.checked.ast.expr(id) {
            Expr::Select { operand, test_only: false, .. } => Some(*operand),
            Expr::Call { function, target: None, args } => {
                matches!(function.as_ref(), "_[_]" | "_[?_]" | "_?._").then(|| args[0])
            }
            _ => None,
        }
    }

    fn is_variable(&self, id: Id) -> bool {
        matches!(self.checked.meanings[id as usize], Meaning::Variable(_))
    }

    fn is_conditional(&self, id: Id) -> bool {
        matches!(self.checked.ast.expr(id), Expr::Call { function, .. } if function.as_ref() == "_?_:_")
    }

    fn is_attribute(&self, id: Id) -> bool {
        self.is_variable(id) || self.is_conditional(id) || self.operand(id).is_some()
    }

    fn begins_with_conditional(&self, mut id: Id) -> bool {
        while !self.is_variable(id) {
            match self.operand(id) {
                Some(operand) => id = operand,
                None => return self.is_conditional(id),
            }
        }
        false
    }

    /// Follows a chain; the chain as a whole is not yet paid for.
    fn reach(&mut self, id: Id) -> Result<Reached<'a>, EvalError> {
        self.depth += 1;
        let reached =
            if self.depth > super::DEPTH_MAX { Err(EvalError::failed("evaluation nests too deep")) } else { self.reach_node(id) };
        self.depth -= 1;
        reached
    }

    fn reach_node(&mut self, id: Id) -> Result<Reached<'a>, EvalError> {
        let checked = self.checked;
        if let Meaning::Variable(name) = &checked.meanings[id as usize] {
            return self.variable(name).map(Reached::Value);
        }
        match checked.ast.expr(id) {
            Expr::Select { operand, field, test_only: false } => {
                let reached = self.part(*operand)?;
                self.access(reached, &text(field), false)
            }
            Expr::Call { function, args, .. } if function.as_ref() == "_?_:_" => match self.eval(args[0])? {
                Value::Bool(condition) => self.part(args[if condition { 1 } else { 2 }]),
                _ => Err(EvalError::no_overload()),
            },
            Expr::Call { function, args, .. } => {
                let reached = self.part(args[0])?;
                let key = self.part(args[1])?.into_value();
                self.access(reached, &key, function.as_ref() != "_[_]")
            }
            _ => self.eval(id).map(Reached::Value),
        }
    }

    /// A part of a chain: what is an attribute itself belongs to the chain.
    fn part(&mut self, id: Id) -> Result<Reached<'a>, EvalError> {
        let constant = matches!(self.plan.steps[id as usize], super::Step::Constant(_));
        if !constant && self.is_attribute(id) { self.reach(id) } else { self.eval(id).map(Reached::Value) }
    }

    fn access(&mut self, operand: Reached<'a>, key: &Value<'a>, optional: bool) -> Result<Reached<'a>, EvalError> {
        match operand.entered() {
            Reached::Absent => Ok(Reached::Absent),
            Reached::Value(value) if !optional => {
                self.meter.charge(1)?;
                match self.find(&value, key)? {
                    Some(found) => Ok(Reached::Value(found)),
                    None if matches!(value, Value::List(_)) => {
                        Err(EvalError::failed(format!("index out of bounds: {}", equal::shown(key))))
                    }
                    None => Err(EvalError::no_key(equal::shown(key))),
                }
            }
            Reached::Value(value) | Reached::Present(value) => match self.find(&value, key)? {
                Some(found) => {
                    self.meter.charge(1)?;
                    Ok(Reached::Present(found))
                }
                None => Ok(Reached::Absent),
            },
        }
    }

    /// `has(operand.field)`.
    pub(super) fn has(&mut self, operand: Id, field: &Arc<str>) -> Outcome<'a> {
        let reached = self.part(operand)?.entered();
        let present = match reached {
            Reached::Absent => false,
            Reached::Value(value) | Reached::Present(value) => {
                self.meter.charge(1)?;
                match &value {
                    Value::Map(map) => map.contains(&Key::String(field.clone())),
                    Value::Opaque(Opaque::Variables(ty)) => self.bindings.variables(ty).is_some_and(|v| v.has(field)),
                    other => self.find(other, &text(field))?.is_some(),
                }
            }
        };
        Ok(Value::Bool(present))
    }

    /// What a value has under a key, if anything.
    fn find(&mut self, value: &Value<'a>, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
        match value {
            Value::Map(map) => match Key::from_value(key) {
                Some(key) => map.get(&key),
                None => Ok(None),
            },
            Value::List(list) => {
                let index = index(key)?;
                match usize::try_from(index) {
                    Ok(index) if index < list.len() => list.get(index).map(Some),
                    _ => Ok(None),
                }
            }
            Value::Object(object) => match key {
                Value::String(field) => object.get(field),
                _ => Ok(None),
            },
            Value::Opaque(Opaque::Variables(ty)) => match key {
                Value::String(field) => self.lazily(ty, field),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// A variable of a policy, evaluated when it is first asked for.
    fn lazily(&mut self, ty: &str, field: &str) -> Result<Option<Value<'a>>, EvalError> {
        let Some(variables) = self.bindings.variables(ty) else { return Ok(None) };
        let (bindings, depth) = (self.bindings, self.depth);
        let budget = &mut *self.budget;
        variables.get(field, |program| program.evaluate_within(bindings, budget, depth).0).transpose()
    }
}

fn text<'a>(field: &Arc<str>) -> Value<'a> {
    Value::String(Str::Shared(field.clone()))
}

/// The place in a list that a number names.
fn index(key: &Value<'_>) -> Result<i64, EvalError> {
    match key {
        Value::Int(i) => Ok(*i),
        Value::Uint(u) => Ok(i64::try_from(*u).unwrap_or(i64::MAX)),
        #[allow(clippy::cast_possible_truncation)] // Checked: no fraction, within the range.
        Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.2e18 => Ok(*d as i64),
        Value::Double(d) => Err(EvalError::failed(format!("unsupported index value {d} in list"))),
        other => Err(EvalError::failed(format!("unsupported index type '{}' in list", other.type_name()))),
    }
}
