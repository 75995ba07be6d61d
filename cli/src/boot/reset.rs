//! `kctl reset`: takes back what the ledger says was done.
//!
//! A problem with one thing does not keep the others; what could not be taken back stays in the ledger for the next run.
//! Nothing is removed through a mount, and only what the ledger names is touched.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use host::systemd::Systemd;
use rustix::mount::UnmountFlags;

use super::cluster::Cluster;
use super::ledger::{Effect, Ledger};
use super::runtime::{Runtime, run as output_of};
use super::{files, paths};

const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// Take back everything that `kctl init` did to this host.
#[derive(Args, Debug)]
pub(crate) struct ResetArgs {
    /// Only print what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Delete the cluster's data without asking.
    #[arg(long, short = 'f', visible_alias = "yes", short_alias = 'y')]
    force: bool,
}

/// In which order effects are taken back: what uses something goes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Agents,
    Images,
    Services,
    Cgroups,
    Network,
    Trees,
    Settings,
    Files,
    Directories,
    Nothing,
}

fn phase(effect: &Effect, runtime_unit: &str) -> Phase {
    match effect {
        Effect::Unit { name, .. } if name == runtime_unit || name == "etcd.service" => Phase::Services,
        Effect::Unit { .. } => Phase::Agents,
        Effect::Image { .. } => Phase::Images,
        Effect::Slice { .. } => Phase::Cgroups,
        Effect::Interface { .. } | Effect::NftTable { .. } => Phase::Network,
        Effect::Tree { .. } | Effect::Data { .. } => Phase::Trees,
        Effect::Sysctl { .. } => Phase::Settings,
        Effect::File { .. } => Phase::Files,
        Effect::Directory { .. } => Phase::Directories,
        Effect::Packages { .. } => Phase::Nothing,
    }
}

/// Newest first within a phase: directories from the deepest.
fn in_order(effects: &[Effect], runtime_unit: &str) -> Vec<Effect> {
    let mut ordered: Vec<Effect> = effects.iter().rev().cloned().collect();
    ordered.sort_by_key(|effect| phase(effect, runtime_unit));
    ordered
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::File { path, backup: None } => format!("remove {}", path.display()),
        Effect::File { path, backup: Some(_) } => format!("put back {}", path.display()),
        Effect::Directory { path } => format!("remove {} when it is empty", path.display()),
        Effect::Tree { path } => format!("remove {} and what is in it", path.display()),
        Effect::Data { path } => format!("delete the data in {}", path.display()),
        Effect::Unit { name, was_active: false, .. } => format!("stop {name}"),
        Effect::Unit { name, .. } => format!("stop {name}, and start it as it was before"),
        Effect::Sysctl { path, before } => format!("set {} to {before}", path.display()),
        Effect::Image { reference } => format!("remove the image {reference}"),
        Effect::Interface { name } => format!("remove the interface {name}"),
        Effect::NftTable { family, name } => format!("remove the nftables table {family} {name}"),
        Effect::Slice { name } => format!("stop {name}"),
        Effect::Packages { names } => format!("keep the packages {}", names.join(", ")),
    }
}

