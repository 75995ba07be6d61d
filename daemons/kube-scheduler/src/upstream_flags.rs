//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{CLIENT, DELEGATED, SECURE_PORT, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[SECURE_PORT, DELEGATED, CLIENT];
