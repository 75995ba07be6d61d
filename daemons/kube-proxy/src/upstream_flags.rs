//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{CLIENT, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[CLIENT];
