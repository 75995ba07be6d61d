//! From flags to a server's configuration: files are read and checked here, once.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::store::{Etcd, EtcdConfig, EtcdTls, Memory, Storage, Transformed};
use anyhow::{Context, bail};
use daemon::feature_gates::FeatureGates;
use daemon::reload::{RECHECK, Reloading};
use jiff::Timestamp;
use pki::{PublicKey, TokenSigner, TokenVerifier};
use schema::{OnRequest, Serving};

use crate::admission::{self, DefaultTolerationSeconds};
use crate::aggregation::Access;
use crate::args::{Args, AuthorizationMode, StorageBackend};
use crate::authn::front_proxy::FrontProxy;
use crate::authn::oidc::Issuers;
use crate::authn::oidc::config::{Anonymous, Flags, parse as parse_authentication};
use crate::authn::service_account::ServiceAccountTokens;
use crate::authn::token_file::TokenFile;
use crate::authn::token_webhook::TokenWebhook;
use crate::authn::x509::ClientCa;
use crate::authz::Mode;
use crate::authz::webhook::AccessWebhook;
use crate::authz::webhook::config::{Entry, Settings, parse as parse_authorization};
use crate::encryption::kms::Plugins;
use crate::encryption::{self, Encryption};
use crate::filters::audit::Audit;
use crate::filters::audit::backend::{Batching, Log, Webhook};
use crate::filters::audit::policy::Policy;
use crate::filters::audit::truncate::Truncation;
use crate::filters::browser::Browsers;
use crate::filters::fairness::Fairness;
use crate::filters::rotating::Rotation;
use crate::filters::spans::Tracer;
use crate::filters::spans::config::TracingConfiguration;
use crate::filters::spans::otlp::Exporter;
use crate::registry::Terms;
use crate::remote::Remote;
use crate::runtime_config;
use crate::server::{Authentication, Config, Goaway, KubeletAccess, Limits};
use crate::service_ip::ServiceNetwork;
use crate::subresources::Lifetimes;

/// As often as upstream looks.
const ENCRYPTION_RECHECK: Duration = Duration::from_secs(60);
const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc";

/// Reads everything the flags name.
pub async fn load(args: &Args, terminating: daemon::Shutdown) -> anyhow::Result<Config> {
    let address = advertised(args)?;
    let signer = match &args.service_account_signing_key_file {
        Some(path) => Some(TokenSigner::from_pem(&text(path)?).with_context(|| format!("reading {}", path.display()))?),
        None => None,
    };
    let gates = feature_gates(args)?;
    let serving = serving(args, &gates)?;
    let (storage, kms) = encrypted(args, storage(args).await?)?;
    Ok(Config {
        serving,
        gates,
        storage,
        kms,
        modes: authorization(args)?,
        modes_file: authorization_file(args)?,
        enable_admission: args.enable_admission_plugins.clone(),
        disable_admission: args.disable_admission_plugins.clone(),
        admission: admission(args)?,
        services: services(args)?,
        terms: terms(args)?,
        advertise: Some((address, args.secure_port)),
        is_endpoint: args.endpoint_reconciler_type != "none",
        external_name: Some(args.external_hostname.clone()).filter(|name| !name.is_empty()),
        authentication: authentication(args, signer.as_ref())?,
        token_signer: signer,
        token_lifetimes: Lifetimes {
            seconds_max: args.service_account_max_token_expiration.as_deref().map(seconds).transpose()?.filter(|s| *s > 0),
            extend: args.service_account_extend_token_expiration,
        },
        jwks_uri: args.service_account_jwks_uri.clone(),
        audit: audit(args)?,
        tracer: args.tracing_config_file.as_deref().map(tracer).transpose()?,
        limits: Limits {
            request_timeout: request_timeout(args)?,
            goaway: Goaway::new(args.goaway_chance)
                .with_context(|| format!("--goaway-chance can not be less than 0 or greater than {}", Goaway::CHANCE_MAX))?,
        },
        browsers: Browsers::new(&args.strict_transport_security_directives, &args.cors_allowed_origins)
            .map_err(anyhow::Error::msg)?,
        terminating,
        fairness: Fairness::new(args.max_requests_inflight, args.max_mutating_requests_inflight, request_timeout(args)?),
        kubelet: KubeletAccess {
            certificate_authority: args.kubelet_certificate_authority.clone(),
            client_certificate: args.kubelet_client_certificate.clone(),
            client_key: args.kubelet_client_key.clone(),
            preferred_address_types: args.kubelet_preferred_address_types.clone(),
        },
        aggregation: Access {
            client_certificate: args.proxy_client_cert_file.clone(),
            client_key: args.proxy_client_key_file.clone(),
            to_endpoints: args.enable_aggregator_routing,
        },
        authentication_configmap: authentication_configmap(args)?,
        now: Timestamp::now,
    })
}

