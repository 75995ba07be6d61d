//! The container runtime of the host, by its CRI socket.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Containerd,
    Crio,
}

impl Runtime {
    pub(crate) fn of_socket(socket: &str) -> Result<Self> {
        match socket {
            s if s.ends_with("containerd.sock") => Ok(Self::Containerd),
            s if s.ends_with("crio.sock") => Ok(Self::Crio),
            other => bail!("{other} is neither containerd.sock nor crio.sock"),
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Containerd => "containerd.service",
            Self::Crio => "crio.service",
        }
    }

    /// Debian's package.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
        }
    }

    /// A process that takes an OCI archive on its standard input.
    pub(crate) fn importer(self) -> Result<Child> {
        let mut command = match self {
            Self::Containerd => {
                let mut command = Command::new("ctr");
                command.args(["--namespace", "k8s.io", "images", "import", "--all-platforms", "-"]);
                command
            }
            Self::Crio => {
                let mut command = Command::new("podman");
                command.args(["load", "--quiet"]);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().with_context(
            || match self {
                Self::Containerd => "running ctr, which comes with containerd",
                Self::Crio => "running podman, by which images get into CRI-O's store: install the package podman",
            },
        )
    }

    /// Names of the images that are there.
    pub(crate) async fn images(self) -> Result<Vec<String>> {
        let output = match self {
            Self::Containerd => run("ctr", &["--namespace", "k8s.io", "images", "list", "--quiet"]).await?,
            Self::Crio => run("podman", &["images", "--format", "{{.Repository}}:{{.Tag}}"]).await?,
        };
        Ok(output.lines().map(str::to_owned).collect())
    }

    pub(crate) async fn remove_image(self, reference: &str) -> Result<()> {
        match self {
            Self::Containerd => run("ctr", &["--namespace", "k8s.io", "images", "remove", "--sync", reference]).await?,
            Self::Crio => run("podman", &["rmi", "--force", reference]).await?,
        };
        Ok(())
    }
}

/// The program's standard output.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
