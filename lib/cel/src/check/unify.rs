//! Assignability of types with parameters: cel-go's rules, with an undo log instead of copies of the substitution.

use std::collections::HashMap;

use crate::types::{Param, Type};

/// A type whose written form has more names than this does not compile.
pub(super) const WEIGHT_MAX: usize = 2_000;

/// What is known of the free parameters.
#[derive(Default)]
pub(super) struct Unifier {
    known: HashMap<u32, Type>,
    log: Vec<(u32, Option<Type>)>,
    next: u32,
}

impl Unifier {
    pub fn fresh(&mut self) -> Type {
        self.next += 1;
        Type::Param(Param::Free(self.next - 1))
    }

    fn find(&self, ty: &Type) -> Option<&Type> {
        match ty {
            Type::Param(Param::Free(n)) => self.known.get(n),
            _ => None,
        }
    }

    fn set(&mut self, ty: &Type, to: Type) {
        if let Type::Param(Param::Free(n)) = ty {
            let before = self.known.insert(*n, to);
            self.log.push((*n, before));
        }
    }

    /// Whether all of `from` can be given where `to` is declared; what is learnt of parameters is kept only then.
    pub fn assignable_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        self.log.clear();
        let ok = from.len() == to.len() && from.iter().zip(to).all(|(a, b)| self.assign(a, b));
        if !ok {
            while let Some((n, before)) = self.log.pop() {
                match before {
                    Some(ty) => self.known.insert(n, ty),
                    None => self.known.remove(&n),
                };
            }
        }
        ok
    }

    pub fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        self.assignable_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    fn assign(&mut self, a: &Type, b: &Type) -> bool {
        if matches!(b, Type::Param(_)) {
            let (valid, known) = self.substitutes(a, b);
            if valid || known {
                return valid;
            }
        }
        if matches!(a, Type::Param(_)) {
            return self.substitutes(b, a).0;
        }
        match (a, b) {
            (x, y) if x.is_dyn_or_error() || y.is_dyn_or_error() => true,
            (Type::Null, other) | (other, Type::Null) => {
                matches!(other, Type::Null | Type::Optional(_) | Type::Object(_) | Type::Duration | Type::Timestamp)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(x), Type::List(y)) | (Type::Optional(x), Type::Optional(y)) => {
                let (x, y) = (x.clone(), y.clone());
                self.assign(&x, &y)
            }
            (Type::Map(k, v), Type::Map(l, w)) => {
                let (k, v, l, w) = (k.clone(), v.clone(), l.clone(), w.clone());
                self.assign(&k, &l) && self.assign(&v, &w)
            }
            (x, y) => x == y,
        }
    }

    /// Whether `to` may stand for the parameter, and whether something stood for it already.
    fn substitutes(&mut self, to: &Type, param: &Type) -> (bool, bool) {
        if to == param {
            return (true, true);
        }
        if let Some(known) = self.find(param).cloned() {
            if *to == known {
                return (true, true);
            }
            if self.assign(to, &known) {
                let general = if less_specific(to, &known) { to.clone() } else { known };
                if !self.occurs(param, &general) {
                    self.set(param, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(param, to) {
            return (false, false);
        }
        self.set(param, to.clone());
        (true, false)
    }

    fn occurs(&self, param: &Type, within: &Type) -> bool {
        if param == within {
            return true;
        }
        match within {
            Type::Param(_) => self.find(within).is_some_and(|known| self.occurs(param, known)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(Some(inner)) => self.occurs(param, inner),
            Type::Map(key, value) => self.occurs(param, key) || self.occurs(param, value),
            _ => false,
        }
    }

    /// The type with everything known put in; what is not known is `dyn` when `close` says so.
    pub fn substitute(&self, ty: &Type, close: bool) -> Type {
        let mut left = WEIGHT_MAX * 4;
        self.substitute_within(ty, close, &mut left)
    }

    fn substitute_within(&self, ty: &Type, close: bool, left: &mut usize) -> Type {
        if *left == 0 {
            return Type::Dyn;
        }
        *left -= 1;
        if let Some(known) = self.find(ty) {
            return self.substitute_within(known, close, left);
        }
        match ty {
            Type::Param(Param::Free(_)) if close => Type::Dyn,
            Type::List(item) => Type::list(self.substitute_within(item, close, left)),
            Type::Optional(inner) => Type::optional(self.substitute_within(inner, close, left)),
            Type::Map(key, value) => {
                Type::map(self.substitute_within(key, close, left), self.substitute_within(value, close, left))
            }
            Type::Type(Some(inner)) => Type::Type(Some(self.substitute_within(inner, close, left).into())),
            other => other.clone(),
        }
    }

    /// A declared type with fresh parameters in place of its own.
    pub fn instantiate(&mut self, ty: &Type, fresh: &mut Vec<(char, Type)>) -> Type {
        match ty {
            Type::Param(Param::Declared(c)) => {
                if let Some((_, ty)) = fresh.iter().find(|(name, _)| name == c) {
                    return ty.clone();
                }
                let ty = self.fresh();
                fresh.push((*c, ty.clone()));
                ty
            }
            Type::List(item) => Type::list(self.instantiate(item, fresh)),
            Type::Optional(inner) => Type::optional(self.instantiate(inner, fresh)),
            Type::Map(key, value) => Type::map(self.instantiate(key, fresh), self.instantiate(value, fresh)),
            Type::Type(Some(inner)) => Type::Type(Some(self.instantiate(inner, fresh).into())),
            other => other.clone(),
        }
    }
}

/// The more general of two types that agree.
pub(super) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(x), Type::List(y)) | (Type::Optional(x), Type::Optional(y)) => less_specific(x, y),
        (Type::Map(k, v), Type::Map(l, w)) => less_specific(k, l) && less_specific(v, w),
        (Type::Type(_), Type::Type(_)) => true,
        (x, y) => x == y,
    }
}
