//! An API server on an etcd of its own, for tests and measurements: two processes and a directory, gone when dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use jiff::{SignedDuration, Timestamp};
use pki::{Ca, Credentials, Key, Kubeconfig, Profile};

/// How long a server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A process that ends with this value.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        let what = format!("{command:?}");
        Ok(Self(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().with_context(|| what)?))
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    pub fn resident_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A server that answers.
pub struct ApiServer {
    /// With `admin.conf`, the kubeconfig of an administrator, and the logs.
    pub dir: PathBuf,
    pub port: u16,
    // Dropped in this order: the server before its store.
    pub server: Process,
    _etcd: Process,
    pub client: Client,
    pub ready_after: Duration,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl ApiServer {
    /// Starts `program`: `kctl`, or a kube-apiserver.
    pub async fn start(program: &Path, name: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("kctl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let (etcd_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(dir.join("etcd"));
        etcd.args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url]);
        etcd.args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}")]);
        let etcd = Process::start(etcd, &dir.join("etcd.log"))?;
        issue(&dir, port)?;
        let mut server = Command::new(program);
        if program.file_name().is_some_and(|n| n == "kctl") {
            server.args(["daemon", "kube-apiserver"]);
        }
        server.args(arguments(&dir, &etcd_url, port));
        let begin = Instant::now();
        let server = Process::start(server, &dir.join("server.log"))?;
        let client = Client::from_kubeconfig(&dir.join("admin.conf"))?;
        while client.call(http::Method::GET, "/readyz", None).await.is_err() {
            if begin.elapsed() > READY_WITHIN {
                bail!("not ready: {}", std::fs::read_to_string(dir.join("server.log"))?);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { dir, port, server, _etcd: etcd, client, ready_after: begin.elapsed() })
    }
}

/// Certificates, keys and the administrator's kubeconfig.
fn issue(dir: &Path, port: u16) -> Result<()> {
    let now = Timestamp::now();
    let day = SignedDuration::from_hours(24);
    let ca = Ca::create("test-ca", now, day)?;
    let issued = ca.issue(&Profile::server("kube-apiserver", vec!["localhost".into()], vec!["127.0.0.1".parse()?], day), now)?;
    let admin = ca.issue(&Profile::client("admin", Some("system:masters"), day), now)?;
    let account = Key::generate()?;
    for (name, content) in [
        ("ca.crt", ca.certificate_pem().to_owned()),
        ("server.crt", issued.certificate_pem.clone()),
        ("server.key", issued.key.pem()),
        ("sa.key", account.pem()),
        ("sa.pub", account.public_pem()),
    ] {
        std::fs::write(dir.join(name), content)?;
    }
    let kubeconfig = Kubeconfig {
        cluster: "test".into(),
        server: format!("https://127.0.0.1:{port}"),
        ca_pem: ca.certificate_pem().to_owned(),
        user: "admin".into(),
        credentials: Credentials::Embedded(Box::new(admin)),
    };
    Ok(std::fs::write(dir.join("admin.conf"), kubeconfig.to_yaml())?)
}

fn arguments(dir: &Path, etcd_url: &str, port: u16) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--disable-admission-plugins=ServiceAccount".into(),
        "--service-cluster-ip-range=10.96.0.0/12".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
    ]
}
