//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{SECURE_PORT, Takes, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[SECURE_PORT, WITHOUT_EFFECT, ONE_WAY, REFUSED];

const WITHOUT_EFFECT: &[Upstream] = &[
    Upstream {
        names: &[
            "audit-log-batch-buffer-size",
            "audit-log-batch-max-size",
            "audit-log-batch-max-wait",
            "audit-log-truncate-max-batch-size",
        ],
        takes: Takes::Text,
        why: "each event is written to the log at once",
    },
    Upstream {
        names: &["audit-log-batch-throttle-enable", "audit-webhook-batch-throttle-enable"],
        takes: Takes::Switch,
        why: "batches are sent no faster than ten a second",
    },
    Upstream {
        names: &[
            "audit-log-batch-throttle-burst",
            "audit-log-batch-throttle-qps",
            "audit-webhook-batch-throttle-burst",
            "audit-webhook-batch-throttle-qps",
        ],
        takes: Takes::Text,
        why: "batches are sent no faster than ten a second",
    },
    Upstream {
        names: &["audit-webhook-initial-backoff"],
        takes: Takes::Text,
        why: "a batch that is not taken is tried again after half a second",
    },
    Upstream {
        names: &["authentication-token-webhook-cache-ttl"],
        takes: Takes::Text,
        why: "what was accepted is remembered for 10 seconds",
    },
    Upstream {
        names: &[
            "coordinated-leadership-lease-duration",
            "coordinated-leadership-renew-deadline",
            "coordinated-leadership-retry-period",
        ],
        takes: Takes::Text,
        why: "coordinated leader election is off",
    },
    Upstream {
        names: &["delete-collection-workers"],
        takes: Takes::Text,
        why: "objects of a collection are deleted as the store takes them",
    },
    Upstream {
        names: &[
            "etcd-count-metric-poll-period",
            "etcd-db-metric-poll-interval",
            "etcd-healthcheck-timeout",
            "etcd-readycheck-timeout",
        ],
        takes: Takes::Text,
        why: "counts come from memory, and the store is asked when somebody wants to know",
    },
    Upstream { names: &["kubelet-timeout"], takes: Takes::Text, why: "a kubelet has 10 seconds to take a connection" },
    Upstream {
        names: &["lease-reuse-duration-seconds"],
        takes: Takes::Text,
        why: "keys of one lifetime share a lease for a minute",
    },
    Upstream {
        names: &["livez-grace-period", "storage-initialization-timeout"],
        takes: Takes::Text,
        why: "the server is alive from its start, and waits for its store",
    },
    Upstream {
        names: &["storage-media-type"],
        takes: Takes::Text,
        why: "objects are stored as JSON, which every API server reads",
    },
    Upstream { names: &["watch-cache-sizes"], takes: Takes::Text, why: "the history in memory is bounded by its bytes" },
];

/// What is done one way alone.
const ONE_WAY: &[Upstream] = &[
    Upstream {
        names: &["aggregator-reject-forwarding-redirect"],
        takes: Takes::Only(&["true"]),
        why: "redirects are always refused",
    },
    Upstream { names: &["audit-log-compress"], takes: Takes::Only(&["false"]), why: "earlier logs are not compressed" },
    Upstream { names: &["audit-log-format"], takes: Takes::Only(&["json"]), why: "events are lines of JSON" },
    Upstream {
        names: &["audit-log-mode"],
        takes: Takes::Only(&["blocking", "batch"]),
        why: "each event is written to the log at once",
    },
    Upstream {
        names: &["audit-log-version", "audit-webhook-version"],
        takes: Takes::Only(&["audit.k8s.io/v1"]),
        why: "there is one version",
    },
    Upstream {
        names: &["emulation-forward-compatible", "runtime-config-emulation-forward-compatible"],
        takes: Takes::Only(&["false"]),
        why: "earlier versions are not emulated",
    },
    Upstream {
        names: &["enable-garbage-collector"],
        takes: Takes::Only(&["true"]),
        why: "deletion always looks after dependents",
    },
    Upstream { names: &["enable-logs-handler"], takes: Takes::Only(&["false"]), why: "there is no /logs" },
    Upstream { names: &["enable-priority-and-fairness"], takes: Takes::Only(&["true"]), why: "it is always on" },
    Upstream { names: &["etcd-prefix"], takes: Takes::Only(&["/registry"]), why: "keys have this prefix" },
    Upstream {
        names: &["kubernetes-service-node-port"],
        takes: Takes::Only(&["0"]),
        why: "the Service kubernetes has no node port",
    },
    Upstream { names: &["max-connection-bytes-per-sec"], takes: Takes::Only(&["0"]), why: "connections are not slowed down" },
    Upstream {
        names: &["send-retry-after-while-not-ready-once", "shutdown-send-retry-after"],
        takes: Takes::Only(&["false"]),
        why: "requests are served while the server starts and ends",
    },
    Upstream { names: &["service-account-lookup"], takes: Takes::Only(&["true"]), why: "who is deleted is nobody" },
    Upstream {
        names: &["shutdown-watch-termination-grace-period"],
        takes: Takes::Only(&["0", "0s"]),
        why: "watches end with the server",
    },
    Upstream { names: &["watch-cache"], takes: Takes::Only(&["true"]), why: "reads come from memory" },
];

const REFUSED: &[Upstream] = &[
    Upstream {
        names: &["admission-control"],
        takes: Takes::Nothing,
        why: "use --enable-admission-plugins and --disable-admission-plugins",
    },
    Upstream { names: &["authorization-policy-file"], takes: Takes::Nothing, why: "there is no ABAC" },
    Upstream { names: &["debug-socket-path"], takes: Takes::Nothing, why: "there is no profiling" },
    Upstream { names: &["egress-selector-config-file"], takes: Takes::Nothing, why: "connections go out directly" },
    Upstream { names: &["etcd-servers-overrides"], takes: Takes::Nothing, why: "all resources are in one store" },
    Upstream {
        names: &["peer-advertise-ip", "peer-advertise-port", "peer-ca-file"],
        takes: Takes::Nothing,
        why: "requests are not handed on to other API servers",
    },
    Upstream {
        names: &["service-account-signing-endpoint"],
        takes: Takes::Nothing,
        why: "tokens are signed with --service-account-signing-key-file",
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
