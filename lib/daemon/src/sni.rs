//! Certificates by the name that a client asks for (`--tls-sni-cert-key`).

use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

/// A pair of files, and the names it is for; without names those that the certificate has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SniFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub names: Vec<String>,
}

impl std::str::FromStr for SniFiles {
    type Err = String;

    /// `CERTIFICATE,KEY` or `CERTIFICATE,KEY:NAME,NAME…`, in upstream's words.
    fn from_str(text: &str) -> Result<Self, String> {
        let (files, names) = text.split_once(':').map_or((text, None), |(files, names)| (files, Some(names)));
        let wrong = "expected comma separated certificate and key file paths";
        let (certificate, key) = files.split_once(',').filter(|(_, key)| !key.contains(',')).ok_or(wrong)?;
        let (certificate, key) = (certificate.trim(), key.trim());
        if certificate.is_empty() || key.is_empty() {
            return Err(wrong.to_owned());
        }
        let names: Vec<String> = names.into_iter().flat_map(|n| n.split(',')).map(|n| n.trim().to_ascii_lowercase()).collect();
        match names.iter().find(|n| !is_pattern(n)) {
            Some(bad) => Err(format!("invalid domain name {bad:?}")),
            None => Ok(Self { certificate: certificate.into(), key: key.into(), names }),
        }
    }
}

/// A domain name, perhaps with a wildcard as its first label.
fn is_pattern(name: &str) -> bool {
    let label =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    !name.is_empty() && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

/// The names that a certificate is for: its DNS names, or the common name of one without.
fn names_of(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|s| &s.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let mut names: Vec<String> = names.collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|cn| cn.as_str().ok());
        names.extend(common.filter(|cn| is_pattern(cn)).map(str::to_owned));
    }
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    names
}

/// One certificate of several.
#[derive(Debug)]
pub(crate) struct ByName<T> {
    /// By names that were given, then by names that certificates have; of one name the first counts.
    given: Vec<(String, T)>,
    own: Vec<(String, T)>,
    default: T,
}

impl<T: Clone> ByName<T> {
    pub(crate) fn new(default: T) -> Self {
        Self { given: Vec::new(), own: Vec::new(), default }
    }

    /// The exact name, then the wildcard that stands for its first label.
    fn choose(&self, server_name: Option<&str>) -> &T {
        let Some(name) = server_name.map(|n| n.trim_end_matches('.').to_ascii_lowercase()) else { return &self.default };
        let find = |wanted: &str| self.given.iter().chain(&self.own).find(|(name, _)| name == wanted).map(|(_, held)| held);
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        find(&name).or_else(|| find(&wildcard?)).unwrap_or(&self.default)
    }
}

impl ByName<Arc<CertifiedKey>> {
    /// Adds a certificate under the names that it was given, or has.
    pub(crate) fn add(&mut self, names: &[String], key: &Arc<CertifiedKey>) {
        if names.is_empty() {
            let own = key.cert.first().map(|certificate| names_of(certificate)).unwrap_or_default();
            self.own.extend(own.into_iter().map(|name| (name, key.clone())));
        }
        self.given.extend(names.iter().map(|name| (name.clone(), key.clone())));
    }
}

impl ResolvesServerCert for ByName<Arc<CertifiedKey>> {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let files = |names: &[&str]| SniFiles {
            certificate: "/a.crt".into(),
            key: "/a.key".into(),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        };
        assert_eq!("/a.crt,/a.key".parse(), Ok(files(&[])));
        assert_eq!("/a.crt , /a.key:*.Foo.com,foo.com".parse(), Ok(files(&["*.foo.com", "foo.com"])));
        for wrong in ["", "/a.crt", "/a.crt,", "a,b,c", "a,b:", "a,b:x..y", "a,b:*.*.x"] {
            assert!(wrong.parse::<SniFiles>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_exact_name_then_the_wildcard() {
        let mut by_name = ByName::new("default");
        by_name.given = vec![("*.foo.com".into(), "wild"), ("a.foo.com".into(), "exact"), ("a.foo.com".into(), "later")];
        by_name.own = vec![("b.foo.com".into(), "own"), ("a.foo.com".into(), "later")];
        for (name, expected) in [
            (None, "default"),
            (Some("a.foo.com"), "exact"),
            (Some("A.foo.com."), "exact"),
            (Some("b.foo.com"), "own"),
            (Some("c.foo.com"), "wild"),
            (Some("b.a.foo.com"), "default"),
            (Some("foo.com"), "default"),
        ] {
            assert_eq!(*by_name.choose(name), expected, "{name:?}");
        }
    }

    #[test]
    fn names_of_certificates() {
        let make = |names: &[&str], common: &str| {
            let mut params = rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, common);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
        };
        assert_eq!(names_of(&make(&["A.example", "127.0.0.1"], "cn.example")), ["a.example"]);
        assert_eq!(names_of(&make(&[], "cn.example")), ["cn.example"]);
        assert!(names_of(&make(&[], "Somebody Else")).is_empty());
        assert!(names_of(b"no certificate").is_empty());
    }
}
