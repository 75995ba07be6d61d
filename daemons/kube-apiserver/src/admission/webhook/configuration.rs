//! One webhook of a configuration, compiled.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::admission::conditions::Conditions;
use crate::admission::criteria::Criteria;
use crate::webhook::Target;

const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// A `MutatingWebhookConfiguration` or `ValidatingWebhookConfiguration`.
pub struct Configuration {
    pub hooks: Vec<Hook>,
}

pub struct Hook {
    pub name: String,
    pub configuration: String,
    /// Unique among all webhooks.
    pub id: String,
    pub target: Result<Arc<Target>, String>,
    pub criteria: Criteria,
    pub conditions: Conditions,
    pub failures_ignored: bool,
    pub side_effects: bool,
    pub timeout: Duration,
    pub review_versions: Vec<String>,
    pub reinvocable: bool,
}

impl Configuration {
    pub fn compile(configuration: &Value) -> Self {
        let name = machinery::meta::name(configuration);
        let webhooks = configuration["webhooks"].as_array().into_iter().flatten().enumerate();
        Self { hooks: webhooks.map(|(index, webhook)| Hook::compile(name, index, webhook)).collect() }
    }
}

impl Hook {
    fn compile(configuration: &str, index: usize, webhook: &Value) -> Self {
        let name = webhook["name"].as_str().unwrap_or_default().to_owned();
        let versions = webhook["admissionReviewVersions"].as_array().into_iter().flatten();
        let failures_ignored = webhook["failurePolicy"] == "Ignore";
        Self {
            id: format!("{configuration}/{name}/{index}"),
            configuration: configuration.to_owned(),
            target: Target::parse(&webhook["clientConfig"]).map(Arc::new),
            criteria: Criteria::of_webhook(webhook),
            conditions: Conditions::compile(&webhook["matchConditions"], false, failures_ignored),
            failures_ignored,
            side_effects: !matches!(webhook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
            timeout: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
            review_versions: versions.filter_map(Value::as_str).map(str::to_owned).collect(),
            reinvocable: webhook["reinvocationPolicy"] == "IfNeeded",
            name,
        }
    }
}
