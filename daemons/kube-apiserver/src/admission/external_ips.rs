//! DenyServiceExternalIPs: nobody catches another's traffic by naming its address (CVE-2020-8554).

use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Plugin, Request};
use crate::lookup::Lookup;

pub(super) struct DenyServiceExternalIps;

impl Plugin for DenyServiceExternalIps {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn validate(&self, request: &Request<'_>, service: &Value, old: Option<&Value>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if writes && request.is("", "services") && adds_addresses(service, old) {
            return Err(request.forbidden("Use of external IPs is denied by admission control"));
        }
        Ok(())
    }
}

fn adds_addresses(service: &Value, old: Option<&Value>) -> bool {
    let list = |service: &Value| service["spec"]["externalIPs"].as_array().cloned().unwrap_or_default();
    let had = old.map(list).unwrap_or_default();
    list(service).iter().any(|address| !had.contains(address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_fewer() {
        let service = |ips: &[&str]| json!({"spec": {"externalIPs": ips}});
        assert!(adds_addresses(&service(&["1.1.1.1"]), None));
        assert!(!adds_addresses(&service(&[]), None));
        assert!(!adds_addresses(&service(&["1.1.1.1"]), Some(&service(&["1.1.1.1", "2.2.2.2"]))));
        assert!(adds_addresses(&service(&["3.3.3.3"]), Some(&service(&["1.1.1.1"]))));
    }
}
