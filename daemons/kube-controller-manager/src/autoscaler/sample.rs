//! What the APIs of metrics answer. Pure; amounts become thousandths.

use api::jiff::Timestamp;
use machinery::quantity::Quantity;
use serde_json::Value;

use super::replicas::{Sample, Samples};

/// The window of a custom metric that says nothing about it.
const WINDOW_SECONDS: i64 = 60;

fn amount(value: &Value) -> i64 {
    Quantity::from_value(value).map_or(0, |q| q.milli_value())
}

fn at(value: &Value) -> Timestamp {
    value.as_str().and_then(|t| t.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `metrics.k8s.io`: what each pod, or one of its containers, uses of a resource. A pod of which something is not known
/// is left out.
pub(super) fn of_resource(list: &Value, resource: &str, container: Option<&str>) -> Result<Samples, String> {
    let mut samples = Samples::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let all = item["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let asked: Vec<&Value> = all.iter().filter(|c| container.is_none_or(|n| c["name"] == n)).collect();
        if let Some(container) = container.filter(|_| asked.is_empty()) {
            let namespace = item["metadata"]["namespace"].as_str().unwrap_or_default();
            return Err(format!("container {container} not present in metrics for pod {namespace}/{name}"));
        }
        let values: Option<Vec<i64>> = asked.iter().map(|c| c["usage"].get(resource).map(amount)).collect();
        if let Some(values) = values.filter(|v| !v.is_empty()) {
            let window = item["window"].as_str().and_then(|w| daemon::duration::parse(w).ok());
            let window_seconds = window.and_then(|w| i64::try_from(w.as_secs()).ok()).unwrap_or(WINDOW_SECONDS);
            let sample = Sample { value: values.iter().sum(), at: at(&item["timestamp"]), window_seconds };
            samples.insert(name.to_owned(), sample);
        }
    }
    if samples.is_empty() { Err("no metrics returned from resource metrics API".into()) } else { Ok(samples) }
}

/// `custom.metrics.k8s.io`: a metric of each pod.
pub(super) fn of_pods(list: &Value) -> Result<Samples, String> {
    let items = list["items"].as_array().into_iter().flatten();
    let samples: Samples = items
        .map(|item| {
            let name = item["describedObject"]["name"].as_str().unwrap_or_default().to_owned();
            let window_seconds = item["windowSeconds"].as_i64().unwrap_or(WINDOW_SECONDS);
            (name, Sample { value: amount(&item["value"]), at: at(&item["timestamp"]), window_seconds })
        })
        .collect();
    if samples.is_empty() { Err("no metrics returned from custom metrics API".into()) } else { Ok(samples) }
}

/// `custom.metrics.k8s.io`: a metric of one object.
pub(super) fn of_object(list: &Value) -> Result<i64, String> {
    let first = list["items"].as_array().and_then(|items| items.first());
    first.map(|item| amount(&item["value"])).ok_or_else(|| "no metrics returned from custom metrics API".into())
}

/// `external.metrics.k8s.io`: the sum of all that is measured.
pub(super) fn of_external(list: &Value) -> Result<i64, String> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return Err("no metrics returned from external metrics API".into());
    }
    Ok(items.iter().fold(0, |sum: i64, item| sum.saturating_add(amount(&item["value"]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn resources() {
        let usage = |name: &str, cpu: &str| json!({"name": name, "usage": {"cpu": cpu}});
        let pod = |name: &str, containers: Value| json!({"metadata": {"name": name, "namespace": "n"}, "timestamp": "1970-01-01T00:00:05Z", "window": "15s", "containers": containers});
        let list = json!({"items": [
            pod("a", json!([usage("c", "250m"), usage("d", "1")])),
            pod("b", json!([usage("c", "50m"), {"name": "d", "usage": {}}])),
        ]});
        let all = of_resource(&list, "cpu", None).unwrap();
        assert_eq!((all.len(), all["a"].value, all["a"].window_seconds), (1, 1250, 15));
        let one = of_resource(&list, "cpu", Some("c")).unwrap();
        assert_eq!((one["a"].value, one["b"].value), (250, 50));
        let missing = of_resource(&list, "cpu", Some("x")).unwrap_err();
        assert_eq!(missing, "container x not present in metrics for pod n/a");
        assert_eq!(of_resource(&json!({"items": []}), "cpu", None).unwrap_err(), "no metrics returned from resource metrics API");
    }

    #[test]
    fn others() {
        let list = json!({"items": [{"describedObject": {"name": "a"}, "value": "3", "timestamp": "1970-01-01T00:00:05Z"}, {"value": "500m"}]});
        assert_eq!(of_pods(&list).unwrap()["a"].value, 3000);
        assert_eq!((of_object(&list), of_external(&list)), (Ok(3000), Ok(3500)));
        let none = json!({"items": []});
        assert!(of_pods(&none).is_err() && of_object(&none).is_err() && of_external(&none).is_err());
    }
}
