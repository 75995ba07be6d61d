//! Certificate signing requests (PKCS#10).

use std::net::IpAddr;

use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::certificate::{address, common_name, organizations};
use crate::{Error, Key, Profile, Result};

/// A request whose signature is right.
#[derive(Clone, Debug)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    pub emails: Vec<String>,
    pub(crate) subject: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    /// The extension's value as it came, with its criticality.
    pub(crate) alternative_names: Option<Vec<u8>>,
}

impl Request {
    /// The `CERTIFICATE REQUEST` of the text.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der =
            CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::Missing("certificate request"))?;
        Self::from_der(&der)
    }

    pub fn from_der(der: &[u8]) -> Result<Self> {
        let (_, request) = X509CertificationRequest::from_der(der).map_err(|e| Error::parse("certificate request", e))?;
        request.verify_signature().map_err(|_| Error::RequestSignature)?;
        let info = &request.certification_request_info;
        let mut parsed = Self {
            common_name: common_name(&info.subject),
            organizations: organizations(&info.subject),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            alternative_names: None,
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
            for extension in &requested.extensions {
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                    parsed.alternative_names = Some(extension.value.to_vec());
                    names.general_names.iter().for_each(|name| parsed.add(name));
                }
            }
        }
        Ok(parsed)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => self.ip_addresses.extend(address(bytes)),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(email) => self.emails.push((*email).to_owned()),
            _ => {}
        }
    }

    /// A request for `profile`, signed by `key`, as PEM.
    pub fn make(profile: &Profile, key: &Key) -> Result<String> {
        Ok(profile.params()?.serialize_request(key.pair())?.pem()?)
    }
}
