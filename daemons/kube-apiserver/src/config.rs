//! From flags to a server's configuration: files are read and checked here, once.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use ::store::{Etcd, EtcdConfig, EtcdTls, Memory, Storage};
use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::args::{Args, AuthorizationMode, StorageBackend};
use crate::authn::front_proxy::FrontProxy;
use crate::authn::pem::{SigningKey, VerifyingKey};
use crate::authn::service_account::ServiceAccountTokens;
use crate::authn::x509::ClientCa;
use crate::filters::audit::{Log, Policy};
use crate::filters::fairness::Fairness;
use crate::filters::rotating::Rotation;
use crate::server::{Authentication, Config, KubeletAccess, ModeName};
use crate::service_ip::ServiceNetwork;

const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc";

/// Reads everything the flags name.
pub async fn load(args: &Args) -> anyhow::Result<Config> {
    let address = advertised(args)?;
    let signer = match &args.service_account_signing_key_file {
        Some(path) => Some(SigningKey::from_pem(&read(path)?).with_context(|| format!("reading {}", path.display()))?),
        None => None,
    };
    Ok(Config {
        storage: storage(args).await?,
        modes: args.authorization_mode.iter().map(|mode| (*mode).into()).collect(),
        enable_admission: args.enable_admission_plugins.clone(),
        disable_admission: args.disable_admission_plugins.clone(),
        services: services(args)?,
        advertise: Some((address, args.secure_port)),
        authentication: authentication(args, signer.as_ref())?,
        token_signer: signer,
        token_seconds_max: args.service_account_max_token_expiration.as_deref().map(seconds).transpose()?.filter(|s| *s > 0),
        jwks_uri: args.service_account_jwks_uri.clone(),
        audit: audit(args)?,
        fairness: Fairness::new(args.max_requests_inflight, args.max_mutating_requests_inflight),
        kubelet: KubeletAccess {
            certificate_authority: args.kubelet_certificate_authority.clone(),
            client_certificate: args.kubelet_client_certificate.clone(),
            client_key: args.kubelet_client_key.clone(),
            preferred_address_types: args.kubelet_preferred_address_types.clone(),
        },
        authentication_configmap: authentication_configmap(args)?,
        now: Timestamp::now,
    })
}

impl From<AuthorizationMode> for ModeName {
    fn from(mode: AuthorizationMode) -> Self {
        match mode {
            AuthorizationMode::Node => Self::Node,
            AuthorizationMode::Rbac => Self::Rbac,
            AuthorizationMode::AlwaysAllow => Self::AlwaysAllow,
            AuthorizationMode::AlwaysDeny => Self::AlwaysDeny,
        }
    }
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

fn authentication(args: &Args, signer: Option<&SigningKey>) -> anyhow::Result<Authentication> {
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
    Ok(Authentication {
        front_proxy,
        client_ca,
        service_accounts: service_accounts(args, signer)?,
        bootstrap_tokens: args.enable_bootstrap_token_auth,
        anonymous: args.anonymous_auth,
    })
}

fn service_accounts(args: &Args, signer: Option<&SigningKey>) -> anyhow::Result<Option<ServiceAccountTokens>> {
    let mut keys = Vec::new();
    for path in &args.service_account_key_file {
        keys.extend(VerifyingKey::from_pem(&read(path)?).with_context(|| format!("reading {}", path.display()))?);
    }
    if keys.is_empty() {
        match signer {
            Some(signer) => keys.push(signer.public().clone()),
            None => return Ok(None),
        }
    }
    let issuers = if args.service_account_issuer.is_empty() {
        vec![DEFAULT_ISSUER.to_owned()]
    } else {
        args.service_account_issuer.clone()
    };
    let api_audiences = if args.api_audiences.is_empty() { vec![issuers[0].clone()] } else { args.api_audiences.clone() };
    Ok(Some(ServiceAccountTokens { issuers, keys, api_audiences }))
}

fn audit(args: &Args) -> anyhow::Result<Option<Log>> {
    let Some(path) = &args.audit_log_path else { return Ok(None) };
    let policy = match &args.audit_policy_file {
        Some(file) => Policy::from_file(file)?,
        None => Policy::metadata(),
    };
    let default = Rotation::default();
    let rotation = Rotation {
        bytes_max: args.audit_log_maxsize.map_or(default.bytes_max, |megabytes| u64::from(megabytes.max(1)) << 20),
        kept_max: args.audit_log_maxbackup.unwrap_or(default.kept_max),
    };
    Ok(Some(Log::open(path, policy, rotation)?))
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
