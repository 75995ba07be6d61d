//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{CLIENT, DELEGATED, SECURE_PORT, Takes, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[SECURE_PORT, DELEGATED, CLIENT, SCHEDULER];

const SCHEDULER: &[Upstream] = &[
    Upstream {
        names: &["requestheader-client-ca-file"],
        takes: Takes::Text,
        why: "the secure port is not reached through a front proxy",
    },
    Upstream {
        names: &["write-config-to"],
        takes: Takes::Nothing,
        why: "the configuration becomes profiles of plugins, and is not kept in the form of its file",
    },
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Args;

    #[test]
    fn every_flag_of_upstream_is_known() {
        daemon::flags::assert_known(&Args::command(), TABLES, include_str!("upstream_flags.txt"));
    }
}
