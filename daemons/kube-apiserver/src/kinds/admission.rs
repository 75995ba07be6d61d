//! Admission webhooks and policies.

mod known;
mod matching;
mod policy;
mod webhook;

use machinery::field::FieldErrors;
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, Row, column, integer};
use super::value::{fill, has, object_in, text};

pub(super) struct WebhookConfiguration;

impl Rules for WebhookConfiguration {
    fn validate_new(&self, configuration: &Value, errors: &mut FieldErrors) {
        webhook::validate(configuration, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            errors.extend(known::changed(webhook::validate, new, old));
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Webhooks", |row| row.count("/webhooks"))
                .says("Webhooks indicates the number of webhooks registered in this configuration"),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) struct ValidatingPolicy;

impl Rules for ValidatingPolicy {
    fn default(&self, policy: &mut Value) {
        constraints(policy);
    }

    fn validate_new(&self, policy: &Value, errors: &mut FieldErrors) {
        policy::validating(policy, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            errors.extend(known::changed(policy::validating, new, old));
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Validations", |row| row.count("/spec/validations"))
                .says("Validations indicates the number of validation rules defined in this configuration"),
            column("ParamKind", param_kind).says("ParamKind specifies the kind of resources used to parameterize this policy"),
            AGE,
        ];
        COLUMNS
    }
}

pub(super) struct MutatingPolicy;

impl Rules for MutatingPolicy {
    fn default(&self, policy: &mut Value) {
        constraints(policy);
    }

    fn validate_new(&self, policy: &Value, errors: &mut FieldErrors) {
        policy::mutating(policy, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        if subresource.is_empty() {
            errors.extend(known::changed(policy::mutating, new, old));
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            integer("Mutations", |row| row.count("/spec/mutations"))
                .says("Mutation indicates the number of mutations rules defined in this configuration"),
            column("ParamKind", param_kind).says("ParamKind specifies the kind of resources used to parameterize this policy"),
            AGE,
        ];
        COLUMNS
    }
}

/// A policy matches everything its constraints do not exclude.
fn constraints(policy: &mut Value) {
    let spec = object_in(policy, "spec");
    fill(spec, "failurePolicy", "Fail");
}

fn param_kind(row: &Row<'_>) -> Value {
    if !row.has("/spec/paramKind") {
        return "<unset>".into();
    }
    let kind = &row.object["spec"]["paramKind"];
    format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")).into()
}

pub(super) struct PolicyBinding;

impl Rules for PolicyBinding {
    fn validate(&self, binding: &Value, errors: &mut FieldErrors) {
        policy::binding(binding, errors);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("PolicyName", |row| row.text("/spec/policyName"))
                .says("PolicyName indicates the policy definition which the policy binding binded to"),
            column("ParamRef", |row| {
                let reference = &row.object["spec"]["paramRef"];
                match (text(reference, "/namespace"), text(reference, "/name")) {
                    (_, "") if has(reference, "/selector") => row.selector("/spec/paramRef/selector"),
                    (_, "") => "<unset>".into(),
                    ("", name) => format!("*/{name}").into(),
                    (namespace, name) => format!("{namespace}/{name}").into(),
                }
            })
            .says("ParamRef indicates the param resource which sets the configuration param"),
            AGE,
        ];
        COLUMNS
    }
}
