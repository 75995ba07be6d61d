//! Comprehensions.

use std::sync::Arc;

use super::plan::{Growth, growth};
use super::{Evaluator, Local, Outcome};
use crate::ast::{Comprehension, Expr, Id};
use crate::cost;
use crate::error::EvalError;
use crate::value::{Key, List, Map, Value};

/// What a comprehension goes through.
enum Elements<'a> {
    List(List<'a>),
    Keys(Map<'a>, Vec<Key>),
    Fields(Vec<(Arc<str>, Value<'a>)>),
}

impl<'a> Elements<'a> {
    fn new(range: Value<'a>) -> Result<Self, EvalError> {
        match range {
            Value::List(list) => Ok(Self::List(list)),
            Value::Map(map) => {
                let keys = map.keys();
                Ok(Self::Keys(map, keys))
            }
            Value::Object(object) => Ok(Self::Fields(object.fields()?)),
            other => Err(EvalError::failed(format!("got '{}', expected iterable type", go_type(&other)))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Keys(_, keys) => keys.len(),
            Self::Fields(fields) => fields.len(),
        }
    }

    /// The key or the index at a place, and the value there.
    fn entry(&self, at: usize) -> (Value<'a>, Outcome<'a>) {
        match self {
            Self::List(list) => (Value::Int(i64::try_from(at).unwrap_or(i64::MAX)), list.get(at)),
            Self::Keys(map, keys) => (keys[at].to_value(), map.get(&keys[at]).map(|v| v.unwrap_or(Value::Null))),
            Self::Fields(fields) => (Value::string(fields[at].0.as_ref()), Ok(fields[at].1.clone())),
        }
    }

    /// What a comprehension with one variable sees at a place.
    fn single(&self, at: usize) -> Outcome<'a> {
        match self {
            Self::List(list) => list.get(at),
            _ => Ok(self.entry(at).0),
        }
    }
}

/// The name of the value's type in cel-go's source, which the message shows.
fn go_type(value: &Value<'_>) -> String {
    let name = value.type_name().rsplit('.').next().unwrap_or_default().trim_end_matches("_type");
    let mut chars = name.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase()).into_iter();
    format!("types.{}", first.chain(chars).collect::<String>())
}

impl<'a> Evaluator<'_, 'a> {
    pub(super) fn fold(&mut self, c: &Comprehension) -> Outcome<'a> {
        let range = self.eval(c.range)?;
        let elements = Elements::new(range)?;
        let init = self.eval(c.init);
        if matches!(&init, Err(e) if e.is_interruption()) {
            return init;
        }
        let base = self.locals.len();
        self.locals.push(Local { name: c.accu.clone(), value: init });
        self.locals.push(Local { name: c.var.clone(), value: Ok(Value::Null) });
        if let Some(var2) = &c.var2 {
            self.locals.push(Local { name: var2.clone(), value: Ok(Value::Null) });
        }
        let ended = self.iterate(c, &elements, base);
        self.locals.truncate(base + 1);
        let result = ended.and_then(|()| self.eval(c.result));
        self.locals.truncate(base);
        result
    }

    fn iterate(&mut self, c: &Comprehension, elements: &Elements<'a>, base: usize) -> Result<(), EvalError> {
        for at in 0..elements.len() {
            self.meter.work(1)?;
            if c.var2.is_some() {
                let (key, value) = elements.entry(at);
                self.locals[base + 1].value = Ok(key);
                self.locals[base + 2].value = value;
            } else {
                self.locals[base + 1].value = elements.single(at);
            }
            match self.eval(c.condition) {
                Ok(Value::Bool(false)) => return Ok(()),
                Err(error) if error.is_interruption() => return Err(error),
                _ => {}
            }
            self.step(c, c.step, base)?;
        }
        Ok(())
    }

    /// Makes the accumulator what a step says. An error that is no interruption becomes the accumulator.
    fn step(&mut self, c: &Comprehension, step: Id, base: usize) -> Result<(), EvalError> {
        let checked = self.checked;
        if let Some(growth) = growth(&checked.ast, c, step) {
            let grown = self.grow(&growth, base);
            return self.set(base, grown);
        }
        if let Expr::Call { function, args, .. } = checked.ast.expr(step)
            && function.as_ref() == "_?_:_"
            && growth(&checked.ast, c, args[1]).is_some()
        {
            return match self.eval(args[0]) {
                Ok(Value::Bool(true)) => self.step(c, args[1], base),
                Ok(Value::Bool(false)) => Ok(()),
                Ok(_) => self.set(base, Err(EvalError::no_overload())),
                Err(error) => self.set(base, Err(error)),
            };
        }
        match self.eval(step) {
            Ok(value) => {
                self.locals[base].value = Ok(value);
                Ok(())
            }
            Err(error) => self.set(base, Err(error)),
        }
    }

    fn set(&mut self, base: usize, outcome: Result<(), EvalError>) -> Result<(), EvalError> {
        match outcome {
            Err(error) if error.is_interruption() => return Err(error),
            Err(error) => self.locals[base].value = Err(error),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Adds to the accumulator in place; the cost is that of the steps it stands for.
    fn grow(&mut self, growth: &Growth, base: usize) -> Result<(), EvalError> {
        self.meter.charge(1)?; // the accumulator's name
        match growth {
            Growth::Append(element) => {
                let value = self.eval(*element)?;
                let constant = matches!(self.plan.steps[*element as usize], super::Step::Constant(_));
                self.meter.charge(if constant { 1 } else { 1 + cost::LIST_CREATE })?;
                match &mut self.locals[base].value {
                    Ok(Value::List(list)) => list.push(value),
                    Ok(_) => return Err(EvalError::no_overload()),
                    Err(error) => return Err(error.clone()),
                }
            }
            Growth::Insert { key, value } => {
                let key = key.map(|key| self.eval(key)).transpose()?;
                let value = self.eval(*value)?;
                self.meter.charge(1)?;
                let added = match (key, value) {
                    (Some(key), value) => vec![(Key::from_value(&key).ok_or_else(EvalError::no_overload)?, value)],
                    (None, Value::Map(map)) => map.entries()?,
                    _ => return Err(EvalError::no_overload()),
                };
                match &mut self.locals[base].value {
                    Ok(Value::Map(map)) => {
                        for (key, value) in added {
                            map.insert(key, value)?;
                        }
                    }
                    Ok(_) => return Err(EvalError::no_overload()),
                    Err(error) => return Err(error.clone()),
                }
            }
        }
        Ok(())
    }
}
