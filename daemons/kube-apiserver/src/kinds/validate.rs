//! Rules that many kinds share: selectors, labels, numbers, ports, addresses.

use std::net::IpAddr;

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use machinery::quantity::Quantity;
use machinery::selector::LabelSelector;
use serde_json::Value;

use super::value::{count, entries, has, items, number, text};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const IMMUTABLE: &str = "field is immutable";

pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// The value, if there is one, is not negative.
pub(super) fn not_negative(object: &Value, pointer: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(value) = number(object, pointer).filter(|value| *value < 0) {
        errors.invalid(path, value, NOT_NEGATIVE);
    }
}

/// The same for several fields of one object.
pub(super) fn none_negative(object: &Value, fields: &[&str], path: &Path, errors: &mut FieldErrors) {
    for field in fields {
        not_negative(object, &format!("/{field}"), &path.child(field), errors);
    }
}

/// A text that must be there.
pub(super) fn required(object: &Value, field: &str, path: &Path, errors: &mut FieldErrors) {
    if text(object, &format!("/{field}")).is_empty() {
        errors.required(&path.child(field), "");
    }
}

/// A text that must be one of these; absence is allowed unless the caller says otherwise elsewhere.
pub(super) fn one_of(object: &Value, field: &str, allowed: &[&str], path: &Path, errors: &mut FieldErrors) {
    let value = text(object, &format!("/{field}"));
    if !value.is_empty() && !allowed.contains(&value) {
        errors.not_supported(&path.child(field), value, allowed);
    }
}

/// A text that must be there and one of these.
pub(super) fn required_one_of(object: &Value, field: &str, allowed: &[&str], path: &Path, errors: &mut FieldErrors) {
    required(object, field, path, errors);
    one_of(object, field, allowed, path, errors);
}

/// The value may not change.
pub(super) fn immutable(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    if new != old {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// Labels: keys are qualified names, values label values.
pub(super) fn labels(map: &Value, path: &Path, errors: &mut FieldErrors) {
    for (key, value) in entries(map, "") {
        errors.invalid_each(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(path, value, names::label_value(value));
    }
}

/// Conditions in the form that all newer kinds share.
pub(super) fn conditions(conditions: &[Value], path: &Path, errors: &mut FieldErrors) {
    const REASON_BYTES_MAX: usize = 1024;
    const MESSAGE_BYTES_MAX: usize = 32 * 1024;
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
        if conditions[..index].iter().any(|before| text(before, "/type") == kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
        if !["False", "True", "Unknown"].contains(&status) {
            errors.not_supported(&path.child("status"), status, &["False", "True", "Unknown"]);
        }
        if let Some(negative) = number(condition, "/observedGeneration").filter(|generation| *generation < 0) {
            errors.invalid(&path.child("observedGeneration"), negative, "must be greater than or equal to zero");
        }
        if !has(condition, "/lastTransitionTime") {
            errors.required(&path.child("lastTransitionTime"), "");
        }
        match text(condition, "/reason") {
            "" => errors.required(&path.child("reason"), ""),
            reason => {
                errors.invalid_each(&path.child("reason"), reason, names::condition_reason(reason));
                if reason.len() > REASON_BYTES_MAX {
                    errors.push(FieldError::too_long(&path.child("reason"), REASON_BYTES_MAX));
                }
            }
        }
        if text(condition, "/message").len() > MESSAGE_BYTES_MAX {
            errors.push(FieldError::too_long(&path.child("message"), MESSAGE_BYTES_MAX));
        }
    }
}

/// A label selector with its expressions.
pub(super) fn label_selector(selector: &Value, path: &Path, errors: &mut FieldErrors) {
    if let Some(map) = selector.get("matchLabels") {
        labels(map, &path.child("matchLabels"), errors);
    }
    for (index, expression) in items(selector, "/matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = items(expression, "/values");
        match text(expression, "/operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.forbidden(&path.child("values"), detail);
                }
            }
            operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        let key = text(expression, "/key");
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            errors.invalid_each(&path.child("values").index(index), value, names::label_value(value));
        }
    }
}

pub(super) fn is_empty_selector(selector: &Value) -> bool {
    count(selector, "/matchLabels") + count(selector, "/matchExpressions") == 0
}

/// The selector of a workload: there, not empty, and matching the labels of its template. `owner` ends the sentence.
pub(super) fn workload_selector(spec: &Value, owner: &str, path: &Path, errors: &mut FieldErrors) {
    let selector_path = path.child("selector");
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector.is_null() {
        errors.required(&selector_path, "");
    } else {
        label_selector(selector, &selector_path, errors);
        if is_empty_selector(selector) {
            errors.invalid(&selector_path, selector.clone(), format!("empty selector is invalid for {owner}"));
            return;
        }
    }
    // A selector that is not there selects nothing.
    match LabelSelector::from_label_selector(selector) {
        Ok(parsed) => {
            let template = spec.get("template").unwrap_or(&Value::Null);
            if !parsed.matches_object(template) {
                let labels = template.pointer("/metadata/labels").cloned().unwrap_or(Value::Null);
                let path = path.child("template").child("metadata").child("labels");
                errors.invalid(&path, labels, "`selector` does not match template `labels`");
            }
        }
        Err(_) => errors.invalid(&selector_path, selector.clone(), "invalid label selector"),
    }
}

/// An integer that is not negative, or a percentage.
pub(super) fn int_or_percent(value: &Value, path: &Path, errors: &mut FieldErrors) {
    match value {
        Value::String(text) => errors.invalid_each(path, text, names::percent(text)),
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.invalid(path, value.clone(), NOT_NEGATIVE);
        }
        _ => {}
    }
}

