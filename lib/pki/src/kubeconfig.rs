//! Writing kubeconfigs for the cluster that we make ourselves.

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Issued;

/// How the user of a kubeconfig proves who it is.
pub enum Credentials {
    /// Certificate and key inside the file: it can be carried elsewhere.
    Embedded(Box<Issued>),
    /// Paths: who reads them again after a renewal needs no new kubeconfig.
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(_) => f.write_str("Embedded"),
            Self::Files { certificate, .. } => f.debug_struct("Files").field("certificate", certificate).finish_non_exhaustive(),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

#[derive(Debug)]
pub struct Kubeconfig {
    pub cluster: String,
    /// `https://HOST:PORT`
    pub server: String,
    pub ca_pem: String,
    pub user: String,
    pub credentials: Credentials,
}

impl Kubeconfig {
    /// The file's text.
    pub fn to_yaml(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let path = |path: &PathBuf| quoted(&path.to_string_lossy());
        let credentials = match &self.credentials {
            Credentials::Embedded(issued) => format!(
                "    client-certificate-data: {}\n    client-key-data: {}\n",
                STANDARD.encode(&issued.certificate_pem),
                STANDARD.encode(issued.key.pem()),
            ),
            Credentials::Files { certificate, key } => {
                format!("    client-certificate: {}\n    client-key: {}\n", path(certificate), path(key))
            }
            Credentials::Token(token) => format!("    token: {}\n", quoted(token)),
        };
        let context = quoted(&format!("{}@{}", self.user, self.cluster));
        let (cluster, user) = (quoted(&self.cluster), quoted(&self.user));
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster:\n    certificate-authority-data: {ca}\n    \
             server: {server}\nusers:\n- name: {user}\n  user:\n{credentials}contexts:\n- name: {context}\n  context:\n    \
             cluster: {cluster}\n    user: {user}\ncurrent-context: {context}\n",
            ca = STANDARD.encode(&self.ca_pem),
            server = quoted(&self.server),
        )
    }
}
