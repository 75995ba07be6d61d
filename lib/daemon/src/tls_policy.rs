//! What a server agrees to in a handshake (`--tls-min-version`, `--tls-cipher-suites`, `--tls-curve-preferences`). Pure.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

/// Names of suites for TLS 1.2 that Go has and rustls does not: they are weak, or not needed beside the others. They may be
/// named, and are never agreed to.
const NEVER: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// Versions, suites and groups of handshakes. The default is TLS 1.2 and 1.3 with all that is sound.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self { provider: Arc::new(ring::default_provider()), versions: vec![&rustls::version::TLS13, &rustls::version::TLS12] }
    }
}

impl TlsPolicy {
    /// `min_version` is `VersionTLS10` to `VersionTLS13`, or empty; below TLS 1.2 nothing is agreed to all the same. `suites` are
    /// Go's names, for TLS 1.2 alone as in Go; `curves` are numbers of IANA's registry. Empty lists leave the choice to the server.
    ///
    /// # Errors
    /// A name that Go does not know, in upstream's words; a list of which nothing is left.
    pub fn parse(min_version: &str, suites: &[String], curves: &[u16]) -> Result<Self, String> {
        let mut policy = Self::default();
        match min_version {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => {}
            "VersionTLS13" => policy.versions.truncate(1),
            other => return Err(format!("unknown tls version {other:?}")),
        }
        let mut provider = ring::default_provider();
        if !suites.is_empty() {
            let wanted = suites.iter().map(|name| canonical(name)).collect::<Result<Vec<_>, _>>()?;
            let is_13 = |suite: &rustls::SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_3;
            provider.cipher_suites.retain(|suite| {
                is_13(suite) || suite.suite().as_str().is_some_and(|name| wanted.iter().flatten().any(|w| w == name))
            });
            if provider.cipher_suites.iter().all(is_13) {
                // Nothing in the list can be agreed to with TLS 1.2.
                policy.versions.truncate(1);
            }
        }
        if !curves.is_empty() {
            provider.kx_groups.retain(|group| curves.contains(&u16::from(group.name())));
            if provider.kx_groups.is_empty() {
                return Err(format!("no curve of {curves:?} is supported: use 23 (P-256), 24 (P-384) or 29 (X25519)"));
            }
        }
        policy.provider = Arc::new(provider);
        Ok(policy)
    }
}

/// The suite's name in the registry; none for one that is never agreed to, or that TLS 1.3 has anyway.
fn canonical(name: &str) -> Result<Option<String>, String> {
    let full = match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => format!("{name}_SHA256"),
        _ => name.to_owned(),
    };
    let provider = ring::default_provider();
    if provider.cipher_suites.iter().any(|suite| suite.suite().as_str() == Some(&full)) {
        return Ok(Some(full));
    }
    let of_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"].contains(&name);
    if of_13 || NEVER.contains(&name) { Ok(None) } else { Err(format!("Cipher suite {name} not supported or doesn't exist")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The versions, then the suites for TLS 1.2 and the groups.
    fn agreed(min: &str, suites: &str, curves: &[u16]) -> Result<(usize, Vec<&'static str>, usize), String> {
        let suites: Vec<String> = suites.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        let policy = TlsPolicy::parse(min, &suites, curves)?;
        let names = policy.provider.cipher_suites.iter().filter_map(|s| s.suite().as_str()).filter(|n| n.starts_with("TLS_"));
        Ok((policy.versions.len(), names.collect(), policy.provider.kx_groups.len()))
    }

    #[test]
    fn what_is_agreed_to() {
        let (versions, suites, groups) = agreed("", "", &[]).unwrap();
        assert_eq!((versions, suites.len(), groups), (2, 6, 3));
        assert_eq!(agreed("VersionTLS11", "", &[]).unwrap().0, 2);
        assert_eq!(agreed("VersionTLS13", "", &[]).unwrap().0, 1);
        let two = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_RSA_WITH_RC4_128_SHA";
        let (versions, suites, _) = agreed("VersionTLS12", two, &[]).unwrap();
        assert_eq!(versions, 2);
        assert_eq!(suites, ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
        assert_eq!(agreed("", "TLS_AES_128_GCM_SHA256", &[]).unwrap().0, 1);
        assert_eq!(agreed("", "", &[23, 4588]).unwrap().2, 1);
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(agreed("TLS1.2", "", &[]).unwrap_err(), "unknown tls version \"TLS1.2\"");
        assert_eq!(agreed("", "TLS_X", &[]).unwrap_err(), "Cipher suite TLS_X not supported or doesn't exist");
        assert!(agreed("", "", &[1]).unwrap_err().starts_with("no curve of [1] is supported"));
    }
}
