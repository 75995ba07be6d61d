//! `--lock-file`: one kubelet at a time on a host, and with `--exit-on-lock-contention` one that makes room for the next.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock, inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The lock, held until this is dropped. The default is that none was asked for.
#[derive(Default)]
pub struct Lock {
    _file: Option<File>,
    /// Tells when another process opens the file, or takes it away.
    contention: Option<AsyncFd<OwnedFd>>,
}

impl Lock {
    /// Waits until nobody else has the lock.
    pub async fn acquire(path: &Path, exit_on_contention: bool) -> Result<Self> {
        let owned = path.to_owned();
        let locked = tokio::task::spawn_blocking(move || -> std::io::Result<File> {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(owned)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
        let file = locked.await?.with_context(|| format!("unable to acquire file lock on {}", path.display()))?;
        let contention = exit_on_contention.then(|| watch(path)).transpose();
        let contention = contention.with_context(|| format!("unable to watch the lock file {}", path.display()))?;
        Ok(Self { _file: Some(file), contention })
    }

    /// Returns when the kubelet should make room.
    pub async fn contended(&self) {
        let ready = match &self.contention {
            Some(contention) => contention.readable().await.is_ok(),
            None => false,
        };
        if !ready {
            std::future::pending::<()>().await;
        }
    }
}

fn watch(path: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, path, inotify::WatchFlags::OPEN | inotify::WatchFlags::DELETE_SELF)?;
    #[expect(deprecated, reason = "its flaw is with types that close early; an OwnedFd lives as long as the AsyncFd")]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_second_waits_and_the_first_hears_of_it() {
        let path = std::env::temp_dir().join(format!("kubelet-lock-{}", std::process::id()));
        let first = Lock::acquire(&path, true).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), first.contended()).await.is_err());
        let second = tokio::spawn({
            let path = path.clone();
            async move { Lock::acquire(&path, false).await }
        });
        first.contended().await;
        assert!(!second.is_finished());
        drop(first);
        let second = second.await.unwrap().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), second.contended()).await.is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