/// No percentage above 100.
pub(super) fn at_most_all(value: &Value, path: &Path, errors: &mut FieldErrors) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// The number, or the number before the percent sign.
pub(super) fn int_or_percent_value(value: &Value) -> i64 {
    value.as_i64().or_else(|| percent(value)).unwrap_or_default()
}

fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// A port number or the name of one.
pub(super) fn port(value: &Value, path: &Path, errors: &mut FieldErrors) {
    match value {
        Value::String(name) => errors.invalid_each(path, name, names::port_name(name)),
        value => {
            let port = value.as_i64().unwrap_or_default();
            for message in names::port_number(port) {
                errors.invalid(path, port, message);
            }
        }
    }
}

/// A quantity that is not negative.
pub(super) fn quantity(value: &Value, path: &Path, errors: &mut FieldErrors) {
    if let Ok(quantity) = Quantity::from_value(value)
        && quantity.is_negative()
    {
        errors.invalid(path, quantity.canonical(), NOT_NEGATIVE);
    }
}

/// Requests and limits: known names, no negative quantity, no request above its limit.
pub(super) fn resources(resources: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["limits", "requests"] {
        for (name, value) in entries(resources, &format!("/{field}")) {
            let path = path.child(field).key(name);
            resource_name(name, &path, errors);
            quantity(value, &path, errors);
            let whole = !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage" | "storage");
            if whole && Quantity::from_value(value).is_ok_and(|quantity| !quantity.is_integer()) {
                errors.invalid(&path, value.clone(), "must be an integer");
            }
        }
    }
    for (name, request) in entries(resources, "/requests") {
        let limit = resources.get("limits").and_then(|limits| limits.get(name));
        let path = path.child("requests");
        match limit {
            Some(limit) => {
                let (Ok(request), Ok(limit)) = (Quantity::from_value(request), Quantity::from_value(limit)) else { continue };
                if is_overcommitted(name) && request > limit {
                    let detail = format!("must be less than or equal to {name} limit of {}", limit.canonical());
                    errors.invalid(&path, request.canonical(), detail);
                } else if !is_overcommitted(name) && request != limit {
                    let detail = format!("must be equal to {name} limit of {}", limit.canonical());
                    errors.invalid(&path, request.canonical(), detail);
                }
            }
            None if !is_overcommitted(name) => {
                errors
                    .required(&Path::from(path_of_limits(&path).as_str()), "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
}

fn path_of_limits(requests: &Path) -> String {
    requests.as_str().trim_end_matches("requests").to_owned() + "limits"
}

/// Resources that may be promised more than once: the native ones but huge pages.
fn is_overcommitted(name: &str) -> bool {
    !name.contains('/') && !name.starts_with("hugepages-")
}

fn resource_name(name: &str, path: &Path, errors: &mut FieldErrors) {
    let messages = names::qualified_name(name);
    let wrong = !messages.is_empty();
    errors.invalid_each(path, name, messages);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if name.contains('/') || standard {
        return;
    }
    let of_quotas = matches!(name, "storage" | "pods" | "services" | "secrets" | "configmaps" | "persistentvolumeclaims");
    if !wrong && !of_quotas {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    errors.invalid(path, name, "must be a standard resource for containers");
}

pub(super) fn taints(taints: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        let (key, value, effect) = (text(taint, "/key"), text(taint, "/value"), text(taint, "/effect"));
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.invalid(&path.child("value"), value, messages.join(";"));
        }
        required_one_of(taint, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &path, errors);
        if seen.contains(&(key, effect)) {
            let mut error = FieldError::duplicate(&path, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
        seen.push((key, effect));
    }
}

pub(super) fn tolerations(tolerations: &[Value], path: &Path, errors: &mut FieldErrors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator) = (text(toleration, "/key"), text(toleration, "/operator"));
        let (value, effect) = (text(toleration, "/value"), text(toleration, "/effect"));
        if !key.is_empty() {
            errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        if has(toleration, "/tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, detail);
        }
        match operator {
            "" | "Equal" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.invalid(&path.child("operator"), value, messages.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&path.child("operator"), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => errors.not_supported(&path.child("operator"), operator, &["Equal", "Exists"]),
        }
        one_of(toleration, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], &path, errors);
    }
}

pub(super) fn ip(value: &str, path: &Path, errors: &mut FieldErrors) -> Option<IpAddr> {
    let parsed = value.parse().ok();
    if parsed.is_none() {
        errors.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
    parsed
}

pub(super) fn cidr(value: &str, path: &Path, errors: &mut FieldErrors) {
    let valid = value.split_once('/').is_some_and(|(address, length)| {
        let max = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.parse::<u8>().is_ok_and(|length| length <= max)
    });
    if !valid {
        errors.invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// An address that can be another machine's.
pub(super) fn endpoint_ip(value: &str, path: &Path, errors: &mut FieldErrors) {
    let Some(address) = ip(value, path, errors) else { return };
    if address.is_unspecified() {
        errors.invalid(path, value, "may not be unspecified (0.0.0.0 or ::)");
    }
    if address.is_loopback() {
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[0] == 224 && v4.octets()[1] == 0 && v4.octets()[2] == 0),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
