//! Policies and bindings, compiled.

use std::sync::Arc;

use cel::Program;
use machinery::meta;
use serde_json::Value;

use crate::admission::conditions::Conditions;
use crate::admission::criteria::Criteria;
use crate::admission::expression::{Compiler, Expression, Names, Wanted};

/// What all policies have; `B` is what they do.
pub struct Policy<B> {
    pub name: String,
    pub criteria: Criteria,
    pub params: Option<ParamKind>,
    pub failures_ignored: bool,
    pub conditions: Conditions,
    pub variables: Vec<(String, Arc<Program>)>,
    pub body: B,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

/// What a ValidatingAdmissionPolicy does.
pub struct Validations {
    pub checks: Vec<Check>,
    pub annotations: Vec<Annotation>,
}

/// One entry of `validations`.
pub struct Check {
    pub expression: Expression,
    pub message: String,
    pub message_expression: Option<Expression>,
    pub reason: String,
}

/// One entry of `auditAnnotations`.
pub struct Annotation {
    pub key: String,
    pub value: Expression,
}

/// What a MutatingAdmissionPolicy does.
pub struct Mutations {
    pub steps: Vec<Step>,
    pub reinvocable: bool,
}

/// One entry of `mutations`.
pub enum Step {
    Apply(Expression),
    JsonPatch(Expression),
}

/// A binding of either kind.
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub params: Option<ParamRef>,
    /// None binds the policy to everything it is about.
    pub criteria: Option<Criteria>,
    /// `validationActions`.
    pub actions: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Value,
    pub not_found_denies: bool,
}

impl<B> Policy<B> {
    fn compile(policy: &Value, body: impl FnOnce(&Value, &Compiler, Names) -> B) -> Self {
        let spec = &policy["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let params = spec["paramKind"]
            .is_object()
            .then(|| ParamKind { api_version: text(&spec["paramKind"]["apiVersion"]), kind: text(&spec["paramKind"]["kind"]) });
        let failures_ignored = spec["failurePolicy"] == "Ignore";
        let names = Names { params: params.is_some(), authorizer: true, patches: false };
        let mut compiler = Compiler::with_variables();
        let mut variables = Vec::new();
        for variable in spec["variables"].as_array().into_iter().flatten() {
            let name = text(&variable["name"]);
            // One that does not compile is missing for those that name it, and their errors say so.
            if let Ok(program) = compiler.variable(names, &name, variable["expression"].as_str().unwrap_or_default()) {
                variables.push((name, Arc::new(program)));
            }
        }
        Self {
            name: meta::name(policy).to_owned(),
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            conditions: Conditions::compile(&spec["matchConditions"], params.is_some(), failures_ignored),
            params,
            failures_ignored,
            variables,
            body: body(spec, &compiler, names),
        }
    }
}

impl Policy<Validations> {
    pub fn validating(policy: &Value) -> Self {
        Self::compile(policy, |spec, compiler, names| {
            let expression = |text: &Value, names: Names, wanted: Wanted| {
                Expression::compile(compiler, names, text.as_str().unwrap_or_default(), wanted)
            };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let entries = |field: &str| spec[field].as_array().into_iter().flatten();
            let check = |validation: &Value| Check {
                expression: expression(&validation["expression"], names, Wanted::Bool),
                message: text(&validation["message"]),
                message_expression: Some(&validation["messageExpression"])
                    .filter(|expression| expression.as_str().is_some_and(|text| !text.is_empty()))
                    .map(|text| expression(text, Names { authorizer: false, ..names }, Wanted::String)),
                reason: text(&validation["reason"]),
            };
            let annotation = |annotation: &Value| Annotation {
                key: text(&annotation["key"]),
                value: expression(&annotation["valueExpression"], names, Wanted::StringOrNull),
            };
            Validations {
                checks: entries("validations").map(check).collect(),
                annotations: entries("auditAnnotations").map(annotation).collect(),
            }
        })
    }
}

impl Policy<Mutations> {
    pub fn mutating(policy: &Value) -> Self {
        Self::compile(policy, |spec, compiler, names| {
            let names = Names { patches: true, ..names };
            let step = |mutation: &Value| {
                let text = |field: &str| mutation[field]["expression"].as_str().unwrap_or_default().to_owned();
                match mutation["patchType"].as_str() {
                    Some("JSONPatch") => {
                        Step::JsonPatch(Expression::compile(compiler, names, &text("jsonPatch"), Wanted::Patches))
                    }
                    _ => Step::Apply(Expression::compile(compiler, names, &text("applyConfiguration"), Wanted::Object)),
                }
            };
            Mutations {
                steps: spec["mutations"].as_array().into_iter().flatten().map(step).collect(),
                reinvocable: spec["reinvocationPolicy"] == "IfNeeded",
            }
        })
    }
}

impl Binding {
    pub fn compile(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reference = &spec["paramRef"];
        Self {
            name: meta::name(binding).to_owned(),
            policy: text(&spec["policyName"]),
            params: reference.is_object().then(|| ParamRef {
                name: text(&reference["name"]),
                namespace: text(&reference["namespace"]),
                selector: reference["selector"].clone(),
                not_found_denies: reference["parameterNotFoundAction"] == "Deny",
            }),
            criteria: spec["matchResources"].is_object().then(|| Criteria::of_binding(&spec["matchResources"])),
            actions: spec["validationActions"].as_array().into_iter().flatten().map(text).collect(),
        }
    }
}
