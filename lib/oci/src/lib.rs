//! OCI images made from files: layers, configuration, and the archive that runtimes import.
//!
//! No registry, no daemon, no shell: an [`Image`] is a value, [`Image::write_archive`] writes it. The same input gives the
//! same bytes (times are zero, entries are sorted), so that an image which did not change has the same digest.

mod archive;
mod layer;

pub use archive::{Config, Image};
pub use layer::{Layer, LayerBuilder};

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("writing the image")]
    Write(#[from] io::Error),
    #[error("{0:?} is not a path inside an image")]
    Path(String),
}

/// `sha256:…` of a blob.
pub(crate) fn digest_text(digest: &ring::digest::Digest) -> String {
    use std::fmt::Write;
    digest.as_ref().iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
