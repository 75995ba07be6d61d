//! What flags and files make of each other.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};

use super::*;

fn resolve(flags: &[&str], yaml: &str) -> Result<Config> {
    let args = Args::try_parse_from(["kubelet", "--hostname-override=n"].iter().chain(flags))?;
    let value = machinery::yaml::to_value(yaml).unwrap();
    Config::resolve(&args, File::under_flags(value, &args)?)
}

fn refused(flags: &[&str], yaml: &str) -> String {
    format!("{:#}", resolve(flags, yaml).unwrap_err())
}

#[test]
fn flags_decide_over_the_file() {
    let file = "{port: 1, clusterDNS: [10.96.0.10], maxPods: 7, authentication: {x509: {clientCAFile: /ca}, anonymous: {enabled: \
                false}}, serverTLSBootstrap: true, fileCheckFrequency: 0s, somethingNew: 1, containerLogMaxSize: 5Mi, \
                registerWithTaints: [{key: z, effect: NoSchedule}], featureGates: null}";
    let flags = ["--port=2", "--hostname-override=N1", "--register-with-taints=a=b:NoSchedule,c:NoExecute"];
    let c = resolve(&flags, file).unwrap();
    assert_eq!((c.port, c.node_name.as_str(), c.max_pods, c.log_max_bytes), (2, "n1", 7, 5 << 20));
    assert_eq!(c.client_ca_file.as_deref(), Some(Path::new("/ca")));
    assert!(c.server_tls_bootstrap);
    assert_eq!(c.taints.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!((c.taints[0].value.as_deref(), c.taints[1].value.as_deref()), (Some("b"), None));
}

/// Each flag alone, without a file: what it makes of the configuration.
#[test]
fn every_flag_has_its_effect() {
    type Of = fn(&Config) -> Value;
    let cases: &[(&str, Of, Value)] = &[
        ("--enable-server=false", |c| json!(c.enable_server), json!(false)),
        ("--address=::1", |c| json!(c.address), json!("::1")),
        ("--read-only-port=10255", |c| json!(c.read_only_port), json!(10255)),
        ("--healthz-bind-address=::", |c| json!(c.healthz), json!(["::", 10248])),
        ("--healthz-port=0", |c| json!(c.healthz), Value::Null),
        ("--enable-debugging-handlers=false", |c| json!(c.debugging_handlers), json!(false)),
        ("--tls-cert-file=a --tls-private-key-file=b", |c| json!(c.tls_files), json!(["a", "b"])),
        ("--rotate-server-certificates", |c| json!(c.server_tls_bootstrap), json!(true)),
        ("--rotate-certificates=false", |c| json!(c.rotate_certificates), json!(false)),
        ("--anonymous-auth", |c| json!(c.anonymous), json!(true)),
        ("--authentication-token-webhook", |c| json!(c.webhook_authentication), json!(true)),
        ("--authentication-token-webhook-cache-ttl=1m", |c| json!(c.authentication_ttl.as_secs()), json!(60)),
        ("--client-ca-file=/ca", |c| json!(c.client_ca_file), json!("/ca")),
        ("--authorization-mode=Webhook", |c| json!(c.authorization == AuthorizationMode::Webhook), json!(true)),
        ("--authorization-webhook-cache-authorized-ttl=1s", |c| json!(c.authorized_ttl.as_secs()), json!(1)),
        ("--authorization-webhook-cache-unauthorized-ttl=1s", |c| json!(c.unauthorized_ttl.as_secs()), json!(1)),
        ("--register-node=false", |c| json!(c.register_node), json!(false)),
        ("--provider-id=p://1", |c| json!(c.provider_id), json!("p://1")),
        ("--cloud-provider=external", |c| json!(c.external_cloud_provider), json!(true)),
        ("--pod-cidr=10.0.0.0/8", |c| json!(c.pod_cidr), json!("10.0.0.0/8")),
        ("--node-status-update-frequency=5s", |c| json!(c.status_update_frequency.as_secs()), json!(5)),
        ("--node-status-max-images=-1", |c| json!(c.status_images_max == usize::MAX), json!(true)),
        ("--fail-swap-on=false", |c| json!(c.fail_swap_on), json!(false)),
        ("--fail-cgroupv1", |c| json!(c.fail_cgroup_v1), json!(true)),
        ("--protect-kernel-defaults", |c| json!(c.protect_kernel_defaults), json!(true)),
        ("--max-open-files=9", |c| json!(c.open_files_max), json!(9)),
        ("--oom-score-adj -999", |c| json!(c.oom_score_adj), json!(-999)),
        ("--feature-gates=A=true", |c| json!(c.feature_gates.unknown()), json!(["A"])),
        ("--max-pods=5", |c| json!(c.pods_max(2)), json!(5)),
        ("--pods-per-core=3", |c| json!(c.pods_max(2)), json!(6)),
        ("--kube-reserved=cpu=1", |c| json!(c.kube_reserved), json!({"cpu": "1"})),
        ("--system-reserved=memory=1Gi", |c| json!(c.system_reserved), json!({"memory": "1Gi"})),
        (
            "--reserved-cpus=0-1,4,1 --kube-reserved=cpu=1",
            |c| json!([c.system_reserved, c.kube_reserved]),
            json!([{"cpu": "3"}, {}]),
        ),
        ("--eviction-hard=", |c| json!(c.eviction_hard), json!({})),
        ("--eviction-pressure-transition-period=30s", |c| json!(c.pressure_transition.as_secs()), json!(30)),
        ("--cgroups-per-qos=false", |c| json!(c.cgroups_per_qos), json!(false)),
        ("--cgroup-driver=systemd", |c| json!(c.cgroup_driver == CgroupDriver::Systemd), json!(true)),
        ("--cpu-cfs-quota=false", |c| json!(c.cpu_quota), json!(false)),
        ("--pod-max-pids=100", |c| json!(c.pod_pids_max), json!(100)),
        ("--seccomp-default", |c| json!(c.seccomp_default), json!(true)),
        ("--allowed-unsafe-sysctls=net.*,a", |c| json!(c.allowed_unsafe_sysctls), json!(["net.*", "a"])),
        ("--pod-manifest-path=/m", |c| json!(c.static_pod_path), json!("/m")),
        ("--file-check-frequency=1s", |c| json!(c.file_check_frequency.as_secs()), json!(1)),
        ("--sync-frequency=2m", |c| json!(c.sync_frequency.as_secs()), json!(120)),
        ("--cluster-domain=a.b.", |c| json!(c.cluster_domain), json!("a.b")),
        ("--cluster-dns=1.1.1.1,2.2.2.2", |c| json!(c.cluster_dns), json!(["1.1.1.1", "2.2.2.2"])),
        ("--resolv-conf=", |c| json!(c.resolv_conf), json!("")),
        ("--pod-log-dir=/l", |c| json!(c.log_dir), json!("/l")),
        ("--container-log-max-size=1Ki", |c| json!(c.log_max_bytes), json!(1024)),
        ("--container-log-max-files=3", |c| json!(c.log_max_files), json!(3)),
        (
            "--container-runtime-endpoint=unix:///r",
            |c| json!([c.runtime_endpoint, c.image_endpoint]),
            json!(["unix:///r", "unix:///r"]),
        ),
        ("--image-service-endpoint=unix:///i", |c| json!(c.image_endpoint), json!("unix:///i")),
        ("--runtime-request-timeout=15m", |c| json!(c.runtime_timeout.as_secs()), json!(900)),
        ("--serialize-image-pulls", |c| json!(c.parallel_pulls_max), json!(1)),
        ("--serialize-image-pulls=false", |c| json!(c.parallel_pulls_max), json!(64)),
        ("--minimum-image-ttl-duration=1h", |c| json!(c.image_minimum_age.as_secs()), json!(3600)),
        (
            "--image-gc-high-threshold=9 --image-gc-low-threshold=1",
            |c| json!([c.image_high_percent, c.image_low_percent]),
            json!([9, 1]),
        ),
        ("--lock-file=/l --exit-on-lock-contention", |c| json!([c.lock_file, c.exit_on_lock_contention]), json!(["/l", true])),
    ];
    for (line, of, want) in cases {
        let flags: Vec<&str> = line.split(' ').collect();
        let config = resolve(&flags, "{}").unwrap_or_else(|error| panic!("{line}: {error:#}"));
        assert_eq!(of(&config), *want, "{line}");
        assert_ne!(of(&resolve(&[], "{}").unwrap()), *want, "{line} says what is so without it");
    }
    let covered = |flag: &str| cases.iter().any(|(line, ..)| line.split([' ', '=']).any(|word| word == format!("--{flag}")));
    let elsewhere = ["port", "register-with-taints", "tls-min-version", "tls-cipher-suites"];
    let all = <fields::KubeletFields as daemon::fields::Table>::FIELDS.iter().map(|field| field.flag);
    let missing: Vec<&str> = all.filter(|flag| !covered(flag) && !elsewhere.contains(flag)).collect();
    assert!(missing.is_empty(), "no case has {missing:?}");
}

#[test]
fn thresholds_come_from_one_place() {
    let thresholds = |flags: &[&str], yaml: &str| resolve(flags, yaml).map(|c| c.eviction_hard.into_iter().collect::<Vec<_>>());
    assert_eq!(thresholds(&[], "{}").unwrap().len(), 4);
    let in_file = "evictionHard: {nodefs.available: 1Gi}";
    let pair = |signal: &str, value: &str| (signal.to_owned(), value.to_owned());
    assert_eq!(thresholds(&[], in_file).unwrap(), [pair("nodefs.available", "1Gi")]);
    assert_eq!(
        thresholds(&["--eviction-hard=nodefs.available<0%,memory.available<50Mi"], in_file).unwrap(),
        [pair("memory.available", "50Mi"), pair("nodefs.available", "0%")]
    );
    for wrong in ["--eviction-hard=nodefs.available", "--eviction-hard=a<b", "--eviction-hard=a<-1%"] {
        assert!(thresholds(&[wrong], "{}").is_err(), "{wrong}");
    }
}

#[test]
fn wrong_values_are_refused() {
    for (flags, yaml, why) in [
        ("", "cgroupDriver: x", "cgroupDriver"),
        ("", "authorization: {mode: Maybe}", "authorization.mode"),
        ("", "fileCheckFrequency: soon", "fileCheckFrequency"),
        ("", "port: x", "port"),
        ("--port=x", "{}", "--port"),
        ("--authorization-mode=Maybe", "{}", "--authorization-mode"),
        ("--cgroup-driver=x", "{}", "--cgroup-driver"),
        ("--cloud-provider=aws", "{}", "--cloud-provider"),
        ("--register-with-taints=a", "{}", "--register-with-taints"),
        ("--reserved-cpus=3-1", "{}", "reservedSystemCPUs"),
        ("--node-labels=a", "{}", "--node-labels"),
        ("--exit-on-lock-contention", "{}", "no lock file specified"),
        ("--serialize-image-pulls", "maxParallelImagePulls: 2", "maxParallelImagePulls cannot be larger than 1"),
        ("--image-gc-low-threshold=90", "{}", "must be below imageGCHighThresholdPercent"),
        ("--tls-cert-file=a", "{}", "go together"),
        ("--tls-min-version=1.4", "{}", "1.4"),
    ] {
        let flags: Vec<&str> = flags.split(' ').filter(|flag| !flag.is_empty()).collect();
        let error = refused(&flags, yaml);
        assert!(error.contains(why), "{flags:?} {yaml}: {error}");
    }
}

/// `/var/lib/kubelet/config.yaml` as kubeadm 1.36 leaves it on a host with systemd-resolved.
const KUBEADM: &str = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"#;

/// The unit's drop-in of kubeadm, and what it writes into /var/lib/kubelet/kubeadm-flags.env.
const KUBEADM_FLAGS: &str = "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
    --container-runtime-endpoint=unix:///var/run/containerd/containerd.sock --hostname-override=Node-1 \
    --register-with-taints=node-role.kubernetes.io/control-plane:NoSchedule,a=b:NoExecute --node-ip=192.168.0.1 --v=2 --v=4";

#[test]
fn a_host_of_kubeadms_starts() {
    let flags: Vec<&str> = KUBEADM_FLAGS.split_whitespace().collect();
    let c = resolve(&flags, KUBEADM).unwrap();
    assert_eq!((c.node_name.as_str(), c.runtime_endpoint.as_str()), ("node-1", "unix:///var/run/containerd/containerd.sock"));
    assert_eq!(c.static_pod_path.as_deref(), Some(Path::new("/etc/kubernetes/manifests")));
    assert_eq!(c.resolv_conf, Path::new("/run/systemd/resolve/resolv.conf"));
    assert_eq!((c.cgroup_driver, c.authorization), (CgroupDriver::Systemd, AuthorizationMode::Webhook));
    assert_eq!((c.status_update_frequency.as_secs(), c.sync_frequency.as_secs(), c.runtime_timeout.as_secs()), (10, 60, 120));
    assert_eq!(c.taints.iter().map(|t| t.effect.as_str()).collect::<Vec<_>>(), ["NoSchedule", "NoExecute"]);
}

#[test]
fn every_flag_of_upstreams_is_known() {
    daemon::flags::assert_known(&Args::command(), crate::upstream_flags::TABLES, include_str!("../upstream_flags.txt"));
}
