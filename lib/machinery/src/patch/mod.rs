//! The three patch types of the API besides server-side apply, and the patches kubectl and controllers make.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::{Reason, Status};

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// It asks for too much: 413.
    #[error("{0}")]
    TooLarge(String),
}

impl From<PatchError> for Status {
    fn from(e: PatchError) -> Self {
        match e {
            PatchError::Malformed(m) => Self::bad_request(m),
            PatchError::TooLarge(m) => Self::too_large(m),
            // As upstream, which does not tell what.
            PatchError::Unprocessable(_) => Self {
                status: "Failure".to_owned(),
                code: 422,
                reason: Reason::Invalid,
                message: "the server rejected our request due to an error in our request".to_owned(),
                ..Self::default()
            },
        }
    }
}
