//! Hears from the kernel when somebody deletes our table (`nft flush ruleset`, a restarted firewall): nothing is polled.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::netlink::{Message, Netfilter, attribute, messages};
use crate::nft::TABLE;

/// `NFNLGRP_NFTABLES`, as a mask.
const GROUP: u32 = 1 << 6;
/// `NFT_MSG_DELTABLE` of the nf_tables subsystem.
const DELETED_TABLE: u16 = (10 << 8) | 2;
const TABLE_NAME: u16 = 1;

/// News that the table may be gone. Our own replacing of it sounds alike, so one has to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drift {
    notify: Arc<Notify>,
}

impl Drift {
    /// Where the kernel does not let us listen, nothing is ever suspected.
    pub(crate) fn watch() -> Self {
        let drift = Self::default();
        match Netfilter::open(GROUP) {
            Ok(socket) => {
                let notify = Arc::clone(&drift.notify);
                tokio::spawn(listen(socket, notify));
            }
            Err(error) => tracing::info!(%error, "changes of the packet filter by others will not be noticed"),
        }
        drift
    }

    pub(crate) async fn suspected(&self) {
        self.notify.notified().await;
    }
}

async fn listen(socket: Netfilter, notify: Arc<Notify>) {
    loop {
        match socket.receive().await {
            Ok(buffer) => {
                if messages(&buffer).iter().any(is_our_end) {
                    notify.notify_one();
                }
            }
            // More news than fit: some may have been ours.
            Err(error) if error.raw_os_error() == Some(105) => notify.notify_one(),
            Err(error) => return tracing::warn!(%error, "no more news of the packet filter"),
        }
    }
}

fn is_our_end(message: &Message) -> bool {
    let name = || attribute(&message.attributes, TABLE_NAME)?.split(|b| *b == 0).next();
    message.kind == DELETED_TABLE && name() == Some(TABLE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::put_nested;

    #[test]
    fn only_our_own_table_counts() {
        let message = |kind: u16, name: &[u8]| {
            let mut attributes = Vec::new();
            put_nested(&mut attributes, TABLE_NAME, name);
            Message { kind, attributes }
        };
        assert!(is_our_end(&message(DELETED_TABLE, b"kube-proxy\0")));
        assert!(!is_our_end(&message(DELETED_TABLE, b"filter\0")));
        assert!(!is_our_end(&message(DELETED_TABLE + 1, b"kube-proxy\0")));
    }
}
