//! What must hold, a file each, in the order in which they run.

mod bad_input;
mod chain;
mod clients;
mod first_boot;
mod kills;
mod reboot_and_reset;
mod rolling_update;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::world::{World, eventually};

/// A name and what it does.
pub type Scenario = (&'static str, fn(&World) -> Result<()>);

/// Each finds the cluster as the one before left it.
pub const SCENARIOS: &[Scenario] = &[
    ("first_boot", first_boot::run),
    ("chain_of_a_deployment", chain::run),
    ("rolling_update", rolling_update::run),
    ("real_clients", clients::run),
    ("bad_input", bad_input::run),
    ("kill_everything", kills::run),
    ("reboot_and_reset", reboot_and_reset::run),
];

/// The NodePort of the Service that the scenarios ask.
pub(crate) const NODE_PORT: u16 = 30080;

/// Three pods of real nginx that end gracefully, behind a Service.
pub const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: nginx
        image: localhost/nginx:1
        ports: [{name: http, containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 3}}}
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: shell, image: localhost/busybox:1, command: [sh, -c, "echo ready; sleep 1000000"]}
"#;

/// Until every pod of the Deployment is updated, ready, and nothing is left over.
pub(crate) fn rolled_out(world: &World) -> Result<()> {
    world.kctl(&["rollout", "status", "deployment/web", "--timeout=120s"]).map(drop)
}

/// Until `kctl status` says that the cluster is healthy.
pub(crate) fn healthy(world: &World, limit: Duration) -> Result<()> {
    eventually("a healthy cluster", limit, || world.kctl(&["status"]).map(drop)).context("kctl status")
}

/// The address of the NodePort, seen from this machine.
pub fn node_port(world: &World) -> Result<std::net::SocketAddr> {
    Ok(format!("{}:{NODE_PORT}", world.address()?).parse()?)
}
