//! The node's status from the machine's facts: pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Quantity;
use api::core::{ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo};
use api::metav1::Time;
use jiff::Timestamp;

use super::machine::Machine;
use crate::config::{Config, quantity};

/// How the node is at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the node is not ready; empty: it is.
    pub problems: Vec<String>,
    pub memory_pressure: bool,
    pub disk_pressure: bool,
}

/// What of the runtime goes into the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeFacts {
    /// `containerd://1.6.20`.
    pub version: String,
    pub images: Vec<ContainerImage>,
    /// Bytes of the file system that pods use.
    pub storage_bytes: i64,
}

fn reserved(config: &Config, resource: &str) -> i64 {
    let of = |list: &BTreeMap<String, String>| -> i64 {
        let Some(text) = list.get(resource) else { return 0 };
        if resource == "cpu" {
            text.parse::<machinery::quantity::Quantity>().map_or(0, |q| q.milli_value())
        } else {
            quantity(text).unwrap_or(0)
        }
    };
    of(&config.kube_reserved) + of(&config.system_reserved)
}

/// A hard eviction threshold in bytes, of `capacity` when it is a percentage.
pub fn threshold(config: &Config, signal: &str, capacity: i64) -> i64 {
    let Some(text) = config.eviction_hard.get(signal) else { return 0 };
    match text.strip_suffix('%').and_then(|p| p.parse::<f64>().ok()) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a share of a capacity")]
        Some(percent) => (capacity as f64 * percent / 100.0) as i64,
        None => quantity(text).unwrap_or(0),
    }
}

/// What pods may use: CPUs in thousandths, the rest in bytes.
pub fn allocatable(config: &Config, machine: &Machine) -> BTreeMap<String, i64> {
    let memory = machine.memory_bytes - reserved(config, "memory") - threshold(config, "memory.available", machine.memory_bytes);
    BTreeMap::from([
        ("cpu".to_owned(), (machine.cpus * 1000 - reserved(config, "cpu")).max(0)),
        ("memory".to_owned(), memory.max(0)),
        ("pods".to_owned(), config.max_pods.into()),
    ])
}