fn admission(args: &Args) -> anyhow::Result<admission::Configuration> {
    let mut configuration = match &args.admission_control_config_file {
        Some(path) => admission::Configuration::load(path).context("--admission-control-config-file")?,
        None => admission::Configuration::default(),
    };
    let (not_ready, unreachable) = (args.default_not_ready_toleration_seconds, args.default_unreachable_toleration_seconds);
    configuration.tolerations = DefaultTolerationSeconds { not_ready, unreachable };
    Ok(configuration)
}

fn terms(args: &Args) -> anyhow::Result<Terms> {
    let events = u64::try_from(seconds(&args.event_ttl)?).ok().filter(|seconds| *seconds > 0);
    Ok(Terms {
        events: Duration::from_secs(events.context("--event-ttl must be longer than a second")?),
        watches: args.min_request_timeout,
    })
}

/// `--etcd-compaction-interval`; none for never.
pub fn compaction_interval(args: &Args) -> anyhow::Result<Option<Duration>> {
    let seconds = u64::try_from(seconds(&args.etcd_compaction_interval)?)
        .context("--etcd-compaction-interval can not be negative value")?;
    Ok(Some(Duration::from_secs(seconds)).filter(|interval| !interval.is_zero()))
}

fn feature_gates(args: &Args) -> anyhow::Result<FeatureGates> {
    let gates = FeatureGates::parse(&args.feature_gates).map_err(|why| anyhow::anyhow!("--feature-gates: {why}"))?;
    if !gates.unknown().is_empty() {
        tracing::info!(gates = gates.unknown().join(","), "these feature gates do nothing here");
    }
    Ok(gates)
}

fn serving(args: &Args, gates: &FeatureGates) -> anyhow::Result<Serving> {
    let asked = runtime_config::parse(&args.runtime_config, gates);
    let asked = asked.map_err(|why| anyhow::anyhow!("--runtime-config: {why}"))?;
    for OnRequest { group, version, gate } in asked.gated {
        tracing::warn!("{group}/{version} is not served because the {gate} feature gate is disabled");
    }
    Ok(asked.serving)
}

/// The authorizers in order, as flags name them.
fn authorization(args: &Args) -> anyhow::Result<Vec<Mode>> {
    let settings = || {
        let ttl = |text: &str| Ok::<_, anyhow::Error>(Duration::from_secs(u64::try_from(seconds(text)?).unwrap_or(0)));
        Ok::<_, anyhow::Error>(Settings {
            version: args.authorization_webhook_version.clone(),
            authorized_ttl: ttl(&args.authorization_webhook_cache_authorized_ttl)?,
            unauthorized_ttl: ttl(&args.authorization_webhook_cache_unauthorized_ttl)?,
            ..Settings::default()
        })
    };
    let entry = |mode: &AuthorizationMode| {
        Ok(match (mode, &args.authorization_webhook_config_file) {
            (AuthorizationMode::Node, _) => Entry::Node,
            (AuthorizationMode::Rbac, _) => Entry::Rbac,
            (AuthorizationMode::AlwaysAllow, _) => Entry::AlwaysAllow,
            (AuthorizationMode::AlwaysDeny, _) => Entry::AlwaysDeny,
            (AuthorizationMode::Webhook, Some(kubeconfig)) => {
                Entry::Webhook { kubeconfig: kubeconfig.clone(), settings: settings()? }
            }
            (AuthorizationMode::Webhook, None) => {
                bail!("authorization-mode Webhook's authorization config file not passed")
            }
        })
    };
    args.authorization_mode.iter().map(|flag| entry(flag).and_then(mode)).collect()
}

/// The same as a file names them, which may change while the server runs.
fn authorization_file(args: &Args) -> anyhow::Result<Option<Reloading<Vec<Mode>>>> {
    let Some(path) = args.authorization_config.clone() else { return Ok(None) };
    let load = move || {
        let entries = parse_authorization(&text(&path)?).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
        entries.into_iter().map(mode).collect::<anyhow::Result<Vec<_>>>()
    };
    reloading(args.authorization_config.iter(), load).map(Some)
}

