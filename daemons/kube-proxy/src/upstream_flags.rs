//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{CLIENT, Takes, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[CLIENT, PROXY];

const PROXY: &[Upstream] = &[
    Upstream {
        names: &["iptables-masquerade-bit", "iptables-sync-period"],
        takes: Takes::Text,
        why: "for the iptables mode: nftables rules have a mark of their own, and what others do to them is seen at once",
    },
    Upstream {
        names: &["iptables-localhost-nodeports"],
        takes: Takes::Switch,
        why: "for the iptables mode: with nftables NodePorts never answer on localhost",
    },
    Upstream {
        names: &[
            "ipvs-exclude-cidrs",
            "ipvs-min-sync-period",
            "ipvs-scheduler",
            "ipvs-sync-period",
            "ipvs-tcp-timeout",
            "ipvs-tcpfin-timeout",
            "ipvs-udp-timeout",
        ],
        takes: Takes::Text,
        why: "for the ipvs mode",
    },
    Upstream { names: &["ipvs-strict-arp"], takes: Takes::Switch, why: "for the ipvs mode" },
    Upstream { names: &["config-sync-period"], takes: Takes::Text, why: "Services are watched: there is nothing to refresh" },
    Upstream {
        names: &["write-config-to"],
        takes: Takes::Nothing,
        why: "defaults are where this proxy reads the file; write only what is to be different",
    },
    Upstream {
        names: &["boot-id-file", "machine-id-file"],
        takes: Takes::Text,
        why: "the proxy does not tell which machine it is on",
    },
];
