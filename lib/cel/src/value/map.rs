//! Maps and objects: views of JSON, or what an expression built.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Map as JsonMap;
use serde_json::Value as Json;

use super::{Str, Value};
use crate::error::EvalError;
use crate::schema::{Decl, ObjectShape};

/// What a map can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Key {
    /// The key that a value is, if it can be one. A double without a fraction is the integer.
    pub(crate) fn from_value(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(i) => Self::Int(*i),
            Value::Uint(u) => Self::Uint(*u),
            Value::String(Str::Shared(s)) => Self::String(s.clone()),
            Value::String(s) => Self::String((&**s).into()),
            #[allow(clippy::cast_possible_truncation)] // Checked: no fraction, within the range.
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.2e18 => Self::Int(*d as i64),
            _ => return None,
        })
    }

    pub(crate) fn to_value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Int(*i),
            Self::Uint(u) => Value::Uint(*u),
            Self::String(s) => Value::String(Str::Shared(s.clone())),
        }
    }

    /// The same number as the other kind of integer.
    fn twin(&self) -> Option<Self> {
        match self {
            Self::Int(i) => u64::try_from(*i).ok().map(Self::Uint),
            Self::Uint(u) => i64::try_from(*u).ok().map(Self::Int),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => b.fmt(f),
            Self::Int(i) => i.fmt(f),
            Self::Uint(u) => u.fmt(f),
            Self::String(s) => s.fmt(f),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Map<'a> {
    Json { map: &'a JsonMap<String, Json>, value: &'a Decl },
    Owned(Arc<BTreeMap<Key, Value<'a>>>),
}

impl<'a> Map<'a> {
    pub(crate) fn new(entries: BTreeMap<Key, Value<'a>>) -> Self {
        Self::Owned(Arc::new(entries))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Json { map, .. } => map.len(),
            Self::Owned(entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, key: &Key) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Self::Json { map, value } => match key {
                Key::String(s) => map.get(s.as_ref()).map(|json| Value::from_schema(json, value)).transpose(),
                _ => Ok(None),
            },
            Self::Owned(entries) => {
                let found = entries.get(key).or_else(|| key.twin().and_then(|twin| entries.get(&twin)));
                Ok(found.cloned())
            }
        }
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Json { map, .. } => matches!(key, Key::String(s) if map.contains_key(s.as_ref())),
            Self::Owned(entries) => entries.contains_key(key) || key.twin().is_some_and(|twin| entries.contains_key(&twin)),
        }
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        match self {
            Self::Json { map, .. } => map.keys().map(|k| Key::String(k.as_str().into())).collect(),
            Self::Owned(entries) => entries.keys().cloned().collect(),
        }
    }

    pub(crate) fn entries(&self) -> Result<Vec<(Key, Value<'a>)>, EvalError> {
        match self {
            Self::Json { map, value } => {
                map.iter().map(|(k, v)| Ok((Key::String(k.as_str().into()), Value::from_schema(v, value)?))).collect()
            }
            Self::Owned(entries) => Ok(entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
        }
    }

    /// Adds an entry, in place when nobody else holds the map.
    pub(crate) fn insert(&mut self, key: Key, value: Value<'a>) -> Result<(), EvalError> {
        if self.contains(&key) {
            return Err(EvalError::failed(format!("insert failed: key {key} already exists")));
        }
        if let Self::Owned(entries) = self {
            Arc::make_mut(entries).insert(key, value);
            return Ok(());
        }
        let mut entries: BTreeMap<Key, Value<'a>> = self.entries()?.into_iter().collect();
        entries.insert(key, value);
        *self = Self::new(entries);
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub enum Object<'a> {
    Json { map: &'a JsonMap<String, Json>, shape: &'a ObjectShape },
    Built { name: Arc<str>, fields: Arc<BTreeMap<Arc<str>, Value<'a>>> },
}

impl<'a> Object<'a> {
    pub fn name(&self) -> &str {
        match self {
            Self::Json { shape, .. } => &shape.name,
            Self::Built { name, .. } => name,
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Json { map, .. } => map.is_empty(),
            Self::Built { fields, .. } => fields.is_empty(),
        }
    }

    /// A field that is there.
    pub(crate) fn get(&self, field: &str) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Self::Json { map, shape } => {
                let Some(decl) = shape.fields.get(field) else { return Ok(None) };
                map.get(decl.json.as_ref()).map(|json| Value::from_schema(json, &decl.decl)).transpose()
            }
            Self::Built { fields, .. } => Ok(fields.get(field).cloned()),
        }
    }

    /// A field by its name in JSON.
    pub(crate) fn get_json(&self, property: &str) -> Result<Option<Value<'a>>, EvalError> {
        match self {
            Self::Json { shape, .. } => {
                let Some((field, _)) = shape.fields.iter().find(|(_, f)| f.json.as_ref() == property) else { return Ok(None) };
                self.get(field)
            }
            Self::Built { .. } => self.get(property),
        }
    }

    /// The fields that are there, by their names in CEL.
    pub(crate) fn fields(&self) -> Result<Vec<(Arc<str>, Value<'a>)>, EvalError> {
        match self {
            Self::Json { shape, .. } => {
                let there = shape.fields.keys().map(|name| Ok((name.clone(), self.get(name)?)));
                there.filter_map(|f: Result<_, EvalError>| f.map(|(n, v)| v.map(|v| (n, v))).transpose()).collect()
            }
            Self::Built { fields, .. } => Ok(fields.iter().map(|(n, v)| (n.clone(), v.clone())).collect()),
        }
    }
}