/// The newest good content of configuration files.
fn reloading<'p, T>(
    files: impl Iterator<Item = &'p PathBuf>,
    load: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static,
) -> anyhow::Result<Reloading<T>> {
    let load = move || load().map_err(|error| std::io::Error::other(format!("{error:#}")));
    Ok(Reloading::new(files.cloned().collect(), RECHECK, load)?)
}

fn mode(entry: Entry) -> anyhow::Result<Mode> {
    Ok(match entry {
        Entry::Node => Mode::Node,
        Entry::Rbac => Mode::Rbac,
        Entry::AlwaysAllow => Mode::AlwaysAllow,
        Entry::AlwaysDeny => Mode::AlwaysDeny,
        Entry::Webhook { kubeconfig, settings } => {
            let remote = Remote::from_kubeconfig(&kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
            Mode::Webhook(Arc::new(AccessWebhook::new(remote, settings)))
        }
    })
}

fn text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

async fn storage(args: &Args) -> anyhow::Result<Arc<dyn Storage>> {
    if args.storage_backend == StorageBackend::Memory {
        return Ok(Arc::new(Memory::default()));
    }
    if args.etcd_servers.is_empty() {
        bail!("--etcd-servers must be specified");
    }
    let tls = match (&args.etcd_cafile, &args.etcd_certfile, &args.etcd_keyfile) {
        (None, None, None) => None,
        (Some(ca), Some(certificate), Some(key)) => {
            Some(EtcdTls { ca: ca.clone(), certificate: certificate.clone(), key: key.clone() })
        }
        _ => bail!("--etcd-cafile, --etcd-certfile and --etcd-keyfile go together"),
    };
    let etcd = Etcd::new(EtcdConfig { endpoints: args.etcd_servers.clone(), tls }).await.context("the connection to etcd")?;
    Ok(Arc::new(etcd))
}

/// A store, and the plugins that have the keys of its values.
type Sealed = (Arc<dyn Storage>, Option<Arc<Plugins>>);

/// The same store, with values sealed as `--encryption-provider-config` says, and the plugins that have its keys.
fn encrypted(args: &Args, storage: Arc<dyn Storage>) -> anyhow::Result<Sealed> {
    let Some(path) = args.encryption_provider_config.clone() else { return Ok((storage, None)) };
    let reloads = args.encryption_provider_config_automatic_reload;
    let watched = if reloads { vec![path.clone()] } else { Vec::new() };
    let plugins = Arc::new(Plugins::default());
    let running = plugins.clone();
    let load = move || {
        let text = std::fs::read_to_string(&path)?;
        let parsed = encryption::config::parse(&text, &running);
        parsed.map_err(|why| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{}: {why}", path.display())))
    };
    let configuration = Reloading::new(watched, ENCRYPTION_RECHECK, load).context("--encryption-provider-config")?;
    let asks_plugins = reloads || configuration.current().names_plugins();
    let storage = Arc::new(Transformed::new(storage, Arc::new(Encryption::new(configuration))));
    Ok((storage, asks_plugins.then_some(plugins)))
}

fn services(args: &Args) -> anyhow::Result<ServiceNetwork> {
    let ranges = args.service_cluster_ip_range.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
    let ranges = ranges.context("--service-cluster-ip-range")?;
    let node_ports = node_ports(&args.service_node_port_range).with_context(|| {
        format!("--service-node-port-range: {:?} is not a range such as 30000-32767", args.service_node_port_range)
    })?;
    Ok(ServiceNetwork { ranges, node_ports })
}

fn node_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-')?;
    let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to && from > 0).then_some(from..=to)
}

/// `24h`, `1h30m`, `90s`.
fn seconds(text: &str) -> anyhow::Result<i64> {
    let span: jiff::SignedDuration = text.parse().with_context(|| format!("{text:?} is not a duration"))?;
    Ok(span.as_secs())
}

/// `--request-timeout`.
pub fn request_timeout(args: &Args) -> anyhow::Result<Duration> {
    let seconds = u64::try_from(seconds(&args.request_timeout)?).ok().filter(|seconds| *seconds > 0);
    Ok(Duration::from_secs(seconds.context("--request-timeout must be longer than a second")?))
}

/// `--shutdown-delay-duration`.
pub fn shutdown_delay(args: &Args) -> anyhow::Result<Duration> {
    let seconds = u64::try_from(seconds(&args.shutdown_delay_duration)?);
    Ok(Duration::from_secs(seconds.context("--shutdown-delay-duration can not be negative value")?))
}

