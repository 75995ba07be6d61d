//! The type checker: what every node's type is, which variable a name means and which overloads a call may mean.

mod literals;
mod unify;

use std::sync::Arc;

use crate::ast::{Ast, Comprehension, Expr, FieldInit, Id, Literal, MapEntry};
use crate::environment::Environment;
use crate::error::{CompileError, Source};
use crate::overloads::Overload;
use crate::types::Type;
use unify::{Unifier, WEIGHT_MAX, most_general};

/// What a node means.
#[derive(Clone, Debug, Default)]
pub(crate) enum Meaning {
    /// What its syntax says.
    #[default]
    Plain,
    /// A variable, by its full name.
    Variable(Arc<str>),
    /// A type, as a value.
    Type(Type),
    /// A call of one of these.
    Call(Vec<&'static Overload>),
}

#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub ast: Ast,
    pub types: Vec<Type>,
    pub meanings: Vec<Meaning>,
}

/// Checks a tree in an environment.
pub(crate) fn check(ast: Ast, source: &Source, env: &Environment) -> Result<Checked, Vec<CompileError>> {
    let count = ast.nodes.len();
    let mut checker = Checker {
        env,
        source,
        unifier: Unifier::default(),
        scopes: Vec::new(),
        errors: Vec::new(),
        out: Checked { ast, types: vec![Type::Error; count], meanings: vec![Meaning::Plain; count] },
    };
    checker.check(checker.out.ast.root);
    let Checker { unifier, mut out, mut errors, .. } = checker;
    if errors.is_empty() {
        for ty in &mut out.types {
            *ty = unifier.substitute(ty, true);
        }
        errors = literals::check(&out, source);
    }
    if errors.is_empty() {
        return Ok(out);
    }
    errors.sort_by_key(|e| (e.line, e.column));
    errors.dedup();
    Err(errors)
}

struct Checker<'e> {
    env: &'e Environment,
    source: &'e Source,
    unifier: Unifier,
    scopes: Vec<(Arc<str>, Type)>,
    errors: Vec<CompileError>,
    out: Checked,
}

