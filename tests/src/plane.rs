//! A control plane of processes on this machine: etcd, an API server with TLS and RBAC, controllers, a scheduler. No node is
//! needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use jiff::{SignedDuration, Timestamp};
use pki::{Ca, Credentials, Key, Kubeconfig, Profile};
use store::testing::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::process::{Process, daemon};

const READY_WAIT: Duration = Duration::from_secs(60);
const SERVICES: &str = "10.96.0.0/12";

/// Where the parts listen, on the loopback interface.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub server: u16,
    pub etcd: u16,
    pub etcd_peer: u16,
    pub controllers: u16,
    pub scheduler: u16,
}

impl Ports {
    pub fn free() -> Result<Self> {
        Ok(Self {
            server: free_port()?,
            etcd: free_port()?,
            etcd_peer: free_port()?,
            controllers: free_port()?,
            scheduler: free_port()?,
        })
    }

    /// Five in a row.
    pub fn from(first: u16) -> Self {
        Self { server: first, etcd: first + 1, etcd_peer: first + 2, controllers: first + 3, scheduler: first + 4 }
    }
}

/// A running control plane; it ends with this value. Files stay in `dir`.
pub struct Plane {
    pub dir: PathBuf,
    pub client: Client,
    // Dropped in this order: the store last.
    controllers: Option<Process>,
    scheduler: Option<Process>,
    pub server: Process,
    _etcd: Process,
    /// From the start of the API server until it was ready.
    pub ready_after: Duration,
    pub ports: Ports,
    ca: Ca,
}

