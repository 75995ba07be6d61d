//! The kubelet's certificates: got by a signing request, renewed long before they expire, never without one in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::ByteString;
use api::Kind as _;
use api::certificates::{CertificateSigningRequest, CertificateSigningRequestSpec};
use api::metav1::ObjectMeta;
use client::Client;
use client::kubeconfig::{Kubeconfig, NamedUser, User};
use daemon::tls::{ServerTls, TlsFiles};
use jiff::{SignedDuration, Timestamp};
use pki::{Certificate, Key, Profile, Request, Validity};

use crate::agent::Agent;
use crate::config::Config;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long a request may wait for its signature before it is made anew.
const PATIENCE: Duration = Duration::from_secs(900);
/// What a request asks for; the signer decides.
const ASKED: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The file that always is the newest pair, certificate and key in one.
pub fn current(cert_dir: &Path, kind: &str) -> PathBuf {
    cert_dir.join(format!("kubelet-{kind}-current.pem"))
}

/// Makes sure that the kubeconfig is there, by way of the bootstrap one when it is not. Waits for as long as it takes.
pub async fn bootstrap(config: &Config) -> Result<PathBuf> {
    let kubeconfig = config.kubeconfig.clone().context("no --kubeconfig")?;
    let bootstrap = config.bootstrap_kubeconfig.clone().filter(|p| !p.as_os_str().is_empty());
    let mut told = false;
    loop {
        if kubeconfig.exists() {
            return Ok(kubeconfig);
        }
        match &bootstrap {
            Some(path) if path.exists() => match ask_for_client(config, path, &kubeconfig).await {
                Ok(()) => return Ok(kubeconfig),
                Err(error) => tracing::warn!("getting a client certificate: {error:#}"),
            },
            _ if !told => {
                tracing::info!(kubeconfig = %kubeconfig.display(), "waiting for a kubeconfig; static pods run meanwhile");
                told = true;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn ask_for_client(config: &Config, bootstrap: &Path, kubeconfig: &Path) -> Result<()> {
    let client = Client::from_kubeconfig(bootstrap)?;
    let pair = request(&client, CLIENT_SIGNER, &client_profile(&config.node_name)).await?;
    let path = store(&config.cert_dir, "client", &pair)?;
    // The same server and authority as the bootstrap file, with the certificate in place of the token.
    let mut made = Kubeconfig::read(bootstrap)?;
    const USER: &str = "default-auth";
    let user = User { client_certificate: Some(path.clone()), client_key: Some(path), ..User::default() };
    made.users = vec![NamedUser { name: USER.to_owned(), user }];
    made.contexts.iter_mut().for_each(|c| c.context.user = USER.to_owned());
    let value = serde_json::to_value(&made).context("the kubeconfig can't be written")?;
    pki::write_secret(kubeconfig, machinery::yaml::to_string(&value).as_bytes())?;
    tracing::info!(kubeconfig = %kubeconfig.display(), "the node has a certificate of its own");
    Ok(())
}

fn client_profile(node: &str) -> Profile {
    Profile::client(&format!("system:node:{node}"), Some("system:nodes"), ASKED)
}

/// A certificate and its key, as PEM.
struct Pair {
    certificate: String,
    key: Key,
}

/// Makes a key, asks for its certificate, and waits for the signature.
async fn request(client: &Client, signer: &str, profile: &Profile) -> Result<Pair> {
    let key = Key::generate()?;
    let csr = Request::make(profile, &key)?;
    let mut usages = vec!["digital signature".to_owned()];
    usages.push(if signer == SERVING_SIGNER { "server auth" } else { "client auth" }.to_owned());
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(csr.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(usages),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let made = client.create(&object).await.context("creating a CertificateSigningRequest")?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(200);
    while tokio::time::Instant::now() < deadline {
        let found: CertificateSigningRequest = client.get("", made.name()).await.context("looking at the request")?;
        let status = found.status.unwrap_or_default();
        for condition in status.conditions.iter().flatten() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                bail!("request {} was refused: {}", made.name(), condition.message.as_deref().unwrap_or_default());
            }
        }
        if let Some(certificate) = status.certificate.filter(|c| !c.0.is_empty()) {
            let certificate = String::from_utf8(certificate.0).context("the certificate is no text")?;
            let parsed = Certificate::from_pem(&certificate)?;
            if parsed.public_key != key.public_der() {
                bail!("request {} was answered with the certificate of another key", made.name());
            }
            return Ok(Pair { certificate, key });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    bail!("request {} was not signed within {} minutes", made.name(), PATIENCE.as_secs() / 60)
}

/// Writes a pair under its date and lets the link `…-current.pem` lead to it.
fn store(cert_dir: &Path, kind: &str, pair: &Pair) -> Result<PathBuf> {
    let name = format!("kubelet-{kind}-{}.pem", Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S"));
    pki::write_secret(&cert_dir.join(&name), format!("{}{}", pair.certificate, pair.key.pem()).as_bytes())?;
    let link = current(cert_dir, kind);
    let next = cert_dir.join(format!(".kubelet-{kind}-next"));
    let _ = std::fs::remove_file(&next);
    std::os::unix::fs::symlink(&name, &next).context("linking the certificate")?;
    std::fs::rename(&next, &link).with_context(|| format!("renaming to {}", link.display()))?;
    Ok(link)
}

/// When a certificate is to be renewed: at three quarters of its life, so that many tries are left.
fn due(validity: &Validity) -> Timestamp {
    let life = validity.not_after.duration_since(validity.not_before);
    validity.not_before.checked_add(life * 3 / 4).unwrap_or(validity.not_before)
}

async fn sleep_until(at: Timestamp) {
    // An hour at most at a time: the clock may be set meanwhile.
    const STEP: Duration = Duration::from_secs(3600);
    loop {
        match Duration::try_from(at.duration_since(Timestamp::now())) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(STEP)).await,
            _ => return,
        }
    }
}

/// Renews the client certificate for as long as the kubelet runs. Only one that the kubelet got itself is renewed, or one
/// that the kubeconfig names by its file.
pub async fn rotate_client(agent: Arc<Agent>, client: Client) {
    let path = current(&agent.config.cert_dir, "client");
    loop {
        let Ok(certificate) = Certificate::load(&path) else {
            tokio::time::sleep(Duration::from_secs(600)).await;
            continue;
        };
        sleep_until(due(&certificate.validity)).await;
        match request(&client, CLIENT_SIGNER, &client_profile(&agent.config.node_name)).await {
            Ok(pair) => match store(&agent.config.cert_dir, "client", &pair) {
                Ok(_) => {
                    tracing::info!("the client certificate was renewed");
                    client.reconnect();
                }
                Err(error) => tracing::error!("storing the renewed certificate: {error:#}"),
            },
            Err(error) => {
                tracing::warn!("renewing the client certificate: {error:#}");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

/// Gets and renews the serving certificate (`serverTLSBootstrap`). Until there is one, the self-made one serves.
pub async fn rotate_serving(agent: Arc<Agent>, client: Client) {
    let path = current(&agent.config.cert_dir, "server");
    loop {
        if let Ok(certificate) = Certificate::load(&path)
            && is_signed(&certificate)
        {
            sleep_until(due(&certificate.validity)).await;
        }
        let profile = serving_profile(&agent);
        match request(&client, SERVING_SIGNER, &profile).await {
            Ok(pair) => match store(&agent.config.cert_dir, "server", &pair) {
                Ok(_) => tracing::info!("the serving certificate was renewed"),
                Err(error) => tracing::error!("storing the serving certificate: {error:#}"),
            },
            Err(error) => {
                tracing::warn!("getting a serving certificate: {error:#}");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }
}

fn is_signed(certificate: &Certificate) -> bool {
    !certificate.common_name.ends_with("@self-signed")
}

fn serving_profile(agent: &Agent) -> Profile {
    let name = agent.config.node_name.clone();
    let mut profile = Profile::server(&format!("system:node:{name}"), vec![name], agent.host_ips.load().to_vec(), ASKED);
    profile.organization = Some("system:nodes".to_owned());
    profile
}

/// The server's TLS: the configured pair, the signed one, or one made here.
pub fn serving(agent: &Agent, client_cas: Vec<PathBuf>) -> Result<Arc<ServerTls>> {
    let config = &agent.config;
    let (certificate, key) = match &config.tls_files {
        Some((certificate, key)) => (certificate.clone(), key.clone()),
        None => {
            let path = current(&config.cert_dir, "server");
            if !Certificate::load(&path).is_ok_and(|c| c.validity.not_after > Timestamp::now()) {
                make_own(agent)?;
            }
            (path.clone(), path)
        }
    };
    Ok(Arc::new(ServerTls::from_files(TlsFiles { certificate, key, client_cas }, config.tls_offer.clone())?))
}

/// A certificate that is its own authority, until a signed one takes its place.
fn make_own(agent: &Agent) -> Result<()> {
    let name = format!("{}@self-signed", agent.config.node_name);
    let now = Timestamp::now();
    let authority = pki::Ca::create(&format!("{}-ca@self-signed", agent.config.node_name), now, ASKED)?;
    let names = vec![agent.config.node_name.clone()];
    let issued = authority.issue(&Profile::server(&name, names, agent.host_ips.load().to_vec(), ASKED), now)?;
    let certificate = format!("{}{}", issued.certificate_pem, authority.certificate_pem());
    store(&agent.config.cert_dir, "server", &Pair { certificate, key: issued.key })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_at_three_quarters() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(due(&Validity { not_before: at(0), not_after: at(1000) }), at(750));
    }
}
