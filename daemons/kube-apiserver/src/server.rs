//! The server as a value: everything a request needs, and the service that answers requests with it.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use ::store::Storage;
use bytes::Bytes;
use daemon::feature_gates::FeatureGates;
use daemon::health::{Checks, Scope};
use daemon::reload::Reloading;
use http::{Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use pki::TokenSigner;
use schema::Serving;

use crate::admission;
use crate::aggregation::{self, Aggregation};
use crate::authn::oidc::Issuers;
use crate::authn::token_file::TokenFile;
use crate::authn::token_webhook::TokenWebhook;
use crate::authn::user::User;
use crate::authn::{Authenticator, last_used};
use crate::authz::node::NodeAuthorizer;
use crate::authz::rbac::Rbac;
use crate::authz::{Authorizer, Local};
use crate::bootstrap;
use crate::custom;
use crate::encryption::kms::Plugins;
use crate::filters::audit::Audit;
use crate::filters::browser::Browsers;
use crate::filters::fairness::{self, Fairness};
use crate::filters::spans::Tracer;
use crate::follow;
use crate::lookup::Lookup;
use crate::pipeline;
use crate::registry::hooks::Hooks;
use crate::registry::{Registry, Terms};
use crate::respond::{Body, BoxError};
use crate::service_ip::ServiceNetwork;
use crate::subresources::Lifetimes;

/// What a server is made of. [`Config::for_tests`] is a server for one process.
pub struct Config {
    /// The versions of built-in resources.
    pub serving: Serving,
    pub gates: FeatureGates,
    pub storage: Arc<dyn Storage>,
    /// Whose health is the server's: they have the keys of what is stored.
    pub kms: Option<Arc<Plugins>>,
    pub modes: Vec<ModeName>,
    /// Counts instead of `modes`: a file that may change while the server runs.
    pub modes_file: Option<Reloading<Vec<ModeName>>>,
    pub enable_admission: Vec<String>,
    pub disable_admission: Vec<String>,
    pub admission: admission::Configuration,
    pub services: ServiceNetwork,
    pub terms: Terms,
    /// Where clients are told to find the server; none leaves the Service `kubernetes` alone.
    pub advertise: Option<(IpAddr, u16)>,
    /// Whether this server's address is kept among the endpoints of the Service `kubernetes`.
    pub is_endpoint: bool,
    /// What clients are told instead of the address.
    pub external_name: Option<String>,
    pub authentication: Authentication,
    pub token_signer: Option<TokenSigner>,
    pub token_lifetimes: Lifetimes,
    pub jwks_uri: Option<String>,
    pub audit: Option<Audit>,
    pub tracer: Option<Tracer>,
    pub limits: Limits,
    pub browsers: Browsers,
    /// Set off when the process is told to end: from then on the server is not ready, and still serves.
    pub terminating: daemon::Shutdown,
    pub fairness: Fairness,
    pub kubelet: KubeletAccess,
    pub aggregation: aggregation::Access,
    /// Content of the ConfigMap by which other servers delegate authentication to this one.
    pub authentication_configmap: Vec<(String, String)>,
    pub now: fn() -> Timestamp,
}

pub use crate::authz::Mode as ModeName;

/// The methods of authentication that are switched on.
pub struct Authentication {
    pub front_proxy: Option<crate::authn::front_proxy::FrontProxy>,
    pub client_ca: Option<crate::authn::x509::ClientCa>,
    pub service_accounts: Option<crate::authn::service_account::ServiceAccountTokens>,
    pub bootstrap_tokens: bool,
    pub token_file: Option<TokenFile>,
    pub issuers: Reloading<Issuers>,
    pub webhook: Option<TokenWebhook>,
    /// Audiences that mean this server.
    pub api_audiences: Vec<String>,
}

impl Default for Authentication {
    /// Anonymous alone.
    fn default() -> Self {
        Self {
            front_proxy: None,
            client_ca: None,
            service_accounts: None,
            bootstrap_tokens: false,
            token_file: None,
            issuers: Reloading::fixed(Issuers::none()),
            webhook: None,
            api_audiences: Vec::new(),
        }
    }
}

/// What bounds requests besides their size.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--request-timeout`.
    pub request_timeout: Duration,
    pub goaway: Goaway,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(60), goaway: Goaway::default() }
    }
}

/// `--goaway-chance`: how many of all HTTP/2 requests are the last of their connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goaway {
    /// Of 2^32.
    chosen: u32,
}

impl Goaway {
    pub const CHANCE_MAX: f64 = 0.02;

    /// None when it is out of bounds.
    pub fn new(chance: f64) -> Option<Self> {
        // The product is below 2^32.
        (0.0..=Self::CHANCE_MAX).contains(&chance).then(|| Self { chosen: (chance * f64::from(u32::MAX)) as u32 })
    }

    pub fn is_chosen(self, random: impl FnOnce() -> u64) -> bool {
        self.chosen > 0 && (random() >> 32) < u64::from(self.chosen)
    }
}

