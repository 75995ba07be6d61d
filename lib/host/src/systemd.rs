//! systemd over D-Bus: units are started, and awaited, as systemd itself reports it.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("systemd is not process 1 of this machine")]
    NotSystemd,
    #[error("connecting to systemd over D-Bus")]
    Connect(#[source] zbus::Error),
    #[error("systemd: {operation} {unit}")]
    Call { operation: &'static str, unit: String, source: zbus::Error },
    #[error("{unit} could not be {operation}: the job ended as {result:?}")]
    Job { unit: String, operation: &'static str, result: String },
    #[error("{unit} was not {operation} within {seconds} s")]
    Timeout { unit: String, operation: &'static str, seconds: u64 },
}

pub type Result<T> = std::result::Result<T, Error>;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<(String, String, String)>)>;
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<(String, String, String)>>;
    fn get_unit_file_state(&self, file: &str) -> zbus::Result<String>;
    fn set_unit_properties(&self, name: &str, runtime: bool, properties: &[(&str, Variant<'_>)]) -> zbus::Result<()>;
    #[allow(clippy::type_complexity)]
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
}

/// How a unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `activating`, `inactive`, `failed`, …
    pub active: String,
    /// `running`, `exited`, `auto-restart`, …
    pub sub: String,
    /// The file that the unit was read from.
    pub fragment: String,
    pub main_pid: u32,
    pub restarts: u32,
    /// Microseconds since 1970 when it became active; 0 when it is not.
    pub active_since_us: u64,
    pub memory_bytes: Option<u64>,
    /// Why it ended, as systemd says it: `success`, `exit-code`, `oom-kill`, …
    pub result: String,
}

impl UnitState {
    pub fn is_active(&self) -> bool {
        self.active == "active"
    }
}

/// Properties of a transient unit, by systemd's names.
pub type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

/// A connection to this host's systemd.
#[derive(Clone, Debug)]
pub struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// systemd is this machine's process 1.
    pub fn is_booted() -> bool {
        std::path::Path::new("/run/systemd/system").is_dir()
    }

    pub async fn connect() -> Result<Self> {
        if !Self::is_booted() {
            return Err(Error::NotSystemd);
        }
        let connection = Connection::system().await.map_err(Error::Connect)?;
        // Units change behind our back: nothing is cached.
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(Error::Connect)?;
        manager.subscribe().await.map_err(Error::Connect)?;
        Ok(Self { connection, manager })
    }

    pub async fn version(&self) -> Result<String> {
        self.manager.version().await.map_err(call("asking the version of", "systemd"))
    }

    /// Reads changed unit files.
    pub async fn reload(&self) -> Result<()> {
        self.manager.reload().await.map_err(call("reloading", "the units"))
    }

    /// Starts at boot from now on.
    pub async fn enable(&self, unit: &str) -> Result<()> {
        self.manager.enable_unit_files(&[unit], false, true).await.map(drop).map_err(call("enabling", unit))
    }

    pub async fn disable(&self, unit: &str) -> Result<()> {
        match self.manager.disable_unit_files(&[unit], false).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, "org.freedesktop.systemd1.NoSuchUnit") => Ok(()),
            Err(error) => Err(call("disabling", unit)(error)),
        }
    }

    /// `enabled`, `disabled`, `static`, `masked`, …; None when there is no such unit file.
    pub async fn file_state(&self, unit: &str) -> Option<String> {
        self.manager.get_unit_file_state(unit).await.ok()
    }

    pub async fn start(&self, unit: &str, timeout: Duration) -> Result<()> {
        self.job(unit, "started", timeout, self.manager.start_unit(unit, "replace")).await
    }

    pub async fn restart(&self, unit: &str, timeout: Duration) -> Result<()> {
        self.job(unit, "restarted", timeout, self.manager.restart_unit(unit, "replace")).await
    }

    /// A unit that is not there is stopped.
    pub async fn stop(&self, unit: &str, timeout: Duration) -> Result<()> {
        if self.state(unit).await?.load == "not-found" {
            return Ok(());
        }
        self.job(unit, "stopped", timeout, self.manager.stop_unit(unit, "replace")).await
    }

    /// Forgets that a unit failed.
    pub async fn reset_failed(&self, unit: &str) {
        // Answered with an error when the unit is not loaded, which is as good.
        let _ = self.manager.reset_failed_unit(unit).await;
    }

    /// Sends a signal to all processes of a unit.
    pub async fn kill(&self, unit: &str, signal: i32) -> Result<()> {
        self.manager.kill_unit(unit, "all", signal).await.map_err(call("signalling", unit))
    }

    /// Makes a slice or scope that lives until it is stopped, and waits until it is there. One that exists already is kept.
    pub async fn start_transient(&self, unit: &str, properties: &Properties<'_>, timeout: Duration) -> Result<()> {
        let started =
            self.job(unit, "started", timeout, self.manager.start_transient_unit(unit, "replace", properties, &[])).await;
        match started {
            Err(Error::Call { source, .. }) if is(&source, "org.freedesktop.systemd1.UnitExists") => Ok(()),
            other => other,
        }
    }

    /// Changes resource settings of a running unit, until the next boot.
    pub async fn set_properties(&self, unit: &str, properties: &Properties<'_>) -> Result<()> {
        self.manager.set_unit_properties(unit, true, properties).await.map_err(call("setting properties of", unit))
    }

    pub async fn state(&self, unit: &str) -> Result<UnitState> {
        let path = self.manager.load_unit(unit).await.map_err(call("loading", unit))?;
        let general = self.properties(&path, "org.freedesktop.systemd1.Unit").await.map_err(call("reading", unit))?;
        let kind = match unit.rsplit_once('.').map(|(_, kind)| kind) {
            Some("slice") => "org.freedesktop.systemd1.Slice",
            Some("scope") => "org.freedesktop.systemd1.Scope",
            Some("timer") => "org.freedesktop.systemd1.Timer",
            _ => "org.freedesktop.systemd1.Service",
        };
        let own = self.properties(&path, kind).await.unwrap_or_default();
        Ok(UnitState {
            load: text(&general, "LoadState"),
            active: text(&general, "ActiveState"),
            sub: text(&general, "SubState"),
            fragment: text(&general, "FragmentPath"),
            active_since_us: number(&general, "ActiveEnterTimestamp"),
            main_pid: number(&own, "MainPID") as u32,
            restarts: number(&own, "NRestarts") as u32,
            // The largest number means "not counted".
            memory_bytes: Some(number(&own, "MemoryCurrent")).filter(|n| *n != 0 && *n != u64::MAX),
            result: text(&own, "Result"),
        })
    }

    async fn properties(&self, path: &ObjectPath<'_>, interface: &'static str) -> zbus::Result<HashMap<String, OwnedVariant>> {
        let reply = self
            .connection
            .call_method(Some("org.freedesktop.systemd1"), path, Some("org.freedesktop.DBus.Properties"), "GetAll", &(interface,))
            .await?;
        reply.body().deserialize()
    }

    /// Waits for the job that `request` begins. The signal is subscribed to first: a quick job would be missed.
    async fn job(
        &self,
        unit: &str,
        operation: &'static str,
        timeout: Duration,
        request: impl Future<Output = zbus::Result<OwnedObjectPath>>,
    ) -> Result<()> {
        let failed = |source| Error::Call { operation, unit: unit.to_owned(), source };
        let mut removed = self.manager.receive_job_removed().await.map_err(failed)?;
        let job = request.await.map_err(failed)?;
        let waiting = async {
            while let Some(signal) = removed.next().await {
                let args = signal.args().map_err(failed)?;
                if args.job == job {
                    return match args.result.as_str() {
                        "done" | "skipped" => Ok(()),
                        result => Err(Error::Job { unit: unit.to_owned(), operation, result: result.to_owned() }),
                    };
                }
            }
            Err(Error::Job { unit: unit.to_owned(), operation, result: "connection closed".to_owned() })
        };
        match tokio::time::timeout(timeout, waiting).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { unit: unit.to_owned(), operation, seconds: timeout.as_secs() }),
        }
    }
}

fn call(operation: &'static str, unit: &str) -> impl FnOnce(zbus::Error) -> Error {
    let unit = unit.to_owned();
    move |source| Error::Call { operation, unit, source }
}

fn is(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(got, _, _) if got.as_str() == name)
}

fn text(properties: &HashMap<String, OwnedVariant>, name: &str) -> String {
    match properties.get(name).map(Variant::try_from) {
        Some(Ok(Variant::Str(text))) => text.as_str().to_owned(),
        _ => String::new(),
    }
}

fn number(properties: &HashMap<String, OwnedVariant>, name: &str) -> u64 {
    match properties.get(name).map(Variant::try_from) {
        Some(Ok(Variant::U32(number))) => number.into(),
        Some(Ok(Variant::U64(number))) => number,
        _ => 0,
    }
}
