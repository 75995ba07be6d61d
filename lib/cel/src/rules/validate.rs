//! What rules say of an object.

use machinery::field::{FieldError, Kind, Path};
use serde_json::Value as Json;

use super::correlation::{Correlation, old_item};
use super::{Node, Rule, Verdict};
use crate::{Bindings, Budget, EvalError, Program, RUNTIME_BUDGET, Value};

/// Longest message that an expression may make.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// How upstream names the whole object where an error is about nothing smaller.
const WHOLE: &str = "<nil>";
const EXHAUSTED: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// Nothing more is evaluated.
struct Stop;

struct Run {
    budget: Budget,
    verdict: Verdict,
}

pub(super) fn validate(node: &Node, object: &Json, old: Option<&Json>) -> Verdict {
    let mut run = Run { budget: Budget::new(RUNTIME_BUDGET), verdict: Verdict::default() };
    // What stopped it stands among the errors.
    let _ = run.node(node, &Path::root(), object, old, Correlation::root(object, old));
    run.verdict
}

fn error(kind: Kind, path: &Path, bad_value: Option<Json>, detail: String) -> FieldError {
    let path = if path.as_str().is_empty() { WHOLE.to_owned() } else { path.as_str().to_owned() };
    FieldError { kind, path, bad_value, detail }
}

/// A field's value in place of which upstream shows its type.
fn invalid(path: &Path, node: &Node, detail: String) -> FieldError {
    error(Kind::Invalid, path, Some(Json::from(node.ty.as_str())), detail)
}

impl Run {
    fn node<'j>(
        &mut self,
        node: &Node,
        path: &Path,
        value: &'j Json,
        old: Option<&'j Json>,
        at: Correlation<'j>,
    ) -> Result<(), Stop> {
        if value.is_null() {
            return Ok(());
        }
        self.rules(node, path, value, old.filter(|old| !old.is_null()), at)?;
        for below in &node.all_of {
            self.node(below, path, value, old, at.nested())?;
        }
        match value {
            Json::Array(items) => {
                let Some(below) = &node.items else { return Ok(()) };
                for (index, item) in items.iter().enumerate() {
                    let old = old_item(item, old, &node.list_keys);
                    self.node(below, &path.index(index), item, old, at.index(item, &node.list_keys))?;
                }
            }
            Json::Object(map) => {
                for (name, value) in map {
                    let old = old.and_then(|old| old.get(name));
                    if let Some(below) = &node.additional {
                        self.node(below, &path.key(name), value, old, at.key(name))?;
                    }
                    if let Some(below) = node.properties.get(name) {
                        self.node(below, &path.child(name), value, old, at.key(name))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(&mut self, node: &Node, path: &Path, value: &Json, old: Option<&Json>, at: Correlation<'_>) -> Result<(), Stop> {
        if node.rules.is_empty() {
            return Ok(());
        }
        if self.budget.remaining() == 0 {
            return self.stop(invalid(path, node, EXHAUSTED.to_owned()));
        }
        for rule in &node.rules {
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            self.rule(rule, node, path, value, old, at)?;
        }
        Ok(())
    }

    fn stop(&mut self, error: FieldError) -> Result<(), Stop> {
        self.verdict.errors.push(error);
        Err(Stop)
    }

    fn rule(
        &mut self,
        rule: &Rule,
        node: &Node,
        path: &Path,
        value: &Json,
        old: Option<&Json>,
        at: Correlation<'_>,
    ) -> Result<(), Stop> {
        let program = match &rule.program {
            Ok(program) => program,
            Err(reason) => {
                self.verdict.errors.push(invalid(path, node, format!("rule compile error: {reason}")));
                return Ok(());
            }
        };
        let bindings = match bindings(rule, node, value, old) {
            Ok(bindings) => bindings,
            Err(reason) => {
                self.verdict.errors.push(invalid(path, node, format!("{reason} evaluating rule: {}", rule.name())));
                return Ok(());
            }
        };
        match program.evaluate(&bindings, &mut self.budget) {
            Ok(Value::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(EvalError::BudgetExhausted) => return self.stop(invalid(path, node, EXHAUSTED.to_owned())),
            Err(reason @ EvalError::CostLimit) => {
                let detail = format!(
                    "'{reason}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    rule.name()
                );
                return self.stop(invalid(path, node, detail));
            }
            Err(reason) => {
                let text = reason.to_string();
                let detail = if text.starts_with("no such overload") {
                    format!(
                        "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                        rule.name()
                    )
                } else {
                    format!("{text} evaluating rule: {}", rule.name())
                };
                self.verdict.errors.push(invalid(path, node, detail));
                return Ok(());
            }
        }
        let place = rule.field_path.as_ref().map_or_else(|| path.clone(), |field| path.child(field));
        let (detail, stopped) = match rule.message_program.as_ref().and_then(|p| p.as_ref().ok()) {
            None => (rule.default_message(), false),
            Some(program) => match self.message(program, &bindings) {
                Ok(Some(message)) => (message, false),
                Ok(None) => (rule.default_message(), false),
                Err(reason) => (reason, true),
            },
        };
        let shown = (!matches!(node.ty.as_str(), "object" | "array")).then(|| value.clone());
        let failure = match rule.reason.as_str() {
            _ if stopped => invalid(&place, node, detail),
            "FieldValueForbidden" => error(Kind::Forbidden, &place, None, detail),
            "FieldValueRequired" => error(Kind::Required, &place, None, detail),
            // A duplicate has no words of its own.
            "FieldValueDuplicate" => error(Kind::Duplicate, &place, shown, String::new()),
            _ => error(Kind::Invalid, &place, shown, detail),
        };
        if !rule.uses_old && at.is_unchanged() {
            self.verdict.warnings.push(failure.to_string());
        } else {
            self.verdict.errors.push(failure);
        }
        if stopped { Err(Stop) } else { Ok(()) }
    }

    /// The text of a message expression; nothing when it gives none that is fit, an error when nothing more may be evaluated.
    fn message(&mut self, program: &Program, bindings: &Bindings<'_>) -> Result<Option<String>, String> {
        match program.evaluate(bindings, &mut self.budget) {
            Ok(Value::String(text)) => {
                let text = text.trim();
                let fit = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
                Ok(fit.then(|| text.to_owned()))
            }
            Ok(_) | Err(EvalError::Failed(_)) => Ok(None),
            Err(EvalError::BudgetExhausted) => Err(
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned(),
            ),
            Err(EvalError::CostLimit) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                program.source()
            )),
        }
    }
}

fn bindings<'a>(rule: &Rule, node: &'a Node, value: &'a Json, old: Option<&'a Json>) -> Result<Bindings<'a>, EvalError> {
    let mut bindings = Bindings::new();
    let Some(decl) = &node.decl else { return Ok(bindings) };
    bindings.bind_schema("self", value, decl)?;
    match old {
        None if rule.optional_old => bindings.bind("oldSelf", Value::Optional(None)),
        None => &mut bindings,
        Some(old) if rule.optional_old => {
            let old = Value::from_schema(old, decl)?;
            bindings.bind("oldSelf", Value::some(old))
        }
        Some(old) => bindings.bind_schema("oldSelf", old, decl)?,
    };
    Ok(bindings)
}