/// How kubelets are reached.
#[derive(Clone, Debug, Default)]
pub struct KubeletAccess {
    pub certificate_authority: Option<std::path::PathBuf>,
    pub client_certificate: Option<std::path::PathBuf>,
    pub client_key: Option<std::path::PathBuf>,
    pub preferred_address_types: Vec<String>,
}

impl Config {
    /// A server that believes whoever calls it in process, allows everything and keeps objects where it is told.
    pub fn for_tests(storage: Arc<dyn Storage>) -> Self {
        Self {
            serving: Serving::default(),
            gates: FeatureGates::default(),
            storage,
            kms: None,
            modes: vec![ModeName::AlwaysAllow],
            modes_file: None,
            enable_admission: Vec::new(),
            disable_admission: Vec::new(),
            admission: admission::Configuration::default(),
            // Both are constants that parse.
            services: ServiceNetwork { ranges: vec!["10.96.0.0/16".parse().expect("a range")], node_ports: 30000..=32767 },
            terms: Terms::default(),
            advertise: None,
            is_endpoint: true,
            external_name: None,
            authentication: Authentication::default(),
            token_signer: None,
            token_lifetimes: Lifetimes::default(),
            jwks_uri: None,
            audit: None,
            tracer: None,
            limits: Limits::default(),
            browsers: Browsers::default(),
            terminating: daemon::Shutdown::new(),
            fairness: Fairness::new(400, 200, Duration::from_secs(60)),
            kubelet: KubeletAccess::default(),
            aggregation: aggregation::Access::default(),
            authentication_configmap: Vec::new(),
            now: Timestamp::now,
        }
    }
}

/// Everything a request needs.
pub struct Server {
    pub registry: Arc<Registry>,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    pub fairness: Arc<Fairness>,
    pub audit: Option<Arc<Audit>>,
    pub tracer: Option<Arc<Tracer>>,
    pub limits: Limits,
    pub browsers: Browsers,
    pub checks: Checks,
    /// What other servers serve.
    pub aggregation: Aggregation,
    pub token_signer: Option<TokenSigner>,
    pub token_lifetimes: Lifetimes,
    pub jwks_uri: String,
    pub kubelet: KubeletAccess,
    /// `address:port` as clients are told.
    pub advertised: String,
    pub shutdown: daemon::Shutdown,
    pub started: Timestamp,
    pub now: fn() -> Timestamp,
}

/// The API server as a service: over a network or called in process.
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Admission(#[from] admission::UnknownPlugin),
}

impl ApiServer {
    /// Builds the server and brings what every cluster has into the store. Background tasks end with `shutdown`.
    ///
    /// # Errors
    /// A configuration that names unknown plugins. A store that does not answer is waited for.
    pub async fn start(config: Config, shutdown: daemon::Shutdown) -> Result<Self, StartError> {
        let lookup = Arc::new(follow::LateLookup::default());
        let rbac = Arc::new(Rbac::default());
        let node = Arc::new(NodeAuthorizer::new(bootstrap::rbac::node_rules(), lookup.clone() as Arc<dyn Lookup>));
        let modes = config.modes_file.unwrap_or_else(|| Reloading::fixed(config.modes));
        let authorizer = Authorizer::new(modes, Local { node: Some(node.clone()), rbac: rbac.clone() });
        let admission =
            admission::Chain::new(&config.enable_admission, &config.disable_admission, &config.admission, &authorizer)?;
        let hooks = Hooks::new(config.services.clone());
        let registry = Arc::new(Registry::new(config.serving, config.storage, hooks, admission, config.terms));
        registry.admission.connect(registry.clone());
        lookup.connect(registry.clone());
        let mut authenticator = Authenticator::new(registry.clone());
        authenticator.front_proxy = config.authentication.front_proxy;
        authenticator.client_ca = config.authentication.client_ca;
        authenticator.service_accounts = config.authentication.service_accounts;
        authenticator.bootstrap_tokens = config.authentication.bootstrap_tokens;
        authenticator.token_file = config.authentication.token_file;
        authenticator.issuers = config.authentication.issuers;
        authenticator.webhook = config.authentication.webhook;
        authenticator.api_audiences = config.authentication.api_audiences;
        let (used, noted) = tokio::sync::mpsc::channel(last_used::WAITING_MAX);
        authenticator.used = Some(used);
        let advertised = advertised(config.external_name, config.advertise);
        let jwks_uri = config.jwks_uri.unwrap_or_else(|| format!("https://{advertised}/openid/v1/jwks"));
        let server = Arc::new(Server {
            registry,
            authenticator,
            authorizer,
            fairness: Arc::new(config.fairness),
            audit: config.audit.map(Arc::new),
            tracer: config.tracer.map(Arc::new),
            limits: config.limits,
            browsers: config.browsers,
            checks: Checks::new(),
            aggregation: Aggregation::new(config.aggregation),
            token_signer: config.token_signer,
            token_lifetimes: config.token_lifetimes,
            jwks_uri,
            kubelet: config.kubelet,
            advertised,
            shutdown,
            started: (config.now)(),
            now: config.now,
        });
        follow::start(&server, rbac, node);
        tokio::spawn(last_used::run(server.clone(), noted));
        server.registry.admission.start(&server);
        for plural in ["flowschemas", "prioritylevelconfigurations"] {
            let fairness = server.fairness.clone();
            let apply = move |_: &str, name: &str, object: Option<&_>| fairness.apply(plural, name, object);
            follow::spawn(&server, fairness::config::GROUP, plural, apply);
        }
        custom::start(&server);
        aggregation::start(&server);
        let ready = bootstrap::start(
            &server,
            bootstrap::Facts {
                services: config.services,
                advertise: config.advertise,
                is_endpoint: config.is_endpoint,
                authentication_configmap: config.authentication_configmap,
                gates: config.gates,
            },
        );
        let flag = ready.clone();
        server.checks.add("poststarthook/bootstrap", Scope::Ready, move || {
            if *flag.borrow() { Ok(()) } else { Err("under way".to_owned()) }
        });
        add_store_check(&server);
        if let Some(plugins) = config.kms {
            server.checks.add("kms-providers", Scope::Live, move || plugins.health());
        }
        let (ending, terminating) = (server.shutdown.clone(), config.terminating);
        server.checks.add("shutdown", Scope::Ready, move || {
            if ending.is_requested() || terminating.is_requested() { Err("process is shutting down".to_owned()) } else { Ok(()) }
        });
        Ok(Self { server })
    }

