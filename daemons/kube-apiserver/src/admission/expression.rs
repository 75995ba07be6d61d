//! CEL as admission knows it: which names expressions have, what they must evaluate to, and how failures read.

use std::sync::Arc;

use cel::{Bindings, Budget, Environment, EvalError, Program, Type};
use serde_json::{Value, json};

use super::access::Access;

/// The type of `variables`.
const VARIABLES: &str = "kubernetes.variables";
const REQUEST: &str = "kubernetes.AdmissionRequest";
const KIND: &str = "kubernetes.GroupVersionKind";
const RESOURCE: &str = "kubernetes.GroupVersionResource";
const USER: &str = "kubernetes.UserInfo";
const NAMESPACE: &str = "kubernetes.Namespace";
const NAMESPACE_META: &str = "kubernetes.NamespaceMetadata";
const NAMESPACE_SPEC: &str = "kubernetes.NamespaceSpec";
const NAMESPACE_STATUS: &str = "kubernetes.NamespaceStatus";
const NAMESPACE_CONDITION: &str = "kubernetes.NamespaceCondition";

/// Names that only some expressions have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    pub params: bool,
    pub authorizer: bool,
    /// `Object{…}` and `JSONPatch{…}`.
    pub patches: bool,
}

/// What an expression must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Bool,
    String,
    StringOrNull,
    /// An apply configuration.
    Object,
    /// JSON patch operations.
    Patches,
    Anything,
}

impl Wanted {
    fn check(self, output: &Type) -> Result<(), String> {
        let wanted = match self {
            Self::Anything => return Ok(()),
            Self::Bool => Type::Bool,
            Self::String => Type::String,
            Self::Object => Type::object("Object"),
            Self::Patches => Type::list(Type::object("JSONPatch")),
            Self::StringOrNull => match output {
                Type::String | Type::Null => return Ok(()),
                other => return Err(format!("must evaluate to one of [string null_type] but got {other}")),
            },
        };
        if *output == wanted { Ok(()) } else { Err(format!("must evaluate to {wanted} but got {output}")) }
    }
}

/// Compiles the expressions of one policy or webhook, which share their variables.
#[derive(Default)]
pub struct Compiler {
    variables: Option<Vec<(String, Type)>>,
    /// The type of `object` and `oldObject` when they are checked against a schema.
    pub typed: Option<Typed>,
}

/// A kind's type, for the warnings of type checking.
#[derive(Clone)]
pub struct Typed {
    pub object: Type,
    pub params: Type,
    pub provider: Arc<dyn cel::TypeProvider>,
}