impl Plane {
    /// Starts etcd and the API server `program`, with `extra` flags, and waits until it is ready.
    pub async fn start(dir: &Path, program: &Path, ports: Ports, extra: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let etcd_url = format!("http://127.0.0.1:{}", ports.etcd);
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(dir.join("etcd")).args([
            "--listen-client-urls",
            &etcd_url,
            "--advertise-client-urls",
            &etcd_url,
        ]);
        etcd.args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", ports.etcd_peer)]);
        let etcd = Process::start(etcd, &dir.join("etcd.log"))?;
        until_healthy(ports.etcd).await.with_context(|| format!("see {}", dir.join("etcd.log").display()))?;

        let ca = certificates(dir)?;
        write_kubeconfig(&ca, dir, ports, "admin", Some("system:masters"))?;
        let server = api_server(dir, program, ports, &etcd_url, extra);
        let begin = Instant::now();
        let log = dir.join("kube-apiserver.log");
        let server = Process::start(server, &log)?;
        let client = Client::from_kubeconfig(&dir.join("admin.conf"))?;
        while client.call(http::Method::GET, "/readyz", None).await.is_err() {
            if begin.elapsed() > READY_WAIT {
                bail!("not ready: {}", std::fs::read_to_string(log)?);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ready_after = begin.elapsed();
        Ok(Self { dir: dir.to_owned(), client, server, ready_after, ports, ca, _etcd: etcd, controllers: None, scheduler: None })
    }

    /// Starts the controllers of `program`.
    pub fn start_controllers(&mut self, program: &Path) -> Result<()> {
        let name = "kube-controller-manager";
        let kubeconfig = write_kubeconfig(&self.ca, &self.dir, self.ports, &format!("system:{name}"), None)?;
        let mut command = daemon(program, name);
        command.arg("--kubeconfig").arg(kubeconfig).args([
            "--bind-address=127.0.0.1",
            &format!("--secure-port={}", self.ports.controllers),
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            &format!("--service-cluster-ip-range={SERVICES}"),
        ]);
        for (flag, file) in [
            ("root-ca-file", "ca.crt"),
            ("cluster-signing-cert-file", "ca.crt"),
            ("cluster-signing-key-file", "ca.key"),
            ("service-account-private-key-file", "sa.key"),
        ] {
            command.arg(format!("--{flag}={}", self.dir.join(file).display()));
        }
        self.controllers = Some(Process::start(command, &self.dir.join("kube-controller-manager.log"))?);
        Ok(())
    }

    /// Starts the scheduler of `program`.
    pub fn start_scheduler(&mut self, program: &Path) -> Result<()> {
        let name = "kube-scheduler";
        let kubeconfig = write_kubeconfig(&self.ca, &self.dir, self.ports, &format!("system:{name}"), None)?;
        let mut command = daemon(program, name);
        let port = format!("--secure-port={}", self.ports.scheduler);
        command.arg("--kubeconfig").arg(kubeconfig).args(["--bind-address=127.0.0.1", &port, "--leader-elect=false"]);
        self.scheduler = Some(Process::start(command, &self.dir.join("kube-scheduler.log"))?);
        Ok(())
    }
}

/// Waits for the store, so that the time to ready is the API server's own.
async fn until_healthy(etcd: u16) -> Result<()> {
    let begin = Instant::now();
    loop {
        if health(etcd).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return Ok(());
        }
        if begin.elapsed() > READY_WAIT {
            bail!("etcd is not healthy");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn health(port: u16) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn lifetime() -> SignedDuration {
    // Authorities end with a day.
    SignedDuration::from_hours(72)
}

/// Writes the authority, the server's certificate and the key of service accounts.
fn certificates(dir: &Path) -> Result<Ca> {
    let now = Timestamp::now();
    let ca = Ca::create("test-ca", now, lifetime())?;
    let addresses = vec!["127.0.0.1".parse()?, "10.96.0.1".parse()?];
    let issued = ca.issue(&Profile::server("kube-apiserver", vec!["localhost".into()], addresses, lifetime()), now)?;
    let proxy = Ca::create("front-proxy-ca", now, lifetime())?;
    let front = proxy.issue(&Profile::client("front-proxy-client", None, lifetime()), now)?;
    let account = Key::generate()?;
    for (name, content) in [
        ("ca.crt", ca.certificate_pem().to_owned()),
        ("server.crt", issued.certificate_pem),
        ("sa.pub", account.public_pem()),
        ("front-proxy-ca.crt", proxy.certificate_pem().to_owned()),
        ("front-proxy-client.crt", front.certificate_pem),
    ] {
        std::fs::write(dir.join(name), content)?;
    }
    for (name, key) in [
        ("ca.key", ca.key_pem()),
        ("server.key", issued.key.pem()),
        ("sa.key", account.pem()),
        ("front-proxy-client.key", front.key.pem()),
    ] {
        pki::write_secret(&dir.join(name), key.as_bytes())?;
    }
    Ok(ca)
}

fn write_kubeconfig(ca: &Ca, dir: &Path, ports: Ports, user: &str, group: Option<&str>) -> Result<PathBuf> {
    let issued = ca.issue(&Profile::client(user, group, lifetime()), Timestamp::now())?;
    let kubeconfig = Kubeconfig {
        cluster: "test".into(),
        server: format!("https://127.0.0.1:{}", ports.server),
        ca_pem: ca.certificate_pem().to_owned(),
        user: user.to_owned(),
        credentials: Credentials::Embedded(Box::new(issued)),
    };
    let path = dir.join(format!("{}.conf", user.trim_start_matches("system:")));
    pki::write_secret(&path, kubeconfig.to_yaml().as_bytes())?;
    Ok(path)
}

fn api_server(dir: &Path, program: &Path, ports: Ports, etcd_url: &str, extra: &[&str]) -> Command {
    let mut command = daemon(program, "kube-apiserver");
    command.args([
        &format!("--etcd-servers={etcd_url}"),
        &format!("--secure-port={}", ports.server),
        "--bind-address=127.0.0.1",
        "--authorization-mode=Node,RBAC",
        &format!("--service-cluster-ip-range={SERVICES}"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    ]);
    for (flag, file) in [
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
        ("requestheader-client-ca-file", "front-proxy-ca.crt"),
        ("proxy-client-cert-file", "front-proxy-client.crt"),
        ("proxy-client-key-file", "front-proxy-client.key"),
    ] {
        command.arg(format!("--{flag}={}", dir.join(file).display()));
    }
    command.args(["--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group"]);
    command.args(["--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-allowed-names=front-proxy-client"]);
    command.args(extra);
    command
}