pub(super) async fn run(args: ResetArgs) -> Result<ExitCode> {
    let ledger = Ledger::open(paths::LEDGER.as_ref())?;
    if ledger.is_empty() {
        println!("nothing to do: kctl init has not run on this host");
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::read(paths::CLUSTER_FILE.as_ref()).unwrap_or_default();
    let runtime = Runtime::of_socket(&cluster.cri_socket)?;
    let effects = in_order(ledger.effects(), runtime.unit());
    if args.dry_run {
        println!("stop and remove all pods");
        effects.iter().for_each(|effect| println!("{}", describe(effect)));
        return Ok(ExitCode::SUCCESS);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("not root: run it with sudo");
    }
    if !args.force && !confirmed(&effects)? {
        println!("nothing was done");
        return Ok(ExitCode::FAILURE);
    }
    let mut reset = Reset { systemd: Systemd::connect().await?, runtime, ledger, problems: Vec::new(), restart: Vec::new() };
    reset.all(&effects, &cluster).await;
    reset.end().await
}

fn confirmed(effects: &[Effect]) -> Result<bool> {
    let data: Vec<String> =
        effects.iter().filter(|e| matches!(e, Effect::Data { .. } | Effect::Tree { .. })).map(describe).collect();
    if !std::io::stdin().is_terminal() {
        bail!("this deletes the cluster and its data; nobody can be asked here: use --force");
    }
    print!("This ends the cluster of this host. It will\n  {}\nGo on? [y/N] ", data.join("\n  "));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

struct Reset {
    systemd: Systemd,
    runtime: Runtime,
    ledger: Ledger,
    problems: Vec<String>,
    /// Units that were running before us.
    restart: Vec<(String, bool)>,
}

impl Reset {
    async fn all(&mut self, effects: &[Effect], cluster: &Cluster) {
        let mut pods_removed = false;
        for effect in effects {
            // Without the kubelet nobody starts pods again; with the runtime they can still be ended in order.
            if !pods_removed && phase(effect, self.runtime.unit()) > Phase::Agents {
                pods_removed = true;
                if let Err(error) = remove_pods(&cluster.cri_socket).await {
                    self.problems.push(format!("removing pods: {error:#}"));
                }
            }
            match self.undo(effect).await {
                Ok(()) => {
                    println!("done: {}", describe(effect));
                    if let Err(error) = self.ledger.strike(effect) {
                        self.problems.push(format!("{error:#}"));
                    }
                }
                Err(error) => self.problems.push(format!("{}: {error:#}", describe(effect))),
            }
        }
    }

    async fn undo(&mut self, effect: &Effect) -> Result<()> {
        match effect {
            Effect::Unit { name, was_enabled, was_active } => {
                self.systemd.stop(name, STOP_TIMEOUT).await?;
                self.systemd.disable(name).await?;
                self.systemd.reset_failed(name).await;
                if *was_active || *was_enabled {
                    self.restart.push((name.clone(), *was_active));
                }
                Ok(())
            }
            Effect::Image { reference } => {
                if self.systemd.state(self.runtime.unit()).await?.is_active() && self.runtime.images().await?.contains(reference)
                {
                    self.runtime.remove_image(reference).await?;
                }
                Ok(())
            }
            Effect::Slice { name } => {
                self.systemd.stop(name, STOP_TIMEOUT).await?;
                remove_cgroups(name)
            }
            Effect::Interface { name } => {
                if Path::new("/sys/class/net").join(name).exists() {
                    output_of("ip", &["link", "delete", name]).await?;
                }
                Ok(())
            }
            Effect::NftTable { family, name } => remove_table(family, name).await,
            Effect::Tree { path } | Effect::Data { path } => remove_tree(path),
            Effect::Sysctl { path, before } => match fs::write(path, before) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
            Effect::File { path, backup } => put_back(path, backup.as_deref()),
            Effect::Directory { path } => match fs::remove_dir(path) {
                // Others have put something there.
                Err(error) if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
                    Err(error.into())
                }
                _ => Ok(()),
            },
            Effect::Packages { .. } => Ok(()),
        }
    }

    async fn end(mut self) -> Result<ExitCode> {
        self.systemd.reload().await?;
        for (unit, was_active) in std::mem::take(&mut self.restart) {
            let again = async {
                self.systemd.enable(&unit).await?;
                if was_active { self.systemd.start(&unit, STOP_TIMEOUT).await } else { Ok(()) }
            };
            if let Err(error) = again.await {
                self.problems.push(format!("starting {unit} as before: {error}"));
            }
        }
        if !self.problems.is_empty() {
            eprintln!("error: not everything could be taken back; kctl reset tries again:\n  {}", self.problems.join("\n  "));
            return Ok(ExitCode::FAILURE);
        }
        for file in [paths::LEDGER, paths::CLUSTER_FILE] {
            let _ = fs::remove_file(file);
        }
        remove_tree(paths::BACKUPS.as_ref())?;
        // Labs may live beside.
        let _ = fs::remove_dir(paths::STATE);
        println!("the host is as it was before kctl init");
        Ok(ExitCode::SUCCESS)
    }
}

/// Through the runtime, so that networks and addresses are given back by the CNI plugins.
async fn remove_pods(socket: &str) -> Result<()> {
    use cri::v1::runtime_service_client::RuntimeServiceClient;
    use cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
    if !Path::new(socket.trim_start_matches("unix://")).exists() {
        return Ok(());
    }
    let mut client = RuntimeServiceClient::new(cri::connect(socket)?);
    let list = tokio::time::timeout(Duration::from_secs(10), client.list_pod_sandbox(ListPodSandboxRequest::default()));
    let Ok(list) = list.await else { return Ok(()) };
    let mut problems = Vec::new();
    for sandbox in list.context("listing pods")?.into_inner().items {
        let id = sandbox.id;
        let stopped = client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await;
        let removed = client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await;
        problems.extend([stopped.err(), removed.err()].into_iter().flatten().map(|e| e.message().to_owned()));
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("; ")) }
}

