//! The flags, with upstream's names.

use std::net::IpAddr;
use std::path::PathBuf;

use daemon::serving::TlsArgs;

/// The Kubernetes API server validates and stores the objects of a cluster, and is the only door to them.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kube-apiserver", disable_version_flag = true)]
pub struct Args {
    #[command(flatten)]
    pub common: daemon::CommonArgs,

    /// The address on which the server tells others to reach it. Taken from --bind-address, or the host, when not given.
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// The address on which to listen.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS.
    #[arg(long, default_value_t = 6443, value_name = "PORT")]
    pub secure_port: u16,
    #[command(flatten)]
    pub tls: TlsArgs,

    /// The name by which clients are told to find the server, instead of the address.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "HOST")]
    pub external_hostname: String,
    /// Whether the server's address is kept among the endpoints of the Service kubernetes: lease, or none.
    #[arg(long, default_value = "lease", value_parser = ["lease", "none"], value_name = "TYPE")]
    pub endpoint_reconciler_type: String,
    /// Origins whose pages may ask, as regular expressions bound to the host's start and end.
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    pub cors_allowed_origins: Vec<String>,
    /// What the header Strict-Transport-Security says: max-age=SECONDS, includeSubDomains, preload.
    #[arg(long, value_delimiter = ',', value_name = "DIRECTIVES")]
    pub strict_transport_security_directives: Vec<String>,

    /// Where objects are kept: etcd3, or memory for tests.
    #[arg(long, default_value = "etcd3", value_name = "BACKEND")]
    pub storage_backend: StorageBackend,
    /// The etcd servers (scheme://host:port), comma separated.
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub etcd_servers: Vec<String>,
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// How often history is taken out of the store; 0 for never.
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub etcd_compaction_interval: String,
    /// How long events are kept.
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub event_ttl: String,

    /// Which resources are encrypted in the store, and by which keys (EncryptionConfiguration).
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Read that file again when it changes.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub encryption_provider_config_automatic_reload: bool,

