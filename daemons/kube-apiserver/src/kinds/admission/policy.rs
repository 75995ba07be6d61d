//! Admission policies and their bindings.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::matching::{self, compiles};
use crate::admission::expression::{Compiler, Names, Wanted};
use crate::kinds::validate::{label_selector, one_of};
use crate::kinds::value::{has, items, text, texts};

const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
const MUTATING_OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];

/// What both kinds of policies have. Answers with the variables declared.
fn common(spec: &Value, path: &Path, errors: &mut FieldErrors) -> (Compiler, Names) {
    one_of(spec, "failurePolicy", &["Fail", "Ignore"], path, errors);
    let params = has(spec, "/paramKind");
    if params {
        param_kind(&spec["paramKind"], &path.child("paramKind"), errors);
    }
    let constraints = path.child("matchConstraints");
    if has(spec, "/matchConstraints") {
        matching::match_resources(&spec["matchConstraints"], &constraints, errors);
        if items(spec, "/matchConstraints/resourceRules").is_empty() {
            errors.required(&constraints.child("resourceRules"), "");
        }
    } else {
        errors.required(&constraints, "");
    }
    matching::conditions(items(spec, "/matchConditions"), params, &path.child("matchConditions"), errors);
    let known = Names { params, authorizer: true, patches: false };
    let mut compiler = Compiler::with_variables();
    for (index, variable) in items(spec, "/variables").iter().enumerate() {
        let path = path.child("variables").index(index);
        let (name, expression) = (text(variable, "/name"), text(variable, "/expression"));
        if name.trim().is_empty() {
            errors.required(&path.child("name"), "name is not specified");
        } else if !is_identifier(name) {
            errors.invalid(&path.child("name"), name, "must be a valid CEL identifier");
        }
        if expression.trim().is_empty() {
            errors.required(&path.child("expression"), "expression is not specified");
        } else if let Err(why) = compiler.variable(known, name, expression) {
            errors.invalid(&path.child("expression"), expression, why);
        }
    }
    (compiler, known)
}

fn is_identifier(name: &str) -> bool {
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit()) && !cel::KEYWORDS.contains(&name)
}

fn param_kind(kind: &Value, path: &Path, errors: &mut FieldErrors) {
    let (whole, version_path) = (text(kind, "/apiVersion"), path.child("apiVersion"));
    if whole.is_empty() {
        errors.required(&version_path, "");
    } else if whole.matches('/').count() > 1 {
        errors.invalid(&version_path, whole, format!("unexpected GroupVersion string: {whole}"));
    } else {
        let (group, version) = whole.split_once('/').unwrap_or(("", whole));
        if !group.is_empty() {
            one_message(&version_path, group, "", names::dns1123_subdomain(group), errors);
        }
        if version.is_empty() {
            errors.invalid(&version_path, whole, "version must be specified");
        } else {
            one_message(&version_path, version, "", names::dns1035_label(version), errors);
        }
    }
    let name = text(kind, "/kind");
    if name.is_empty() {
        errors.required(&path.child("kind"), "");
    } else {
        let prefix = "may have mixed case, but should otherwise match: ";
        one_message(&path.child("kind"), name, prefix, names::dns1035_label(&name.to_lowercase()), errors);
    }
}

fn one_message(path: &Path, value: &str, prefix: &str, messages: Vec<String>, errors: &mut FieldErrors) {
    if !messages.is_empty() {
        errors.invalid(path, value, format!("{prefix}{}", messages.join(",")));
    }
}

pub(super) fn validating(policy: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&policy["spec"], Path::new("spec"));
    let (compiler, known) = common(spec, &path, errors);
    let (validations, annotations) = (items(spec, "/validations"), items(spec, "/auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            errors.required(&path.child(field), "validations or auditAnnotations must contain at least one item");
        }
    }
    for (index, validation) in validations.iter().enumerate() {
        one_validation(validation, &compiler, known, &path.child("validations").index(index), errors);
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > ANNOTATIONS_MAX {
        errors.invalid(&path, json!(annotations), format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations"));
    }
    let mut seen = Vec::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let (path, key) = (path.index(index), text(annotation, "/key"));
        let qualified = format!("{}/{key}", machinery::meta::name(policy));
        errors.invalid_each(&path.child("key"), &qualified, names::qualified_name(&qualified));
        let (expression, path_of) = (text(annotation, "/valueExpression").trim(), path.child("valueExpression"));
        if expression.is_empty() {
            errors.required(&path_of, "valueExpression is not specified");
        } else if expression.len() > ANNOTATION_EXPRESSION_BYTES_MAX {
            errors.required(&path_of, format!("must not exceed {ANNOTATION_EXPRESSION_BYTES_MAX} bytes in length"));
        } else {
            compiles(&compiler, known, expression, Wanted::StringOrNull, &path_of, errors);
        }
        if seen.contains(&key) {
            errors.duplicate(&path.child("key"), key);
        }
        seen.push(key);
    }
}

