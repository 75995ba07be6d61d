//! Webhooks of a configuration.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::{Value, json};

use super::matching;
use crate::kinds::validate::one_of;
use crate::kinds::value::{has, items, number, text, texts};

/// The versions of AdmissionReview that this server speaks.
const REVIEWS: &str = "v1, v1beta1";

pub(super) fn validate(configuration: &Value, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, webhook) in items(configuration, "/webhooks").iter().enumerate() {
        let path = Path::new("webhooks").index(index);
        one(webhook, &path, errors);
        versions(&texts(webhook, "/admissionReviewVersions"), &path.child("admissionReviewVersions"), errors);
        let name = text(webhook, "/name");
        if !name.is_empty() && seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
    }
}

fn one(webhook: &Value, path: &Path, errors: &mut FieldErrors) {
    qualified(text(webhook, "/name"), &path.child("name"), errors);
    for (index, rule) in items(webhook, "/rules").iter().enumerate() {
        matching::rule(rule, &path.child("rules").index(index), errors);
    }
    one_of(webhook, "failurePolicy", &["Fail", "Ignore"], path, errors);
    one_of(webhook, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    if text(webhook, "/sideEffects").is_empty() {
        errors.required(&path.child("sideEffects"), "must specify one of None, NoneOnDryRun");
    } else {
        one_of(webhook, "sideEffects", &["None", "NoneOnDryRun"], path, errors);
    }
    if let Some(seconds) = number(webhook, "/timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        errors.invalid(&path.child("timeoutSeconds"), seconds, "the timeout value must be between 1 and 30 seconds");
    }
    one_of(webhook, "reinvocationPolicy", &["IfNeeded", "Never"], path, errors);
    matching::selectors(webhook, path, errors);
    client(&webhook["clientConfig"], &path.child("clientConfig"), errors);
    matching::conditions(items(webhook, "/matchConditions"), false, &path.child("matchConditions"), errors);
}

/// A domain of three parts or more.
fn qualified(name: &str, path: &Path, errors: &mut FieldErrors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let wrong = names::dns1123_subdomain(name);
    if !wrong.is_empty() {
        return errors.invalid(path, name, wrong.join(","));
    }
    if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn versions(versions: &[&str], path: &Path, errors: &mut FieldErrors) {
    if versions.is_empty() {
        return errors.required(path, format!("must specify one of {REVIEWS}"));
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.invalid(&path.index(index), *version, "duplicate version");
        } else {
            errors.invalid_each(&path.index(index), version, names::dns1035_label(version));
        }
    }
    if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        errors.invalid(path, json!(versions), format!("must include at least one of {REVIEWS}"));
    }
}

