//! Slices through systemd's manager.

use std::path::Path;

use tokio::sync::OnceCell;
use zbus::Variant as Value;

use super::{CgroupError, Limits};
use crate::pod::qos;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Value<'_>)],
        aux: &[(&str, &[(&str, Value<'_>)])],
    ) -> zbus::Result<zbus::OwnedObjectPath>;
    fn set_unit_properties(&self, name: &str, runtime: bool, properties: &[(&str, Value<'_>)]) -> zbus::Result<()>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::OwnedObjectPath>;
}

/// The connection, opened when it is first needed.
#[derive(Default)]
pub(super) struct Bus(OnceCell<ManagerProxy<'static>>);

impl Bus {
    async fn manager(&self) -> Result<&ManagerProxy<'static>, CgroupError> {
        let bus = |e| CgroupError::Bus(Box::new(e));
        self.0
            .get_or_try_init(|| async {
                let connection = zbus::Connection::system().await.map_err(bus)?;
                ManagerProxy::new(&connection).await.map_err(bus)
            })
            .await
    }

    pub(super) async fn ensure_slice(&self, path: &str, limits: Limits, v2: bool) -> Result<(), CgroupError> {
        let slice = unit(path);
        let failed = |source| CgroupError::Slice { slice: slice.clone(), source: Box::new(source) };
        let manager = self.manager().await?;
        let held = properties(limits, v2);
        let mut all: Vec<(&str, Value<'_>)> = vec![
            ("Description", Value::from(format!("kubelet's {slice}"))),
            ("DefaultDependencies", Value::from(false)),
            ("CPUAccounting", Value::from(true)),
            ("MemoryAccounting", Value::from(true)),
            ("TasksAccounting", Value::from(true)),
        ];
        all.extend(held.iter().map(|(k, v)| (*k, v.try_clone().unwrap_or(Value::U64(0)))));
        match manager.start_transient_unit(&slice, "replace", &all, &[]).await {
            Ok(_) => Ok(()),
            Err(zbus::Error::MethodError(name, _, _)) if name.as_str() == "org.freedesktop.systemd1.UnitExists" => {
                manager.set_unit_properties(&slice, true, &held).await.map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) async fn stop_slice(&self, path: &str) -> Result<(), CgroupError> {
        let slice = unit(path);
        match self.manager().await?.stop_unit(&slice, "replace").await {
            Ok(_) => Ok(()),
            Err(zbus::Error::MethodError(name, _, _)) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" => Ok(()),
            Err(source) => Err(CgroupError::Slice { slice, source: Box::new(source) }),
        }
    }
}

fn unit(path: &str) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn properties(limits: Limits, v2: bool) -> Vec<(&'static str, Value<'static>)> {
    let mut list = Vec::new();
    if let Some(shares) = limits.cpu_shares {
        list.push(if v2 {
            ("CPUWeight", Value::U64(qos::cpu_weight(shares)))
        } else {
            ("CPUShares", Value::U64(u64::try_from(shares).unwrap_or(2)))
        });
    }
    // Microseconds for each second of time; all ones: no limit.
    let quota = limits.cpu_quota.and_then(|q| u64::try_from(q * 1_000_000 / qos::CPU_PERIOD).ok());
    list.push(("CPUQuotaPerSecUSec", Value::U64(quota.unwrap_or(u64::MAX))));
    let memory = limits.memory.and_then(|m| u64::try_from(m).ok()).unwrap_or(u64::MAX);
    list.push((if v2 { "MemoryMax" } else { "MemoryLimit" }, Value::U64(memory)));
    list.push(("TasksMax", Value::U64(limits.pids.and_then(|p| u64::try_from(p).ok()).unwrap_or(u64::MAX))));
    list
}
