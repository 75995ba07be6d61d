//! What the runtime has of a pod: its sandboxes and containers, newest first.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    #[default]
    Unknown,
}

impl State {
    pub fn text(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxView {
    pub id: String,
    pub ready: bool,
    /// Nanoseconds since the epoch, as are all times here.
    pub created_at: i64,
    pub attempt: u32,
    pub ips: Vec<String>,
    pub host_network: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerView {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: State,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_ref: String,
    /// The hash of what was asked for when it was created.
    pub hash: String,
    pub restart_count: i32,
    pub annotations: BTreeMap<String, String>,
    pub log_path: String,
    /// Where the container's last words are on the host.
    pub termination_log: Option<String>,
}

/// All that the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// Newest first.
    pub sandboxes: Vec<SandboxView>,
    /// Newest first; older ones are earlier runs.
    pub containers: Vec<ContainerView>,
}

impl PodView {
    /// The newest container of this name.
    pub fn container(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest two containers of this name: now and before.
    pub fn runs(&self, name: &str) -> (Option<&ContainerView>, Option<&ContainerView>) {
        let mut runs = self.containers.iter().filter(|c| c.name == name);
        (runs.next(), runs.next())
    }

    pub fn running(&self) -> impl Iterator<Item = &ContainerView> {
        self.containers.iter().filter(|c| c.state == State::Running)
    }

    pub fn is_running(&self) -> bool {
        self.running().next().is_some() || self.sandboxes.iter().any(|s| s.ready)
    }

    /// The addresses of the newest sandbox that is ready.
    pub fn ips(&self) -> &[String] {
        self.sandboxes.iter().find(|s| s.ready).map(|s| s.ips.as_slice()).unwrap_or_default()
    }
}
