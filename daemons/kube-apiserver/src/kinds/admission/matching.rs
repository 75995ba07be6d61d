//! What webhooks and policies have in common: rules, selectors, match conditions, expressions.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use crate::admission::expression::{Compiler, Names, Wanted};
use crate::kinds::validate::{label_selector, one_of};
use crate::kinds::value::{has, items, text, texts};

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const CONDITIONS_MAX: usize = 64;

/// `rules` of a webhook, `resourceRules` of a policy.
pub(super) fn rule(rule: &Value, path: &Path, errors: &mut FieldErrors) {
    let operations = texts(rule, "/operations");
    list(rule, "operations", "operations", path, errors);
    for (index, operation) in operations.iter().enumerate().filter(|(_, operation)| !OPERATIONS.contains(operation)) {
        errors.not_supported(&path.child("operations").index(index), *operation, OPERATIONS);
    }
    list(rule, "apiGroups", "API groups", path, errors);
    list(rule, "apiVersions", "API versions", path, errors);
    for (index, _) in texts(rule, "/apiVersions").iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.required(&path.child("apiVersions").index(index), "");
    }
    resources(rule, &path.child("resources"), errors);
    one_of(rule, "scope", &["*", "Cluster", "Namespaced"], path, errors);
}

/// A list that must hold something, and nothing besides `*`.
fn list(rule: &Value, field: &str, called: &str, path: &Path, errors: &mut FieldErrors) {
    let values = texts(rule, &format!("/{field}"));
    if values.is_empty() {
        errors.required(&path.child(field), "");
    }
    if values.len() > 1 && values.contains(&"*") {
        errors.invalid(&path.child(field), json!(values), format!("if '*' is present, must not specify other {called}"));
    }
}

fn resources(rule: &Value, path: &Path, errors: &mut FieldErrors) {
    let resources = texts(rule, "/resources");
    if resources.is_empty() {
        errors.required(path, "");
    }
    let (mut with_all, mut of_all) = (Vec::new(), Vec::new());
    let mut plain = false;
    for (index, whole) in resources.iter().enumerate() {
        let path = path.index(index);
        if whole.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let Some((resource, subresource)) = whole.split_once('/') else {
            plain = *whole != "*";
            continue;
        };
        if with_all.contains(&resource) {
            errors.invalid(&path, *whole, format!("if '{resource}/*' is present, must not specify {whole}"));
        }
        if of_all.contains(&subresource) {
            errors.invalid(&path, *whole, format!("if '*/{subresource}' is present, must not specify {whole}"));
        }
        if subresource == "*" {
            with_all.push(resource);
        }
        if resource == "*" {
            of_all.push(subresource);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        errors.invalid(path, json!(resources), "if '*/*' is present, must not specify other resources");
    }
    if resources.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, json!(resources), detail);
    }
}

/// `matchConstraints` of a policy, `matchResources` of a binding.
pub(super) fn match_resources(constraints: &Value, path: &Path, errors: &mut FieldErrors) {
    one_of(constraints, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    selectors(constraints, path, errors);
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, entry) in items(constraints, &format!("/{field}")).iter().enumerate() {
            let path = path.child(field).index(index);
            let mut seen = Vec::new();
            for (index, name) in texts(entry, "/resourceNames").into_iter().enumerate() {
                let path = path.child("resourceNames").index(index);
                errors.invalid_each(&path, name, names::path_segment(name));
                if seen.contains(&name) {
                    errors.duplicate(&path, name);
                }
                seen.push(name);
            }
            rule(entry, &path, errors);
        }
    }
}

pub(super) fn selectors(value: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["namespaceSelector", "objectSelector"] {
        if has(value, &format!("/{field}")) {
            label_selector(&value[field], &path.child(field), errors);
        }
    }
}

/// `matchConditions`, which never see a policy's variables.
pub(super) fn conditions(conditions: &[Value], params: bool, path: &Path, errors: &mut FieldErrors) {
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    let compiler = Compiler::default();
    let known = Names { params, authorizer: true, patches: false };
    let mut seen = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let (name, expression) = (text(condition, "/name"), text(condition, "/expression").trim());
        if expression.is_empty() {
            errors.required(&path.child("expression"), "");
        } else {
            compiles(&compiler, known, expression, Wanted::Bool, &path.child("expression"), errors);
        }
        if name.is_empty() {
            errors.required(&path.child("name"), "");
            continue;
        }
        errors.invalid_each(&path.child("name"), name, names::qualified_name(name));
        if seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
    }
}

/// An expression that must compile to something of that type.
pub(super) fn compiles(
    compiler: &Compiler,
    known: Names,
    expression: &str,
    wanted: Wanted,
    path: &Path,
    errors: &mut FieldErrors,
) {
    if let Err(why) = compiler.compile(known, expression, wanted) {
        errors.invalid(path, expression, why);
    }
}
