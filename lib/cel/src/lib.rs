//! Kubernetes' Common Expression Language: parser, type checker, cost estimate and a bounded evaluator.
//!
//! One environment for everything that v1.36 writes in CEL: rules of CustomResourceDefinitions, validating and mutating
//! admission policies, match conditions. Compile errors, types, values, evaluation errors and costs are cel-go's with
//! Kubernetes' libraries.
//!
//! ```
//! use cel::{Bindings, Budget, Environment, RUNTIME_BUDGET, Type, display};
//! use serde_json::json;
//!
//! let env = Environment::new().variable("object", Type::Dyn).authorizer();
//! let program = env.compile("object.spec.replicas <= 5 && has(object.metadata.name)").map_err(|e| display(&e)).unwrap();
//! assert_eq!(program.output_type(), &Type::Bool);
//!
//! let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}});
//! let mut bindings = Bindings::new();
//! bindings.bind_json("object", &object);
//! let mut budget = Budget::new(RUNTIME_BUDGET);
//! let value = program.evaluate(&bindings, &mut budget).unwrap();
//! assert_eq!(value.as_bool(), Some(true));
//!
//! let errors = env.compile("object.spec.replicas < x").unwrap_err();
//! assert_eq!(errors[0].message, "undeclared reference to 'x' (in container '')");
//! ```
//!
//! `variables` of a policy: each is compiled in the environment with the earlier ones as fields of one object type, and
//! evaluated when it is first asked for.
//!
//! ```
//! # use std::sync::Arc;
//! # use cel::{Bindings, Budget, Environment, RUNTIME_BUDGET, Type};
//! # let object = serde_json::json!({"a": 1});
//! const VARIABLES: &str = "kubernetes.variables";
//! let mut env =
//!     Environment::new().variable("object", Type::Dyn).object_type(VARIABLES).variable("variables", Type::object(VARIABLES));
//! let one = Arc::new(env.compile("object.a + 1").unwrap());
//! env = env.field_type(VARIABLES, "one", one.output_type().clone());
//! let rule = env.compile("variables.one == 2").unwrap();
//!
//! let mut bindings = Bindings::new();
//! bindings.bind_json("object", &object).bind_variables("variables", VARIABLES, vec![("one".to_owned(), one)]);
//! assert_eq!(rule.evaluate(&bindings, &mut Budget::new(RUNTIME_BUDGET)).unwrap().as_bool(), Some(true));
//! ```
//!
//! A MutatingAdmissionPolicy's environment is `.mutation()`: `Object{spec: Object.spec{…}}` and `JSONPatch{op: "add", …}` give
//! [`Value::Object`]s whose [`Value::to_json`] is the object or the patch.
//!
//! [`rules`] has what CustomResourceDefinitions do with it.
//!
//! What bounds it: the expression (code points, nesting, nodes after macros, size of types), each evaluation
//! ([`PER_CALL_LIMIT`]), all evaluations of one request together ([`Budget`]), patterns (size of the compiled automaton).
//! Nothing panics; a test feeds it noise.

mod ast;
mod bindings;
mod budget;
mod check;
mod cost;
mod environment;
mod error;
mod eval;
mod lexer;
mod library;
mod literal;
mod macros;
mod overloads;
mod parse;
mod program;
pub mod rules;
mod schema;
mod types;
mod value;

#[cfg(test)]
mod tests;

pub use bindings::Bindings;
pub use budget::{Budget, MATCH_CONDITIONS_BUDGET, PER_CALL_LIMIT, RUNTIME_BUDGET};
pub use cost::{Range, SchemaSizes, Sizes, UnknownSizes};
pub use environment::Environment;
pub use error::{CompileError, EvalError, display};
pub use library::Library;
pub use library::authz::{Authorizer, Decision, Request, ResourceRequest, Subject};
pub use program::Program;
pub use schema::{Decl, KEYWORDS, escape};
pub use types::{ObjectTypes, Type, TypeProvider};
pub use value::{List, Map, Moment, Object, Opaque, Str, Value};
