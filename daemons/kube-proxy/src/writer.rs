//! Hands transactions to the kernel, through the `nft` program: text on its standard input, never a shell.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::Instant;

use crate::nft::{Scope, delete_chains, transaction};
use crate::ruleset::Ruleset;

/// A transaction was not taken; none of it was.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the nft program is not installed (package nftables)")]
    Missing,
    #[error("starting nft")]
    Start(#[source] std::io::Error),
    #[error("writing to nft")]
    Write(#[source] std::io::Error),
    #[error("nft did not end within {0:?}")]
    Hangs(Duration),
    #[error("nft refused the transaction: {0}")]
    Refused(String),
}

/// The kernel, or a recording double.
pub trait PacketFilter: Send + Sync {
    fn load(&self, transaction: &str) -> impl Future<Output = Result<(), LoadError>> + Send;
    /// Our table is there.
    fn holds(&self, family: crate::model::Family) -> impl Future<Output = bool> + Send;
}

/// The `nft` program.
#[derive(Clone, Debug, Default)]
pub struct Nft;

const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of nft's complaints is kept.
const COMPLAINT_MAX: usize = 2048;

impl PacketFilter for Nft {
    async fn load(&self, transaction: &str) -> Result<(), LoadError> {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => LoadError::Missing,
                _ => LoadError::Start(error),
            })?;
        let mut stdin = child.stdin.take().ok_or_else(|| LoadError::Write(std::io::ErrorKind::BrokenPipe.into()))?;
        let talk = async {
            let written = stdin.write_all(transaction.as_bytes()).await;
            drop(stdin);
            let output = child.wait_with_output().await.map_err(LoadError::Start)?;
            if output.status.success() {
                return written.map_err(LoadError::Write);
            }
            let complaint = String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(COMPLAINT_MAX)]).trim().to_owned();
            Err(LoadError::Refused(complaint))
        };
        tokio::time::timeout(LOAD_TIMEOUT, talk).await.map_err(|_| LoadError::Hangs(LOAD_TIMEOUT))?
    }

    async fn holds(&self, family: crate::model::Family) -> bool {
        let ip = if family == crate::model::Family::V4 { "ip" } else { "ip6" };
        let list = Command::new("nft")
            .args(["list", "chain", ip, crate::nft::TABLE, "services"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        matches!(tokio::time::timeout(LOAD_TIMEOUT, list).await, Ok(Ok(status)) if status.success())
    }
}

/// Kernels before 6.2 notice a little late that a chain is no longer pointed to.
const CHAIN_REST: Duration = Duration::from_secs(1);

/// One family's table in the kernel: what it should be, and what is still to be cleared away.
#[derive(Debug)]
pub struct Table<F> {
    pub rules: Ruleset,
    filter: F,
    /// The kernel holds what `rules` last wrote.
    in_step: bool,
    /// Emptied chains, and when they may be deleted.
    emptied: BTreeMap<String, Instant>,
}

impl<F: PacketFilter> Table<F> {
    pub fn new(rules: Ruleset, filter: F) -> Self {
        Self { rules, filter, in_step: false, emptied: BTreeMap::new() }
    }

    /// Makes the kernel agree: the difference, or the whole table when it is not known what the kernel holds.
    pub async fn sync(&mut self) -> Result<(), LoadError> {
        let family = self.rules.family;
        self.clear_away().await;
        let text = if self.in_step {
            let difference = self.rules.difference();
            if difference.is_empty() {
                return Ok(());
            }
            for name in &difference.new_chains {
                self.emptied.remove(name);
            }
            let ready = Instant::now() + CHAIN_REST;
            self.emptied.extend(difference.removed_chains.iter().map(|name| (name.clone(), ready)));
            transaction(family, &difference, Scope::Difference)
        } else {
            self.emptied.clear();
            transaction(family, &self.rules.everything(), Scope::WholeTable)
        };
        // Until the kernel agreed, it is not known what it holds.
        self.in_step = false;
        self.filter.load(&text).await?;
        self.in_step = true;
        tracing::debug!(?family, bytes = text.len(), "rules written");
        Ok(())
    }

    /// Deletes chains that were emptied a while ago.
    async fn clear_away(&mut self) {
        let now = Instant::now();
        let due: Vec<String> = self.emptied.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        if due.is_empty() || !self.in_step {
            return;
        }
        due.iter().for_each(|name| {
            self.emptied.remove(name);
        });
        if let Err(error) = self.filter.load(&delete_chains(self.rules.family, &due)).await {
            tracing::info!("deleting unused chains: {error}; writing everything anew");
            self.in_step = false;
        }
    }

    /// When there is something to clear away.
    pub fn next_clearing(&self) -> Option<Instant> {
        self.emptied.values().min().copied()
    }

    /// Somebody may have changed the table: look, and write everything if it is gone.
    pub async fn check(&mut self) {
        if self.in_step && !self.filter.holds(self.rules.family).await {
            tracing::warn!(family = ?self.rules.family, "somebody removed the table: writing it anew");
            self.in_step = false;
        }
    }

    pub fn in_step(&self) -> bool {
        self.in_step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, ServiceName};
    use crate::ruleset::{Action, Chain, Fragment, Rule};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Recorder {
        loaded: Arc<Mutex<Vec<String>>>,
        refuse: Arc<Mutex<bool>>,
    }

    impl PacketFilter for Recorder {
        async fn load(&self, transaction: &str) -> Result<(), LoadError> {
            self.loaded.lock().unwrap().push(transaction.to_owned());
            if *self.refuse.lock().unwrap() { Err(LoadError::Refused("no".into())) } else { Ok(()) }
        }
        async fn holds(&self, _family: Family) -> bool {
            !*self.refuse.lock().unwrap()
        }
    }

    fn service(table: &mut Table<Recorder>, present: bool) {
        let name = ServiceName { namespace: "n".into(), name: "s".into() };
        let chain = Chain { base: None, rules: vec![Rule::new([], Action::Drop)] };
        let fragment = Fragment { chains: BTreeMap::from([("c".to_owned(), chain)]), ..Fragment::default() };
        table.rules.set_service(&name, if present { fragment } else { Fragment::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn whole_once_then_differences_then_clearing() {
        let filter = Recorder::default();
        let last = || filter.loaded.lock().unwrap().last().cloned().unwrap();
        let count = || filter.loaded.lock().unwrap().len();
        let mut table = Table::new(Ruleset::new(Family::V4, BTreeMap::new(), BTreeMap::new()), filter.clone());
        table.sync().await.unwrap();
        assert!(last().contains("delete table ip kube-proxy"));
        table.sync().await.unwrap();
        assert_eq!(count(), 1, "nothing changed, nothing written");
        service(&mut table, true);
        table.sync().await.unwrap();
        assert!(!last().contains("delete table") && last().contains("add chain ip kube-proxy c"));
        service(&mut table, false);
        table.sync().await.unwrap();
        assert!(last().contains("flush chain ip kube-proxy c") && table.next_clearing().is_some());
        tokio::time::advance(CHAIN_REST).await;
        table.sync().await.unwrap();
        assert_eq!(last(), "delete chain ip kube-proxy c\n");
        assert_eq!(table.next_clearing(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_everything_is_written() {
        let filter = Recorder::default();
        let mut table = Table::new(Ruleset::new(Family::V4, BTreeMap::new(), BTreeMap::new()), filter.clone());
        table.sync().await.unwrap();
        *filter.refuse.lock().unwrap() = true;
        service(&mut table, true);
        assert!(table.sync().await.is_err());
        assert!(!table.in_step());
        *filter.refuse.lock().unwrap() = false;
        table.sync().await.unwrap();
        let last = filter.loaded.lock().unwrap().last().cloned().unwrap();
        assert!(last.contains("delete table") && last.contains("add rule ip kube-proxy c drop"));
        *filter.refuse.lock().unwrap() = true;
        table.check().await;
        assert!(!table.in_step());
    }
}