    /// Waits until everything that every cluster has is in the store and the caches are loaded.
    pub async fn ready(&self) {
        let mut interval = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            interval.tick().await;
            if self.server.checks.report(daemon::health::Endpoint::Readyz, false, &[]).healthy {
                return;
            }
        }
    }

    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Answers a request, whatever its body is made of.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        pipeline::serve(self.server.clone(), request).await
    }

    /// Answers a request made in this process by that user.
    pub async fn handle_as(&self, user: User, mut request: Request<Bytes>) -> Response<Body> {
        request.extensions_mut().insert(user);
        self.handle(request.map(http_body_util::Full::new)).await
    }

    /// A client that talks to this server without a network, as an administrator.
    pub fn client(&self) -> client::Client {
        self.client_as(User::server())
    }

    /// The same, as that user.
    pub fn client_as(&self, user: User) -> client::Client {
        let this = self.clone();
        client::Client::with_transport(client::InProcess::new(move |request: Request<Bytes>| {
            let (this, user) = (this.clone(), user.clone());
            Box::pin(async move { this.handle_as(user, request).await })
        }))
    }
}

/// `host:port` as clients are told: a name that has no port gets the server's.
fn advertised(name: Option<String>, address: Option<(IpAddr, u16)>) -> String {
    match (name, address) {
        (Some(name), Some((_, port))) if !name.contains(':') => format!("{name}:{port}"),
        (Some(name), _) => name,
        (None, Some((ip, port))) => std::net::SocketAddr::new(ip, port).to_string(),
        (None, None) => "localhost".to_owned(),
    }
}

/// Whether the store answers. It is asked when somebody wants to know, at most every few seconds, and never waited for.
fn add_store_check(server: &Arc<Server>) {
    const INTERVAL: Duration = Duration::from_secs(3);
    const PATIENCE: Duration = Duration::from_secs(2);
    let healthy = Arc::new(AtomicBool::new(true));
    let asked: Mutex<Option<Instant>> = Mutex::default();
    let storage = server.registry.feed.storage().clone();
    server.checks.add("etcd", Scope::Ready, move || {
        let mut asked = asked.lock().unwrap_or_else(|e| e.into_inner());
        let due = asked.is_none_or(|at| at.elapsed() >= INTERVAL);
        if due && tokio::runtime::Handle::try_current().is_ok() {
            *asked = Some(Instant::now());
            let (storage, healthy) = (storage.clone(), healthy.clone());
            tokio::spawn(async move {
                let answer = tokio::time::timeout(PATIENCE, storage.current_revision()).await;
                healthy.store(matches!(answer, Ok(Ok(_))), Ordering::Relaxed);
            });
        }
        if healthy.load(Ordering::Relaxed) { Ok(()) } else { Err("the store does not answer".to_owned()) }
    });
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.handle(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_are_told() {
        let address = Some(("10.0.0.1".parse().unwrap(), 6443));
        for (name, address, expected) in [
            (None, None, "localhost"),
            (None, address, "10.0.0.1:6443"),
            (Some("api.example"), address, "api.example:6443"),
            (Some("api.example:443"), address, "api.example:443"),
        ] {
            assert_eq!(advertised(name.map(str::to_owned), address), expected);
        }
    }

    #[test]
    fn chances() {
        let goaway = |chance| Goaway::new(chance).unwrap();
        assert!(!goaway(0.0).is_chosen(|| unreachable!("no dice without a chance")));
        assert!(goaway(0.02).is_chosen(|| 0));
        assert!(!goaway(0.02).is_chosen(|| u64::MAX / 40));
        assert!(Goaway::new(0.03).is_none() && Goaway::new(-0.1).is_none());
    }
}