/// systemd removes the cgroups that it manages; a runtime makes more of them in other hierarchies.
fn remove_cgroups(slice: &str) -> Result<()> {
    for mount in host::mounts::all()?.into_iter().filter(|m| m.fstype == "cgroup" || m.fstype == "cgroup2") {
        remove_cgroup_tree(&mount.mount_point.join(slice)).with_context(|| format!("in {}", mount.mount_point.display()))?;
    }
    Ok(())
}

fn remove_cgroup_tree(directory: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

/// Mounts inside are those of pods, which are gone: they are undone, never followed.
fn remove_tree(path: &Path) -> Result<()> {
    for mount in host::mounts::beneath(path)? {
        rustix::mount::unmount(&mount, UnmountFlags::NOFOLLOW).with_context(|| format!("unmounting {}", mount.display()))?;
    }
    if let Some(mount) = host::mounts::beneath(path)?.first() {
        bail!("{} is still mounted", mount.display());
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn put_back(path: &Path, backup: Option<&Path>) -> Result<()> {
    match backup {
        Some(backup) => files::copy(backup, path).with_context(|| format!("from {}", backup.display())),
        None => match fs::remove_file(path) {
            Err(error) if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                Err(error.into())
            }
            _ => Ok(()),
        },
    }
}

/// A table that others use too (`ip nat`) stays when it has rules that are not of Kubernetes or CNI.
async fn remove_table(family: &str, name: &str) -> Result<()> {
    let Ok(rules) = output_of("nft", &["list", "table", family, name]).await else { return Ok(()) };
    let own_table = name == "kube-proxy";
    if !own_table && has_foreign_rules(&rules) {
        println!("left alone: the nftables table {family} {name} has rules of others");
        return Ok(());
    }
    output_of("nft", &["delete", "table", family, name]).await.map(drop)
}

fn has_foreign_rules(table: &str) -> bool {
    const OURS: &[&str] = &["CNI-", "KUBE-", "CNI_"];
    let mut in_own_chain = false;
    for line in table.lines().map(str::trim) {
        if let Some(chain) = line.strip_prefix("chain ") {
            in_own_chain = OURS.iter().any(|p| chain.starts_with(p));
            continue;
        }
        let structure = line.is_empty() || line == "}" || ["table ", "type ", "policy ", "#"].iter().any(|p| line.starts_with(p));
        if !structure
            && !in_own_chain
            && !OURS.iter().any(|p| line.contains(p))
            && !line.contains("\"name: \\\"kctl")
            && !line.contains("cni0")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_stop_before_images_go_before_the_runtime_stops() {
        let unit = |name: &str| Effect::Unit { name: name.into(), was_enabled: false, was_active: false };
        let effects = [
            Effect::Directory { path: "/etc/kubernetes".into() },
            Effect::Directory { path: "/etc/kubernetes/pki".into() },
            Effect::File { path: "/etc/kubernetes/pki/ca.crt".into(), backup: None },
            unit("etcd.service"),
            unit("containerd.service"),
            Effect::Image { reference: "i".into() },
            unit("kubelet.service"),
        ];
        let order = in_order(&effects, "containerd.service");
        let place = |wanted: &Effect| order.iter().position(|e| e == wanted).unwrap();
        assert!(place(&effects[6]) < place(&effects[5]));
        assert!(place(&effects[5]) < place(&effects[4]));
        assert!(place(&effects[2]) < place(&effects[1]));
        assert!(place(&effects[1]) < place(&effects[0]));
    }

    #[test]
    fn foreign_rules() {
        let table = |rule: &str| {
            format!(
                "table ip nat {{\n\tchain POSTROUTING {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t\t{rule}\n\t}}\n\n\tchain CNI-abc {{\n\t\tip daddr 10.0.0.0/8 accept\n\t}}\n}}\n"
            )
        };
        assert!(!has_foreign_rules(&table("")));
        assert!(!has_foreign_rules(&table("ip saddr 10.244.0.2 counter jump CNI-abc")));
        assert!(has_foreign_rules(&table("oifname \"eth0\" masquerade")));
    }

    #[test]
    fn a_removed_tree_is_gone_and_a_missing_one_is_fine() {
        let directory = std::env::temp_dir().join(format!("kctl-reset-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        remove_tree(&directory).unwrap();
        remove_tree(&directory).unwrap();
        assert!(!directory.exists());
    }
}