fn client(config: &Value, path: &Path, errors: &mut FieldErrors) {
    match (has(config, "/url"), has(config, "/service")) {
        (true, false) => url(text(config, "/url"), &path.child("url"), errors),
        (false, true) => service(&config["service"], &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn url(url: &str, path: &Path, errors: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let authority = if scheme.is_empty() { "" } else { rest.split(['/', '?', '#']).next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() {
        errors.invalid(path, host, format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        errors.invalid(path, user, "user information is not permitted in the URL");
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if !fragment.is_empty() {
        errors.invalid(path, fragment, "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = before.split_once('?').filter(|(_, query)| !query.is_empty()) {
        errors.invalid(path, query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["name", "namespace"] {
        if text(service, &format!("/{field}")).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    let port = number(service, "/port").unwrap_or(443);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        errors.invalid(&path.child("port"), port, format!("port is not valid: {}", wrong.join(", ")));
    }
    let (whole, path) = (text(service, "/path"), path.child("path"));
    if matches!(whole, "" | "/") {
        return;
    }
    if whole == "//" {
        return errors.invalid(&path, whole, "segment[0] may not be empty");
    }
    if !whole.starts_with('/') {
        errors.invalid(&path, whole, "must start with a '/'");
    }
    let mut steps = whole.chars();
    steps.next();
    let steps = steps.as_str();
    for (index, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, whole, format!("segment[{index}] may not be empty"));
            continue;
        }
        for failure in names::dns1123_subdomain(step) {
            errors.invalid(&path, whole, format!("segment[{index}]: {failure}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks() {
        let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        let good = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule],
            "clientConfig": {"url": "https://h/x"}});
        let check = |field: &str, value: Value, expected: &[&str]| {
            let mut webhook = good.clone();
            webhook[field] = value;
            let mut errors = FieldErrors::new();
            validate(&json!({"webhooks": [webhook]}), &mut errors);
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got.len(), expected.len(), "{field}: {got:?}");
            for (got, expected) in got.iter().zip(expected) {
                assert!(got.contains(expected), "{field}: {got}");
            }
        };
        check("name", json!("a.b.c"), &[]);
        check("name", json!("a"), &["webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments"]);
        check("sideEffects", json!("Some"), &["webhooks[0].sideEffects: Unsupported value: \"Some\""]);
        check("timeoutSeconds", json!(31), &["the timeout value must be between 1 and 30 seconds"]);
        check("admissionReviewVersions", json!(["v2"]), &["must include at least one of v1, v1beta1"]);
        check(
            "admissionReviewVersions",
            json!(["v1", "v1"]),
            &["webhooks[0].admissionReviewVersions[1]: Invalid value: \"v1\": duplicate"],
        );
        check(
            "clientConfig",
            json!({"url": "http://u@h/x?a=b#c"}),
            &["'https' is the only", "user information", "fragments", "query"],
        );
        check("clientConfig", json!({}), &["exactly one of url or service is required"]);
        check(
            "clientConfig",
            json!({"service": {"name": "s", "namespace": "n", "path": "/a//b"}}),
            &["segment[1] may not be empty"],
        );
        check(
            "clientConfig",
            json!({"service": {"port": 0}}),
            &["service.name: Required", "service.namespace: Required", "port is not valid"],
        );
        check("matchConditions", json!([{"name": "c", "expression": "object.metadata.name == 'a'"}]), &[]);
        check(
            "matchConditions",
            json!([{"name": "c", "expression": "object."}, {"name": "c", "expression": "1"}]),
            &[
                "matchConditions[0].expression: Invalid value: \"object.\": compilation failed",
                "must evaluate to bool but got int",
                "matchConditions[1].name: Duplicate",
            ],
        );
    }

    #[test]
    fn rules() {
        let check = |change: Value, expected: &[&str]| {
            let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
            for (field, value) in change.as_object().into_iter().flatten() {
                rule[field] = value.clone();
            }
            let mut errors = FieldErrors::new();
            matching::rule(&rule, &Path::new("r"), &mut errors);
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got.len(), expected.len(), "{change}: {got:?}");
            assert!(got.iter().zip(expected).all(|(got, expected)| got.contains(expected)), "{got:?}");
        };
        check(json!({}), &[]);
        check(json!({"operations": ["PATCH"]}), &["r.operations[0]: Unsupported value: \"PATCH\""]);
        check(json!({"operations": ["*", "CREATE"]}), &["if '*' is present, must not specify other operations"]);
        check(json!({"apiGroups": [], "apiVersions": [""]}), &["r.apiGroups: Required", "r.apiVersions[0]: Required"]);
        check(json!({"resources": ["a/*", "a/b"]}), &["if 'a/*' is present, must not specify a/b"]);
        check(json!({"resources": ["*/b", "a/b"]}), &["if '*/b' is present, must not specify a/b"]);
        check(json!({"resources": ["*/*", "a"]}), &["if '*/*' is present, must not specify other resources"]);
        check(json!({"resources": ["*", "a"]}), &["must not specify other resources without subresources"]);
        check(json!({"scope": "Some"}), &["r.scope: Unsupported value"]);
    }
}
