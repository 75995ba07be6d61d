//! The flags that stand for fields of `KubeletConfiguration`. What a flag and the file both say, the flag decides.

use daemon::fields::{COUNT, Field, Form, OOM_SCORE, PERCENT, PORT, Table};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug)]
pub struct KubeletFields;

const fn field(flag: &'static str, path: &'static str, form: Form, help: &'static str) -> Field {
    Field { flag, path, form, help }
}

impl Table for KubeletFields {
    const FIELDS: &'static [Field] = &[
        // The server.
        field("enable-server", "enableServer", Form::Switch, "Enable the kubelet's server."),
        field("address", "address", Form::Address, "The address to serve on."),
        field("port", "port", PORT, "The port to serve on."),
        field(
            "read-only-port",
            "readOnlyPort",
            PORT,
            "The read-only port, without authentication or authorization; 0 to disable.",
        ),
        field("healthz-bind-address", "healthzBindAddress", Form::Address, "The address of the healthz endpoint."),
        field("healthz-port", "healthzPort", PORT, "The port of the localhost healthz endpoint; 0 to disable."),
        field("enable-debugging-handlers", "enableDebuggingHandlers", Form::Switch, "Serve logs, exec, attach and port-forward."),
        field("tls-cert-file", "tlsCertFile", Form::Text, "File with the x509 certificate for HTTPS."),
        field("tls-private-key-file", "tlsPrivateKeyFile", Form::Text, "File with the private key that matches --tls-cert-file."),
        field(
            "tls-min-version",
            "tlsMinVersion",
            Form::Text,
            "Minimum TLS version: VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13. Nothing below 1.2 is agreed to.",
        ),
        field(
            "tls-cipher-suites",
            "tlsCipherSuites",
            Form::List,
            "Cipher suites for TLS 1.2, with Go's names, separated by commas.",
        ),
        field(
            "rotate-server-certificates",
            "serverTLSBootstrap",
            Form::Switch,
            "Request a serving certificate from the cluster instead of making one, and renew it.",
        ),
        field("rotate-certificates", "rotateCertificates", Form::Switch, "Renew the client certificate before it expires."),
        // Who may use it.
        field(
            "anonymous-auth",
            "authentication.anonymous.enabled",
            Form::Switch,
            "Requests without credentials are those of system:anonymous.",
        ),
        field(
            "authentication-token-webhook",
            "authentication.webhook.enabled",
            Form::Switch,
            "Ask the API server whose token a request has.",
        ),
        field(
            "authentication-token-webhook-cache-ttl",
            "authentication.webhook.cacheTTL",
            Form::Duration,
            "How long an answer about a token is good.",
        ),
        field(
            "client-ca-file",
            "authentication.x509.clientCAFile",
            Form::Text,
            "Any client with a certificate signed by one of the authorities in this file is authenticated by its common name.",
        ),
        field(
            "authorization-mode",
            "authorization.mode",
            Form::OneOf(&["AlwaysAllow", "Webhook"]),
            "Who may use the server: AlwaysAllow, or Webhook to ask the API server.",
        ),
        field(
            "authorization-webhook-cache-authorized-ttl",
            "authorization.webhook.cacheAuthorizedTTL",
            Form::Duration,
            "How long a yes of the API server is good.",
        ),
        field(
            "authorization-webhook-cache-unauthorized-ttl",
            "authorization.webhook.cacheUnauthorizedTTL",
            Form::Duration,
            "How long a no of the API server is good.",
        ),
        // The node.
        field("register-node", "registerNode", Form::Switch, "Register the node with the API server."),
        field(
            "register-with-taints",
            "registerWithTaints",
            Form::Special("TAINTS", taints),
            "Register the node with these taints (key=value:effect, separated by commas).",
        ),
        field("provider-id", "providerID", Form::Text, "Unique identifier of the node at a cloud provider."),
        field("pod-cidr", "podCIDR", Form::Text, "The pods' addresses, without an API server to tell them."),
        field(
            "node-status-update-frequency",
            "nodeStatusUpdateFrequency",
            Form::Duration,
            "How often the node's status is looked at.",
        ),
        field(
            "node-status-max-images",
            "nodeStatusMaxImages",
            Form::Number(-1, i32::MAX as i64),
            "How many images the node's status tells of, the largest first; -1 for all.",
        ),
        field("fail-swap-on", "failSwapOn", Form::Switch, "Whether to fail when swap is enabled on the node."),
        field("fail-cgroupv1", "failCgroupV1", Form::Switch, "Whether to fail on a host with cgroup v1."),
        field(
            "protect-kernel-defaults",
            "protectKernelDefaults",
            Form::Switch,
            "Whether to fail when a kernel setting is not what a kubelet wants it to be.",
        ),
        field("max-open-files", "maxOpenFiles", Form::Number(0, i64::MAX), "How many files this process may have open."),
        field("oom-score-adj", "oomScoreAdj", OOM_SCORE, "How soon the kernel ends this process when memory runs out."),
        field("feature-gates", "featureGates", Form::FeatureGates, "Features to switch on or off. None changes this kubelet."),
        // What pods may use.
        field("max-pods", "maxPods", COUNT, "Number of pods that can run on this node."),
        field("pods-per-core", "podsPerCore", COUNT, "Number of pods for each CPU, when that is less than --max-pods."),
        field(
            "kube-reserved",
            "kubeReserved",
            Form::Map('='),
            "What Kubernetes' own daemons are left: cpu=200m,memory=500Mi,ephemeral-storage=1Gi.",
        ),
        field("system-reserved", "systemReserved", Form::Map('='), "What the rest of the host is left."),
        field(
            "reserved-cpus",
            "reservedSystemCPUs",
            Form::Text,
            "CPUs that are not for pods (0-1,4): as many count, in place of the CPU in --kube-reserved and --system-reserved.",
        ),
        field(
            "eviction-hard",
            "evictionHard",
            Form::Map('<'),
            "Thresholds, for example memory.available<100Mi,nodefs.available<10%: below them the node is under pressure.",
        ),
        field(
            "eviction-pressure-transition-period",
            "evictionPressureTransitionPeriod",
            Form::Duration,
            "How long pressure must be over before the node's status says so.",
        ),
        field("cgroups-per-qos", "cgroupsPerQOS", Form::Switch, "Make cgroups for pods and for their classes."),
        field(
            "cgroup-driver",
            "cgroupDriver",
            Form::OneOf(&["systemd", "cgroupfs"]),
            "Driver that the kubelet uses to manipulate cgroups on the host: systemd or cgroupfs.",
        ),
        field("cpu-cfs-quota", "cpuCFSQuota", Form::Switch, "Hold containers to their CPU limits."),
        field(
            "pod-max-pids",
            "podPidsLimit",
            Form::Number(-1, i64::MAX),
            "How many processes a pod may have; -1 for as many as the node.",
        ),
        field("seccomp-default", "seccompDefault", Form::Switch, "RuntimeDefault for pods that name no seccomp profile."),
        field(
            "allowed-unsafe-sysctls",
            "allowedUnsafeSysctls",
            Form::List,
            "Unsafe sysctls, or patterns that end in *, that pods may set.",
        ),
        // Pods.
        field("pod-manifest-path", "staticPodPath", Form::Text, "Path of the directory with static pod manifests."),
        field(
            "file-check-frequency",
            "fileCheckFrequency",
            Form::Duration,
            "How often that directory is looked at, beside what the kernel tells.",
        ),
        field("sync-frequency", "syncFrequency", Form::Duration, "How long a pod may go without being looked at."),
        field("cluster-domain", "clusterDomain", Form::Text, "Domain of this cluster, searched by pods."),
        field("cluster-dns", "clusterDNS", Form::List, "DNS servers of the cluster, separated by commas."),
        field("resolv-conf", "resolvConf", Form::Text, "The file with the host's DNS servers; empty for none."),
        field("pod-log-dir", "podLogsDir", Form::Text, "Where the logs of pods are written."),
        field("container-log-max-size", "containerLogMaxSize", Form::Text, "A log is rotated when it is longer than this."),
        field(
            "container-log-max-files",
            "containerLogMaxFiles",
            Form::Number(2, i32::MAX as i64),
            "How many files of a container's log are kept.",
        ),
        // The runtime and its images.
        field(
            "container-runtime-endpoint",
            "containerRuntimeEndpoint",
            Form::Text,
            "The endpoint of the container runtime service, for example unix:///run/containerd/containerd.sock.",
        ),
        field(
            "image-service-endpoint",
            "imageServiceEndpoint",
            Form::Text,
            "The endpoint of the image service, when it is not the runtime's.",
        ),
        field(
            "runtime-request-timeout",
            "runtimeRequestTimeout",
            Form::Duration,
            "How long the runtime may take, except for pulling and streams.",
        ),
        field("serialize-image-pulls", "serializeImagePulls", Form::Switch, "Pull images one at a time."),
        field(
            "minimum-image-ttl-duration",
            "imageMinimumGCAge",
            Form::Duration,
            "How long an image must have been unused before it is removed.",
        ),
        field(
            "image-gc-high-threshold",
            "imageGCHighThresholdPercent",
            PERCENT,
            "Images that nothing uses are removed when more than this percentage of their disk is used; 100 for never.",
        ),
        field(
            "image-gc-low-threshold",
            "imageGCLowThresholdPercent",
            PERCENT,
            "Images are removed until no more than this percentage of their disk is used.",
        ),
    ];
}

/// `key=value:effect` or `key:effect`, separated by commas.
fn taints(text: &str) -> Result<Value, String> {
    text.split(',').filter(|item| !item.is_empty()).map(taint).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn taint(text: &str) -> Result<Value, String> {
    let (front, effect) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} has no effect"))?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("{effect:?} is no effect of a taint"));
    }
    Ok(match front.split_once('=') {
        Some((key, value)) if !value.is_empty() => json!({"key": key, "value": value, "effect": effect}),
        Some((key, _)) => json!({"key": key, "effect": effect}),
        None => json!({"key": front, "effect": effect}),
    })
}
