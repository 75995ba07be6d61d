//! What a certificate says.

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::{Error, Result, Validity};

/// The facts of a certificate that users, roles and rotation depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub validity: Validity,
    pub is_ca: bool,
    pub server_auth: bool,
    pub client_auth: bool,
    /// `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    pub(crate) subject_der: Vec<u8>,
    pub(crate) issuer_der: Vec<u8>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
}

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| Error::parse("certificate", e))?;
        let (mut dns_names, mut ip_addresses) = (Vec::new(), Vec::new());
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => ip_addresses.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        let usage = certificate.extended_key_usage().ok().flatten();
        let (server_auth, client_auth) =
            usage.map_or((false, false), |u| (u.value.server_auth || u.value.any, u.value.client_auth || u.value.any));
        let subject_key_id = certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            common_name: common_name(certificate.subject()),
            organizations: organizations(certificate.subject()),
            dns_names,
            ip_addresses,
            validity: Validity {
                not_before: timestamp(certificate.validity().not_before.timestamp())?,
                not_after: timestamp(certificate.validity().not_after.timestamp())?,
            },
            is_ca: certificate.is_ca(),
            server_auth,
            client_auth,
            public_key: certificate.public_key().raw.to_vec(),
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
            subject_key_id,
        })
    }

    /// The first certificate of the text.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::Missing("certificate"))?;
        Self::from_der(&der)
    }

    pub fn load(path: &Path) -> Result<Self> {
        Self::from_pem(&crate::key::read(path)?)
    }

    /// The issuer's name is the subject of `authority`; no signature is checked.
    pub fn names_issuer(&self, authority: &Self) -> bool {
        self.issuer_der == authority.subject_der
    }
}

pub(crate) fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().last().and_then(|a| a.as_str().ok()).unwrap_or_default().to_owned()
}

pub(crate) fn organizations(name: &X509Name<'_>) -> Vec<String> {
    name.iter_organization().filter_map(|a| a.as_str().ok()).map(str::to_owned).collect()
}

pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn timestamp(seconds: i64) -> Result<Timestamp> {
    Timestamp::from_second(seconds).map_err(|e| Error::parse("certificate's validity", e))
}