impl Checker<'_> {
    fn error(&mut self, id: Id, message: String) -> Type {
        self.error_at(self.out.ast.offset(id), message);
        Type::Error
    }

    fn error_at(&mut self, offset: u32, message: String) {
        self.errors.push(self.source.error(offset, message));
    }

    fn undeclared(&mut self, id: Id, name: &str) -> Type {
        self.error(id, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) -> Type {
        let (expected, found) = (self.unifier.substitute(expected, false), self.unifier.substitute(found, false));
        self.error(id, format!("expected type '{expected}' but found '{found}'"))
    }

    fn ty(&self, id: Id) -> &Type {
        &self.out.types[id as usize]
    }

    fn known(&self, id: Id) -> Type {
        self.unifier.substitute(self.ty(id), false)
    }

    /// Finds the type of a node and of everything beneath it.
    fn check(&mut self, id: Id) {
        let expr = self.out.ast.expr(id).clone();
        let mut ty = match expr {
            Expr::Literal(literal) => literal_type(&literal),
            Expr::Ident(name) => self.ident(id, &name),
            Expr::Select { operand, field, test_only } => self.select(id, operand, &field, test_only),
            Expr::Call { function, target, args } => self.call(id, &function, target, &args),
            Expr::List { elements, optional } => self.list(&elements, &optional),
            Expr::Map(entries) => self.map(&entries),
            Expr::Struct { name, fields } => self.object(id, &name, &fields),
            Expr::Comprehension(comprehension) => self.comprehension(&comprehension),
        };
        if ty.weight(WEIGHT_MAX) > WEIGHT_MAX || self.unifier.substitute(&ty, false).weight(WEIGHT_MAX) > WEIGHT_MAX {
            ty = self.error(id, "type is too large".to_owned());
        }
        self.out.types[id as usize] = ty;
    }

    /// What a name stands for, if it is declared.
    fn lookup(&self, name: &str) -> Option<(Type, Meaning)> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some((name, ty)) = self.scopes.iter().rev().find(|(n, _)| n.as_ref() == name) {
            return Some((ty.clone(), Meaning::Variable(name.clone())));
        }
        if let Some(ty) = self.env.variable_type(name) {
            return Some((ty.clone(), Meaning::Variable(name.into())));
        }
        let ty = self.env.named_type(name)?;
        Some((Type::Type(Some(ty.clone().into())), Meaning::Type(ty)))
    }

    fn ident(&mut self, id: Id, name: &str) -> Type {
        match self.lookup(name) {
            Some((ty, meaning)) => {
                self.out.meanings[id as usize] = meaning;
                ty
            }
            None => self.undeclared(id, name),
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test_only: bool) -> Type {
        if !test_only
            && let Some(name) = self.out.ast.qualified_name(id)
            && let Some((ty, meaning)) = self.lookup(&name)
        {
            self.out.meanings[id as usize] = meaning;
            return ty;
        }
        self.check(operand);
        let ty = self.field(id, operand, field, false);
        if test_only { Type::Bool } else { ty }
    }

    fn field(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        let operand = self.known(operand);
        let (target, was_optional) = operand.unwrap_optional();
        let found = match target {
            Type::Map(_, value) => (**value).clone(),
            Type::Object(name) => match self.env.field(name, field) {
                Some(ty) => ty,
                None => self.error(id, format!("undefined field '{field}'")),
            },
            Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            ty if ty.is_dyn_or_error() => Type::Dyn,
            ty => {
                let message = format!("type '{ty}' does not support field selection");
                self.error(id, message);
                Type::Dyn
            }
        };
        let found = self.unifier.substitute(&found, false);
        if was_optional || optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> Type {
        if function == "_?._" {
            self.check(args[0]);
            let Expr::Literal(Literal::String(field)) = self.out.ast.expr(args[1]).clone() else { return Type::Error };
            self.out.types[args[1] as usize] = Type::String;
            return self.field(id, args[0], &field, true);
        }
        for arg in args {
            self.check(*arg);
        }
        let function = function.strip_prefix('.').unwrap_or(function);
        let Some(target) = target else {
            return match self.env.function(function) {
                Some(overloads) => self.resolve(id, function, &overloads, None, args),
                None => self.undeclared(id, function),
            };
        };
        if let Some(prefix) = self.out.ast.qualified_name(target) {
            let name = format!("{prefix}.{function}");
            if let Some(overloads) = self.env.function(&name) {
                let call = Expr::Call { function: name.as_str().into(), target: None, args: args.to_vec() };
                self.out.ast.nodes[id as usize].expr = call;
                return self.resolve(id, &name, &overloads, None, args);
            }
        }
        self.check(target);
        match self.env.function(function) {
            Some(overloads) => self.resolve(id, function, &overloads, Some(target), args),
            None => self.undeclared(id, function),
        }
    }

    fn resolve(&mut self, id: Id, name: &str, overloads: &[&'static Overload], target: Option<Id>, args: &[Id]) -> Type {
        let types: Vec<Type> = target.iter().chain(args).map(|id| self.ty(*id).clone()).collect();
        if matches!(name, "_&&_" | "_||_") {
            return self.logical(id, overloads, args, &types);
        }
        let (mut result, mut found): (Option<Type>, Vec<&'static Overload>) = (None, Vec::new());
        for overload in overloads.iter().filter(|o| o.member == target.is_some() && o.args.len() == types.len()) {
            let mut fresh = Vec::new();
            let declared: Vec<Type> = overload.args.iter().map(|ty| self.unifier.instantiate(ty, &mut fresh)).collect();
            let declared_result = self.unifier.instantiate(&overload.result, &mut fresh);
            if !self.unifier.assignable_all(&types, &declared) {
                continue;
            }
            found.push(overload);
            let ty = self.unifier.substitute(&declared_result, false);
            result = Some(match result {
                Some(earlier) if !earlier.is_dyn() && earlier != ty => Type::Dyn,
                Some(earlier) => earlier,
                None => ty,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = types.iter().map(|ty| self.unifier.substitute(ty, true).to_string()).collect();
            let (receiver, rest) = if target.is_some() { shown.split_at(1) } else { shown.split_at(0) };
            let dot = if receiver.is_empty() { "" } else { "." };
            let applied = format!("{}{dot}({})", receiver.concat(), rest.join(", "));
            return self.error(id, format!("found no matching overload for '{name}' applied to '{applied}'"));
        };
        self.out.meanings[id as usize] = Meaning::Call(found);
        result
    }

    fn logical(&mut self, id: Id, overloads: &[&'static Overload], args: &[Id], types: &[Type]) -> Type {
        let mut result = Type::Bool;
        for (arg, ty) in args.iter().zip(types) {
            if !self.unifier.assignable(ty, &Type::Bool) {
                result = self.mismatch(*arg, &Type::Bool, ty);
            }
        }
        self.out.meanings[id as usize] = Meaning::Call(overloads.to_vec());
        result
    }

    /// The type of an element whose entry is marked optional.
    fn optional_element(&mut self, id: Id, optional: bool) -> Type {
        let ty = self.ty(id).clone();
        if !optional {
            return ty;
        }
        let (inner, is_optional) = ty.unwrap_optional();
        if !is_optional && !ty.is_dyn_or_error() {
            self.mismatch(id, &Type::optional(ty.clone()), &ty);
        }
        inner.clone()
    }

    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        match previous {
            None => current,
            Some(previous) if self.unifier.assignable(&previous, &current) => most_general(&previous, &current),
            Some(_) => Type::Dyn,
        }
    }

    fn list(&mut self, elements: &[Id], optional: &[bool]) -> Type {
        let mut joined = None;
        for (element, optional) in elements.iter().zip(optional) {
            self.check(*element);
            let ty = self.optional_element(*element, *optional);
            joined = Some(self.join(joined, ty));
        }
        Type::list(joined.unwrap_or_else(|| self.unifier.fresh()))
    }

    fn map(&mut self, entries: &[MapEntry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(entry.key);
            let key = self.ty(entry.key).clone();
            keys = Some(self.join(keys, key));
            self.check(entry.value);
            let value = self.optional_element(entry.value, entry.optional);
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.unifier.fresh());
        let value = values.unwrap_or_else(|| self.unifier.fresh());
        Type::map(key, value)
    }

    fn object(&mut self, id: Id, name: &str, fields: &[FieldInit]) -> Type {
        let name = name.strip_prefix('.').unwrap_or(name);
        let ty = match self.lookup(name) {
            None => {
                return self.undeclared(id, name);
            }
            Some((Type::Type(Some(ty)), _)) => match &*ty {
                Type::Object(_) if self.env.has_type(name) => (*ty).clone(),
                other => self.error(id, format!("'{}' is not a message type", other.runtime_name())),
            },
            Some((ty, _)) => self.error(id, format!("'{}' is not a type", ty.runtime_name())),
        };
        for field in fields {
            self.check(field.value);
            if ty == Type::Error {
                continue;
            }
            let declared = match self.env.field(name, &field.name) {
                Some(ty) => ty,
                None => {
                    self.error_at(field.offset, format!("undefined field '{}'", field.name));
                    Type::Error
                }
            };
            let found = self.optional_element(field.value, field.optional);
            if !self.unifier.assignable(&declared, &found) {
                let found = self.unifier.substitute(&found, false);
                let name = &field.name;
                let message = format!("expected type of field '{name}' is '{declared}' but provided type is '{found}'");
                self.error_at(field.offset, message);
            }
        }
        ty
    }

    fn comprehension(&mut self, c: &Comprehension) -> Type {
        self.check(c.range);
        self.check(c.init);
        let range = self.known(c.range);
        let two = c.var2.is_some();
        let (first, second) = match &range {
            Type::List(item) if two => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Dyn),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message =
                    format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)");
                self.error(c.range, message);
                (Type::Error, Type::Error)
            }
        };
        let accu = self.ty(c.init).clone();
        let depth = self.scopes.len();
        self.scopes.push((c.accu.clone(), accu.clone()));
        self.scopes.push((c.var.clone(), first));
        if let Some(var2) = &c.var2 {
            self.scopes.push((var2.clone(), second));
        }
        self.check(c.condition);
        self.assert(c.condition, &Type::Bool);
        self.check(c.step);
        self.assert(c.step, &accu);
        self.scopes.truncate(depth + 1);
        self.check(c.result);
        self.scopes.truncate(depth);
        self.known(c.result)
    }

    fn assert(&mut self, id: Id, ty: &Type) {
        let found = self.ty(id).clone();
        if !self.unifier.assignable(ty, &found) {
            self.mismatch(id, ty, &found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
