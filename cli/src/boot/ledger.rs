//! What `kctl init` did to the host: written down before it is done, so that `kctl reset` can take back all of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One change of the host.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(tag = "effect", rename_all = "camelCase")]
pub(crate) enum Effect {
    /// A file that we made or replaced; `backup` is what was there before.
    File { path: PathBuf, backup: Option<PathBuf> },
    /// A directory that was not there; removed when it is empty.
    Directory { path: PathBuf },
    /// A directory whose content is ours alone and can be made again.
    Tree { path: PathBuf },
    /// A directory whose content is the user's: removed only after asking.
    Data { path: PathBuf },
    /// A unit that we enabled or started, and how it was.
    Unit { name: String, was_enabled: bool, was_active: bool },
    /// A setting of the kernel and its value before.
    Sysctl { path: PathBuf, before: String },
    /// Removed from the container runtime.
    Image { reference: String },
    /// A network interface that appears while the cluster runs.
    Interface { name: String },
    /// An nftables table that appears while the cluster runs.
    NftTable { family: String, name: String },
    /// A slice of cgroups that appears while the cluster runs.
    Slice { name: String },
    /// Packages that we installed. They stay.
    Packages { names: Vec<String> },
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Ledger {
    version: u32,
    effects: Vec<Effect>,
    #[serde(skip)]
    path: PathBuf,
}

impl Ledger {
    /// Empty when there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut ledger: Self = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self { version: 1, ..Self::default() },
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        anyhow::ensure!(ledger.version == 1, "{} is of a newer kctl", path.display());
        ledger.path = path.to_owned();
        Ok(ledger)
    }

    /// In the order in which they happened.
    pub(crate) fn effects(&self) -> &[Effect] {
        &self.effects
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// On disk before this returns. What is known already is not noted again: the first note knows how it was before.
    pub(crate) fn note(&mut self, effect: Effect) -> Result<()> {
        if self.effects.iter().any(|known| known.same_subject(&effect)) {
            return Ok(());
        }
        self.effects.push(effect);
        self.save()
    }

    pub(crate) fn knows_file(&self, path: &Path) -> bool {
        self.effects.iter().any(|e| matches!(e, Effect::File { path: known, .. } if known == path))
    }

    /// Strikes out what was taken back.
    pub(crate) fn strike(&mut self, effect: &Effect) -> Result<()> {
        self.effects.retain(|e| e != effect);
        self.save()
    }

    fn save(&self) -> Result<()> {
        pki::write_secret(&self.path, &serde_json::to_vec_pretty(self)?).context("writing the ledger")
    }
}

impl Effect {
    fn same_subject(&self, other: &Self) -> bool {
        use Effect::{Data, Directory, File, Image, Interface, NftTable, Packages, Slice, Sysctl, Tree, Unit};
        match (self, other) {
            (File { path: a, .. }, File { path: b, .. })
            | (Directory { path: a }, Directory { path: b })
            | (Tree { path: a }, Tree { path: b })
            | (Data { path: a }, Data { path: b })
            | (Sysctl { path: a, .. }, Sysctl { path: b, .. }) => a == b,
            (Unit { name: a, .. }, Unit { name: b, .. })
            | (Image { reference: a }, Image { reference: b })
            | (Interface { name: a }, Interface { name: b })
            | (Slice { name: a }, Slice { name: b }) => a == b,
            (NftTable { .. }, NftTable { .. }) | (Packages { .. }, Packages { .. }) => self == other,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_note_of_a_file_stays() {
        let directory = std::env::temp_dir().join(format!("kctl-ledger-{}", std::process::id()));
        let path = directory.join("ledger.json");
        let file = |backup: Option<&str>| Effect::File { path: "/etc/x".into(), backup: backup.map(Into::into) };
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.note(file(Some("/backup/x"))).unwrap();
        ledger.note(file(None)).unwrap();
        ledger.note(Effect::Interface { name: "cni0".into() }).unwrap();
        let mut again = Ledger::open(&path).unwrap();
        assert_eq!(again.effects(), [file(Some("/backup/x")), Effect::Interface { name: "cni0".into() }]);
        again.strike(&file(Some("/backup/x"))).unwrap();
        assert_eq!(Ledger::open(&path).unwrap().effects().len(), 1);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
