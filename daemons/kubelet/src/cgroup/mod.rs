//! The cgroups of pods: `kubepods`, one for each class beneath it, one for each pod beneath that.
//!
//! They are made through systemd (slices, over D-Bus) or in the file system, as the runtime does for containers. The names
//! are upstream's, so that either kubelet finds the other's.

mod files;
mod systemd;

use std::sync::Mutex;

use api::Kind as _;
use api::core::Pod;

use crate::config::CgroupDriver;
use crate::pod::qos::{self, Amounts, Qos};

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("making slice {slice}")]
    Slice { slice: String, source: Box<zbus::Error> },
    #[error("reaching systemd over D-Bus")]
    Bus(#[source] Box<zbus::Error>),
    #[error("cgroup {path}")]
    File { path: String, source: std::io::Error },
}

/// What a cgroup is held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu_shares: Option<i64>,
    /// Microseconds in each period of [`qos::CPU_PERIOD`].
    pub cpu_quota: Option<i64>,
    pub memory: Option<i64>,
    /// Processes.
    pub pids: Option<i64>,
}

pub struct Cgroups {
    driver: CgroupDriver,
    pub v2: bool,
    enabled: bool,
    quota: bool,
    /// For each pod.
    pids: Option<i64>,
    bus: systemd::Bus,
    /// What the burstable class was given last.
    burstable: Mutex<Option<i64>>,
}

/// Whether the host has one tree of cgroups, and not one for each controller.
pub fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A cgroup by its parts: `["kubepods", "burstable", "pod1234"]`.
fn parts(class: Option<Qos>, uid: Option<&str>) -> Vec<String> {
    let mut parts = vec!["kubepods".to_owned()];
    match class {
        Some(Qos::Burstable) => parts.push("burstable".to_owned()),
        Some(Qos::BestEffort) => parts.push("besteffort".to_owned()),
        Some(Qos::Guaranteed) | None => {}
    }
    parts.extend(uid.map(|uid| format!("pod{uid}")));
    parts
}

/// `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_34.slice`.
fn slice_path(parts: &[String]) -> String {
    let mut path = String::new();
    let mut name = String::new();
    for part in parts {
        if !name.is_empty() {
            name.push('-');
        }
        // A dash in a slice's name is a step down.
        name.push_str(&part.replace('-', "_"));
        path.push_str(&format!("/{name}.slice"));
    }
    path
}

fn file_path(parts: &[String]) -> String {
    format!("/{}", parts.join("/"))
}

impl Cgroups {
    pub fn new(driver: CgroupDriver, enabled: bool, quota: bool, pids: Option<i64>) -> Self {
        Self { driver, v2: is_v2(), enabled, quota, pids, bus: systemd::Bus::default(), burstable: Mutex::new(None) }
    }

    fn path(&self, parts: &[String]) -> String {
        match self.driver {
            CgroupDriver::Systemd => slice_path(parts),
            CgroupDriver::Cgroupfs => file_path(parts),
        }
    }

    /// The parent that the runtime is told for a pod's sandbox.
    pub fn parent(&self, pod: &Pod) -> String {
        if self.enabled { self.path(&parts(Some(qos::qos(pod)), Some(pod.uid()))) } else { String::new() }
    }

    async fn ensure(&self, parts: &[String], limits: Limits) -> Result<(), CgroupError> {
        let path = self.path(parts);
        match self.driver {
            CgroupDriver::Systemd => self.bus.ensure_slice(&path, limits, self.v2).await,
            CgroupDriver::Cgroupfs => files::ensure(&path, limits, self.v2),
        }
    }

    /// The cgroups above the pods'; burstable pods share what they ask for.
    pub async fn ensure_classes(&self, pods: &[std::sync::Arc<Pod>], node_cpu_milli: i64) -> Result<(), CgroupError> {
        if !self.enabled {
            return Ok(());
        }
        let burstable = pods.iter().filter(|p| qos::qos(p) == Qos::Burstable);
        let asked: i64 = burstable.map(|p| qos::pod_amounts(p, qos::requests).cpu.unwrap_or(0)).sum();
        let before = *self.burstable.lock().unwrap_or_else(|e| e.into_inner());
        if before == Some(asked) {
            return Ok(());
        }
        let shares = |milli| Limits { cpu_shares: Some(qos::cpu_shares(milli)), ..Limits::default() };
        if before.is_none() {
            self.ensure(&parts(None, None), shares(node_cpu_milli)).await?;
            self.ensure(&parts(Some(Qos::BestEffort), None), shares(0)).await?;
        }
        self.ensure(&parts(Some(Qos::Burstable), None), shares(asked)).await?;
        *self.burstable.lock().unwrap_or_else(|e| e.into_inner()) = Some(asked);
        Ok(())
    }

    pub async fn ensure_pod(&self, pod: &Pod) -> Result<(), CgroupError> {
        if !self.enabled {
            return Ok(());
        }
        let Amounts { cpu, .. } = qos::pod_amounts(pod, qos::requests);
        let limits = qos::pod_limits(pod);
        let quota = qos::cpu_quota(limits.cpu).filter(|_| self.quota);
        let limits = Limits {
            cpu_shares: Some(qos::cpu_shares(cpu.unwrap_or(0))),
            cpu_quota: quota,
            memory: limits.memory,
            pids: self.pids,
        };
        self.ensure(&parts(Some(qos::qos(pod)), Some(pod.uid())), limits).await
    }

    /// Takes a pod's cgroup away; what still runs in it keeps it.
    pub async fn remove_pod(&self, uid: &str) {
        if !self.enabled || uid.is_empty() || uid.contains('/') {
            return;
        }
        for class in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
            let path = self.path(&parts(Some(class), Some(uid)));
            if !files::exists(&path, self.v2) {
                continue;
            }
            if self.driver == CgroupDriver::Systemd
                && let Err(error) = self.bus.stop_slice(&path).await
            {
                tracing::debug!(path, "{}", daemon::chain(&error));
            }
            files::remove(&path, self.v2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let p = |class, uid| parts(Some(class), uid);
        assert_eq!(
            slice_path(&p(Qos::Burstable, Some("1-2"))),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"
        );
        assert_eq!(slice_path(&p(Qos::Guaranteed, Some("1"))), "/kubepods.slice/kubepods-pod1.slice");
        assert_eq!(file_path(&p(Qos::BestEffort, Some("1-2"))), "/kubepods/besteffort/pod1-2");
        assert_eq!(slice_path(&parts(None, None)), "/kubepods.slice");
    }
}
