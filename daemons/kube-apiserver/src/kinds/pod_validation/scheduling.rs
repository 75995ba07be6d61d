//! Where a pod may and should run.

use machinery::field::{FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use crate::kinds::validate::{self, one_of};
use crate::kinds::value::{int, items, number, text, texts};

pub(super) fn affinity(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("affinity");
    let node = path.child("nodeAffinity");
    if let Some(required) = spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution") {
        let path = node.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = items(required, "/nodeSelectorTerms");
        if terms.is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in terms.iter().enumerate() {
            node_selector_term(term, &path.index(index), errors);
        }
    }
    let preferred = items(spec, "/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution");
    for (index, preference) in preferred.iter().enumerate() {
        let path = node.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
        weight(preference, &path, errors);
        node_selector_term(&preference["preference"], &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let base = path.child(kind);
        let required = items(spec, &format!("/affinity/{kind}/requiredDuringSchedulingIgnoredDuringExecution"));
        for (index, term) in required.iter().enumerate() {
            pod_affinity_term(term, &base.child("requiredDuringSchedulingIgnoredDuringExecution").index(index), errors);
        }
        let preferred = items(spec, &format!("/affinity/{kind}/preferredDuringSchedulingIgnoredDuringExecution"));
        for (index, term) in preferred.iter().enumerate() {
            let path = base.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
            weight(term, &path, errors);
            pod_affinity_term(&term["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

pub(super) fn weight(term: &Value, path: &Path, errors: &mut FieldErrors) {
    let weight = int(term, "/weight");
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

pub(super) fn node_selector_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, expression) in items(term, "/matchExpressions").iter().enumerate() {
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
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.required(&path.child("values"), detail);
                }
            }
            operator => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
        let key = text(expression, "/key");
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    }
}

pub(super) fn pod_affinity_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(field) {
            validate::label_selector(selector, &path.child(field), errors);
        }
    }
    for namespace in texts(term, "/namespaces") {
        errors.invalid_each(&path.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    let key = text(term, "/topologyKey");
    if key.is_empty() {
        errors.required(&path.child("topologyKey"), "can not be empty");
    }
    errors.invalid_each(&path.child("topologyKey"), key, names::qualified_name(key));
}

pub(super) fn topology_spread(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, constraint) in items(spec, "/topologySpreadConstraints").iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let skew = int(constraint, "/maxSkew");
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = text(constraint, "/topologyKey");
        if key.is_empty() {
            errors.required(&path.child("topologyKey"), "can not be empty");
        } else {
            errors.invalid_each(&path.child("topologyKey"), key, names::qualified_name(key));
        }
        let action = text(constraint, "/whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&path.child("whenUnsatisfiable"), action, &actions);
        }
        if let Some(min) = number(constraint, "/minDomains") {
            if min <= 0 {
                errors.invalid(&path.child("minDomains"), min, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.invalid(&path.child("minDomains"), min, detail);
            }
        }
        if let Some(selector) = constraint.get("labelSelector") {
            validate::label_selector(selector, &path.child("labelSelector"), errors);
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(constraint, policy, &["Honor", "Ignore"], &path, errors);
        }
    }
}
