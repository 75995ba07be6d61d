//! The values of an environment's variables for one evaluation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::Value as Json;

use crate::error::EvalError;
use crate::library::authz::{Authorizer, Check, ResourceRequest};
use crate::program::Program;
use crate::schema::Decl;
use crate::value::{Opaque, Value};

/// Values by variable. What is bound to JSON borrows it; nothing is copied.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: BTreeMap<String, Value<'a>>,
    /// By the name of their type.
    variables: BTreeMap<Arc<str>, Arc<Variables<'a>>>,
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bind(&mut self, name: &str, value: Value<'a>) -> &mut Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// JSON of which nothing is known (admission policies see objects so).
    pub fn bind_json(&mut self, name: &str, json: &'a Json) -> &mut Self {
        self.bind(name, Value::from_json(json))
    }

    /// JSON as its schema declares it (CRD rules see objects so).
    ///
    /// # Errors
    /// When the value itself is a date, a duration or bytes that does not read.
    pub fn bind_schema(&mut self, name: &str, json: &'a Json, decl: &'a Decl) -> Result<&mut Self, EvalError> {
        let value = Value::from_schema(json, decl)?;
        Ok(self.bind(name, value))
    }

    /// An object whose fields are programs, each evaluated when it is first asked for and then kept (`variables` of an
    /// admission policy). `type_name` is the name that the environment gave to the object's type.
    pub fn bind_variables(&mut self, name: &str, type_name: &str, programs: Vec<(String, Arc<Program>)>) -> &mut Self {
        let members = programs.into_iter().map(|(name, program)| (name, Member { program, value: OnceLock::new() })).collect();
        let type_name: Arc<str> = type_name.into();
        self.variables.insert(type_name.clone(), Arc::new(Variables(members)));
        self.bind(name, Value::Opaque(Opaque::Variables(type_name)))
    }

    /// `authorizer`, and `authorizer.requestResource` when there is a resource.
    pub fn bind_authorizer(&mut self, authorizer: &'a dyn Authorizer, request: Option<ResourceRequest>) -> &mut Self {
        if let Some(request) = request {
            let check = Check::Resource { authorizer, service_account: None, request };
            self.bind("authorizer.requestResource", Value::Opaque(Opaque::Check(Arc::new(check))));
        }
        let check = Check::Authorizer { authorizer, service_account: None };
        self.bind("authorizer", Value::Opaque(Opaque::Check(Arc::new(check))))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.get(name)
    }

    pub(crate) fn variables(&self, type_name: &str) -> Option<&Arc<Variables<'a>>> {
        self.variables.get(type_name)
    }
}

/// An object whose fields are evaluated when they are asked for.
pub(crate) struct Variables<'a>(BTreeMap<String, Member<'a>>);

struct Member<'a> {
    program: Arc<Program>,
    value: OnceLock<Result<Value<'a>, EvalError>>,
}

impl<'a> Variables<'a> {
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The field's value; `evaluate` is called the first time. `None` when there is no such field.
    pub fn get(
        &self,
        name: &str,
        evaluate: impl FnOnce(&Program) -> Result<Value<'a>, EvalError>,
    ) -> Option<Result<Value<'a>, EvalError>> {
        let member = self.0.get(name)?;
        if let Some(known) = member.value.get() {
            return Some(known.clone());
        }
        let value = evaluate(&member.program);
        Some(member.value.get_or_init(|| value).clone())
    }
}

impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
