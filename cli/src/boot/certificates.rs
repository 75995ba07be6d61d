//! The cluster's keys and certificates: a table of them, and what is wrong with those on the disk.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use pki::{Ca, Certificate, Key, Profile, Usages};

use super::context::Context;
use super::files::{self, File};
use super::paths::{KUBELET_PKI, PKI};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const AUTHORITY_DAYS: i32 = 3650;
const CERTIFICATE_DAYS: i32 = 365;

/// What certificates say about the host and the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) node_name: String,
    pub(crate) node_address: IpAddr,
    /// The first address of the services' network: `kubernetes.default`.
    pub(crate) api_service: IpAddr,
    pub(crate) domain: String,
    pub(crate) additional_names: Vec<String>,
}

impl Facts {
    pub(crate) fn of(context: &Context) -> Result<Self> {
        Ok(Self {
            node_name: context.node_name.clone(),
            node_address: context.node_address,
            api_service: context.cluster.network.services.nth(1).context("network.services is too small")?,
            domain: context.cluster.network.domain.clone(),
            additional_names: context.cluster.node.additional_names.clone(),
        })
    }
}

/// An authority: its file name and its common name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    file: &'static str,
    common_name: &'static str,
}

const CLUSTER_CA: Authority = Authority { file: "ca", common_name: "kubernetes" };
const FRONT_PROXY_CA: Authority = Authority { file: "front-proxy-ca", common_name: "front-proxy-ca" };
const ETCD_CA: Authority = Authority { file: "etcd/ca", common_name: "etcd-ca" };
pub(crate) const AUTHORITIES: &[Authority] = &[CLUSTER_CA, FRONT_PROXY_CA, ETCD_CA];

/// One certificate: where, by whom, for whom.
pub(crate) struct Spec {
    /// Without `.crt` and `.key`; relative to the directory of the cluster's PKI unless absolute.
    pub(crate) file: &'static str,
    authority: Authority,
    profile: fn(&Facts) -> Profile,
}

pub(crate) const CERTIFICATES: &[Spec] = &[
    Spec { file: "apiserver", authority: CLUSTER_CA, profile: api_server },
    Spec { file: "apiserver-kubelet-client", authority: CLUSTER_CA, profile: |_| client("kube-apiserver-kubelet-client", None) },
    Spec {
        file: "controller-manager/client",
        authority: CLUSTER_CA,
        profile: |_| client("system:kube-controller-manager", None),
    },
    Spec { file: "scheduler/client", authority: CLUSTER_CA, profile: |_| client("system:kube-scheduler", None) },
    Spec {
        file: "kube-proxy/client",
        authority: CLUSTER_CA,
        profile: |_| client("system:kube-proxy", Some("system:node-proxier")),
    },
    Spec { file: "admin", authority: CLUSTER_CA, profile: |_| client("kubernetes-admin", Some("system:masters")) },
    Spec { file: "/var/lib/kubelet/pki/kubelet", authority: CLUSTER_CA, profile: kubelet_server },
    Spec { file: "front-proxy-client", authority: FRONT_PROXY_CA, profile: |_| client("front-proxy-client", None) },
    Spec { file: "apiserver-etcd-client", authority: ETCD_CA, profile: |_| client("kube-apiserver-etcd-client", None) },
    Spec { file: "etcd/healthcheck-client", authority: ETCD_CA, profile: |_| client("kube-etcd-healthcheck-client", None) },
    Spec { file: "etcd/server", authority: ETCD_CA, profile: etcd_member },
    Spec { file: "etcd/peer", authority: ETCD_CA, profile: etcd_member },
];

fn client(user: &str, group: Option<&str>) -> Profile {
    Profile::client(user, group, DAY * CERTIFICATE_DAYS)
}

fn api_server(facts: &Facts) -> Profile {
    let mut names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    names.push(format!("kubernetes.default.svc.{}", facts.domain));
    names.push(facts.node_name.clone());
    names.push("localhost".to_owned());
    let mut addresses = vec![facts.api_service, facts.node_address, IpAddr::from([127, 0, 0, 1])];
    for name in &facts.additional_names {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(name.clone()),
        }
    }
    Profile::server("kube-apiserver", names, addresses, DAY * CERTIFICATE_DAYS)
}

