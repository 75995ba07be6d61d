//! What tests of the store and of its users share: a real etcd for the length of a test, and seeded randomness.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use crate::etcd::EtcdTls;

/// SplitMix64: the same numbers for the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }
}

/// An etcd of its own on a free loopback port, with its data in a temporary directory. Both go when it is dropped.
#[derive(Debug)]
pub struct EtcdProcess {
    child: Child,
    directory: PathBuf,
    endpoint: String,
    peer: u16,
    tls: Option<EtcdTls>,
}

impl EtcdProcess {
    /// # Errors
    /// When there is no `etcd` in the path, or no free port.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None)
    }

    /// With TLS when there are files for it: clients must then have a certificate of the same authority.
    ///
    /// # Errors
    /// As [`EtcdProcess::start`].
    pub fn start_with(tls: Option<EtcdTls>) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("kctl-etcd-{}-{number}", std::process::id()));
        let (client, peer) = (free_port()?, free_port()?);
        let endpoint = format!("{}://127.0.0.1:{client}", if tls.is_some() { "https" } else { "http" });
        let child = spawn(&directory, &endpoint, peer, tls.as_ref())?;
        Ok(Self { child, directory, endpoint, peer, tls })
    }

    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// `kill -9`: no goodbye to clients, nothing flushed.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts again on the same data and port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(&self.directory, &self.endpoint, self.peer, self.tls.as_ref())?;
        Ok(())
    }
}

impl Drop for EtcdProcess {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and the test has its result.
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A port of the loopback interface that nobody listens on now, and that nobody else is given: it lies below those that the
/// kernel takes for connections, and each is handed out once.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    const FIRST: u64 = 10_000;
    const COUNT: u64 = 20_000;
    // Test programs that run side by side begin at different places.
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) % COUNT);
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let next = || FIRST + (*START + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let found = (0..COUNT).filter_map(|_| u16::try_from(next()).ok()).find(is_free);
    found.ok_or_else(|| io::ErrorKind::AddrInUse.into())
}

fn spawn(directory: &Path, endpoint: &str, peer: u16, tls: Option<&EtcdTls>) -> io::Result<Child> {
    let peer = format!("http://127.0.0.1:{peer}");
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(directory)
        .args(["--listen-client-urls", endpoint, "--advertise-client-urls", endpoint])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(["--unsafe-no-fsync", "--logger", "zap", "--log-level", "error"]);
    if let Some(tls) = tls {
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
        command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
