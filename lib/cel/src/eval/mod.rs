//! Evaluation: a walk over the checked tree under a meter. What each step costs is cel-go's: a variable and a selection 1, a
//! list 10, a map 30, an object 40, a call by its rule.

mod access;
mod fold;
pub(crate) mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Expr, FieldInit, Id, MapEntry};
use crate::bindings::Bindings;
use crate::budget::{Budget, Meter};
use crate::check::{Checked, Meaning};
use crate::cost::{self, Cost, actual};
use crate::error::EvalError;
use crate::library;
use crate::overloads::Overload;
use crate::value::{Key, List, Map, Object, Value, equal};
use plan::{Plan, Step};

/// How deep evaluation may recurse, variables that evaluate others included.
const DEPTH_MAX: u32 = 1_500;
/// Patterns kept that an evaluation computed.
const PATTERNS_MAX: usize = 8;
/// What compiling a pattern is worth, in steps, and each of its bytes.
const PATTERN_STEPS: usize = 20_000;
const PATTERN_BYTE_STEPS: usize = 200;

type Outcome<'a> = Result<Value<'a>, EvalError>;

struct Local<'a> {
    name: Arc<str>,
    value: Outcome<'a>,
}

pub(crate) struct Evaluator<'e, 'a> {
    checked: &'e Checked,
    plan: &'e Plan,
    bindings: &'e Bindings<'a>,
    meter: &'e mut Meter,
    budget: &'e mut Budget,
    locals: Vec<Local<'a>>,
    patterns: Vec<(Arc<str>, Arc<Regex>)>,
    depth: u32,
}

impl<'e, 'a> Evaluator<'e, 'a> {
    pub fn new(
        checked: &'e Checked,
        plan: &'e Plan,
        bindings: &'e Bindings<'a>,
        meter: &'e mut Meter,
        budget: &'e mut Budget,
        depth: u32,
    ) -> Self {
        Self { checked, plan, bindings, meter, budget, locals: Vec::new(), patterns: Vec::new(), depth }
    }

