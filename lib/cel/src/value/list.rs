//! Lists: a view of JSON, a vector, or two lists one after the other (a sum costs nothing).

use std::sync::Arc;

use serde_json::Value as Json;

use super::Value;
use crate::error::EvalError;
use crate::schema::{DYN, Decl, ListKind, Shape};

#[derive(Clone, Debug)]
pub struct List<'a> {
    repr: Repr<'a>,
    kind: ListKind,
}

#[derive(Clone, Debug)]
enum Repr<'a> {
    Json { items: &'a [Json], item: &'a Decl },
    Owned(Arc<Vec<Value<'a>>>),
    Sum { left: Arc<List<'a>>, right: Arc<List<'a>>, len: usize },
}

impl<'a> List<'a> {
    /// A view of JSON; the declaration is the list's.
    pub(crate) fn json(items: &'a [Json], decl: &'a Decl) -> Self {
        match &decl.shape {
            Shape::List { item, kind } => Self { repr: Repr::Json { items, item }, kind: kind.clone() },
            _ => Self { repr: Repr::Json { items, item: &DYN }, kind: ListKind::Atomic },
        }
    }

    pub(crate) fn new(items: Vec<Value<'a>>) -> Self {
        Self { repr: Repr::Owned(Arc::new(items)), kind: ListKind::Atomic }
    }

    pub(crate) fn with_kind(items: Vec<Value<'a>>, kind: ListKind) -> Self {
        Self { repr: Repr::Owned(Arc::new(items)), kind }
    }

    pub(crate) fn kind(&self) -> &ListKind {
        &self.kind
    }

    pub fn len(&self) -> usize {
        match &self.repr {
            Repr::Json { items, .. } => items.len(),
            Repr::Owned(items) => items.len(),
            Repr::Sum { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at an index that is less than the length.
    pub(crate) fn get(&self, mut index: usize) -> Result<Value<'a>, EvalError> {
        let mut list = self;
        loop {
            match &list.repr {
                Repr::Json { items, item } => {
                    return items.get(index).map_or(Ok(Value::Null), |json| Value::from_schema(json, item));
                }
                Repr::Owned(items) => return Ok(items.get(index).cloned().unwrap_or(Value::Null)),
                Repr::Sum { left, right, .. } if index < left.len() => {
                    let _ = right;
                    list = left;
                }
                Repr::Sum { left, right, .. } => {
                    index -= left.len();
                    list = right;
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Both lists, one after the other, as one.
    pub(crate) fn sum(self, right: List<'a>) -> Self {
        if right.is_empty() {
            return self;
        }
        if self.is_empty() {
            return Self { repr: right.repr, kind: self.kind };
        }
        let len = self.len().saturating_add(right.len());
        Self { repr: Repr::Sum { left: Arc::new(self), right: Arc::new(right), len }, kind: ListKind::Atomic }
    }

    /// Adds an item at the end, in place when nobody else holds the list.
    pub(crate) fn push(&mut self, item: Value<'a>) {
        if let Repr::Owned(items) = &mut self.repr {
            Arc::make_mut(items).push(item);
        } else {
            let tail = Self::new(vec![item]);
            *self = self.clone().sum(tail);
        }
    }
}
