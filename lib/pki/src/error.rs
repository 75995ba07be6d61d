//! What can go wrong with keys, certificates and tokens.

use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making a key or certificate")]
    Make(#[from] rcgen::Error),
    #[error("no {0} in the PEM text")]
    Missing(&'static str),
    #[error("the {what} can't be parsed: {reason}")]
    Parse { what: &'static str, reason: String },
    #[error("the signature of the request is wrong")]
    RequestSignature,
    #[error("the key does not belong to the certificate of {0}")]
    KeyMismatch(String),
    #[error("a {0} key can't do this")]
    UnsupportedKey(&'static str),
    #[error("the certificate authority expired at {0}")]
    AuthorityExpired(jiff::Timestamp),
    #[error("reading {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("writing {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the token is malformed: {0}")]
    TokenMalformed(&'static str),
    #[error("the token's signature is not by a known key")]
    TokenSignature,
    #[error("no randomness from the kernel")]
    Random,
}

impl Error {
    pub(crate) fn parse(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Parse { what, reason: reason.to_string() }
    }
}
