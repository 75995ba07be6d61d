//! Certificate authorities: made by us, or given by the user (any key that upstream's tools make).

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};
use ring::rand::SecureRandom;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::der::{self, OCTET_STRING, TRUE};
use crate::{Certificate, Error, Key, Request, Result, Validity};

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usages {
    pub digital_signature: bool,
    pub key_encipherment: bool,
    pub server_auth: bool,
    pub client_auth: bool,
}

impl Usages {
    pub const CLIENT: Self = Self { digital_signature: true, key_encipherment: true, server_auth: false, client_auth: true };
    pub const SERVER: Self = Self { digital_signature: true, key_encipherment: true, server_auth: true, client_auth: false };
    /// Both sides of a connection, as etcd's members need.
    pub const PEER: Self = Self { digital_signature: true, key_encipherment: true, server_auth: true, client_auth: true };
}

/// Whose certificate, for how long, for what.
#[derive(Clone, Debug)]
pub struct Profile {
    pub common_name: String,
    pub organization: Option<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub usages: Usages,
    pub duration: SignedDuration,
}

impl Profile {
    /// A user's or component's certificate: the common name is the user, the organization its group.
    pub fn client(common_name: &str, organization: Option<&str>, duration: SignedDuration) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            usages: Usages::CLIENT,
            duration,
        }
    }

    pub fn server(common_name: &str, dns_names: Vec<String>, ip_addresses: Vec<IpAddr>, duration: SignedDuration) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organization: None,
            dns_names,
            ip_addresses,
            usages: Usages::SERVER,
            duration,
        }
    }

    pub(crate) fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.dns_names.clone())?;
        params.subject_alt_names.extend(self.ip_addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = &self.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        Ok(params)
    }
}

/// A new certificate with its key. No Debug of the key.
pub struct Issued {
    pub certificate_pem: String,
    pub key: Key,
}

pub struct Ca {
    certificate_pem: String,
    certificate: Certificate,
    key: Key,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("common_name", &self.certificate.common_name).finish_non_exhaustive()
    }
}