fn one_validation(validation: &Value, compiler: &Compiler, known: Names, path: &Path, errors: &mut FieldErrors) {
    let expression = text(validation, "/expression");
    if expression.trim().is_empty() {
        errors.required(&path.child("expression"), "expression is not specified");
    } else {
        compiles(compiler, known, expression, Wanted::Bool, &path.child("expression"), errors);
    }
    let computed = text(validation, "/messageExpression");
    if !computed.is_empty() && computed.trim().is_empty() {
        errors.invalid(&path.child("messageExpression"), computed, "must be non-empty if specified");
    } else if !computed.is_empty() {
        let known = Names { authorizer: false, ..known };
        compiles(compiler, known, computed, Wanted::String, &path.child("messageExpression"), errors);
    }
    let message = text(validation, "/message");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&path.child("message"), message, "must be non-empty if specified");
    } else if message.trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), message, "must not contain line breaks");
    }
    one_of(validation, "reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"], path, errors);
}

pub(super) fn mutating(policy: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&policy["spec"], Path::new("spec"));
    let (compiler, known) = common(spec, &path, errors);
    mutating_operations(&spec["matchConstraints"], &path.child("matchConstraints"), errors);
    let mutations = items(spec, "/mutations");
    if mutations.is_empty() {
        errors.required(&path.child("mutations"), "mutations must contain at least one item");
    }
    let known = Names { patches: true, ..known };
    for (index, mutation) in mutations.iter().enumerate() {
        one_mutation(mutation, &compiler, known, &path.child("mutations").index(index), errors);
    }
    if text(spec, "/reinvocationPolicy").is_empty() {
        errors.required(&path.child("reinvocationPolicy"), "");
    }
    one_of(spec, "reinvocationPolicy", &["IfNeeded", "Never"], &path, errors);
}

/// A deletion has no object that could be changed.
fn mutating_operations(constraints: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("resourceRules").child("operations");
    let operations = items(constraints, "/resourceRules").iter().flat_map(|rule| texts(rule, "/operations"));
    for operation in operations.filter(|operation| !MUTATING_OPERATIONS.contains(operation)) {
        errors.not_supported(&path, operation, MUTATING_OPERATIONS);
    }
}

fn one_mutation(mutation: &Value, compiler: &Compiler, known: Names, path: &Path, errors: &mut FieldErrors) {
    let (own, other, wanted) = match text(mutation, "/patchType") {
        "" => return errors.required(&path.child("patchType"), ""),
        "JSONPatch" => ("jsonPatch", "applyConfiguration", Wanted::Patches),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", Wanted::Object),
        unknown => return errors.not_supported(&path.child("patchType"), unknown, &["ApplyConfiguration", "JSONPatch"]),
    };
    let kind = text(mutation, "/patchType");
    if has(mutation, &format!("/{own}")) {
        let (expression, path) = (text(&mutation[own], "/expression").trim(), path.child(own).child("expression"));
        if expression.is_empty() {
            errors.required(&path, "");
        } else {
            compiles(compiler, known, expression, wanted, &path, errors);
        }
    } else {
        errors.required(&path.child(own), format!("must be specified when patchType is {kind}"));
    }
    if has(mutation, &format!("/{other}")) {
        let detail = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other), format!("{{{other}}}"), detail);
    }
}

/// A binding of either kind; only that of a validating policy has actions.
pub(super) fn binding(binding: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (&binding["spec"], Path::new("spec"));
    let name = text(spec, "/policyName");
    if name.is_empty() {
        errors.required(&path.child("policyName"), "");
    } else {
        errors.invalid_each(&path.child("policyName"), name, names::dns1123_subdomain(name));
    }
    if has(spec, "/paramRef") {
        param_ref(&spec["paramRef"], &path.child("paramRef"), errors);
    }
    if has(spec, "/matchResources") {
        matching::match_resources(&spec["matchResources"], &path.child("matchResources"), errors);
    }
    if text(binding, "/kind") == "MutatingAdmissionPolicyBinding" {
        mutating_operations(&spec["matchResources"], &path.child("matchResources"), errors);
    } else {
        actions(&texts(spec, "/validationActions"), &path.child("validationActions"), errors);
    }
}