    /// Allow anonymous requests.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub anonymous_auth: bool,
    /// Clients with certificates of these authorities are users.
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Accept bootstrap tokens.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub enable_bootstrap_token_auth: bool,
    /// Authorities of proxies that name users in headers.
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "HEADERS")]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "PREFIXES")]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// The client certificate with which the server proves itself to aggregated servers.
    #[arg(long, value_name = "FILE")]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub proxy_client_key_file: Option<PathBuf>,

    /// Who issues service account tokens. The first signs; all are accepted.
    #[arg(long, value_name = "URL")]
    pub service_account_issuer: Vec<String>,
    /// Keys that verify service account tokens.
    #[arg(long, value_name = "FILE")]
    pub service_account_key_file: Vec<PathBuf>,
    /// The key that signs service account tokens.
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Audiences that mean this server. The issuer when not given.
    #[arg(long, value_delimiter = ',', value_name = "AUDIENCES")]
    pub api_audiences: Vec<String>,
    #[arg(long, value_name = "DURATION")]
    pub service_account_max_token_expiration: Option<String>,
    /// Users by their tokens, as lines of CSV: token,user,uid,"group,group". Read once.
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Let tokens that were mounted into pods unasked live for a year, and note in the audit log who uses them so long.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub service_account_extend_token_expiration: bool,
    #[arg(long, value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,

    /// The OIDC issuers whose tokens are accepted, and whether anonymous requests are (AuthenticationConfiguration).
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// The URL of an OIDC issuer whose tokens are accepted.
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// The audience of the OIDC issuer's tokens.
    #[arg(long, default_value = "", value_name = "ID")]
    pub oidc_client_id: String,
    /// The authorities of the OIDC issuer's certificate. Those that the system trusts when not given.
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    pub oidc_username_claim: String,
    /// What is put before the user's name; `-` for nothing. The issuer when not given, except before an email address.
    #[arg(long, default_value = "", value_name = "PREFIX")]
    pub oidc_username_prefix: String,
    /// The claim that lists the user's groups.
    #[arg(long, default_value = "", value_name = "CLAIM")]
    pub oidc_groups_claim: String,
    /// What is put before each group.
    #[arg(long, default_value = "", value_name = "PREFIX")]
    pub oidc_groups_prefix: String,
    /// The algorithms that the OIDC issuer may sign with.
    #[arg(long, value_delimiter = ',', default_value = "RS256", value_name = "ALGORITHMS")]
    pub oidc_signing_algs: Vec<String>,
    /// A claim that tokens must have, with its value (KEY=VALUE). May be given several times.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_required_claim: Vec<String>,
    /// The server that knows other bearer tokens, as a kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of TokenReview that it is asked with: v1 or v1beta1.
    #[arg(long, default_value = "v1beta1", value_parser = ["v1", "v1beta1"], value_name = "VERSION")]
    pub authentication_token_webhook_version: String,

    /// The authorizers in order, as a file (AuthorizationConfiguration).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    pub authorization_config: Option<PathBuf>,
    /// The server that the mode Webhook asks, as a kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// The version of SubjectAccessReview that it is asked with: v1 or v1beta1.
    #[arg(long, default_value = "v1beta1", value_parser = ["v1", "v1beta1"], value_name = "VERSION")]
    pub authorization_webhook_version: String,
    /// How long its yes is remembered.
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    pub authorization_webhook_cache_authorized_ttl: String,
    /// How long any other answer is.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub authorization_webhook_cache_unauthorized_ttl: String,
    /// Ordered list of authorizers: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny.
    #[arg(long, value_delimiter = ',', default_value = "AlwaysAllow", value_name = "MODES")]
    pub authorization_mode: Vec<AuthorizationMode>,
    #[arg(long, value_delimiter = ',', value_name = "PLUGINS")]
    pub enable_admission_plugins: Vec<String>,
    #[arg(long, value_delimiter = ',', value_name = "PLUGINS")]
    pub disable_admission_plugins: Vec<String>,
    /// What admission plugins are told: an AdmissionConfiguration.
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    /// How long pods tolerate a node that is not ready, unless they say otherwise.
    #[arg(long, default_value_t = 300, allow_negative_numbers = true, value_name = "SECONDS")]
    pub default_not_ready_toleration_seconds: i64,
    /// How long pods tolerate a node that does not answer, unless they say otherwise.
    #[arg(long, default_value_t = 300, allow_negative_numbers = true, value_name = "SECONDS")]
    pub default_unreachable_toleration_seconds: i64,
    /// Allow privileged containers.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_privileged: bool,

    /// The addresses that Services get: one range, or one of each family.
    #[arg(long, value_delimiter = ',', default_value = "10.0.0.0/24", value_name = "CIDR")]
    pub service_cluster_ip_range: Vec<String>,
    /// The ports that Services get on nodes.
    #[arg(long, default_value = "30000-32767", value_name = "FROM-TO")]
    pub service_node_port_range: String,

    /// The authority of kubelets' serving certificates; not verified when not given.
    #[arg(long, value_name = "FILE")]
    pub kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub kubelet_client_key: Option<PathBuf>,
    /// Which of a node's addresses to use, best first.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP",
        value_name = "TYPES"
    )]
    pub kubelet_preferred_address_types: Vec<String>,

    /// Where spans of requests go, and of how many requests: a TracingConfiguration.
    #[arg(long, value_name = "FILE")]
    pub tracing_config_file: Option<PathBuf>,
    /// Where the audit log is written; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<String>,
    /// What the audit log holds: metadata of changes and reads when not given.
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// How long earlier audit logs are kept.
    #[arg(long, value_name = "DAYS")]
    pub audit_log_maxage: Option<u32>,
    /// How many earlier audit logs are kept.
    #[arg(long, value_name = "FILES")]
    pub audit_log_maxbackup: Option<u32>,
    /// How large the audit log gets before it is put aside.
    #[arg(long, value_name = "MEGABYTES")]
    pub audit_log_maxsize: Option<u32>,
    /// Leave out of events of the audit log what was asked and answered, when they are larger than the next flag says.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub audit_log_truncate_enabled: bool,
    #[arg(long, default_value_t = 102_400, value_name = "BYTES")]
    pub audit_log_truncate_max_event_size: usize,

    /// The server that collects audit events, as a kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub audit_webhook_config_file: Option<PathBuf>,
    /// How events are sent there: batch alone, so that no request waits for it.
    #[arg(long, default_value = "batch", value_parser = ["batch"], value_name = "MODE")]
    pub audit_webhook_mode: String,
    /// How many events may wait to be sent.
    #[arg(long, default_value_t = 10_000, value_name = "EVENTS")]
    pub audit_webhook_batch_buffer_size: usize,
    /// How many events are sent at once.
    #[arg(long, default_value_t = 400, value_name = "EVENTS")]
    pub audit_webhook_batch_max_size: usize,
    /// How long events wait for others to be sent with.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    pub audit_webhook_batch_max_wait: String,

    /// Leave out of events what was asked and answered, when they are larger than the next flag says.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub audit_webhook_truncate_enabled: bool,
    #[arg(long, default_value_t = 102_400, value_name = "BYTES")]
    pub audit_webhook_truncate_max_event_size: usize,
    /// How large a batch may get then, before it is split.
    #[arg(long, default_value_t = 10_485_760, value_name = "BYTES")]
    pub audit_webhook_truncate_max_batch_size: usize,

    /// How long a request may take, unless it is one that stays open.
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    pub request_timeout: String,
    /// How long a watch is kept open at least, unless it says otherwise; some are kept up to twice as long.
    #[arg(long, default_value_t = 1800, value_name = "SECONDS")]
    pub min_request_timeout: u64,
    /// How long the server goes on to serve after it was told to end and says that it is not ready.
    #[arg(long, default_value = "0s", value_name = "DURATION")]
    pub shutdown_delay_duration: String,
    /// The share of HTTP/2 requests after which a client is asked to connect again, at most 0.02.
    #[arg(long, default_value_t = 0.0, value_name = "CHANCE")]
    pub goaway_chance: f64,

    /// How many requests that read are served at once.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub max_requests_inflight: usize,
    /// How many requests that change something are served at once.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub max_mutating_requests_inflight: usize,
    /// Features to switch on or off (NAME=BOOL). Those that this server does not know do nothing.
    #[arg(long, value_delimiter = ',', value_name = "GATES")]
    pub feature_gates: Vec<String>,
    /// Versions to serve beyond those that are by default (GROUP/VERSION=BOOL, api/beta=BOOL).
    #[arg(long, value_delimiter = ',', value_name = "VERSIONS")]
    pub runtime_config: Vec<String>,
    /// Send requests for aggregated servers to their pods rather than to their Service's address.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub enable_aggregator_routing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StorageBackend {
    Etcd3,
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthorizationMode {
    #[value(name = "Node")]
    Node,
    #[value(name = "RBAC")]
    Rbac,
    #[value(name = "Webhook")]
    Webhook,
    #[value(name = "AlwaysAllow")]
    AlwaysAllow,
    #[value(name = "AlwaysDeny")]
    AlwaysDeny,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_flags_of_a_usual_manifest() {
        let flags = "kube-apiserver --advertise-address=10.0.0.1 --allow-privileged=true --authorization-mode=Node,RBAC \
            --client-ca-file=/etc/kubernetes/pki/ca.crt --enable-admission-plugins=NodeRestriction --enable-bootstrap-token-auth=true \
            --etcd-cafile=/e/ca.crt --etcd-certfile=/e/c.crt --etcd-keyfile=/e/c.key --etcd-servers=https://127.0.0.1:2379 \
            --kubelet-client-certificate=/k.crt --kubelet-client-key=/k.key \
            --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname --proxy-client-cert-file=/p.crt --proxy-client-key-file=/p.key \
            --requestheader-allowed-names=front-proxy-client --requestheader-client-ca-file=/f.crt \
            --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
            --requestheader-username-headers=X-Remote-User --secure-port=6443 \
            --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-key-file=/sa.pub \
            --service-account-signing-key-file=/sa.key --service-cluster-ip-range=10.96.0.0/12 --tls-cert-file=/a.crt \
            --tls-private-key-file=/a.key --anonymous-auth --audit-log-path=/var/log/audit.log";
        let args = Args::try_parse_from(flags.split_whitespace()).unwrap();
        assert_eq!(args.authorization_mode, [AuthorizationMode::Node, AuthorizationMode::Rbac]);
        assert!(args.allow_privileged && args.anonymous_auth && args.enable_bootstrap_token_auth);
        assert!(Args::try_parse_from(["kube-apiserver", "--no-such-flag"]).is_err());
    }
}
