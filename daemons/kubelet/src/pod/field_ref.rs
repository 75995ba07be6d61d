//! The downward API: a pod's own fields and resources as text, for environment variables and volumes.

use std::collections::BTreeMap;

use api::Kind as _;
use api::core::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::{qos, spec};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Unsupported(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("divisor {0:?} can't be used")]
    Divisor(String),
}

/// What is known of the node and the pod's addresses when a field is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub node_name: String,
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// What a container without a limit may use.
    pub allocatable: BTreeMap<String, i64>,
}

/// The value of a field of the pod.
pub fn field(pod: &Pod, selector: &ObjectFieldSelector, around: &Surroundings) -> Result<String, FieldError> {
    let path = selector.field_path.as_str();
    let meta = pod.meta();
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    if let Some((front, key)) = subscript(path) {
        let map = match front {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(FieldError::Unsupported(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => around.node_name.clone(),
        "spec.serviceAccountName" => spec::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&around.host_ips),
        "status.hostIPs" => around.host_ips.join(","),
        "status.podIP" => first(&around.pod_ips),
        "status.podIPs" => around.pod_ips.join(","),
        _ => return Err(FieldError::Unsupported(path.to_owned())),
    })
}

/// `metadata.labels['key']` in its parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (front, rest) = path.split_once("['")?;
    Some((front, rest.strip_suffix("']")?))
}

/// A map as a file: `key="value"` on each line, in order.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quote(v))).collect();
    lines.join("\n")
}

/// As Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A container's request or limit, divided and rounded up. Without a limit: what the node can give.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    around: &Surroundings,
) -> Result<String, FieldError> {
    let named = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let found = named.map(|n| spec::find_container(pod, n).map(|(_, c)| c.into_owned()).ok_or(n));
    let container = match (&found, own) {
        (Some(Ok(c)), _) => c,
        (Some(Err(name)), _) => return Err(FieldError::NoContainer((*name).to_owned())),
        (None, Some(c)) => c,
        (None, None) => return Err(FieldError::NoContainer(String::new())),
    };
    let unknown = || FieldError::Resource(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    if !["cpu", "memory", "ephemeral-storage"].contains(&name) && !name.starts_with("hugepages-") {
        return Err(unknown());
    }
    let requirements = container.resources.as_ref();
    let list = match kind {
        "limits" => requirements.and_then(|r| r.limits.as_ref()),
        "requests" => requirements.and_then(|r| r.requests.as_ref()),
        _ => return Err(unknown()),
    };
    // In thousandths throughout, so that one division does for all.
    let milli = match list.and_then(|l| l.get(name)) {
        Some(q) => {
            i128::from(qos::whole(q)) * 1000
                - if name == "cpu" { i128::from(qos::whole(q)) * 1000 - i128::from(qos::milli(q)) } else { 0 }
        }
        None if kind == "limits" => {
            let available = i128::from(around.allocatable.get(name).copied().unwrap_or(0));
            if name == "cpu" { available } else { available * 1000 }
        }
        None => 0,
    };
    let divisor = selector.divisor.as_ref().map_or("0", |q| q.0.as_str());
    let parsed: machinery::quantity::Quantity = divisor.parse().map_err(|_| FieldError::Divisor(divisor.to_owned()))?;
    let divisor_milli = match i128::from(parsed.milli_value()) {
        0 => 1000,
        m if m < 0 => return Err(FieldError::Divisor(divisor.to_owned())),
        _ if name == "cpu" => i128::from(parsed.milli_value()),
        _ => i128::from(parsed.value()) * 1000,
    };
    Ok(((milli + divisor_milli - 1) / divisor_milli).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        Pod::decode_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "say \"hi\""}},
            "spec": {"serviceAccountName": "sa", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}}, {"name": "d"}]}}))
        .unwrap()
    }

    fn around() -> Surroundings {
        Surroundings {
            node_name: "node".into(),
            host_ips: vec!["1.2.3.4".into()],
            pod_ips: vec!["10.0.0.2".into(), "fd::2".into()],
            allocatable: [("cpu".to_owned(), 4000), ("memory".to_owned(), 1 << 30)].into(),
        }
    }

    #[test]
    fn fields() {
        for (path, want) in [
            ("metadata.name", "p"),
            ("metadata.labels['a']", "say \"hi\""),
            ("metadata.labels", "a=\"say \\\"hi\\\"\"\nb=\"2\""),
            ("metadata.annotations['x']", ""),
            ("spec.nodeName", "node"),
            ("status.podIP", "10.0.0.2"),
            ("status.podIPs", "10.0.0.2,fd::2"),
            ("status.hostIP", "1.2.3.4"),
        ] {
            let selector = ObjectFieldSelector { field_path: path.into(), ..Default::default() };
            assert_eq!(field(&pod(), &selector, &around()).as_deref(), Ok(want), "{path}");
        }
        let selector = ObjectFieldSelector { field_path: "spec.containers".into(), ..Default::default() };
        assert!(field(&pod(), &selector, &around()).is_err());
    }

    #[test]
    fn resources() {
        for (container, name, divisor, want) in [
            ("c", "limits.cpu", "", "2"),
            ("c", "limits.cpu", "1m", "1500"),
            ("c", "requests.cpu", "1m", "250"),
            ("c", "limits.memory", "1Mi", "64"),
            ("c", "limits.memory", "", "67108864"),
            ("d", "limits.cpu", "", "4"),
            ("d", "limits.memory", "1Mi", "1024"),
            ("d", "requests.memory", "", "0"),
        ] {
            let selector = ResourceFieldSelector {
                container_name: Some(container.into()),
                resource: name.into(),
                divisor: (!divisor.is_empty()).then(|| api::Quantity(divisor.into())),
            };
            assert_eq!(resource(&pod(), None, &selector, &around()).as_deref(), Ok(want), "{container} {name} {divisor}");
        }
    }
}