fn cpu(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

fn kibibytes(bytes: i64) -> Quantity {
    Quantity(format!("{}Ki", bytes / 1024))
}

pub fn status(
    config: &Config,
    machine: &Machine,
    runtime: &RuntimeFacts,
    addresses: &[IpAddr],
    health: &Health,
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let room = allocatable(config, machine);
    let list = |cpu_milli: i64, memory: i64, storage: Quantity| {
        BTreeMap::from([
            ("cpu".to_owned(), cpu(cpu_milli)),
            ("memory".to_owned(), kibibytes(memory)),
            ("pods".to_owned(), Quantity(config.max_pods.to_string())),
            ("ephemeral-storage".to_owned(), storage),
            ("hugepages-1Gi".to_owned(), Quantity("0".to_owned())),
            ("hugepages-2Mi".to_owned(), Quantity("0".to_owned())),
        ])
    };
    let usable = runtime.storage_bytes
        - reserved(config, "ephemeral-storage")
        - threshold(config, "nodefs.available", runtime.storage_bytes);
    let mut images = runtime.images.clone();
    images.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    images.truncate(config.status_images_max);
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let mut all: Vec<NodeAddress> = addresses.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    all.push(address("Hostname", config.node_name.clone()));
    NodeStatus {
        addresses: Some(all),
        capacity: Some(list(machine.cpus * 1000, machine.memory_bytes, kibibytes(runtime.storage_bytes))),
        allocatable: Some(list(room["cpu"], room["memory"], Quantity(usable.max(0).to_string()))),
        conditions: Some(conditions(health, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: config.port.into() }) }),
        images: Some(images),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: runtime.version.clone(),
            kernel_version: machine.kernel.clone(),
            kubelet_version: VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// The API's version that this kubelet speaks; clients compare it with the API server's.
pub const VERSION: &str = "v1.36.2";

fn conditions(health: &Health, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let now = Timestamp::from_second(now.as_second()).ok().map(Time);
    let make = |kind: &str, on: bool, reason: &str, message: String| {
        let status = if on { "True" } else { "False" };
        let old = before.and_then(|b| b.conditions.as_ref()).into_iter().flatten().find(|c| c.type_ == kind);
        let since = old.filter(|o| o.status == status).and_then(|o| o.last_transition_time.clone());
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: now.clone(),
            last_transition_time: since.or_else(|| now.clone()),
        }
    };
    let (memory, disk) = (health.memory_pressure, health.disk_pressure);
    let ready = health.problems.is_empty();
    vec![
        if memory {
            make("MemoryPressure", true, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available".to_owned())
        } else {
            make("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available".to_owned())
        },
        if disk {
            make("DiskPressure", true, "KubeletHasDiskPressure", "kubelet has disk pressure".to_owned())
        } else {
            make("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_owned())
        },
        make("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned()),
        if ready {
            make("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned())
        } else {
            let text = match health.problems.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            make("Ready", false, "KubeletNotReady", text)
        },
    ]
}

/// The addresses to write on a node whose cloud's controller tells them: our own until it has, where --node-ip says which; `None`
/// leaves what the object has.
pub fn addresses_in_a_cloud(found: Option<&NodeStatus>, own: Option<Vec<NodeAddress>>, chosen: bool) -> Option<Vec<NodeAddress>> {
    let told = found.and_then(|s| s.addresses.as_ref()).is_some_and(|addresses| !addresses.is_empty());
    own.filter(|_| chosen && !told)
}

/// Whether two statuses differ in more than their heartbeats.
pub fn differs(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |s: &NodeStatus| {
        let mut s = s.clone();
        s.conditions.iter_mut().flatten().for_each(|c| c.last_heartbeat_time = None);
        s
    };
    quiet(a) != quiet(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn config() -> Config {
        let args = crate::Args::parse_from(["kubelet", "--hostname-override=n1"]);
        Config::load(&args).unwrap()
    }

    fn made(health: &Health, before: Option<&NodeStatus>, at: i64) -> NodeStatus {
        let machine = Machine { cpus: 2, memory_bytes: 1 << 30, ..Machine::default() };
        let runtime = RuntimeFacts { storage_bytes: 100 << 20, ..RuntimeFacts::default() };
        let ips = ["1.2.3.4".parse().unwrap()];
        status(&config(), &machine, &runtime, &ips, health, before, Timestamp::from_second(at).unwrap())
    }

    #[test]
    fn resources() {
        let s = made(&Health::default(), None, 0);
        let (capacity, room) = (s.capacity.unwrap(), s.allocatable.unwrap());
        assert_eq!((capacity["cpu"].0.as_str(), capacity["memory"].0.as_str()), ("2", "1048576Ki"));
        assert_eq!((room["memory"].0.as_str(), room["ephemeral-storage"].0.as_str()), ("946176Ki", "94371840"));
    }

    #[test]
    fn a_clouds_addresses_stay() {
        let own = made(&Health::default(), None, 0);
        let check = |found: Option<&NodeStatus>, chosen: bool, want: bool| {
            assert_eq!(addresses_in_a_cloud(found, own.addresses.clone(), chosen).is_some(), want, "{chosen}");
        };
        check(None, true, true);
        check(None, false, false);
        check(Some(&NodeStatus::default()), true, true);
        check(Some(&own), true, false);
    }

    #[test]
    fn transitions_and_heartbeats() {
        let first = made(&Health::default(), None, 10);
        let second = made(&Health::default(), Some(&first), 20);
        assert!(!differs(&first, &second));
        let broken = made(&Health { problems: vec!["a".into(), "b".into()], ..Health::default() }, Some(&second), 30);
        assert!(differs(&second, &broken));
        let ready = broken.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.message.as_deref()), ("False", Some("[a, b]")));
        assert_eq!(ready.last_transition_time.unwrap().0.as_second(), 30);
    }
}