    pub fn eval(&mut self, id: Id) -> Outcome<'a> {
        if let Step::Constant(value) = &self.plan.steps[id as usize] {
            return Ok(value.clone());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.depth -= 1;
            return Err(EvalError::failed("evaluation nests too deep"));
        }
        let value = self.node(id);
        self.depth -= 1;
        value
    }

    fn node(&mut self, id: Id) -> Outcome<'a> {
        let checked = self.checked;
        if let Meaning::Variable(name) = &checked.meanings[id as usize] {
            self.meter.charge(1)?;
            return self.variable(name);
        }
        match checked.ast.expr(id) {
            // Literals are constants of the plan, and every name has a meaning.
            Expr::Literal(_) | Expr::Ident(_) => Err(EvalError::failed("no such attribute(s)")),
            Expr::Select { operand, field, test_only: true } => self.has(*operand, field),
            Expr::Select { .. } => self.attribute(id),
            Expr::Call { function, target, args } => self.call(id, function, *target, args),
            Expr::List { elements, optional } => self.list(elements, optional),
            Expr::Map(entries) => self.map(entries),
            Expr::Struct { name, fields } => self.object(name, fields),
            Expr::Comprehension(c) => self.fold(c),
        }
    }

    fn variable(&self, name: &str) -> Outcome<'a> {
        if let Some(local) = self.locals.iter().rev().find(|l| l.name.as_ref() == name) {
            return local.value.clone();
        }
        match self.bindings.get(name) {
            Some(value) => Ok(value.clone()),
            None => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> Outcome<'a> {
        match function {
            "_&&_" => return self.logical(args, false),
            "_||_" => return self.logical(args, true),
            "_?_:_" | "_[_]" | "_[?_]" | "_?._" => return self.attribute(id),
            "@not_strictly_false" => return self.not_strictly_false(args[0]),
            _ => {}
        }
        let checked = self.checked;
        let Meaning::Call(overloads) = &checked.meanings[id as usize] else { return Err(EvalError::no_overload()) };
        if let (Some(target), [other], [Overload { id: "optional_or_optional" | "optional_orValue_value", .. }]) =
            (target, args, overloads.as_slice())
        {
            return self.or_value(target, *other, function == "orValue");
        }
        let values = self.arguments(target, args)?;
        match &self.plan.steps[id as usize] {
            Step::Member => return library::operators::is_in(self.meter, &values),
            Step::Pattern(pattern) => return self.pattern(function, &pattern.clone(), &values, overloads),
            Step::Syntax | Step::Constant(_) => {}
        }
        if matches!(function, "matches" | "find" | "findAll")
            && let [_, Value::String(text), ..] = values.as_slice()
        {
            let compiled = self.compiled(text)?;
            return self.pattern(function, &compiled, &values, overloads);
        }
        let (overload, rule) = match overloads.as_slice() {
            [one] => (*one, one.cost),
            several => {
                let Some(overload) = several.iter().find(|o| o.accepts(&values)) else {
                    self.meter.charge(1)?;
                    return Err(EvalError::no_overload());
                };
                let rule = if several[0].cost.by_name() { overload.cost } else { Cost::Unit };
                (*overload, rule)
            }
        };
        let result = (overload.run)(self.meter, &values);
        self.charge_call(rule, &values, result)
    }

    fn charge_call(&mut self, rule: Cost, values: &[Value<'a>], result: Outcome<'a>) -> Outcome<'a> {
        let null = Value::Null;
        self.meter.charge(actual::cost(rule, values, result.as_ref().unwrap_or(&null)))?;
        result
    }

    fn arguments(&mut self, target: Option<Id>, args: &[Id]) -> Result<Vec<Value<'a>>, EvalError> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in target.iter().chain(args) {
            match self.eval(*arg) {
                Ok(value) => values.push(value),
                Err(error) => {
                    self.meter.charge(1)?;
                    return Err(error);
                }
            }
        }
        Ok(values)
    }

    fn compiled(&mut self, text: &str) -> Result<Arc<Regex>, EvalError> {
        if let Some((_, known)) = self.patterns.iter().find(|(t, _)| t.as_ref() == text) {
            return Ok(known.clone());
        }
        self.meter.work(PATTERN_STEPS + PATTERN_BYTE_STEPS * text.len())?;
        let compiled = Arc::new(library::regex::compile(text)?);
        if self.patterns.len() == PATTERNS_MAX {
            self.patterns.remove(0);
        }
        self.patterns.push((text.into(), compiled.clone()));
        Ok(compiled)
    }

    fn pattern(&mut self, function: &str, pattern: &Regex, values: &[Value<'a>], overloads: &[&Overload]) -> Outcome<'a> {
        let result = library::regex::run(function, pattern, values);
        let rule = overloads.first().map_or(Cost::Unit, |o| o.cost);
        self.charge_call(rule, values, result)
    }

    /// `&&` and `||`: the side that decides wins over an error of the other.
    fn logical(&mut self, args: &[Id], decides: bool) -> Outcome<'a> {
        let mut failure = None;
        for arg in args {
            match self.eval(*arg) {
                Ok(Value::Bool(b)) if b == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => {
                    failure.get_or_insert(EvalError::no_overload());
                }
                Err(error) if error.is_interruption() => return Err(error),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn not_strictly_false(&mut self, arg: Id) -> Outcome<'a> {
        let holds = match self.eval(arg) {
            Ok(Value::Bool(b)) => b,
            Err(error) if error.is_interruption() => return Err(error),
            Ok(_) | Err(_) => true,
        };
        self.meter.charge(1)?;
        Ok(Value::Bool(holds))
    }

    fn or_value(&mut self, target: Id, other: Id, unwrap: bool) -> Outcome<'a> {
        match self.eval(target)? {
            Value::Optional(Some(inner)) if unwrap => Ok((*inner).clone()),
            Value::Optional(None) => self.eval(other),
            value => Ok(value),
        }
    }

    fn list(&mut self, elements: &[Id], optional: &[bool]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for (element, optional) in elements.iter().zip(optional) {
            let value = self.eval(*element)?;
            values.extend(if *optional { present(value)? } else { Some(value) });
        }
        self.meter.charge(cost::LIST_CREATE)?;
        Ok(Value::List(List::new(values)))
    }

    fn map(&mut self, entries: &[MapEntry]) -> Outcome<'a> {
        let mut map = BTreeMap::new();
        for entry in entries {
            let key = self.eval(entry.key)?;
            let value = self.eval(entry.value)?;
            let Some(value) = (if entry.optional { present(value)? } else { Some(value) }) else { continue };
            let Some(key) = Key::from_value(&key).filter(|_| !matches!(key, Value::Double(_))) else {
                return Err(EvalError::failed(format!("unsupported key type: {}", key.type_name())));
            };
            if map.contains_key(&key) {
                return Err(EvalError::failed(format!("Failed with repeated key: {key}")));
            }
            map.insert(key, value);
        }
        self.meter.charge(cost::MAP_CREATE)?;
        Ok(Value::Map(Map::new(map)))
    }

    fn object(&mut self, name: &Arc<str>, fields: &[FieldInit]) -> Outcome<'a> {
        let mut built = BTreeMap::new();
        for field in fields {
            let value = self.eval(field.value)?;
            if let Some(value) = if field.optional { present(value)? } else { Some(value) } {
                built.insert(field.name.clone(), value);
            }
        }
        self.meter.charge(cost::STRUCT_CREATE)?;
        let name: Arc<str> = name.strip_prefix('.').unwrap_or(name).into();
        Ok(Value::Object(Object::Built { name, fields: Arc::new(built) }))
    }
}

/// What an optional entry adds.
fn present(value: Value<'_>) -> Result<Option<Value<'_>>, EvalError> {
    match value {
        Value::Optional(inner) => Ok(inner.map(|v| (*v).clone())),
        other => {
            Err(EvalError::failed(format!("cannot initialize optional entry from non-optional value {}", equal::shown(&other))))
        }
    }
}
