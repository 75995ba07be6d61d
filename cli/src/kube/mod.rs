//! What every command that talks to a cluster needs: flags, the connection, discovery, the objects that arguments and files
//! name, and errors worded as kubectl words them.

pub mod complete;
mod credential;
pub mod discovery;
pub mod error;
pub mod file;
pub mod globals;
pub mod kubeconfig;
pub mod kustomize;
pub mod manifest;
mod plugin_policy;
pub mod select;
pub mod session;
pub mod watch;

pub use discovery::{Discovery, Resource};
pub use error::{Error, Result};
pub use globals::Globals;
pub use kubeconfig::home;
pub use manifest::Files;
pub use plugin_policy::PluginPolicy;
pub use select::{Info, Query};
pub use session::{Request, Session};
