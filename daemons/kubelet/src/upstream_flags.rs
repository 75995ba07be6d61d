//! Flags of upstream's that change nothing here, or are refused by name: see [`daemon::flags`].

use daemon::flags::{CLIENT, Takes, Upstream};

pub(crate) const TABLES: &[&[Upstream]] = &[CLIENT, NODE, PODS, RESOURCES, CADVISOR];

/// The kubelet itself and its place on the host.
const NODE: &[Upstream] = &[
    Upstream {
        names: &["runtime-cgroups", "kubelet-cgroups"],
        takes: Takes::Text,
        why: "the runtime and the kubelet stay in the cgroups that their units give them",
    },
    Upstream {
        names: &["system-cgroups", "experimental-mounter-path"],
        takes: Takes::Only(&[""]),
        why: "the host's processes stay in their cgroups, and volumes are mounted by the kubelet itself",
    },
    Upstream {
        names: &["volume-plugin-dir"],
        takes: Takes::Text,
        why: "there are no FlexVolumes: a pod that has one fails whatever lies there",
    },
    Upstream {
        names: &["enable-controller-attach-detach"],
        takes: Takes::Only(&["true"]),
        why: "volumes are attached by the controller alone",
    },
    Upstream { names: &["runonce"], takes: Takes::Only(&["false"]), why: "the kubelet runs until it is told to end" },
    Upstream {
        names: &["make-iptables-util-chains"],
        takes: Takes::Switch,
        why: "no pod needs packet filter rules of the kubelet's",
    },
    Upstream {
        names: &["hairpin-mode"],
        takes: Takes::Only(&["promiscuous-bridge", "hairpin-veth", "none"]),
        why: "the network plugin sets up pods' interfaces",
    },
    Upstream {
        names: &["streaming-connection-idle-timeout"],
        takes: Takes::Text,
        why: "the runtime's streaming server closes what is idle",
    },
    Upstream {
        names: &["event-qps", "event-burst"],
        takes: Takes::Text,
        why: "events are bounded for each object, and by the API server's priority and fairness",
    },
];

/// Where pods and their images come from, and what is left of them.
const PODS: &[Upstream] = &[
    Upstream {
        names: &["manifest-url", "manifest-url-header"],
        takes: Takes::Only(&[""]),
        why: "static pods are read from files alone",
    },
    Upstream { names: &["http-check-frequency"], takes: Takes::Text, why: "static pods are read from files alone" },
    Upstream {
        names: &["registry-qps", "registry-burst"],
        takes: Takes::Text,
        why: "as many images are pulled at a time as maxParallelImagePulls allows",
    },
    Upstream {
        names: &["image-credential-provider-config", "image-credential-provider-bin-dir"],
        takes: Takes::Only(&[""]),
        why: "credential provider plugins are not run: pods name their pull secrets",
    },
    Upstream {
        names: &["minimum-container-ttl-duration"],
        takes: Takes::Only(&["0", "0s"]),
        why: "dead containers are looked at every minute, however old they are",
    },
    Upstream {
        names: &["maximum-dead-containers-per-container"],
        takes: Takes::Only(&["1"]),
        why: "the newest dead run of each container is kept",
    },
    Upstream {
        names: &["maximum-dead-containers"],
        takes: Takes::Only(&["-1"]),
        why: "the newest dead run of each container is kept",
    },
    Upstream { names: &["volume-stats-agg-period"], takes: Takes::Text, why: "the disk usage of volumes is not measured" },
];

/// Holding pods to what they may use.
const RESOURCES: &[Upstream] = &[
    Upstream { names: &["cgroup-root"], takes: Takes::Only(&["", "/"]), why: "the cgroups of pods lie beneath the root" },
    Upstream {
        names: &["cpu-cfs-quota-period"],
        takes: Takes::Only(&["100ms"]),
        why: "CPU quotas are given for periods of 100ms",
    },
    Upstream {
        names: &["cpu-manager-policy", "topology-manager-policy"],
        takes: Takes::Only(&["none"]),
        why: "containers share all CPUs, and memory of every NUMA node",
    },
    Upstream {
        names: &["memory-manager-policy"],
        takes: Takes::Only(&["None"]),
        why: "containers share the memory of all NUMA nodes",
    },
    Upstream { names: &["cpu-manager-reconcile-period"], takes: Takes::Text, why: "no container has CPUs of its own" },
    Upstream {
        names: &["topology-manager-scope"],
        takes: Takes::Only(&["container", "pod"]),
        why: "with the policy none there are no hints to scope",
    },
    Upstream {
        names: &["cpu-manager-policy-options", "topology-manager-policy-options", "reserved-memory", "qos-reserved"],
        takes: Takes::Only(&[""]),
        why: "neither CPUs nor memory are given to single containers or classes",
    },
    Upstream {
        names: &["enforce-node-allocatable"],
        takes: Takes::Only(&["pods", "none", ""]),
        why: "pods' cgroup has the share of the CPUs that is left for pods, and no limit on memory: admission keeps to that",
    },
    Upstream {
        names: &["kube-reserved-cgroup", "system-reserved-cgroup"],
        takes: Takes::Text,
        why: "what is reserved is kept from pods; nobody else is held to it",
    },
    Upstream {
        names: &["eviction-soft", "eviction-minimum-reclaim"],
        takes: Takes::Only(&[""]),
        why: "pressure is told of, and images that nothing uses are removed, but no pod is evicted",
    },
    Upstream {
        names: &["eviction-soft-grace-period", "eviction-max-pod-grace-period"],
        takes: Takes::Text,
        why: "there are no soft thresholds",
    },
    Upstream {
        names: &["experimental-allocatable-ignore-eviction"],
        takes: Takes::Only(&["false"]),
        why: "hard thresholds are kept from pods",
    },
    Upstream {
        names: &["kernel-memcg-notification"],
        takes: Takes::Switch,
        why: "memory is looked at with every status of the node",
    },
    Upstream {
        names: &["local-storage-capacity-isolation"],
        takes: Takes::Only(&["true"]),
        why: "the node always tells its ephemeral storage",
    },
];

/// Upstream's kubelet has these of the library that measures containers; here the runtime does that.
const CADVISOR: &[Upstream] = &[
    Upstream {
        names: &[
            "application-metrics-count-limit",
            "container-hints",
            "containerd",
            "containerd-namespace",
            "event-storage-age-limit",
            "event-storage-event-limit",
            "global-housekeeping-interval",
            "housekeeping-interval",
            "max-housekeeping-interval",
            "storage-driver-buffer-duration",
            "storage-driver-db",
            "storage-driver-host",
            "storage-driver-password",
            "storage-driver-table",
            "storage-driver-user",
        ],
        takes: Takes::Text,
        why: "there is no cAdvisor: the runtime is asked for the usage of containers",
    },
    Upstream {
        names: &["enable-load-reader", "log-cadvisor-usage", "storage-driver-secure"],
        takes: Takes::Switch,
        why: "there is no cAdvisor: the runtime is asked for the usage of containers",
    },
    Upstream { names: &["boot-id-file"], takes: Takes::Only(&["/proc/sys/kernel/random/boot_id"]), why: "it is read from there" },
    Upstream {
        names: &["machine-id-file"],
        takes: Takes::Only(&["/etc/machine-id,/var/lib/dbus/machine-id"]),
        why: "it is read from there",
    },
];