impl Compiler {
    /// Of a policy, which may have variables.
    pub fn with_variables() -> Self {
        Self { variables: Some(Vec::new()), typed: None }
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// In upstream's words; what does not compile says `compilation failed`.
    pub fn compile(&self, names: Names, expression: &str, wanted: Wanted) -> Result<Program, String> {
        let environment = self.environment(names);
        let program =
            environment.compile(expression).map_err(|errors| format!("compilation failed: {}", cel::display(&errors)))?;
        wanted.check(program.output_type())?;
        Ok(program)
    }

    /// Compiles a variable, which expressions after it may name.
    pub fn variable(&mut self, names: Names, name: &str, expression: &str) -> Result<Program, String> {
        let program = self.compile(names, expression, Wanted::Anything)?;
        self.variables.get_or_insert_default().push((name.to_owned(), program.output_type().clone()));
        Ok(program)
    }

    fn environment(&self, names: Names) -> Environment {
        let ty = |of: fn(&Typed) -> &Type| self.typed.as_ref().map_or(Type::Dyn, |typed| of(typed).clone());
        let object = ty(|typed| &typed.object);
        let mut environment = base().variable("object", object.clone()).variable("oldObject", object);
        if let Some(typed) = &self.typed {
            environment = environment.types(typed.provider.clone());
        }
        if names.params {
            environment = environment.variable("params", ty(|typed| &typed.params));
        }
        if names.authorizer {
            environment = environment.authorizer();
        }
        if names.patches {
            environment = environment.mutation();
        }
        let Some(variables) = &self.variables else { return environment };
        environment = environment.object_type(VARIABLES);
        for (name, ty) in variables {
            environment = environment.field_type(VARIABLES, name, ty.clone());
        }
        environment.variable("variables", Type::object(VARIABLES))
    }
}

/// What every expression has: `request` and `namespaceObject`, typed.
fn base() -> Environment {
    let text = || Type::String;
    let texts = || Type::list(Type::String);
    let pairs = || Type::map(Type::String, Type::String);
    let types: [(&str, Vec<(&str, Type)>); 9] = [
        (KIND, vec![("group", text()), ("version", text()), ("kind", text())]),
        (RESOURCE, vec![("group", text()), ("version", text()), ("resource", text())]),
        (
            USER,
            vec![
                ("username", text()),
                ("uid", text()),
                ("groups", texts()),
                ("extra", Type::map(Type::String, Type::list(Type::String))),
            ],
        ),
        (
            REQUEST,
            vec![
                ("kind", Type::object(KIND)),
                ("resource", Type::object(RESOURCE)),
                ("subResource", text()),
                ("requestKind", Type::object(KIND)),
                ("requestResource", Type::object(RESOURCE)),
                ("requestSubResource", text()),
                ("name", text()),
                ("namespace", text()),
                ("operation", text()),
                ("userInfo", Type::object(USER)),
                ("dryRun", Type::Bool),
                ("options", Type::Dyn),
            ],
        ),
        (
            NAMESPACE_META,
            vec![
                ("name", text()),
                ("generateName", text()),
                ("namespace", text()),
                ("labels", pairs()),
                ("annotations", pairs()),
                ("UID", text()),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                ("resourceVersion", text()),
                ("finalizers", texts()),
            ],
        ),
        (NAMESPACE_SPEC, vec![("finalizers", texts())]),
        (
            NAMESPACE_CONDITION,
            vec![
                ("status", text()),
                ("type", text()),
                ("lastTransitionTime", Type::Timestamp),
                ("message", text()),
                ("reason", text()),
            ],
        ),
        (NAMESPACE_STATUS, vec![("conditions", Type::list(Type::object(NAMESPACE_CONDITION))), ("phase", text())]),
        (
            NAMESPACE,
            vec![
                ("metadata", Type::object(NAMESPACE_META)),
                ("spec", Type::object(NAMESPACE_SPEC)),
                ("status", Type::object(NAMESPACE_STATUS)),
            ],
        ),
    ];
    let mut environment = Environment::new();
    for (name, fields) in types {
        environment = environment.object_type(name);
        for (field, ty) in fields {
            environment = environment.field_type(name, field, ty);
        }
    }
    environment.variable("request", Type::object(REQUEST)).variable("namespaceObject", Type::object(NAMESPACE))
}

/// An expression with its program, or with what is wrong with it.
pub struct Expression {
    pub text: String,
    program: Result<Program, String>,
}

/// Why an expression gave no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvaluationFailure {
    pub message: String,
    /// Nothing more may be evaluated for this request.
    pub exhausted: bool,
}

impl Expression {
    pub fn compile(compiler: &Compiler, names: Names, text: &str, wanted: Wanted) -> Self {
        Self { text: text.to_owned(), program: compiler.compile(names, text, wanted) }
    }

    /// The value.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn evaluate<'a>(&self, bindings: &Bindings<'a>, budget: &mut Budget) -> Result<cel::Value<'a>, EvaluationFailure> {
        let program = self
            .program
            .as_ref()
            .map_err(|why| EvaluationFailure { message: format!("compilation error: {why}"), exhausted: false })?;
        program.evaluate(bindings, budget).map_err(|error| match error {
            EvalError::BudgetExhausted => EvaluationFailure { message: error.to_string(), exhausted: true },
            other => {
                EvaluationFailure { message: format!("expression '{}' resulted in error: {other}", self.text), exhausted: false }
            }
        })
    }
}