fn kubelet_server(facts: &Facts) -> Profile {
    let name = format!("system:node:{}", facts.node_name);
    let profile = Profile::server(&name, vec![facts.node_name.clone()], vec![facts.node_address], DAY * CERTIFICATE_DAYS);
    Profile { organization: Some("system:nodes".to_owned()), ..profile }
}

fn etcd_member(facts: &Facts) -> Profile {
    let names = vec![facts.node_name.clone(), "localhost".to_owned()];
    let addresses = vec![facts.node_address, IpAddr::from([127, 0, 0, 1])];
    Profile { usages: Usages::PEER, ..Profile::server(&facts.node_name, names, addresses, DAY * CERTIFICATE_DAYS) }
}

/// `.crt` and `.key` of a name of the tables.
pub(crate) fn pair(file: &str) -> (PathBuf, PathBuf) {
    let base = Path::new(PKI).join(file).into_os_string();
    let with = |extension: &str| {
        let mut path = base.clone();
        path.push(extension);
        PathBuf::from(path)
    };
    (with(".crt"), with(".key"))
}

/// What stands where the kubelet keeps its own, which it renews by itself.
pub(crate) fn kubelet_client() -> PathBuf {
    Path::new(KUBELET_PKI).join("kubelet-client-current.pem")
}

fn kubelet_client_profile(facts: &Facts) -> Profile {
    client(&format!("system:node:{}", facts.node_name), Some("system:nodes"))
}

/// Why a certificate must be made anew.
fn problem(certificate: &Certificate, authority: &Certificate, profile: &Profile, now: Timestamp) -> Option<&'static str> {
    let has_names = profile.dns_names.iter().all(|n| certificate.dns_names.contains(n))
        && profile.ip_addresses.iter().all(|a| certificate.ip_addresses.contains(a));
    if !certificate.names_issuer(authority) {
        Some("is of another authority")
    } else if certificate.common_name != profile.common_name
        || certificate.organizations != Vec::from_iter(profile.organization.clone())
    {
        Some("is for another user")
    } else if !has_names {
        Some("lacks a name or address")
    } else if !certificate.validity.holds(now) {
        Some("is not valid now")
    } else if certificate.validity.renewal_due(now) {
        Some("is due for renewal")
    } else {
        None
    }
}

fn problem_of_files(
    certificate: &Path,
    key: &Path,
    authority: &Certificate,
    profile: &Profile,
    now: Timestamp,
) -> Option<String> {
    let say = |what: &str| Some(format!("{} {what}", certificate.display()));
    let Ok(parsed) = Certificate::load(certificate) else { return say("is missing or can't be read") };
    match Key::load(key) {
        Ok(key) if key.public_der() == parsed.public_key => problem(&parsed, authority, profile, now).and_then(say),
        _ => say("has no fitting key"),
    }
}

fn authority(of: Authority) -> Result<Ca, pki::Error> {
    let (certificate, key) = pair(of.file);
    Ca::load(&certificate, &key)
}

/// What is missing or about to expire.
pub(crate) fn problems(facts: &Facts, now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    for of in AUTHORITIES {
        let Ok(ca) = authority(*of) else {
            problems.push(format!("{} is missing or can't be read", pair(of.file).0.display()));
            continue;
        };
        for spec in CERTIFICATES.iter().filter(|spec| spec.authority == *of) {
            let (certificate, key) = pair(spec.file);
            problems.extend(problem_of_files(&certificate, &key, ca.certificate(), &(spec.profile)(facts), now));
        }
        if *of == CLUSTER_CA {
            problems.extend(kubelet_client_problem(&ca, facts, now));
        }
    }
    if !Path::new(PKI).join("sa.key").exists() || !Path::new(PKI).join("sa.pub").exists() {
        problems.push("the key of service accounts is missing".to_owned());
    }
    problems
}

/// The kubelet renews its certificate itself; only one that can't be used any more is ours to replace.
fn kubelet_client_problem(ca: &Ca, facts: &Facts, now: Timestamp) -> Option<String> {
    let path = kubelet_client();
    match Certificate::load(&path) {
        Ok(c)
            if c.names_issuer(ca.certificate())
                && c.validity.holds(now)
                && c.common_name == kubelet_client_profile(facts).common_name =>
        {
            None
        }
        _ => Some(format!("{} is missing or can't be used", path.display())),
    }
}