impl Ca {
    /// A new self-signed authority.
    pub fn create(common_name: &str, now: Timestamp, duration: SignedDuration) -> Result<Self> {
        let key = Key::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        // rcgen takes days: the day before, so that a machine whose clock is behind accepts it.
        let day = |at: Timestamp| {
            let date = at.to_zoned(TimeZone::UTC).date();
            rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
        };
        params.not_before = day(now - SignedDuration::from_hours(24));
        params.not_after = day(now + duration);
        let certificate_pem = params.self_signed(key.pair())?.pem();
        Self::from_pem(&certificate_pem, &key.pem())
    }

    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self> {
        let certificate = Certificate::from_pem(certificate_pem)?;
        let key = Key::from_pem(key_pem)?;
        if key.public_der() != certificate.public_key {
            return Err(Error::KeyMismatch(certificate.common_name));
        }
        Ok(Self { certificate_pem: certificate_pem.to_owned(), certificate, key })
    }

    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        Self::from_pem(&crate::key::read(certificate)?, &crate::key::read(key)?)
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub fn certificate_der(&self) -> Result<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).map_err(|_| Error::Missing("certificate"))
    }

    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub fn key_pem(&self) -> String {
        self.key.pem()
    }

    /// A new key and its certificate.
    pub fn issue(&self, profile: &Profile, now: Timestamp) -> Result<Issued> {
        let key = Key::generate()?;
        let request = Request::from_pem(&Request::make(profile, &key)?)?;
        let certificate_pem = self.sign(&request, profile.usages, now, profile.duration)?;
        Ok(Issued { certificate_pem, key })
    }

    /// The certificate for a request, as PEM.
    ///
    /// Whether the request may have this name and these usages is the caller's decision. It never outlives the authority.
    pub fn sign(&self, request: &Request, usages: Usages, now: Timestamp, duration: SignedDuration) -> Result<String> {
        let mut validity = Validity::starting(now, duration);
        validity.not_after = validity.not_after.min(self.certificate.validity.not_after);
        if validity.not_after <= now {
            return Err(Error::AuthorityExpired(self.certificate.validity.not_after));
        }
        let mut serial = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut serial).map_err(|_| Error::Random)?;
        serial[0] = serial[0] & 0x7f | 0x40; // positive and of constant length
        let algorithm = self.key.signature_algorithm()?;
        let body = der::sequence(&[
            &der::tagged(0xa0, &[&der::integer(&[2])]),
            &der::integer(&serial),
            &algorithm,
            &self.certificate.subject_der,
            &der::sequence(&[&der::time(validity.not_before), &der::time(validity.not_after)]),
            &request.subject,
            &request.public_key,
            &der::tagged(0xa3, &[&self.extensions(request, usages)]),
        ]);
        let signature = self.key.sign(&body)?;
        let certificate = der::sequence(&[&body, &algorithm, &der::bit_string(0, &signature)]);
        Ok(pem("CERTIFICATE", &certificate))
    }

    fn extensions(&self, request: &Request, usages: Usages) -> Vec<u8> {
        let mut extensions = Vec::new();
        let key_usage = u8::from(usages.digital_signature) << 7 | u8::from(usages.key_encipherment) << 5;
        if key_usage != 0 {
            let unused = key_usage.trailing_zeros() as u8;
            extensions.push(extension(&[0x55, 0x1d, 0x0f], true, &der::bit_string(unused, &[key_usage])));
        }
        let purposes: Vec<u8> = [(usages.server_auth, 1), (usages.client_auth, 2)]
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .flat_map(|(_, last)| der::oid(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, last]))
            .collect();
        if !purposes.is_empty() {
            extensions.push(extension(&[0x55, 0x1d, 0x25], false, &der::sequence(&[&purposes])));
        }
        extensions.push(extension(&[0x55, 0x1d, 0x13], true, &der::sequence(&[])));
        if let Some(id) = &self.certificate.subject_key_id {
            extensions.push(extension(&[0x55, 0x1d, 0x23], false, &der::sequence(&[&der::tagged(0x80, &[id])])));
        }
        if let Some(names) = &request.alternative_names {
            extensions.push(extension(&[0x55, 0x1d, 0x11], false, names));
        }
        der::sequence(&extensions.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::oid(oid), if critical { TRUE } else { &[] }, &der::tagged(OCTET_STRING, &[value])])
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        // base64 is ASCII
        out.push_str(std::str::from_utf8(line).unwrap_or_default());
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::server::WebPkiClientVerifier;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::now()
    }

    fn hours(hours: i64) -> SignedDuration {
        SignedDuration::from_hours(hours)
    }

    fn ca() -> Ca {
        Ca::create("kubernetes", now(), hours(24 * 365 * 10)).unwrap()
    }

    #[test]
    fn client_certificate_carries_user_and_group_and_verifies() {
        let ca = ca();
        let issued = ca.issue(&Profile::client("system:node:n1", Some("system:nodes"), hours(24)), now()).unwrap();
        let certificate = Certificate::from_pem(&issued.certificate_pem).unwrap();
        assert_eq!(certificate.common_name, "system:node:n1");
        assert_eq!(certificate.organizations, ["system:nodes"]);
        assert!(certificate.client_auth && !certificate.server_auth && !certificate.is_ca);
        assert!(certificate.names_issuer(ca.certificate()));
        assert!(certificate.validity.holds(now()));

        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.certificate_der().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        verifier.verify_client_cert(&der, &[], rustls::pki_types::UnixTime::now()).unwrap();
    }

    #[test]
    fn server_certificate_keeps_its_names() {
        let profile = Profile::server("kube-apiserver", vec!["kubernetes".into()], vec!["10.96.0.1".parse().unwrap()], hours(24));
        let issued = ca().issue(&profile, now()).unwrap();
        let certificate = Certificate::from_pem(&issued.certificate_pem).unwrap();
        assert_eq!(certificate.dns_names, ["kubernetes"]);
        assert_eq!(certificate.ip_addresses, ["10.96.0.1".parse::<IpAddr>().unwrap()]);
        assert!(certificate.server_auth && !certificate.client_auth);
    }

    #[test]
    fn a_certificate_does_not_outlive_its_authority() {
        let ca = Ca::create("short", now(), hours(48)).unwrap();
        let issued = ca.issue(&Profile::client("u", None, hours(24 * 365)), now()).unwrap();
        let certificate = Certificate::from_pem(&issued.certificate_pem).unwrap();
        assert_eq!(certificate.validity.not_after, ca.certificate().validity.not_after);
        let later = now() + hours(72);
        assert!(matches!(ca.issue(&Profile::client("u", None, hours(1)), later), Err(Error::AuthorityExpired(_))));
    }

    #[test]
    fn a_changed_request_is_refused() {
        let key = Key::generate().unwrap();
        let pem = Request::make(&Profile::client("alice", Some("dev"), hours(1)), &key).unwrap();
        let mut der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        let at = der.windows(5).position(|w| w == b"alice").unwrap();
        der[at] = b'A';
        assert!(matches!(Request::from_der(&der), Err(Error::RequestSignature)));
    }

    #[test]
    fn authority_reloads_and_refuses_a_foreign_key() {
        let (one, two) = (ca(), ca());
        Ca::from_pem(one.certificate_pem(), &one.key_pem()).unwrap();
        assert!(matches!(Ca::from_pem(one.certificate_pem(), &two.key_pem()), Err(Error::KeyMismatch(_))));
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }
}
