//! bootstrap-signer-controller and token-cleaner-controller: the tokens by which new nodes join.
//!
//! A node that joins knows a token and no authority. It reads the cluster's address and authority from the ConfigMap
//! `cluster-info`, which anyone may read, and believes it if it is signed with the token.

pub(crate) mod clean;
pub(crate) mod sign;
mod token;

use api::core::Secret;
use client::{Client, Informer, InformerConfig};

const SECRET_NAMESPACE: &str = "kube-system";

/// The Secrets that are bootstrap tokens.
fn secrets(client: &Client) -> Informer<Secret> {
    let config = InformerConfig {
        namespace: SECRET_NAMESPACE.into(),
        field_selector: Some(format!("type={}", token::TYPE)),
        ..InformerConfig::default()
    };
    Informer::start(client, config)
}
