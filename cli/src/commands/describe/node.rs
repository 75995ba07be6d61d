//! Nodes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use machinery::quantity::Quantity;
use serde_json::Value;

use super::writer::{Writer, age, items, or_none, show, time};

type Amounts = BTreeMap<String, Quantity>;

pub fn node(out: &mut Writer, object: &Value, lease: Option<&Value>, pods: Option<&[Value]>, now: Timestamp) {
    let (spec, status) = (&object["spec"], &object["status"]);
    out.field(0, "Name", machinery::meta::name(object));
    out.field(0, "Roles", or_none(roles(object).join(",")));
    out.labels_and_annotations(object);
    out.field(0, "CreationTimestamp", time(&object["metadata"]["creationTimestamp"]));
    let mut taints: Vec<&Value> = items(&spec["taints"]).iter().collect();
    taints.sort_by_key(|taint| format!("{},{}", show(&taint["effect"]), show(&taint["key"])));
    let taint = |taint: &&Value| match (show(&taint["key"]), show(&taint["value"]), show(&taint["effect"])) {
        (key, value, effect) if value.is_empty() => format!("{key}:{effect}"),
        (key, value, effect) => format!("{key}={value}:{effect}"),
    };
    out.list("Taints", taints.iter().map(taint).collect());
    out.field(0, "Unschedulable", spec["unschedulable"] == true);
    match lease {
        Some(lease) => {
            out.line(0, "Lease:");
            let or_unset = |text: String| if text.is_empty() { "<unset>".into() } else { text };
            out.field(1, "HolderIdentity", or_unset(show(&lease["spec"]["holderIdentity"])));
            for (title, field) in [("AcquireTime", "acquireTime"), ("RenewTime", "renewTime")] {
                let value = &lease["spec"][field];
                out.field(1, title, if value.is_null() { "<unset>".into() } else { time(value) });
            }
        }
        None => out.field(
            0,
            "Lease",
            format!("Failed to get lease: leases.coordination.k8s.io {:?} not found", machinery::meta::name(object)),
        ),
    }
    conditions(out, &status["conditions"]);
    out.line(0, "Addresses:");
    items(&status["addresses"]).iter().for_each(|address| out.field(1, &show(&address["type"]), show(&address["address"])));
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable")] {
        if let Some(map) = status[field].as_object().filter(|map| !map.is_empty()) {
            out.line(0, format!("{title}:"));
            map.iter().for_each(|(name, value)| out.field(1, name, show(value)));
        }
    }
    let info = &status["nodeInfo"];
    out.line(0, "System Info:");
    for (title, field) in [
        ("Machine ID", "machineID"),
        ("System UUID", "systemUUID"),
        ("Boot ID", "bootID"),
        ("Kernel Version", "kernelVersion"),
        ("OS Image", "osImage"),
        ("Operating System", "operatingSystem"),
        ("Architecture", "architecture"),
        ("Container Runtime Version", "containerRuntimeVersion"),
        ("Kubelet Version", "kubeletVersion"),
    ] {
        out.field(1, title, show(&info[field]));
    }
    out.some(0, "PodCIDR", &spec["podCIDR"]);
    if !items(&spec["podCIDRs"]).is_empty() {
        out.field(0, "PodCIDRs", items(&spec["podCIDRs"]).iter().map(show).collect::<Vec<_>>().join(","));
    }
    out.some(0, "ProviderID", &spec["providerID"]);
    match pods {
        Some(pods) => allocated(out, status, pods, now),
        None => out.field(0, "Pods", "not authorized"),
    }
}

fn roles(object: &Value) -> Vec<String> {
    let mut roles = Vec::new();
    for (key, value) in machinery::meta::labels(object).into_iter().flatten() {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/").filter(|role| !role.is_empty()) {
            roles.push(role.to_owned());
        } else if key == "kubernetes.io/role" && value.as_str().is_some_and(|role| !role.is_empty()) {
            roles.push(show(value));
        }
    }
    roles.sort();
    roles.dedup();
    roles
}

fn conditions(out: &mut Writer, list: &Value) {
    if items(list).is_empty() {
        return;
    }
    out.raw("Conditions:\n  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage\n");
    out.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
    for condition in items(list) {
        let [kind, status, reason, message] = ["type", "status", "reason", "message"].map(|field| show(&condition[field]));
        let [heartbeat, transition] = ["lastHeartbeatTime", "lastTransitionTime"].map(|field| time(&condition[field]));
        out.line(1, format!("{kind} \t{status} \t{heartbeat} \t{transition} \t{reason} \t{message}"));
    }
}

