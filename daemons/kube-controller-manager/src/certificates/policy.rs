//! What each of the `kubernetes.io/…` signers accepts. Pure.

use std::collections::BTreeSet;

use pki::{Request, Usages};

pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Why a signer must not sign.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("subject organization is not system:nodes")]
    Organization,
    #[error("subject common name does not begin with system:node: ")]
    CommonName,
    #[error("DNS or IP subjectAltName is required")]
    NamesRequired,
    #[error("{0} subjectAltNames are not allowed")]
    NamesForbidden(&'static str),
    #[error("usages did not match [{0}]")]
    Usages(&'static str),
    #[error("invalid usage for client certificate: {0}")]
    UsageForbidden(String),
    #[error("missing required usage for client certificate: client auth")]
    ClientAuthRequired,
}

/// Whether `signer` may sign, and for what the certificate will be good. `None`: not a signer of ours.
pub(super) fn check(signer: &str, request: &Request, usages: &[String]) -> Option<Result<Usages, Refusal>> {
    match signer {
        KUBELET_CLIENT => Some(kubelet_client(request, usages)),
        KUBELET_SERVING => Some(kubelet_serving(request, usages)),
        CLIENT => Some(client(usages)),
        _ => None,
    }
}

fn kubelet_client(request: &Request, usages: &[String]) -> Result<Usages, Refusal> {
    if request.organizations != [NODES] {
        return Err(Refusal::Organization);
    }
    for (kind, present) in [
        ("DNS", !request.dns_names.is_empty()),
        ("Email", !request.emails.is_empty()),
        ("IP", !request.ip_addresses.is_empty()),
        ("URI", !request.uris.is_empty()),
    ] {
        if present {
            return Err(Refusal::NamesForbidden(kind));
        }
    }
    if !request.common_name.starts_with(NODE_PREFIX) {
        return Err(Refusal::CommonName);
    }
    exactly(usages, "client auth", "client auth digital signature key encipherment")
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Result<Usages, Refusal> {
    if request.organizations != [NODES] {
        return Err(Refusal::Organization);
    }
    if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
        return Err(Refusal::NamesRequired);
    }
    for (kind, present) in [("Email", !request.emails.is_empty()), ("URI", !request.uris.is_empty())] {
        if present {
            return Err(Refusal::NamesForbidden(kind));
        }
    }
    let usages = exactly(usages, "server auth", "digital signature key encipherment server auth")?;
    if request.common_name.starts_with(NODE_PREFIX) { Ok(usages) } else { Err(Refusal::CommonName) }
}

/// The purpose and a digital signature; key encipherment, which only RSA keys have a use for, may be left out.
fn exactly(usages: &[String], purpose: &str, named: &'static str) -> Result<Usages, Refusal> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let base = BTreeSet::from(["digital signature", purpose]);
    let mut with_key_encipherment = base.clone();
    with_key_encipherment.insert("key encipherment");
    if given == base || given == with_key_encipherment { Ok(of(&given)) } else { Err(Refusal::Usages(named)) }
}

fn client(usages: &[String]) -> Result<Usages, Refusal> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|u| !allowed.contains(&u.as_str())) {
        return Err(Refusal::UsageForbidden(other.clone()));
    }
    if given.contains("client auth") { Ok(of(&given)) } else { Err(Refusal::ClientAuthRequired) }
}

fn of(usages: &BTreeSet<&str>) -> Usages {
    Usages {
        digital_signature: usages.contains("digital signature"),
        key_encipherment: usages.contains("key encipherment"),
        server_auth: usages.contains("server auth"),
        client_auth: usages.contains("client auth"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use pki::{Key, Profile};

    pub(crate) fn request(common_name: &str, organization: Option<&str>, dns: &[&str]) -> String {
        let mut profile = Profile::client(common_name, organization, api::jiff::SignedDuration::from_hours(1));
        profile.dns_names = dns.iter().map(|s| (*s).to_owned()).collect();
        Request::make(&profile, &Key::generate().unwrap()).unwrap()
    }

    #[test]
    fn what_signers_accept() {
        let node = "system:node:n1";
        let client = "digital signature,client auth";
        let server = "digital signature,server auth";
        for (signer, name, organization, dns, usages, want) in [
            (KUBELET_CLIENT, node, NODES, &[][..], client, Ok(())),
            (KUBELET_CLIENT, node, NODES, &[], "digital signature,key encipherment,client auth", Ok(())),
            (KUBELET_CLIENT, node, NODES, &[], "client auth", Err("usages did not match")),
            (KUBELET_CLIENT, node, NODES, &[], "digital signature,client auth,server auth", Err("usages did not match")),
            (KUBELET_CLIENT, node, "system:masters", &[], client, Err("subject organization")),
            (KUBELET_CLIENT, "n1", NODES, &[], client, Err("subject common name")),
            (KUBELET_CLIENT, node, NODES, &["n1"], client, Err("DNS subjectAltNames")),
            (KUBELET_SERVING, node, NODES, &["n1"], server, Ok(())),
            (KUBELET_SERVING, node, NODES, &[], server, Err("DNS or IP")),
            (KUBELET_SERVING, node, NODES, &["n1"], client, Err("usages did not match")),
            (KUBELET_SERVING, "n1", NODES, &["n1"], server, Err("subject common name")),
            (CLIENT, "jane", "dev", &[], client, Ok(())),
            (CLIENT, "jane", "dev", &[], server, Err("invalid usage for client certificate: server auth")),
            (CLIENT, "jane", "dev", &[], "digital signature", Err("missing required usage")),
        ] {
            let parsed = Request::from_pem(&request(name, Some(organization), dns)).unwrap();
            let usages: Vec<String> = usages.split(',').map(str::to_owned).collect();
            let got = check(signer, &parsed, &usages).unwrap().map(drop).map_err(|e| e.to_string());
            match (&got, want) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(want)) if got.contains(want) => {}
                _ => panic!("{signer} {name} {organization} {usages:?}: {got:?}, not {want:?}"),
            }
        }
        let parsed = Request::from_pem(&request("x", None, &[])).unwrap();
        assert!(check("example.com/own", &parsed, &[]).is_none());
    }
}