/// The address others reach this host at: the one of the interface that leads out.
fn advertised(args: &Args) -> anyhow::Result<IpAddr> {
    if let Some(address) = args.advertise_address {
        return Ok(address);
    }
    if !args.bind_address.is_unspecified() {
        return Ok(args.bind_address);
    }
    // Connecting a datagram socket sends nothing; it asks the routing table.
    let route = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    Ok(route.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip()))
}

fn authentication(args: &Args, signer: Option<&TokenSigner>) -> anyhow::Result<Authentication> {
    let ca = |path: &Path| ClientCa::from_file(path).with_context(|| format!("reading the authorities in {}", path.display()));
    let client_ca = args.client_ca_file.as_deref().map(ca).transpose()?;
    let or = |list: &[String], default: &[&str]| {
        if list.is_empty() { default.iter().map(|item| (*item).to_owned()).collect() } else { list.to_vec() }
    };
    let front_proxy = match &args.requestheader_client_ca_file {
        Some(path) => Some(FrontProxy {
            ca: ca(path)?,
            allowed_names: args.requestheader_allowed_names.clone(),
            username_headers: or(&args.requestheader_username_headers, &["X-Remote-User"]),
            uid_headers: or(&args.requestheader_uid_headers, &["X-Remote-Uid"]),
            group_headers: or(&args.requestheader_group_headers, &["X-Remote-Group"]),
            extra_prefixes: or(&args.requestheader_extra_headers_prefix, &["X-Remote-Extra-"]),
        }),
        None => None,
    };
    let service_accounts = service_accounts(args, signer)?;
    let own = service_accounts.as_ref().map(|tokens| tokens.issuers.clone()).unwrap_or_default();
    let api_audiences = service_accounts.as_ref().map_or_else(|| args.api_audiences.clone(), |t| t.api_audiences.clone());
    let issuers = other_issuers(args, own, api_audiences.clone())?;
    let webhook = match &args.authentication_token_webhook_config_file {
        Some(path) => Some(TokenWebhook {
            remote: Remote::from_kubeconfig(path).with_context(|| format!("reading {}", path.display()))?,
            version: args.authentication_token_webhook_version.clone(),
            api_audiences: api_audiences.clone(),
        }),
        None => None,
    };
    Ok(Authentication {
        front_proxy,
        client_ca,
        service_accounts,
        bootstrap_tokens: args.enable_bootstrap_token_auth,
        token_file: match &args.token_auth_file {
            Some(path) => {
                let file = TokenFile::parse(&text(path)?);
                Some(file.map_err(|why| anyhow::anyhow!("token file '{}' {why}", path.display()))?)
            }
            None => None,
        },
        issuers,
        webhook,
        api_audiences,
    })
}

/// The OIDC issuers of the configuration file, which may change while the server runs, or of flags; and who may be nobody.
fn other_issuers(args: &Args, own: Vec<String>, audiences: Vec<String>) -> anyhow::Result<Reloading<Issuers>> {
    let by_flag = if args.anonymous_auth { Anonymous::Everywhere } else { Anonymous::No };
    match (&args.authentication_config, &args.oidc_issuer_url) {
        (Some(_), Some(_)) => bail!("authentication-config file and oidc-* flags are mutually exclusive"),
        (Some(path), None) => {
            let path = path.clone();
            let load = move || {
                let parsed = parse_authentication(&text(&path)?, &own);
                let configuration = parsed.map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
                let anonymous = configuration.anonymous.unwrap_or_else(|| by_flag.clone());
                Ok(Issuers::start(configuration.issuers, &audiences, anonymous))
            };
            reloading(args.authentication_config.iter(), load)
        }
        (None, Some(url)) => {
            let flags = Flags {
                issuer_url: url.clone(),
                client_id: args.oidc_client_id.clone(),
                authorities: args.oidc_ca_file.as_deref().map(text).transpose()?,
                username_claim: args.oidc_username_claim.clone(),
                username_prefix: args.oidc_username_prefix.clone(),
                groups_claim: args.oidc_groups_claim.clone(),
                groups_prefix: args.oidc_groups_prefix.clone(),
                signing_algorithms: args.oidc_signing_algs.clone(),
                required_claims: args.oidc_required_claim.clone(),
            };
            let issuer = flags.issuer().map_err(|why| anyhow::anyhow!(why))?;
            Ok(Reloading::fixed(Issuers::start(vec![issuer], &audiences, by_flag)))
        }
        (None, None) => Ok(Reloading::fixed(Issuers::start(Vec::new(), &audiences, by_flag))),
    }
}