fn allocated(out: &mut Writer, status: &Value, pods: &[Value], now: Timestamp) {
    let source = if status["allocatable"].as_object().is_some_and(|map| !map.is_empty()) {
        &status["allocatable"]
    } else {
        &status["capacity"]
    };
    let allocatable = amounts(source);
    let zero = || Quantity::parse("0").unwrap_or_else(|_| Quantity::new(0, machinery::quantity::Format::DecimalSi));
    let get = |map: &Amounts, name: &str| map.get(name).cloned().unwrap_or_else(zero);
    let share = |amounts: &Amounts, name: &str| {
        let amount = get(amounts, name);
        let whole = get(&allocatable, name).as_f64();
        let percent = if whole == 0.0 { 0 } else { (amount.as_f64() / whole * 100.0) as i64 };
        format!("{} ({percent}%)", amount.canonical())
    };
    out.field(0, "Non-terminated Pods", format!("({} in total)", pods.len()));
    out.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge");
    out.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---");
    let (mut all_requests, mut all_limits) = (Amounts::new(), Amounts::new());
    for pod in pods {
        let (requests, limits) = (pod_amounts(pod, "requests"), pod_amounts(pod, "limits"));
        let cells =
            [share(&requests, "cpu"), share(&limits, "cpu"), share(&requests, "memory"), share(&limits, "memory")].join("\t");
        let (namespace, name) = (machinery::meta::namespace(pod), machinery::meta::name(pod));
        out.line(1, format!("{namespace}\t{name}\t\t{cells}\t{}", age(&pod["metadata"]["creationTimestamp"], now)));
        add(&mut all_requests, &requests);
        add(&mut all_limits, &limits);
    }
    out.raw("Allocated resources:\n  (Total limits may be over 100 percent, i.e., overcommitted.)\n");
    out.line(1, "Resource\tRequests\tLimits");
    out.line(1, "--------\t--------\t------");
    let mut names = vec!["cpu", "memory", "ephemeral-storage"];
    names.extend(allocatable.keys().map(String::as_str).filter(|name| name.starts_with("hugepages-")));
    for name in names {
        out.line(1, format!("{name}\t{}\t{}", share(&all_requests, name), share(&all_limits, name)));
    }
    let extended = |name: &&String| name.contains('/');
    for name in allocatable.keys().filter(extended) {
        out.line(1, format!("{name}\t{}\t{}", get(&all_requests, name).canonical(), get(&all_limits, name).canonical()));
    }
}

fn amounts(map: &Value) -> Amounts {
    let parse = |(name, value): (&String, &Value)| Some((name.clone(), Quantity::from_value(value).ok()?));
    map.as_object().into_iter().flatten().filter_map(parse).collect()
}

fn add(into: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        match into.get_mut(name) {
            Some(sum) => sum.add(amount),
            None => drop(into.insert(name.clone(), amount.clone())),
        }
    }
}

fn raise(into: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        if into.get(name).is_none_or(|now| now.as_f64() < amount.as_f64()) {
            into.insert(name.clone(), amount.clone());
        }
    }
}

/// What a pod asks for: its containers and sidecars together, or an init container if that wants more, and the overhead.
fn pod_amounts(pod: &Value, kind: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut sum = Amounts::new();
    items(&spec["containers"]).iter().for_each(|container| add(&mut sum, &amounts(&container["resources"][kind])));
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let own = amounts(&container["resources"][kind]);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut most, &sidecars);
        } else {
            let mut then = sidecars.clone();
            add(&mut then, &own);
            raise(&mut most, &then);
        }
    }
    raise(&mut sum, &most);
    sum.extend(amounts(&spec["resources"][kind]));
    add(&mut sum, &amounts(&spec["overhead"]));
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_count_when_they_want_more() {
        let cpu = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = cpu("100m");
        sidecar["restartPolicy"] = "Always".into();
        let pod = json!({"spec": {"containers": [cpu("200m"), cpu("300m")], "initContainers": [sidecar, cpu("1")]}});
        assert_eq!(pod_amounts(&pod, "requests")["cpu"].canonical(), "1100m");
        let pod = json!({"spec": {"containers": [cpu("200m"), cpu("300m")], "initContainers": [cpu("100m")]}});
        assert_eq!(pod_amounts(&pod, "requests")["cpu"].canonical(), "500m");
    }
}
