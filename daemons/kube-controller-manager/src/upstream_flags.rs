//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{CLIENT, DELEGATED, SECURE_PORT, Takes, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[SECURE_PORT, DELEGATED, CLIENT, CLOUD, ABSENT, NOT_NEEDED];

const CLOUD: &[Upstream] = &[
    Upstream {
        names: &["configure-cloud-routes"],
        takes: Takes::Switch,
        why: "routes are the cloud provider's controller manager's",
    },
    Upstream {
        names: &["concurrent-service-syncs", "route-reconciliation-period"],
        takes: Takes::Text,
        why: "routes and load balancers are the cloud provider's controller manager's",
    },
    Upstream {
        names: &["cloud-config"],
        takes: Takes::Text,
        why: "the only --cloud-provider is external, which is another program with a configuration of its own",
    },
    Upstream {
        names: &["external-cloud-volume-plugin"],
        takes: Takes::Only(&[""]),
        why: "there is no cloud provider in this program",
    },
    Upstream {
        names: &["cidr-allocator-type"],
        takes: Takes::Only(&["RangeAllocator"]),
        why: "pod CIDRs come from --cluster-cidr",
    },
    Upstream {
        names: &["enable-leader-migration"],
        takes: Takes::Only(&["false"]),
        why: "no controller moves to another program",
    },
    Upstream {
        names: &["leader-migration-config"],
        takes: Takes::Text,
        why: "it is read with --enable-leader-migration alone, and no controller moves to another program",
    },
];

/// Of controllers, and parts of them, that do not exist here.
const ABSENT: &[Upstream] = &[
    Upstream {
        names: &["attach-detach-reconcile-sync-period"],
        takes: Takes::Text,
        why: "there is no attach-detach controller: nothing is attached to nodes",
    },
    Upstream {
        names: &["disable-attach-detach-reconcile-sync", "disable-force-detach-on-timeout"],
        takes: Takes::Switch,
        why: "there is no attach-detach controller: nothing is attached to nodes",
    },
    Upstream {
        names: &["concurrent-device-taint-eviction-syncs", "concurrent-resourceclaim-syncs"],
        takes: Takes::Text,
        why: "there is no dynamic resource allocation",
    },
    Upstream {
        names: &["concurrent-validating-admission-policy-status-syncs"],
        takes: Takes::Text,
        why: "there is no validatingadmissionpolicy-status-controller",
    },
    Upstream {
        names: &["flex-volume-plugin-dir"],
        takes: Takes::Text,
        why: "no volume plugin runs in this program: provisioners are programs of their own",
    },
    Upstream {
        names: &["enable-hostpath-provisioner"],
        takes: Takes::Only(&["false"]),
        why: "volumes are made by provisioners, which are programs of their own",
    },
    Upstream {
        names: &["enable-dynamic-provisioning"],
        takes: Takes::Only(&["true"]),
        why: "claims of a class are always handed to its provisioner",
    },
    Upstream {
        names: &[
            "pv-recycler-increment-timeout-nfs",
            "pv-recycler-minimum-timeout-hostpath",
            "pv-recycler-minimum-timeout-nfs",
            "pv-recycler-pod-template-filepath-hostpath",
            "pv-recycler-pod-template-filepath-nfs",
            "pv-recycler-timeout-increment-hostpath",
        ],
        takes: Takes::Text,
        why: "volumes are not recycled",
    },
];

/// Of what happens without being asked for.
const NOT_NEEDED: &[Upstream] = &[
    Upstream { names: &["controller-shutdown-timeout"], takes: Takes::Text, why: "controllers end at once" },
    Upstream {
        names: &["min-resync-period", "namespace-sync-period", "pvclaimbinder-sync-period"],
        takes: Takes::Text,
        why: "controllers look at what changed, and again at what failed or must wait",
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