fn service_accounts(args: &Args, signer: Option<&TokenSigner>) -> anyhow::Result<Option<ServiceAccountTokens>> {
    let mut keys = Vec::new();
    for path in &args.service_account_key_file {
        keys.extend(PublicKey::all_from_pem(&text(path)?).with_context(|| format!("reading {}", path.display()))?);
    }
    if keys.is_empty() {
        match signer {
            Some(signer) => keys.push(signer.public_key().clone()),
            None => return Ok(None),
        }
    }
    let issuers = if args.service_account_issuer.is_empty() {
        vec![DEFAULT_ISSUER.to_owned()]
    } else {
        args.service_account_issuer.clone()
    };
    let api_audiences = if args.api_audiences.is_empty() { vec![issuers[0].clone()] } else { args.api_audiences.clone() };
    Ok(Some(ServiceAccountTokens { issuers, keys: TokenVerifier::new(keys), api_audiences }))
}

fn tracer(path: &Path) -> anyhow::Result<Tracer> {
    let configuration = TracingConfiguration::parse(&text(path)?).with_context(|| path.display().to_string())?;
    let exporter =
        Exporter::start(&configuration.endpoint, crate::bootstrap::identity::hostname()).context("--tracing-config-file")?;
    Ok(Tracer { sampler: configuration.sampler, exporter, now: Timestamp::now })
}

fn audit(args: &Args) -> anyhow::Result<Option<Audit>> {
    if args.audit_log_path.is_none() && args.audit_webhook_config_file.is_none() {
        return Ok(None);
    }
    let policy = match &args.audit_policy_file {
        Some(file) => Policy::from_file(file)?,
        None => Policy::metadata(),
    };
    let default = Rotation::default();
    let rotation = Rotation {
        bytes_max: args.audit_log_maxsize.map_or(default.bytes_max, |megabytes| u64::from(megabytes.max(1)) << 20),
        kept_max: args.audit_log_maxbackup.unwrap_or(default.kept_max),
        age_max: args.audit_log_maxage.filter(|days| *days > 0).map(|days| Duration::from_secs(u64::from(days) * 24 * 3600)),
    };
    let of_log = args
        .audit_log_truncate_enabled
        .then_some(Truncation { event_bytes_max: args.audit_log_truncate_max_event_size, batch_bytes_max: usize::MAX });
    let log = args.audit_log_path.as_deref().map(|path| Log::open(path, rotation, of_log)).transpose()?;
    let batching = Batching {
        buffer: args.audit_webhook_batch_buffer_size,
        events_max: args.audit_webhook_batch_max_size,
        wait_max: Duration::from_secs(u64::try_from(seconds(&args.audit_webhook_batch_max_wait)?).unwrap_or(0)),
    };
    let webhook = match &args.audit_webhook_config_file {
        Some(path) => {
            let remote = Remote::from_kubeconfig(path).with_context(|| format!("reading {}", path.display()))?;
            let truncation = args.audit_webhook_truncate_enabled.then_some(Truncation {
                event_bytes_max: args.audit_webhook_truncate_max_event_size,
                batch_bytes_max: args.audit_webhook_truncate_max_batch_size,
            });
            Some(Webhook::start(remote, batching, truncation))
        }
        None => None,
    };
    Ok(Some(Audit { policy, log, webhook }))
}

fn authentication_configmap(args: &Args) -> anyhow::Result<Vec<(String, String)>> {
    let mut data = Vec::new();
    if let Some(path) = &args.client_ca_file {
        data.push(("client-ca-file".to_owned(), String::from_utf8_lossy(&read(path)?).into_owned()));
    }
    if let Some(path) = &args.requestheader_client_ca_file {
        let list = |items: &[String]| serde_json::json!(items).to_string();
        data.push(("requestheader-client-ca-file".to_owned(), String::from_utf8_lossy(&read(path)?).into_owned()));
        for (key, items) in [
            ("requestheader-allowed-names", &args.requestheader_allowed_names),
            ("requestheader-username-headers", &args.requestheader_username_headers),
            ("requestheader-uid-headers", &args.requestheader_uid_headers),
            ("requestheader-group-headers", &args.requestheader_group_headers),
            ("requestheader-extra-headers-prefix", &args.requestheader_extra_headers_prefix),
        ] {
            data.push((key.to_owned(), list(items)));
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_durations() {
        assert_eq!(node_ports("30000-32767"), Some(30000..=32767));
        for bad in ["30000", "5-1", "0-1", "a-b"] {
            assert_eq!(node_ports(bad), None, "{bad}");
        }
        assert_eq!(seconds("1h30m").unwrap(), 5400);
    }
}
