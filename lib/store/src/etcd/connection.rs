//! The connection to etcd, made anew when its certificate files change.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::Instant;

use super::{EtcdConfig, EtcdTls};
use crate::storage::{Result, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Finds a dead peer. etcd refuses pings more often than every 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// How often the certificate files are looked at.
const FILES_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Connection {
    config: EtcdConfig,
    client: ArcSwap<Client>,
    files: Mutex<Files>,
    renewing: AtomicBool,
}

/// What the client was made from, and when that was last compared with the disk.
struct Files {
    modified: Vec<SystemTime>,
    checked: Instant,
}

impl Connection {
    pub(super) async fn new(config: EtcdConfig) -> Result<Self> {
        let modified = modified(config.tls.as_ref()).map_err(StoreError::unavailable)?;
        let client = connect(&config).await?;
        Ok(Self {
            config,
            client: ArcSwap::from_pointee(client),
            files: Mutex::new(Files { modified, checked: Instant::now() }),
            renewing: AtomicBool::new(false),
        })
    }

    pub(super) async fn client(&self) -> Client {
        if self.files_changed() && !self.renewing.swap(true, Ordering::AcqRel) {
            match connect(&self.config).await {
                Ok(client) => self.client.store(client.into()),
                // Files are replaced one after another: the next look finds them whole.
                Err(error) => {
                    tracing::warn!(%error, "keeping the old etcd connection");
                    self.files.lock().unwrap_or_else(PoisonError::into_inner).modified.clear();
                }
            }
            self.renewing.store(false, Ordering::Release);
        }
        Client::clone(&self.client.load())
    }

    fn files_changed(&self) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if self.config.tls.is_none() || files.checked.elapsed() < FILES_INTERVAL {
            return false;
        }
        files.checked = Instant::now();
        match modified(self.config.tls.as_ref()) {
            Ok(modified) if modified != files.modified => {
                files.modified = modified;
                true
            }
            _ => false,
        }
    }
}

fn modified(tls: Option<&EtcdTls>) -> io::Result<Vec<SystemTime>> {
    tls.into_iter().flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key]).map(|file| file.metadata()?.modified()).collect()
}

async fn connect(config: &EtcdConfig) -> Result<Client> {
    let mut options = ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1);
    if let Some(tls) = &config.tls {
        let read = |file: &std::path::Path| {
            std::fs::read(file).map_err(|error| StoreError::unavailable(format!("reading {}: {error}", file.display())))
        };
        let identity = Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?);
        options = options.with_tls(TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.ca)?)).identity(identity));
    }
    // Connects when it is first used.
    Client::connect(&config.endpoints, Some(options)).await.map_err(StoreError::unavailable)
}
