//! The aggregation layer: groups and versions that other servers serve, shown and reached as if they were this one's.
//!
//! | Question | Answer |
//! |---|---|
//! | Which APIServices does this server register for itself? | [`local`], kept by [`register`] |
//! | Is another server there? | [`availability`] decides, [`watcher`] asks it |
//! | How is it reached, and as whom? | [`dial`], [`proxy`] |
//! | What does discovery show of it? | [`remote`] |
//!
//! **Invariants:** another server sees the user that this one authenticated, vouched for by the front proxy's certificate, and
//! never the client's credentials; what is not available is answered 503 at once.

mod availability;
mod dial;
pub mod local;
mod proxy;
mod register;
mod remote;
mod watcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::queue::Queue;
use crate::server::Server;

pub use proxy::{forward, forward_document};
pub use remote::Remote;

pub const GROUP: &str = "apiregistration.k8s.io";
pub const PLURAL: &str = "apiservices";

/// How this server proves itself to others, and how it finds them.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    /// Connect to endpoints rather than to cluster IPs (`--enable-aggregator-routing`).
    pub to_endpoints: bool,
}

/// (group, version)
type Key = (String, String);

/// The groups and versions that other servers serve.
pub struct Aggregation {
    access: Access,
    remotes: ArcSwap<BTreeMap<Key, Arc<Remote>>>,
    /// Names of APIServices whose availability is to be checked.
    checks: Queue,
}

impl Aggregation {
    pub fn new(access: Access) -> Self {
        Self { access, remotes: ArcSwap::default(), checks: Queue::default() }
    }

    /// Who serves the path, if it is another server.
    pub fn of_path(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let mut segments = path.strip_prefix("/apis/")?.split('/');
        let key = (segments.next()?.to_owned(), segments.next()?.to_owned());
        remotes.get(&key).cloned()
    }

    /// All of them, by group and version.
    pub fn all(&self) -> Vec<Arc<Remote>> {
        self.remotes.load().values().cloned().collect()
    }

    /// Notes what is known of another server; none: it is no more.
    fn set(&self, key: &Key, remote: Option<Remote>) {
        let remote = remote.map(Arc::new);
        self.remotes.rcu(|remotes| {
            let mut remotes = BTreeMap::clone(remotes);
            match &remote {
                Some(remote) => remotes.insert(key.clone(), remote.clone()),
                None => remotes.remove(key),
            };
            remotes
        });
    }

    /// Looks at a server again: something says that it may not be there.
    fn doubt(&self, remote: &Remote) {
        self.checks.add(&remote.name);
    }
}

/// Registers what this server serves and follows what others do.
pub fn start(server: &Arc<Server>) {
    register::start(server);
    watcher::start(server);
}
