//! Pod.

use jiff::Timestamp;
use machinery::field::{FieldErrors, Path};
use machinery::{meta, time};
use serde_json::{Value, json};

use super::containers::is_sidecar;
use super::pod_validation;
use super::table::{AGE, Column, NAME, Row, column, since, wide};
use super::value::{fill, has, int, items, items_mut, object_in, restore, set, text, truth};
use super::{Rules, Selectable, defaults, pod_spec};

pub(super) struct Pod;

impl Rules for Pod {
    fn default(&self, pod: &mut Value) {
        object_in(pod, "spec");
        for list in ["/spec/initContainers", "/spec/containers"] {
            items_mut(pod, list).for_each(defaults::requests_from_limits);
        }
        let host_network = truth(pod, "/spec/hostNetwork");
        let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        defaults::pod_requests(spec);
        fill(spec, "enableServiceLinks", true);
        if host_network {
            for list in ["/initContainers", "/containers"] {
                items_mut(spec, list).for_each(defaults::host_ports);
            }
        }
    }

    fn prepare_for_create(&self, pod: &mut Value) {
        let class = pod_spec::qos_class(&pod["spec"]);
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if !items(pod, "/spec/schedulingGates").is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled",
                "status": "False",
                "lastTransitionTime": pod["metadata"]["creationTimestamp"],
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]);
        }
        set(pod, "status", status);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value, subresource: &str) {
        match subresource {
            "status" => {
                // Kubelets do not manage owners, and the quality of service never changes.
                let old_metadata = &old["metadata"];
                restore(&mut new["metadata"], old_metadata, "ownerReferences");
                if let Some(status) = new.get_mut("status").filter(|status| status.is_object()) {
                    fill(status, "qosClass", old["status"]["qosClass"].clone());
                }
            }
            "ephemeralcontainers" => {
                let added = new["spec"]["ephemeralContainers"].take();
                restore(new, old, "spec");
                restore(new, old, "status");
                if !added.is_null() {
                    set(&mut new["spec"], "ephemeralContainers", added);
                }
            }
            "resize" => {
                let resized = new["spec"].take();
                restore(new, old, "spec");
                restore(new, old, "status");
                for list in ["containers", "initContainers"] {
                    for container in items_mut(&mut new["spec"], &format!("/{list}")) {
                        let name = text(container, "/name").to_owned();
                        let source = items(&resized, &format!("/{list}")).iter().find(|c| text(c, "/name") == name);
                        if let Some(source) = source {
                            restore(container, source, "resources");
                            restore(container, source, "resizePolicy");
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn validate(&self, pod: &Value, errors: &mut FieldErrors) {
        pod_validation::pod(pod, errors);
    }

    fn validate_new(&self, pod: &Value, errors: &mut FieldErrors) {
        if !items(pod, "/spec/ephemeralContainers").is_empty() {
            errors.forbidden(&Path::new("spec").child("ephemeralContainers"), "cannot be set on create");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: &str, errors: &mut FieldErrors) {
        match subresource {
            "" => pod_validation::update(new, old, errors),
            "ephemeralcontainers" => pod_validation::ephemeral_update(new, old, errors),
            "status" => pod_validation::status_update(new, old, errors),
            _ => {}
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn selectable(&self) -> &'static [Selectable] {
        &[
            ("spec.nodeName", |pod| text(pod, "/spec/nodeName").to_owned()),
            ("spec.restartPolicy", |pod| text(pod, "/spec/restartPolicy").to_owned()),
            ("spec.schedulerName", |pod| text(pod, "/spec/schedulerName").to_owned()),
            ("spec.serviceAccountName", |pod| text(pod, "/spec/serviceAccountName").to_owned()),
            ("spec.hostNetwork", |pod| truth(pod, "/spec/hostNetwork").to_string()),
            ("status.phase", |pod| text(pod, "/status/phase").to_owned()),
            ("status.podIP", |pod| pod_ip(pod).to_owned()),
            ("status.nominatedNodeName", |pod| text(pod, "/status/nominatedNodeName").to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", |row| Summary::of(row).ready().into())
                .says("The aggregate readiness state of this pod for accepting traffic."),
            column("Status", |row| Summary::of(row).reason.into()).says("The aggregate status of the containers in this pod."),
            column("Restarts", |row| Summary::of(row).restarts(row.now).into()).says(
                "The number of times the containers in this pod have been restarted and when the last container in this pod \
                 has restarted.",
            ),
            AGE,
            wide("IP", |row| or_none(pod_ip(row.object))).of("api.core.v1.PodStatus", "podIP"),
            wide("Node", |row| row.text_or("/spec/nodeName", "<none>")).of("api.core.v1.PodSpec", "nodeName"),
            wide("Nominated Node", |row| row.text_or("/status/nominatedNodeName", "<none>"))
                .of("api.core.v1.PodStatus", "nominatedNodeName"),
            wide("Readiness Gates", |row| or_none(&readiness_gates(row.object))).of("api.core.v1.PodSpec", "readinessGates"),
        ];
        COLUMNS
    }
}

fn or_none(text: &str) -> Value {
    Value::from(if text.is_empty() { "<none>" } else { text })
}

fn pod_ip(pod: &Value) -> &str {
    text(pod, "/status/podIPs/0/ip")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return String::new();
    }
    let conditions = items(pod, "/status/conditions");
    let is_true = |gate: &&Value| {
        let condition = conditions.iter().find(|c| text(c, "/type") == text(gate, "/conditionType"));
        condition.is_some_and(|condition| text(condition, "/status") == "True")
    };
    format!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

/// What a pod's line says of its containers.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(row: &Row<'_>) -> Self {
        Self::read(row.object)
    }

    fn ready(&self) -> String {
        format!("{}/{}", self.ready, self.total)
    }

    fn restarts(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(then) if self.restarts > 0 => {
                format!("{} ({} ago)", self.restarts, since(&time::format(then), now))
            }
            _ => self.restarts.to_string(),
        }
    }

    fn read(pod: &Value) -> Self {
        let phase = text(pod, "/status/phase");
        let mut reason = phase.to_owned();
        if !text(pod, "/status/reason").is_empty() {
            reason = text(pod, "/status/reason").to_owned();
        }
        let conditions = items(pod, "/status/conditions");
        let is_gated = |c: &Value| text(c, "/type") == "PodScheduled" && text(c, "/reason") == "SchedulingGated";
        if conditions.iter().any(is_gated) {
            reason = "SchedulingGated".to_owned();
        }
        let has_condition = |kind: &str| conditions.iter().any(|c| text(c, "/type") == kind && text(c, "/status") == "True");

        let init_containers = items(pod, "/spec/initContainers");
        let sidecar = |name: &str| init_containers.iter().any(|c| text(c, "/name") == name && is_sidecar(c));
        let sidecars = init_containers.iter().filter(|container| is_sidecar(container)).count();
        let mut summary =
            Self { ready: 0, total: items(pod, "/spec/containers").len() + sidecars, reason, restarts: 0, last_restart: None };
        let mut of_sidecars = (0, None);
        let mut initializing = false;
        for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
            summary.count_restarts(status);
            let is_sidecar = sidecar(text(status, "/name"));
            if is_sidecar {
                of_sidecars = (of_sidecars.0 + int(status, "/restartCount"), later(of_sidecars.1, finished(status)));
            }
            if has(status, "/state/terminated") && int(status, "/state/terminated/exitCode") == 0 {
                continue;
            }
            if is_sidecar && truth(status, "/started") {
                summary.ready += usize::from(truth(status, "/ready"));
                continue;
            }
            let waiting = text(status, "/state/waiting/reason");
            summary.reason = if has(status, "/state/terminated") {
                format!("Init:{}", terminated(status))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", init_containers.len())
            };
            initializing = true;
            break;
        }
        if !initializing || has_condition("Initialized") {
            (summary.restarts, summary.last_restart) = of_sidecars;
            summary.read_main(pod, has_condition("Ready"));
        }
        if meta::deletion_timestamp(pod).is_some() {
            if text(pod, "/status/reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    fn read_main(&mut self, pod: &Value, is_ready: bool) {
        let mut has_running = false;
        let mut error = String::new();
        for status in items(pod, "/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = text(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if has(status, "/state/terminated") {
                self.reason = terminated(status);
                if int(status, "/state/terminated/exitCode") != 0 {
                    error.clone_from(&self.reason);
                }
            } else if truth(status, "/ready") && has(status, "/state/running") {
                has_running = true;
                self.ready += 1;
            }
        }
        // One container that is done does not make the pod done.
        if self.reason == "Completed" {
            if has_running && is_ready {
                self.reason = "Running".to_owned();
            } else if !error.is_empty() {
                self.reason = error;
            } else if has_running {
                self.reason = "NotReady".to_owned();
            }
        }
    }

    fn count_restarts(&mut self, status: &Value) {
        self.restarts += int(status, "/restartCount");
        self.last_restart = later(self.last_restart, finished(status));
    }
}

/// When the run before the current one ended.
fn finished(status: &Value) -> Option<Timestamp> {
    time::parse(text(status, "/lastState/terminated/finishedAt")).ok()
}

fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.max(b)
}

/// Why a container ended.
fn terminated(status: &Value) -> String {
    let reason = text(status, "/state/terminated/reason");
    let signal = int(status, "/state/terminated/signal");
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", int(status, "/state/terminated/exitCode"))
    }
}
