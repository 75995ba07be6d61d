//! Which address a Service stands for: its cluster IP, as upstream's resolver without endpoint routing; a headless one's
//! first ready endpoint.

use serde_json::Value;

/// Where to connect: a host or address, and a port.
pub(crate) type Place = (String, u16);

/// `service` is none when there is no such Service; `slices` are its EndpointSlices, asked for when it is headless.
///
/// # Errors
/// Why there is nothing to connect to, as upstream words it.
pub(crate) fn place(
    name: &str,
    port: u16,
    service: Option<&Value>,
    slices: impl FnOnce() -> Vec<Value>,
) -> Result<Place, String> {
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    let spec = &service["spec"];
    match spec["type"].as_str().unwrap_or("ClusterIP") {
        "ExternalName" => return Ok((spec["externalName"].as_str().unwrap_or_default().to_owned(), port)),
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let entry = spec["ports"].as_array().into_iter().flatten().find(|entry| entry["port"].as_u64() == Some(port.into()));
    let entry = entry.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    match spec["clusterIP"].as_str().unwrap_or_default() {
        "None" => endpoint(&slices(), entry["name"].as_str().unwrap_or_default())
            .ok_or_else(|| format!("no endpoints available for service {name:?}")),
        "" => Err(format!("service {name:?} has no cluster IP")),
        ip => Ok((ip.to_owned(), port)),
    }
}

/// The first ready endpoint with a port of that name.
pub(crate) fn endpoint(slices: &[Value], port_name: &str) -> Option<Place> {
    slices.iter().find_map(|slice| {
        let ports = slice["ports"].as_array()?;
        let port = ports.iter().find(|port| port["name"].as_str().unwrap_or_default() == port_name)?;
        let port = u16::try_from(port["port"].as_u64()?).ok()?;
        let endpoints = slice["endpoints"].as_array()?;
        let ready = endpoints.iter().find(|endpoint| endpoint["conditions"]["ready"] != false)?;
        Some((ready["addresses"][0].as_str()?.to_owned(), port))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places() {
        let check = |spec: Value, port: u16, expected: Result<(&str, u16), &str>| {
            let service = (!spec.is_null()).then(|| json!({"spec": spec}));
            let slice = json!({"ports": [{"name": "web", "port": 8080}], "endpoints": [
                {"addresses": ["10.1.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.1.0.2"], "conditions": {"ready": true}}]});
            let got = place("s", port, service.as_ref(), || vec![slice]);
            assert_eq!(got, expected.map(|(host, port)| (host.to_owned(), port)).map_err(str::to_owned), "{spec}");
        };
        let ports = json!([{"name": "web", "port": 443}]);
        check(json!({"clusterIP": "10.0.0.1", "ports": ports}), 443, Ok(("10.0.0.1", 443)));
        check(json!({"clusterIP": "10.0.0.1", "ports": ports}), 80, Err("no service port 80 found for service \"s\""));
        check(json!({"clusterIP": "None", "ports": ports}), 443, Ok(("10.1.0.2", 8080)));
        check(json!({"clusterIP": "None", "ports": [{"port": 443}]}), 443, Err("no endpoints available for service \"s\""));
        check(json!({"type": "ExternalName", "externalName": "example.com"}), 443, Ok(("example.com", 443)));
        check(Value::Null, 443, Err("service \"s\" not found"));
    }
}
