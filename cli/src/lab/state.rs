//! Where a lab keeps its things: `/var/lib/kctl/lab/LAB/`, with one directory per host.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::network::Network;
use super::node::Node;

pub(super) const ROOT: &str = "/var/lib/kctl/lab";

pub(super) struct Lab {
    pub(super) name: String,
    directory: PathBuf,
}

/// What must be known again after this process is gone.
#[derive(Deserialize, Serialize)]
struct LabFile {
    /// The third byte of the lab's subnet 10.199.N.0/24.
    subnet: u8,
}

#[derive(Deserialize, Serialize)]
struct NodeFile {
    address: Ipv4Addr,
}

impl Lab {
    pub(super) fn named(name: &str) -> Result<Self> {
        let valid = !name.is_empty() && name.len() <= 10 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !valid {
            bail!("a lab's name has 1 to 10 lower-case letters and digits, not {name:?}");
        }
        Ok(Self { name: name.to_owned(), directory: Path::new(ROOT).join(name) })
    }

    /// The lab's subnet: chosen once, different from those of the other labs.
    pub(super) fn network(&self) -> Result<Network> {
        let path = self.directory.join("lab.json");
        let subnet = match read_json::<LabFile>(&path)? {
            Some(file) => file.subnet,
            None => {
                let taken = taken_subnets()?;
                let Some(subnet) = (0..=254).find(|n| !taken.contains(n)) else {
                    bail!("all subnets of 10.199.0.0/16 are taken")
                };
                write_json(&path, &LabFile { subnet })?;
                subnet
            }
        };
        Ok(Network::new(&self.name, subnet, &self.directory))
    }

    /// The host with this number, made if it is not there.
    pub(super) fn create_node(&self, number: u8, network: &Network) -> Result<Node> {
        let name = format!("n{number}");
        let directory = self.directory.join("nodes").join(&name);
        let path = directory.join("node.json");
        if !path.exists() {
            for part in ["upper", "work", "merged", "containerd", "containers"] {
                fs::create_dir_all(directory.join(part))?;
            }
            // As containerd itself would make it.
            fs::set_permissions(directory.join("containerd"), fs::Permissions::from_mode(0o700))?;
            write_json(&path, &NodeFile { address: network.node_address(number) })?;
        }
        self.node(&name)
    }

    pub(super) fn node(&self, name: &str) -> Result<Node> {
        let directory = self.directory.join("nodes").join(name);
        let simple = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        let file = if simple { read_json::<NodeFile>(&directory.join("node.json"))? } else { None };
        let Some(file) = file else { bail!("the lab has no host {name:?} (kctl lab ls)") };
        Ok(Node { lab: self.name.clone(), name: name.to_owned(), address: file.address, directory })
    }

    pub(super) fn nodes(&self) -> Result<Vec<Node>> {
        let mut numbers: Vec<u8> = match fs::read_dir(self.directory.join("nodes")) {
            Ok(entries) => entries.filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix('n')?.parse().ok()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        numbers.sort_unstable();
        numbers.into_iter().map(|n| self.node(&format!("n{n}"))).collect()
    }

    pub(super) fn remove(&self) -> Result<()> {
        remove_tree(&self.directory)
    }
}

fn taken_subnets() -> Result<Vec<u8>> {
    let Ok(labs) = fs::read_dir(ROOT) else { return Ok(Vec::new()) };
    let mut taken = Vec::new();
    for lab in labs {
        if let Some(file) = read_json::<LabFile>(&lab?.path().join("lab.json"))? {
            taken.push(file.subnet);
        }
    }
    Ok(taken)
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, serde_json::to_vec_pretty(value)?).with_context(|| format!("writing {}", path.display()))
}

/// Removes a directory, but never what is mounted inside it.
pub(super) fn remove_tree(directory: &Path) -> Result<()> {
    if let Some(mount) = host::mounts::beneath(directory)?.first() {
        bail!("{} is still mounted", mount.display());
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}
