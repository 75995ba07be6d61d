//! Admission webhooks and policies.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use super::Rules;
use super::table::{AGE, Column, NAME, Row, column, integer};
use super::validate::one_of;
use super::value::{fill, has, items, number, object_in, text};

pub(super) struct WebhookConfiguration;

impl Rules for WebhookConfiguration {
    fn validate(&self, configuration: &Value, errors: &mut FieldErrors) {
        let mut seen = Vec::new();
        for (index, webhook) in items(configuration, "/webhooks").iter().enumerate() {
            let path = Path::new("webhooks").index(index);
            let name = text(webhook, "/name");
            errors.invalid_each(&path.child("name"), name, names::dns1123_subdomain(name));
            if !name.is_empty() && name.split('.').count() < 3 {
                let detail = "should be a domain with at least three segments separated by dots";
                errors.invalid(&path.child("name"), name, detail);
            }
            if seen.contains(&name) {
                errors.duplicate(&path.child("name"), name);
            }
            seen.push(name);
            if items(webhook, "/admissionReviewVersions").is_empty() {
                errors.required(&path.child("admissionReviewVersions"), "must specify one of v1, v1beta1");
            }
            one_of(webhook, "failurePolicy", &["Fail", "Ignore"], &path, errors);
            one_of(webhook, "matchPolicy", &["Equivalent", "Exact"], &path, errors);
            let effects = text(webhook, "/sideEffects");
            if effects.is_empty() {
                errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun");
            } else {
                one_of(webhook, "sideEffects", &["None", "NoneOnDryRun"], &path, errors);
            }
            if let Some(seconds) = number(webhook, "/timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
                let detail = "the timeout value must be between 1 and 30 seconds";
                errors.invalid(&path.child("timeoutSeconds"), seconds, detail);
            }
            let client = path.child("clientConfig");
            match (has(webhook, "/clientConfig/url"), has(webhook, "/clientConfig/service")) {
                (true, false) => {
                    let url = text(webhook, "/clientConfig/url");
                    if !url.starts_with("https://") {
                        errors.invalid(&client.child("url"), url, "'https' is the only allowed URL scheme");
                    }
                }
                (false, true) => {}
                _ => errors.required(&client, "exactly one of url or service is required"),
            }
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, integer("Webhooks", |row| row.count("/webhooks")), AGE];
        COLUMNS
    }
}

pub(super) struct ValidatingPolicy;

impl Rules for ValidatingPolicy {
    fn default(&self, policy: &mut Value) {
        constraints(policy);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, integer("Validations", |row| row.count("/spec/validations")), column("ParamKind", param_kind), AGE];
        COLUMNS
    }
}

pub(super) struct MutatingPolicy;

impl Rules for MutatingPolicy {
    fn default(&self, policy: &mut Value) {
        constraints(policy);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, integer("Mutations", |row| row.count("/spec/mutations")), column("ParamKind", param_kind), AGE];
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
    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("PolicyName", |row| row.text("/spec/policyName")),
            column("ParamRef", |row| {
                let reference = &row.object["spec"]["paramRef"];
                match (text(reference, "/namespace"), text(reference, "/name")) {
                    (_, "") if has(reference, "/selector") => row.selector("/spec/paramRef/selector"),
                    (_, "") => "<unset>".into(),
                    ("", name) => format!("*/{name}").into(),
                    (namespace, name) => format!("{namespace}/{name}").into(),
                }
            }),
            AGE,
        ];
        COLUMNS
    }
}
