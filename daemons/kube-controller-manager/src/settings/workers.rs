//! How many objects a controller looks at at once: the `--concurrent-…-syncs` flags, with upstream's defaults.

/// More of these upstream refuses.
const SERVICES_MAX: usize = 50;

macro_rules! workers {
    ($($(#[doc = $help:literal])+ $field:ident, $flag:literal, $default:literal, $parser:path;)*) => {
        /// Workers of each controller that has a flag for them.
        #[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
        pub struct Workers {
            $(
                $(#[doc = $help])+
                #[arg(long = $flag, default_value_t = $default, value_parser = $parser,
                      allow_negative_numbers = true, value_name = "COUNT")]
                pub $field: usize,
            )*
        }

        impl Default for Workers {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }
    };
}

workers! {
    /// CronJobs that are looked at at once.
    cron_jobs, "concurrent-cron-job-syncs", 5, at_least_one;
    /// DaemonSets that are looked at at once.
    daemon_sets, "concurrent-daemonset-syncs", 2, at_least_one;
    /// Deployments that are looked at at once.
    deployments, "concurrent-deployment-syncs", 5, at_least_one;
    /// Services whose Endpoints are looked at at once.
    endpoints, "concurrent-endpoint-syncs", 5, at_least_one;
    /// Pods whose ephemeral volumes are looked at at once.
    ephemeral_volumes, "concurrent-ephemeralvolume-syncs", 5, at_least_one;
    /// Objects that the garbage collector looks at at once.
    garbage_collector, "concurrent-gc-syncs", 20, at_least_one;
    /// HorizontalPodAutoscalers that are looked at at once.
    autoscalers, "concurrent-horizontal-pod-autoscaler-syncs", 5, at_least_one;
    /// Jobs that are looked at at once.
    jobs, "concurrent-job-syncs", 5, at_least_one;
    /// Namespaces that are looked at at once.
    namespaces, "concurrent-namespace-syncs", 10, at_least_one;
    /// ReplicationControllers that are looked at at once.
    replication_controllers, "concurrent-rc-syncs", 5, at_least_one;
    /// ReplicaSets that are looked at at once.
    replica_sets, "concurrent-replicaset-syncs", 5, at_least_one;
    /// ResourceQuotas that are looked at at once.
    resource_quotas, "concurrent-resource-quota-syncs", 5, at_least_one;
    /// Services whose EndpointSlices are looked at at once.
    endpoint_slices, "concurrent-service-endpoint-syncs", 5, one_to_fifty;
    /// Tokens of service accounts that are looked at at once.
    service_account_tokens, "concurrent-serviceaccount-token-syncs", 5, at_least_one;
    /// StatefulSets that are looked at at once.
    stateful_sets, "concurrent-statefulset-syncs", 5, at_least_one;
    /// Finished Jobs that are looked at at once.
    ttl_after_finished, "concurrent-ttl-after-finished-syncs", 5, at_least_one;
    /// Services whose mirrored EndpointSlices are looked at at once.
    mirrored_slices, "mirroring-concurrent-service-endpoint-syncs", 5, one_to_fifty;
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("must be greater than 0, but got {text}"))
}

fn one_to_fifty(text: &str) -> Result<usize, String> {
    let count = at_least_one(text)?;
    if count <= SERVICES_MAX { Ok(count) } else { Err(format!("must not be more than {SERVICES_MAX}, but got {count}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (text, any, services) in [("1", Some(1), Some(1)), ("51", Some(51), None), ("0", None, None), ("-3", None, None)] {
            assert_eq!((at_least_one(text).ok(), one_to_fifty(text).ok()), (any, services), "{text}");
        }
        assert_eq!(at_least_one("0").unwrap_err(), "must be greater than 0, but got 0");
        assert_eq!(one_to_fifty("51").unwrap_err(), "must not be more than 50, but got 51");
    }
}
