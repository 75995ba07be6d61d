//! Schemas to rules.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{Node, Rule, path};
use crate::{Decl, Environment, Program, Type, display};

/// Schemas nest no deeper than this; deeper ones are refused where definitions are written.
pub(super) const DEPTH_MAX: usize = 64;
pub(super) const SELF_TYPE: &str = "selfType";
pub(super) const RULES: &str = "x-kubernetes-validations";

pub(super) fn has_rules(schema: &Json) -> bool {
    has_rules_within(schema, DEPTH_MAX)
}

fn has_rules_within(schema: &Json, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1).filter(|_| schema.is_object()) else { return false };
    let has = |schema: &Json| has_rules_within(schema, depth);
    schema[RULES].as_array().is_some_and(|rules| !rules.is_empty())
        || has(&schema["items"])
        || has(&schema["additionalProperties"])
        || schema["properties"].as_object().is_some_and(|p| p.values().any(has))
        || schema["allOf"].as_array().is_some_and(|all| all.iter().any(has))
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn is_embedded(schema: &Json) -> bool {
    schema["x-kubernetes-embedded-resource"] == true
}

impl Node {
    /// The rules that `validation` has, on values that `schema` describes (they differ beneath `allOf`).
    pub(super) fn compile(validation: &Json, schema: &Json, decl: Option<Arc<Decl>>) -> Option<Self> {
        Self::at(validation, schema, decl, DEPTH_MAX)
    }

    fn at(validation: &Json, schema: &Json, decl: Option<Arc<Decl>>, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        let rules = validation[RULES].as_array().into_iter().flatten();
        let rules = match &decl {
            Some(decl) => rules.map(|rule| Rule::compile(rule, schema, decl)).collect(),
            None => Vec::new(),
        };
        let below = |name: &str| {
            let (validation, schema) = (&validation[name], &schema[name]);
            let element = decl.as_ref().and_then(|d| d.element().cloned());
            (validation.is_object() && schema.is_object())
                .then(|| Self::at(validation, schema, element, depth))
                .flatten()
                .map(Box::new)
        };
        let mut node = Self {
            ty: text(&schema["type"]),
            rules,
            items: below("items"),
            additional: below("additionalProperties"),
            properties: std::collections::BTreeMap::new(),
            all_of: Vec::new(),
            list_keys: match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().map(text).collect(),
                _ => Vec::new(),
            },
            decl: decl.clone(),
        };
        for (name, validation) in validation["properties"].as_object().into_iter().flatten() {
            let property = &schema["properties"][name];
            let known = match crate::escape(name) {
                Some(_) => decl.as_ref().and_then(|d| d.property(name).cloned()),
                None => Decl::from_schema(property, is_embedded(property), SELF_TYPE).map(Arc::new),
            };
            if let Some(known) = known
                && let Some(found) = Self::at(validation, property, Some(known), depth)
            {
                node.properties.insert(name.clone(), found);
            }
        }
        for validation in validation["allOf"].as_array().into_iter().flatten() {
            node.all_of.extend(Self::at(validation, schema, decl.clone(), depth));
        }
        let empty = node.rules.is_empty()
            && node.items.is_none()
            && node.additional.is_none()
            && node.properties.is_empty()
            && node.all_of.is_empty();
        (!empty).then_some(node)
    }
}

/// The environment of a rule: `self`, and `oldSelf` which may be an optional.
pub(super) fn environment(decl: &Decl, optional_old: bool) -> Environment {
    let old = if optional_old { Type::optional(decl.ty()) } else { decl.ty() };
    Environment::new().variable_of("self", decl).variable("oldSelf", old)
}

/// An expression of a wanted type, or what upstream says of it.
pub(super) fn expression(env: &Environment, text: &str, wanted: &Type, failed: &str, mistyped: &str) -> Result<Program, String> {
    let program = env.compile(text).map_err(|errors| format!("{failed}: {}", display(&errors)))?;
    if program.output_type() == wanted { Ok(program) } else { Err(mistyped.to_owned()) }
}

pub(super) fn rule_program(env: &Environment, text: &str) -> Result<Program, String> {
    expression(env, text, &Type::Bool, "compilation failed", "cel expression must evaluate to a bool")
}

pub(super) fn message_program(env: &Environment, text: &str) -> Result<Program, String> {
    expression(env, text, &Type::String, "messageExpression compilation failed", "messageExpression must evaluate to a string")
}

impl Rule {
    fn compile(rule: &Json, schema: &Json, decl: &Decl) -> Self {
        let optional_old = rule["optionalOldSelf"] == true;
        let env = environment(decl, optional_old);
        let program = rule_program(&env, rule["rule"].as_str().unwrap_or_default());
        let message = rule["messageExpression"].as_str().filter(|m| !m.is_empty());
        Self {
            uses_old: program.as_ref().is_ok_and(|p| p.uses("oldSelf")),
            program,
            optional_old,
            text: text(&rule["rule"]),
            message: text(&rule["message"]),
            message_program: message.map(|m| message_program(&env, m)),
            reason: text(&rule["reason"]),
            field_path: rule["fieldPath"].as_str().filter(|p| !p.is_empty()).and_then(|p| path::parse(p, schema)),
        }
    }
}