/// Makes what is missing or about to expire; returns the files written.
pub(crate) fn ensure(context: &Context, facts: &Facts, now: Timestamp) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for of in AUTHORITIES {
        let (certificate_path, key_path) = pair(of.file);
        let ca = match authority(*of) {
            Ok(ca) => ca,
            // An authority that is there but can't be read is never replaced: everything signed by it would be lost.
            Err(error) if certificate_path.exists() => {
                return Err(error).context(format!("reading {}", certificate_path.display()));
            }
            Err(_) => {
                let ca = Ca::create(of.common_name, now, DAY * AUTHORITY_DAYS)?;
                secret(context, &key_path, ca.key_pem())?;
                secret(context, &certificate_path, ca.certificate_pem().to_owned())?;
                written.push(certificate_path);
                ca
            }
        };
        for spec in CERTIFICATES.iter().filter(|spec| spec.authority == *of) {
            let (certificate, key) = pair(spec.file);
            let profile = (spec.profile)(facts);
            if problem_of_files(&certificate, &key, ca.certificate(), &profile, now).is_none() {
                continue;
            }
            let issued = ca.issue(&profile, now)?;
            secret(context, &key, issued.key.pem())?;
            secret(context, &certificate, issued.certificate_pem)?;
            written.push(certificate);
        }
        if *of == CLUSTER_CA && kubelet_client_problem(&ca, facts, now).is_some() {
            let issued = ca.issue(&kubelet_client_profile(facts), now)?;
            secret(context, &kubelet_client(), issued.certificate_pem + &issued.key.pem())?;
            written.push(kubelet_client());
        }
    }
    let (private, public) = (Path::new(PKI).join("sa.key"), Path::new(PKI).join("sa.pub"));
    if !private.exists() || !public.exists() {
        let key = if private.exists() { Key::load(&private)? } else { Key::generate()? };
        secret(context, &private, key.pem())?;
        secret(context, &public, key.public_pem())?;
        written.push(public);
    }
    Ok(written)
}

fn secret(context: &Context, path: &Path, content: String) -> Result<()> {
    files::write(context, &File::secret(path, content))
}

/// Every certificate with its end, for people.
pub(crate) fn expiries() -> Vec<(PathBuf, Option<Timestamp>)> {
    let authorities = AUTHORITIES.iter().map(|a| pair(a.file).0);
    let certificates = CERTIFICATES.iter().map(|s| pair(s.file).0);
    authorities
        .chain(certificates)
        .chain([kubelet_client()])
        .filter(|path| fs::exists(path).unwrap_or(false))
        .map(|path| {
            let end = Certificate::load(&path).ok().map(|c| c.validity.not_after);
            (path, end)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            node_name: "n1".into(),
            node_address: "192.0.2.10".parse().unwrap(),
            api_service: "10.96.0.1".parse().unwrap(),
            domain: "cluster.local".into(),
            additional_names: vec!["api.example.org".into(), "203.0.113.7".into()],
        }
    }

    #[test]
    fn additional_names_are_names_or_addresses() {
        let profile = api_server(&facts());
        assert!(profile.dns_names.contains(&"api.example.org".to_owned()));
        assert!(profile.ip_addresses.contains(&"203.0.113.7".parse().unwrap()));
    }

    #[test]
    fn what_makes_a_certificate_unfit() {
        let now = Timestamp::now();
        let ca = Ca::create("kubernetes", now, DAY * 3650).unwrap();
        let other = Ca::create("other", now, DAY * 3650).unwrap();
        let profile = api_server(&facts());
        let pem = ca.issue(&profile, now).unwrap().certificate_pem;
        let certificate = Certificate::from_pem(&pem).unwrap();
        let check = |authority: &Ca, profile: &Profile, days: i32| {
            problem(&certificate, authority.certificate(), profile, now + DAY * days)
        };
        assert_eq!(check(&ca, &profile, 0), None);
        assert_eq!(check(&ca, &profile, 200), None);
        assert_eq!(check(&ca, &profile, 300), Some("is due for renewal"));
        assert_eq!(check(&ca, &profile, 400), Some("is not valid now"));
        assert_eq!(check(&other, &profile, 0), Some("is of another authority"));
        assert_eq!(check(&ca, &client("x", None), 0), Some("is for another user"));
        let moved = api_server(&Facts { node_address: "192.0.2.11".parse().unwrap(), ..facts() });
        assert_eq!(check(&ca, &moved, 0), Some("lacks a name or address"));
    }
}