/// What the names stand for in one request.
#[derive(Clone, Copy)]
pub struct Facts<'f> {
    pub object: &'f Value,
    pub old: &'f Value,
    pub request: &'f Value,
    /// As [`namespace_object`] shows it; null for what is in no namespace.
    pub namespace: &'f Value,
    pub params: &'f Value,
    pub access: Option<&'f Access<'f>>,
}

impl Default for Facts<'_> {
    fn default() -> Self {
        const NULL: &Value = &Value::Null;
        Self { object: NULL, old: NULL, request: NULL, namespace: NULL, params: NULL, access: None }
    }
}

impl<'f> Facts<'f> {
    pub fn bindings(&self) -> Bindings<'f> {
        let mut bindings = Bindings::new();
        bindings
            .bind_json("object", self.object)
            .bind_json("oldObject", self.old)
            .bind_json("request", self.request)
            .bind_json("namespaceObject", self.namespace)
            .bind_json("params", self.params);
        if let Some(access) = self.access {
            bindings.bind_authorizer(access, Some(access.resource()));
        }
        bindings
    }

    /// The same with a policy's variables.
    pub fn bindings_with(&self, variables: &[(String, Arc<Program>)]) -> Bindings<'f> {
        let mut bindings = self.bindings();
        bindings.bind_variables("variables", VARIABLES, variables.to_vec());
        bindings
    }
}

/// The part of a Namespace that expressions may see.
pub fn namespace_object(namespace: Option<&Value>) -> Value {
    const SHOWN: [&str; 12] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    let Some(namespace) = namespace else { return Value::Null };
    let metadata: serde_json::Map<String, Value> =
        SHOWN.into_iter().filter_map(|field| Some((field.to_owned(), namespace["metadata"].get(field)?.clone()))).collect();
    json!({"metadata": metadata, "spec": namespace["spec"], "status": namespace["status"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compiles() {
        let check = |names: Names, expression: &str, wanted: Wanted, expected: Option<&str>| {
            let result = Compiler::default().compile(names, expression, wanted);
            match (result, expected) {
                (Ok(_), None) => {}
                (Err(why), Some(expected)) => assert!(why.starts_with(expected), "{expression}: {why}"),
                (result, expected) => panic!("{expression}: {result:?}, not {expected:?}"),
            }
        };
        let all = Names { params: true, authorizer: true, patches: false };
        check(all, "object.spec.replicas <= params.max && request.operation == 'CREATE'", Wanted::Bool, None);
        check(all, "has(request.namespace) && namespaceObject.metadata.labels['a'] == 'b'", Wanted::Bool, None);
        check(all, "authorizer.group('').resource('pods').check('get').allowed()", Wanted::Bool, None);
        check(all, "object.metadata.name", Wanted::Bool, Some("must evaluate to bool but got dyn"));
        check(all, "1", Wanted::StringOrNull, Some("must evaluate to one of [string null_type] but got int"));
        check(
            Names::default(),
            "params.a == 1",
            Wanted::Bool,
            Some("compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'"),
        );
        check(
            all,
            "request.nothing == 1",
            Wanted::Bool,
            Some("compilation failed: ERROR: <input>:1:8: undefined field 'nothing'"),
        );
        check(all, "object.", Wanted::Bool, Some("compilation failed: ERROR: <input>:1:8: Syntax error"));
        let patches = Names { patches: true, ..all };
        check(patches, "Object{spec: Object.spec{replicas: 1}}", Wanted::Object, None);
        check(patches, "[JSONPatch{op: 'add', path: '/a', value: 1}]", Wanted::Patches, None);
    }

    #[test]
    fn variables_see_those_before_them() {
        let mut compiler = Compiler::with_variables();
        let names = Names::default();
        compiler.variable(names, "two", "1 + 1").expect("an expression");
        compiler.variable(names, "three", "variables.two + 1").expect("an expression");
        assert!(compiler.compile(names, "variables.three == 3", Wanted::Bool).is_ok());
        let error = compiler.compile(names, "variables.four == 4", Wanted::Bool).unwrap_err();
        assert!(error.contains("undefined field 'four'"), "{error}");
    }
}
