use serde_json::json;

use super::*;

fn network(range: &str) -> ServiceNetwork {
    ServiceNetwork { ranges: vec![range.parse().unwrap()], node_ports: 30000..=30003 }
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})
}

fn allocate(others: &[Value], mut new: Value, old: Option<&Value>) -> Result<Value, String> {
    network("10.96.0.0/24")
        .allocate(Taken::of(others, &new.clone()), &mut new, old, 7)
        .map(|()| new["spec"].clone())
        .map_err(|s| s.to_string())
}

#[test]
fn ranges() {
    let cidr: Cidr = "10.96.0.7/12".parse().unwrap();
    assert_eq!(cidr.to_string(), "10.96.0.0/12");
    assert_eq!(cidr.nth(0).to_string(), "10.96.0.1");
    assert!(cidr.contains("10.111.255.255".parse().unwrap()) && !cidr.contains("10.112.0.0".parse().unwrap()));
    assert_eq!("fd00::/112".parse::<Cidr>().unwrap().nth(1).to_string(), "fd00::2");
    assert!("10.96.0.0".parse::<Cidr>().is_err() && "10.96.0.0/33".parse::<Cidr>().is_err());
}

#[test]
fn a_service_gets_an_address() {
    let spec = allocate(&[], service("a", json!({"ports": [{"port": 80}]})), None).unwrap();
    assert_eq!((&spec["clusterIP"], &spec["clusterIPs"]), (&json!("10.96.0.24"), &json!(["10.96.0.24"])));
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    let other = service("a", spec);
    let next = allocate(std::slice::from_ref(&other), service("b", json!({})), None).unwrap();
    assert_eq!(next["clusterIP"], "10.96.0.25");
    let headless = allocate(&[], service("h", json!({"clusterIP": "None", "selector": {"a": "b"}})), None).unwrap();
    assert_eq!((&headless["clusterIPs"], &headless["ipFamilies"]), (&json!(["None"]), &json!(["IPv4"])));
    let taken = allocate(&[other], service("b", json!({"clusterIP": "10.96.0.24"})), None).unwrap_err();
    assert!(taken.ends_with("failed to allocate IP 10.96.0.24: provided IP is already allocated"), "{taken}");
    assert!(allocate(&[], service("b", json!({"clusterIP": "10.97.0.1"})), None).unwrap_err().contains("does not match"));
}

#[test]
fn a_full_range_says_so_and_never_gives_the_first() {
    let small = network("10.0.0.0/30");
    let mut first = service("a", json!({}));
    small.allocate(Taken::default(), &mut first, None, 0).unwrap();
    let mut all = vec![first];
    for i in 0..4 {
        let mut next = service(&format!("s{i}"), json!({}));
        match small.allocate(Taken::of(&all, &next.clone()), &mut next, None, 0) {
            Ok(()) => all.push(next),
            Err(status) => {
                assert!(status.to_string().contains("range is full"));
                return;
            }
        }
    }
    panic!("two addresses served six services");
}

#[test]
fn node_ports() {
    let port = json!({"port": 80, "protocol": "TCP"});
    let a = allocate(&[], service("a", json!({"type": "NodePort", "ports": [port]})), None).unwrap();
    assert_eq!(a["ports"][0]["nodePort"], 30003);
    let a = service("a", a);
    let b = allocate(std::slice::from_ref(&a), service("b", json!({"type": "NodePort", "ports": [port]})), None).unwrap();
    assert_eq!(b["ports"][0]["nodePort"], 30000);
    let wanted = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30003}]});
    assert!(allocate(std::slice::from_ref(&a), service("b", wanted), None).unwrap_err().contains("already allocated"));
    let outside = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    assert!(allocate(&[], service("b", outside), None).unwrap_err().contains("valid ports is 30000-30003"));
}

#[test]
fn an_update_keeps_or_gives_up() {
    let old = service(
        "a",
        json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
        "ports": [{"port": 80, "nodePort": 30001}]}),
    );
    let same = allocate(&[], service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})), Some(&old)).unwrap();
    assert_eq!((&same["clusterIP"], &same["ports"][0]["nodePort"]), (&json!("10.96.0.9"), &json!(30001)));
    let mut plain = old.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    assert_eq!(allocate(&[], plain, Some(&old)).unwrap()["ports"], json!([{"port": 80}]));
    let mut external = old.clone();
    external["spec"]["type"] = json!("ExternalName");
    assert!(allocate(&[], external, Some(&old)).unwrap().get("clusterIP").is_none());
}

#[test]
fn more_ranges_are_used_when_they_are_ready() {
    let cidr = |cidr: &str, ready: &str| json!({"spec": {"cidrs": [cidr]}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    let network = network("10.0.0.0/30").with_ranges(&[cidr("10.1.0.0/24", "True"), cidr("10.2.0.0/24", "False")]);
    assert_eq!(network.ranges.len(), 2);
    let mut taken = Taken::default();
    for last in 1..=2 {
        taken.insert(taken::Number::Address(format!("10.0.0.{last}").parse().unwrap()));
    }
    let mut next = service("a", json!({}));
    network.allocate(taken.clone(), &mut next, None, 0).unwrap();
    assert_eq!(next["spec"]["clusterIP"], "10.1.0.17");
    let mut chosen = service("a", json!({"clusterIP": "10.1.0.9"}));
    network.allocate(taken, &mut chosen, None, 0).unwrap();
    assert_eq!(chosen["spec"]["ipFamilies"], json!(["IPv4"]));
}
