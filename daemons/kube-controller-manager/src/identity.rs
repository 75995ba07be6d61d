//! As whom each controller speaks to the API server.

use client::Client;

/// Hands out clients.
pub struct Identities {
    root: Client,
}

impl Identities {
    /// Every controller speaks as the daemon itself.
    pub fn shared(root: Client) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Client {
        &self.root
    }

    pub fn client(&self, _controller: &str) -> Client {
        self.root.clone()
    }
}
