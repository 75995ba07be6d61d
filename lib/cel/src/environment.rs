//! What an expression may name: variables, object types, libraries of functions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::check;
use crate::error::{CompileError, Source};
use crate::library::Library;
use crate::overloads::{self, Overload};
use crate::parse::{self, Macros};
use crate::program::Program;
use crate::schema::Decl;
use crate::types::{ObjectTypes, Type, TypeProvider};

/// Declarations under which expressions compile. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    types: Arc<ObjectTypes>,
    providers: Vec<Arc<dyn TypeProvider>>,
    libraries: BTreeSet<Library>,
    mutation: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment {
    /// Kubernetes' base environment of v1.36: every library that it has, no variables.
    pub fn new() -> Self {
        Self {
            variables: BTreeMap::new(),
            types: Arc::default(),
            providers: Vec::new(),
            libraries: Library::KUBERNETES.into_iter().collect(),
            mutation: false,
        }
    }

    /// Declares a variable. The name may be qualified, as `authorizer.requestResource` is.
    #[must_use]
    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.to_owned(), ty);
        self
    }

    /// Declares a variable of a schema's type, and the object types within.
    #[must_use]
    pub fn variable_of(mut self, name: &str, decl: &Decl) -> Self {
        decl.add_types(Arc::make_mut(&mut self.types));
        self.variable(name, decl.ty())
    }

    /// Declares an object type without fields.
    #[must_use]
    pub fn object_type(mut self, object: &str) -> Self {
        Arc::make_mut(&mut self.types).declare(object);
        self
    }

    /// Adds a field to a declared object type (`variables` of a policy grows so).
    #[must_use]
    pub fn field_type(mut self, object: &str, field: &str, ty: Type) -> Self {
        Arc::make_mut(&mut self.types).add(object, field, ty);
        self
    }

    /// Adds object types that are asked for by name.
    #[must_use]
    pub fn types(mut self, provider: Arc<dyn TypeProvider>) -> Self {
        self.providers.push(provider);
        self
    }

    /// Declares `authorizer` and `authorizer.requestResource`.
    #[must_use]
    pub fn authorizer(self) -> Self {
        use crate::types::opaque;
        self.variable("authorizer", Type::object(opaque::AUTHORIZER))
            .variable("authorizer.requestResource", Type::object(opaque::RESOURCE_CHECK))
    }

    /// Adds what a MutatingAdmissionPolicy may build: `Object{…}`, `Object.spec{…}`, `JSONPatch{…}`, and `jsonpatch.escapeKey`.
    #[must_use]
    pub fn mutation(mut self) -> Self {
        self.mutation = true;
        self.library(Library::JsonPatch, true)
    }

    /// Switches a library on or off.
    #[must_use]
    pub fn library(mut self, library: Library, on: bool) -> Self {
        if on {
            self.libraries.insert(library)
        } else {
            self.libraries.remove(&library)
        };
        self
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it; [`crate::display`] prints the list as upstream does.
    pub fn compile(&self, expression: &str) -> Result<Program, Vec<CompileError>> {
        let source = Source::new(expression);
        let macros = Macros { bind: self.libraries.contains(&Library::Bindings) };
        let ast = parse::parse(&source, macros)?;
        let checked = check::check(ast, &source, self)?;
        Program::new(source, checked)
    }

    pub(crate) fn variable_type(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    pub(crate) fn has_type(&self, name: &str) -> bool {
        self.types.has_type(name) || self.providers.iter().any(|p| p.has_type(name)) || (self.mutation && is_mutation(name))
    }

    pub(crate) fn named_type(&self, name: &str) -> Option<Type> {
        if let Some(ty) = Type::named(name) {
            return Some(ty);
        }
        self.has_type(name).then(|| Type::object(name))
    }

    pub(crate) fn field(&self, object: &str, field: &str) -> Option<Type> {
        if self.mutation && is_mutation(object) {
            return mutation_field(object, field);
        }
        self.types.field(object, field).or_else(|| self.providers.iter().find_map(|p| p.field(object, field)))
    }

    /// The overloads of a function in the libraries that are on.
    pub(crate) fn function(&self, name: &str) -> Option<Vec<&'static Overload>> {
        let found: Vec<_> = overloads::find(name).iter().filter(|o| self.libraries.contains(&o.library)).collect();
        (!found.is_empty()).then_some(found)
    }
}

/// The types that only mutation has: `Object` and what is named after the path of a field, and `JSONPatch`.
fn is_mutation(name: &str) -> bool {
    name == "JSONPatch" || name == "Object" || name.starts_with("Object.")
}

fn mutation_field(object: &str, field: &str) -> Option<Type> {
    match (object, field) {
        ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
        ("JSONPatch", "value") => Some(Type::Dyn),
        ("JSONPatch", _) => None,
        _ => Some(Type::Dyn),
    }
}
