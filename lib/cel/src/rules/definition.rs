//! What is wrong with the rules of a definition: expressions that do not compile, and those that could cost too much.

use std::sync::Arc;

use machinery::field::{FieldError, FieldErrors, Kind, Path};
use serde_json::Value as Json;

use super::compile::{self, DEPTH_MAX, RULES, SELF_TYPE};
use super::path;
use crate::{Decl, SchemaSizes};

/// Most that one expression may cost by its estimate, as often as it can be evaluated in one object.
const EXPRESSION_COST_MAX: u64 = 10_000_000;
/// Most that all expressions of a schema may cost so.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// How many of the dearest expressions are named where the sum is too much.
const NAMED_MAX: usize = 4;

/// Everything wrong with the rules of a version's `openAPIV3Schema`, which stands at `path`. To be asked only of a schema that
/// is right by itself: upstream skips the rules of others.
pub fn check(schema: &Json, path: &Path) -> FieldErrors {
    if !compile::has_rules(schema) {
        return FieldErrors::new();
    }
    let mut walk = Walk { errors: FieldErrors::new(), total: 0, dear: Vec::new() };
    let decl = Decl::from_schema(schema, true, SELF_TYPE).map(Arc::new);
    let place = Place { schema, decl, cardinality: Some(1), old_forbidden: None };
    walk.schema(&place, path, DEPTH_MAX);
    walk.total(path);
    walk.errors
}

/// A schema within the definition's.
struct Place<'s> {
    schema: &'s Json,
    decl: Option<Arc<Decl>>,
    /// How often such a value can be in an object, where the schema bounds it.
    cardinality: Option<u64>,
    /// A list above whose items have no old states.
    old_forbidden: Option<Path>,
}

struct Walk {
    errors: FieldErrors,
    total: u64,
    dear: Vec<(u64, Path)>,
}

/// By how much the members of a value are more than the value; nothing when there is no bound.
fn factor(schema: &Json) -> Option<u64> {
    let bound = |name: &str| schema[name].as_i64().map(|n| u64::try_from(n).unwrap_or(0));
    match schema["type"].as_str() {
        Some("object") if schema["additionalProperties"].is_object() => bound("maxProperties"),
        Some("array") => bound("maxItems"),
        _ => Some(1),
    }
}

impl Walk {
    fn schema(&mut self, place: &Place<'_>, path: &Path, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let schema = place.schema;
        let cardinality = place.cardinality.zip(factor(schema)).map(|(a, b)| a.saturating_mul(b));
        let below = |schema, decl: Option<Arc<Decl>>, old_forbidden| Place { schema, decl, cardinality, old_forbidden };
        let element = || place.decl.as_ref().and_then(|d| d.element().cloned());
        if schema["additionalProperties"].is_object() {
            let place = below(&schema["additionalProperties"], element(), place.old_forbidden.clone());
            self.schema(&place, &path.child("additionalProperties"), depth);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let decl = place.decl.as_ref().and_then(|d| d.property(name).cloned());
            let decl = decl.or_else(|| Decl::from_schema(property, false, SELF_TYPE).map(Arc::new));
            let place = below(property, decl, place.old_forbidden.clone());
            self.schema(&place, &path.child("properties").key(name), depth);
        }
        if schema["items"].is_object() {
            let correlated = schema["x-kubernetes-list-type"] == "map";
            let forbidden = if correlated { place.old_forbidden.clone() } else { Some(path.clone()) };
            self.schema(&below(&schema["items"], element(), forbidden), &path.child("items"), depth);
        }
        for (index, rule) in schema[RULES].as_array().into_iter().flatten().enumerate() {
            self.rule(rule, place, &path.child(RULES).index(index));
        }
    }

    fn rule(&mut self, rule: &Json, place: &Place<'_>, path: &Path) {
        let text = |name: &str| rule[name].as_str().unwrap_or_default();
        if text("rule").trim().is_empty() {
            return;
        }
        if !text("fieldPath").is_empty() && path::parse(text("fieldPath"), place.schema).is_none() {
            self.errors.invalid(&path.child("fieldPath"), text("fieldPath"), "must be a valid path");
        }
        let Some(decl) = &place.decl else {
            let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert \
                          structural schema to CEL declarations";
            self.errors.push(FieldError::internal(path, detail));
            return;
        };
        let env = compile::environment(decl, rule["optionalOldSelf"] == true);
        let sizes = SchemaSizes::new([("self", &**decl), ("oldSelf", &**decl)]);
        let refused = |path: &Path, reason: String| {
            let detail = format!("{}: {reason}", shown(rule));
            FieldError { kind: Kind::Invalid, path: path.as_str().to_owned(), bad_value: None, detail }
        };
        let at = path.child("rule");
        let program = match compile::rule_program(&env, text("rule")) {
            Ok(program) => program,
            Err(reason) => return self.errors.push(refused(&at, reason)),
        };
        let often = place.cardinality.unwrap_or_else(|| decl.occurrences_max());
        self.cost("estimated rule cost", program.estimated_cost(&sizes).max.saturating_mul(often), at.clone());
        if !text("messageExpression").is_empty() {
            let at = path.child("messageExpression");
            match compile::message_program(&env, text("messageExpression")) {
                Ok(message) => self.cost("estimated messageExpression cost", message.estimated_cost(&sizes).max, at),
                Err(reason) => self.errors.push(refused(&at, reason)),
            }
        }
        if !program.uses("oldSelf") {
            if let Some(optional) = rule["optionalOldSelf"].as_bool() {
                self.errors.invalid(&path.child("optionalOldSelf"), optional, "may not be set if oldSelf is not used in rule");
            }
        } else if let Some(list) = &place.old_forbidden {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
            self.errors.invalid(&at, text("rule"), detail);
        }
    }

    fn cost(&mut self, name: &str, cost: u64, path: Path) {
        if cost > EXPRESSION_COST_MAX {
            self.errors.push(FieldError::forbidden(&path, too_much(name, cost, EXPRESSION_COST_MAX)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_COST_MAX / 100 {
            self.dear.push((cost, path));
        }
    }

    fn total(&mut self, path: &Path) {
        if self.total <= SCHEMA_COST_MAX {
            return;
        }
        self.dear.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, path) in self.dear.iter().take(NAMED_MAX) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.errors.push(FieldError::forbidden(path, detail));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.errors.push(FieldError::forbidden(path, too_much(name, self.total, SCHEMA_COST_MAX)));
    }
}

fn too_much(name: &str, cost: u64, limit: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // A factor for people.
    let exceeds = cost as f64 / limit as f64;
    let factor = if exceeds > 100.0 {
        "more than 100x".to_owned()
    } else if exceeds < 1.5 {
        format!("{exceeds:.6}x")
    } else {
        format!("{exceeds:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

/// The rule as upstream's error shows it: Go's form of the struct.
fn shown(rule: &Json) -> String {
    let text = |name: &str| machinery::gotext::quote(rule[name].as_str().unwrap_or_default());
    let pointer = |name: &str, ty: &str| {
        format!("(*{ty})({})", if rule.get(name).is_some_and(|v| !v.is_null()) { "0xc000000000" } else { "nil" })
    };
    format!(
        "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:{}, FieldPath:{}, OptionalOldSelf:{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        pointer("reason", "apiextensions.FieldValueErrorReason"),
        text("fieldPath"),
        pointer("optionalOldSelf", "bool"),
    )
}
