//! Why a reconciliation has to be tried again.

use client::ObjectKey;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what}: {source}")]
    Api { what: String, source: client::Error },
    #[error(transparent)]
    Decode(#[from] api::DecodeError),
    /// The cache does not show our own writes yet: acting on it would repeat them.
    #[error("the cache is behind our own writes about {0}")]
    Behind(ObjectKey),
    #[error("{0}")]
    Other(String),
}

/// Names what was being done.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, client::Error> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api { what: what(), source })
    }
}

impl Error {
    fn api(&self) -> Option<&client::Error> {
        match self {
            Self::Api { source, .. } => Some(source),
            _ => None,
        }
    }

    pub(crate) fn is_conflict(&self) -> bool {
        self.api().is_some_and(client::Error::is_conflict)
    }
}

/// A deletion of what is gone already has done its work.
pub(crate) trait GoneIsDone {
    fn gone_is_done(self) -> Self;
}

impl GoneIsDone for Result<(), client::Error> {
    fn gone_is_done(self) -> Self {
        match self {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }
}