fn param_ref(reference: &Value, path: &Path, errors: &mut FieldErrors) {
    let (name, selects) = (text(reference, "/name"), has(reference, "/selector"));
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::path_segment(name));
        if selects {
            errors.forbidden(&path.child("name"), both);
        }
    }
    if selects {
        label_selector(&reference["selector"], &path.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&path.child("selector"), both);
        }
    }
    if name.is_empty() && !selects {
        errors.required(path, "one of name or selector must be specified");
    }
    if text(reference, "/parameterNotFoundAction").is_empty() {
        errors.required(&path.child("parameterNotFoundAction"), "");
    }
    one_of(reference, "parameterNotFoundAction", &["Deny", "Allow"], path, errors);
}

fn actions(actions: &[&str], path: &Path, errors: &mut FieldErrors) {
    for (index, action) in actions.iter().enumerate() {
        if !matches!(*action, "Deny" | "Warn" | "Audit") {
            errors.not_supported(&path.index(index), *action, &["Audit", "Deny", "Warn"]);
        }
        if actions[..index].contains(action) {
            errors.duplicate(&path.index(index), *action);
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(path, json!(actions), detail);
    }
    if actions.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validate: fn(&Value, &mut FieldErrors), good: &Value, change: Value, expected: &[&str]) {
        let mut object = good.clone();
        for (field, value) in change.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        let mut errors = FieldErrors::new();
        validate(&object, &mut errors);
        let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(got.len(), expected.len(), "{change}: {got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.contains(expected), "{change}: {got}");
        }
    }

    fn constraints(operation: &str) -> Value {
        json!({"resourceRules": [{"operations": [operation], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]})
    }

    #[test]
    fn validating_policies() {
        let good = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints("*"), "validations": [{"expression": "true"}]}});
        let check = |change: Value, expected: &[&str]| check(validating, &good, change, expected);
        check(json!({}), &[]);
        check(json!({"matchConstraints": null}), &["spec.matchConstraints: Required"]);
        check(json!({"matchConstraints": {}}), &["spec.matchConstraints.resourceRules: Required"]);
        check(json!({"validations": []}), &["spec.validations: Required", "spec.auditAnnotations: Required"]);
        check(
            json!({"validations": [{"expression": "1 +"}]}),
            &["spec.validations[0].expression: Invalid value: \"1 +\": compilation failed"],
        );
        check(json!({"validations": [{"expression": "params.x"}]}), &["undeclared reference to 'params'"]);
        check(
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{"expression": "params.x == 1"}]}),
            &[],
        );
        check(
            json!({"paramKind": {"apiVersion": "a/b/c"}}),
            &["unexpected GroupVersion string", "spec.paramKind.kind: Required"],
        );
        check(
            json!({"validations": [{"expression": "true", "reason": "Why", "message": "a\nb"}]}),
            &["must not contain line breaks", "reason: Unsupported"],
        );
        check(json!({"variables": [{"name": "a b", "expression": "1"}]}), &["must be a valid CEL identifier"]);
        let variables = json!({"variables": [{"name": "x", "expression": "1"}], "validations": [{"expression": "variables.x == 1 && variables.y == 2"}]});
        check(variables, &["undefined field 'y'"]);
        check(
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}),
            &["must evaluate to one of [string null_type] but got int"],
        );
    }

    #[test]
    fn mutating_policies() {
        let apply = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}});
        let good = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints("CREATE"), "reinvocationPolicy": "Never", "mutations": [apply]}});
        let check = |change: Value, expected: &[&str]| check(mutating, &good, change, expected);
        check(json!({}), &[]);
        check(
            json!({"matchConstraints": constraints("DELETE")}),
            &["spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\""],
        );
        check(json!({"reinvocationPolicy": null}), &["spec.reinvocationPolicy: Required"]);
        check(json!({"mutations": []}), &["spec.mutations: Required"]);
        check(json!({"mutations": [{"patchType": "JSONPatch"}]}), &["spec.mutations[0].jsonPatch: Required"]);
        check(
            json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}}]}),
            &["must evaluate to Object but got int"],
        );
    }

    #[test]
    fn bindings() {
        let good =
            json!({"kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": "p", "validationActions": ["Deny"]}});
        let check = |change: Value, expected: &[&str]| check(binding, &good, change, expected);
        check(json!({}), &[]);
        check(json!({"policyName": ""}), &["spec.policyName: Required"]);
        check(json!({"validationActions": ["Deny", "Warn"]}), &["must not contain both Deny and Warn"]);
        check(json!({"validationActions": []}), &["at least one validation action is required"]);
        check(json!({"paramRef": {}}), &["one of name or selector", "parameterNotFoundAction: Required"]);
        check(
            json!({"paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Deny"}}),
            &["spec.paramRef.name: Forbidden", "spec.paramRef.selector: Forbidden"],
        );
    }
}
