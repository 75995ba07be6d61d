//! The spec of a pod, wherever it occurs: defaults that need more than one field, and its quality of service.

use machinery::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::containers;
use super::value::{entries, fill, has, items, items_mut, set, text};

/// Defaults of every pod spec, in templates too.
pub(super) fn default(spec: &mut Value) {
    for volume in items_mut(spec, "/volumes") {
        let has_source = volume.as_object().is_some_and(|v| v.iter().any(|(name, source)| name != "name" && !source.is_null()));
        if !has_source {
            set(volume, "emptyDir", json!({}));
        }
        if has(volume, "/image") {
            let policy = containers::pull_policy(text(volume, "/image/reference"));
            fill(&mut volume["image"], "pullPolicy", policy);
        }
    }
    // The old name of the service account is kept beside the new one.
    let (new, old) = (text(spec, "/serviceAccountName").to_owned(), text(spec, "/serviceAccount").to_owned());
    if new.is_empty() && !old.is_empty() {
        set(spec, "serviceAccountName", old);
    } else if !new.is_empty() && old != new {
        set(spec, "serviceAccount", new);
    }
}

/// Guaranteed: all containers have limits and requests of CPU and memory, and these are equal. BestEffort: none has any.
pub fn qos_class(spec: &Value) -> &'static str {
    // Resources of the whole pod, where they are given, decide alone.
    let whole = spec.get("resources").filter(|r| has(r, "/requests") || has(r, "/limits"));
    let holders: Vec<&Value> = match whole {
        Some(_) => vec![spec],
        None => items(spec, "/containers").iter().chain(items(spec, "/initContainers")).collect(),
    };
    let mut requests: Map<String, Value> = Map::new();
    let mut limits: Map<String, Value> = Map::new();
    let mut guaranteed = true;
    for holder in holders {
        collect(holder, "/resources/requests", &mut requests);
        let found = collect(holder, "/resources/limits", &mut limits);
        guaranteed &= found == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests.len() == limits.len() && requests.iter().all(|(name, sum)| limits.get(name) == Some(sum)) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds up CPU and memory that are more than zero; how many of the two there were.
fn collect(holder: &Value, pointer: &str, sums: &mut Map<String, Value>) -> usize {
    let mut found = 0;
    for (name, quantity) in entries(holder, pointer) {
        if !matches!(name.as_str(), "cpu" | "memory") {
            continue;
        }
        let Ok(quantity) = Quantity::from_value(quantity) else { continue };
        if quantity.is_zero() || quantity.is_negative() {
            continue;
        }
        found += 1;
        let sum = sums.get(name).and_then(|sum| Quantity::from_value(sum).ok());
        let sum = match sum {
            Some(mut sum) => {
                sum.add(&quantity);
                sum
            }
            None => quantity,
        };
        sums.insert(name.clone(), Value::String(sum.canonical()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_qos(containers: Value, expected: &str) {
        assert_eq!(qos_class(&json!({"containers": containers})), expected, "{containers}");
    }

    #[test]
    fn qos() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        check_qos(json!([{}]), "BestEffort");
        check_qos(json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable");
        check_qos(json!([{"resources": {"requests": both, "limits": both}}]), "Guaranteed");
        check_qos(json!([{"resources": {"requests": both, "limits": both}}, {}]), "Burstable");
        check_qos(json!([{"resources": {"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": both}}]), "Guaranteed");
        check_qos(json!([{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": both}}]), "Burstable");
        check_qos(json!([{"resources": {"limits": {"example.com/gpu": "1"}}}]), "BestEffort");
    }

    #[test]
    fn volumes_without_a_source_are_empty_directories() {
        let mut spec = json!({"volumes": [{"name": "a"}, {"name": "b", "hostPath": {"path": "/"}}], "serviceAccountName": "x"});
        default(&mut spec);
        assert_eq!(
            spec,
            json!({
                "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}],
                "serviceAccountName": "x", "serviceAccount": "x",
            })
        );
    }
}
