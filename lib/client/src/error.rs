//! What can go wrong with a request.

use machinery::status::{Reason, Status};

use crate::TransportError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a failure.
    #[error("{}", .0.message)]
    Api(Box<Status>),
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The answer is not what the API promises.
    #[error(transparent)]
    Decode(#[from] api::DecodeError),
    #[error("the answer to {what} can't be read")]
    Answer { what: String, source: serde_json::Error },
    #[error("the answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
}

impl Error {
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    fn reason_is(&self, reason: Reason) -> bool {
        self.status().is_some_and(|s| s.reason == reason)
    }

    pub fn is_not_found(&self) -> bool {
        self.reason_is(Reason::NotFound)
    }
    pub fn is_already_exists(&self) -> bool {
        self.reason_is(Reason::AlreadyExists)
    }
    pub fn is_conflict(&self) -> bool {
        self.reason_is(Reason::Conflict)
    }
    pub fn is_invalid(&self) -> bool {
        self.reason_is(Reason::Invalid)
    }
    pub fn is_forbidden(&self) -> bool {
        self.reason_is(Reason::Forbidden)
    }
    /// A watch or a page that starts at a revision the server no longer has.
    pub fn is_gone(&self) -> bool {
        self.status().is_some_and(|s| s.code == 410)
    }
    /// A create in a namespace that is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|s| s.cause("NamespaceTerminating").is_some())
    }
    /// A later try may succeed without a change of the request.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Api(s) => matches!(s.code, 429 | 500 | 503 | 504),
            Self::Transport(_) => true,
            _ => false,
        }
    }
}
