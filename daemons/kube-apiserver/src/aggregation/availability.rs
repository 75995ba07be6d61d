//! Whether another server can be asked: what its Service and endpoints say. Pure.

use serde_json::{Value, json};

use super::remote::Remote;

/// What is known before the server itself is asked.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The condition is known.
    Known(Finding),
    /// Nothing speaks against it: ask.
    Ask,
}

/// The condition `Available`, without its time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Finding {
    pub(super) fn local() -> Self {
        Self { available: true, reason: "Local", message: "Local APIServices are always available".to_owned() }
    }

    pub(super) fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    pub(super) fn failed(why: String) -> Self {
        Self { available: false, reason: "FailedDiscoveryCheck", message: why }
    }
}

/// Looks at the Service (none: there is no such) and its EndpointSlices.
pub(super) fn decide(remote: &Remote, service: Option<&Value>, slices: &[Value]) -> Verdict {
    let (namespace, name, port) = (&remote.namespace, &remote.service, remote.port);
    let known = |reason, message| Verdict::Known(Finding { available: false, reason, message });
    let Some(service) = service else {
        return known("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
    };
    let spec = &service["spec"];
    if spec["type"].as_str().unwrap_or("ClusterIP") != "ClusterIP" {
        return Verdict::Ask;
    }
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(entry) = ports.iter().find(|entry| entry["port"].as_u64() == Some(u64::from(port))) else {
        return known("ServicePortError", format!("service/{name} in {namespace:?} is not listening on port {port}"));
    };
    if slices.is_empty() {
        return known("EndpointsNotFound", format!("cannot find endpointslices for service/{name} in {namespace:?}"));
    }
    let port_name = entry["name"].as_str().unwrap_or_default();
    if !slices.iter().any(|slice| has_endpoint(slice, port_name)) {
        let message =
            format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
        return known("MissingEndpoints", message);
    }
    Verdict::Ask
}

fn has_endpoint(slice: &Value, port_name: &str) -> bool {
    let list = |field: &str| slice[field].as_array().map_or(&[][..], Vec::as_slice);
    list("endpoints").iter().any(|endpoint| endpoint["conditions"]["ready"] != false)
        && list("ports").iter().any(|port| port["name"].as_str().unwrap_or_default() == port_name && port["port"].is_number())
}

/// The status with the finding in it; none when it says that already.
pub(super) fn status(service: &Value, finding: &Finding, now: &str) -> Option<Value> {
    let wanted = if finding.available { "True" } else { "False" };
    let mut conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let known = conditions.iter_mut().find(|condition| condition["type"] == "Available");
    let since = known.as_ref().filter(|known| known["status"] == wanted).map(|known| known["lastTransitionTime"].clone());
    let condition = json!({"type": "Available", "status": wanted, "reason": finding.reason, "message": finding.message,
        "lastTransitionTime": since.unwrap_or_else(|| json!(now))});
    match known {
        Some(known) if *known == condition => return None,
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    Some(json!({"conditions": conditions}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_services_say() {
        let object = json!({"metadata": {"name": "v1.g.io"}, "spec": {"group": "g.io", "version": "v1",
            "service": {"namespace": "ns", "name": "s", "port": 443}}});
        let remote = Remote::read(&object).unwrap();
        let check = |service: Value, slices: Value, expected: Option<(&str, &str)>| {
            let service = (!service.is_null()).then_some(&service);
            let got = match decide(&remote, service, slices.as_array().unwrap()) {
                Verdict::Ask => None,
                Verdict::Known(finding) => Some((finding.reason, finding.message)),
            };
            assert_eq!(got, expected.map(|(reason, message)| (reason, message.to_owned())));
        };
        let service = json!({"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}});
        let slice = |ready: bool, name: &str| json!([{"endpoints": [{"conditions": {"ready": ready}}], "ports": [{"name": name, "port": 8443}]}]);
        check(Value::Null, json!([]), Some(("ServiceNotFound", "service/s in \"ns\" is not present")));
        check(
            json!({"spec": {"ports": [{"port": 1}]}}),
            json!([]),
            Some(("ServicePortError", "service/s in \"ns\" is not listening on port 443")),
        );
        check(service.clone(), json!([]), Some(("EndpointsNotFound", "cannot find endpointslices for service/s in \"ns\"")));
        let missing = "endpointslices for service/s in \"ns\" have no addresses with port name \"https\"";
        check(service.clone(), slice(false, "https"), Some(("MissingEndpoints", missing)));
        check(service.clone(), slice(true, "http"), Some(("MissingEndpoints", missing)));
        check(service, slice(true, "https"), None);
        check(json!({"spec": {"type": "ExternalName"}}), json!([]), None);
    }

    #[test]
    fn conditions_keep_their_time() {
        let first = status(&json!({}), &Finding::passed(), "t1").unwrap();
        let object = json!({"status": first});
        assert_eq!(status(&object, &Finding::passed(), "t2"), None);
        let failed = status(&object, &Finding::failed("x".to_owned()), "t2").unwrap();
        assert_eq!(failed["conditions"][0]["lastTransitionTime"], "t2");
        let again = status(&json!({"status": failed}), &Finding::failed("y".to_owned()), "t3").unwrap();
        assert_eq!(
            (&again["conditions"][0]["lastTransitionTime"], &again["conditions"][0]["message"]),
            (&json!("t2"), &json!("y"))
        );
    }
}
