//! From credentials to a node that takes pods: registering, watching, telling.

use std::sync::Arc;

use anyhow::Result;
use api::Kind as _;
use api::core::{Node, Pod, Service};
use client::events::{EventType, Recorder};
use client::{Change, Client, Informer, InformerConfig};
use daemon::Shutdown;

use crate::agent::{Agent, Api};
use crate::objects::Watched;
use crate::pod::{mirror, spec};
use crate::tokens::Tokens;
use crate::{certificates, node, pleg};

/// Waits for credentials, then works with the API for as long as the kubelet runs. Returns the client.
pub async fn run(agent: Arc<Agent>, last_list: Arc<pleg::LastList>) -> Result<Client> {
    let kubeconfig = certificates::bootstrap(&agent.config).await?;
    let client = Client::from_kubeconfig(&kubeconfig)?;
    if agent.config.rotate_certificates {
        tokio::spawn(certificates::rotate_client(agent.clone(), client.clone()));
    }
    tokio::spawn(work(agent, client.clone(), last_list));
    Ok(client)
}

async fn work(agent: Arc<Agent>, client: Client, last_list: Arc<pleg::LastList>) {
    if agent.config.register_node {
        node::report::register(&agent, &client).await;
    }
    let name = agent.config.node_name.clone();
    let fields = |selector: String| InformerConfig { field_selector: Some(selector), ..InformerConfig::default() };
    let wake = {
        let agent = Arc::downgrade(&agent);
        Arc::new(move |uid: &str| {
            if let Some(agent) = agent.upgrade() {
                agent.wake(uid);
            }
        })
    };
    let api = Arc::new(Api {
        recorder: Recorder::new(client.clone(), "kubelet", Some(&name)),
        pods: Informer::start(&client, fields(format!("spec.nodeName={name}"))),
        services: Informer::<Service>::start(&client, InformerConfig::default()),
        node: Informer::<Node>::start(&client, fields(format!("metadata.name={name}"))),
        config_maps: Watched::new(client.clone(), wake.clone()),
        secrets: Watched::new(client.clone(), wake),
        tokens: Tokens::new(client.clone()),
        client: client.clone(),
    });
    agent.api.store(Some(api.clone()));
    agent.node_event(EventType::Normal, "Starting", "Starting kubelet.".to_owned());
    tokio::spawn(node::report::leases(agent.clone(), client));
    tokio::spawn(node::report::statuses(agent.clone(), api.clone(), last_list));
    follow_pod_cidr(&agent, &api);
    api.node.synced().await;
    // Containers are told of services; those that are not there yet would be missing for their whole life.
    api.services.synced().await;
    follow_pods(&agent, &api);
    api.pods.synced().await;
    agent.sources_ready.send_replace(true);
    remove_foreign_mirrors(&agent, &api).await;
    agent.wake_all();
    agent.statuses.check_all();
}

fn follow_pods(agent: &Arc<Agent>, api: &Arc<Api>) {
    let weak = Arc::downgrade(agent);
    api.pods.subscribe(move |change: &Change<Pod>| {
        let Some(agent) = weak.upgrade() else { return };
        match change {
            Change::Deleted(old) => {
                agent.end_pod(&old.uid);
                if let Some((pod, _)) = agent.find(&old.namespace, &old.name).filter(|(p, _)| spec::is_static(p)) {
                    agent.wake(pod.uid());
                }
            }
            Change::Added(new) | Change::Updated { new, .. } => {
                let Some(pod) = client::informer::logged(new) else { return };
                if spec::is_mirror(&pod) {
                    if let Some((own, _)) = agent.find(&new.namespace, &new.name) {
                        agent.statuses.check_again(own.uid());
                        agent.wake(own.uid());
                    }
                    return;
                }
                agent.run_pod(Arc::new(pod));
            }
        }
    });
}

/// Tells the runtime the node's pod network whenever it is given one.
fn follow_pod_cidr(agent: &Arc<Agent>, api: &Arc<Api>) {
    let weak = Arc::downgrade(agent);
    let told = std::sync::Mutex::new(String::new());
    api.node.subscribe(move |change: &Change<Node>| {
        let (Some(agent), Ok(node)) = (weak.upgrade(), change.object().parse()) else { return };
        let Some(cidr) = node.spec.and_then(|s| s.pod_cidrs.map(|c| c.join(",")).or(s.pod_cidr)) else { return };
        let mut told = told.lock().unwrap_or_else(|e| e.into_inner());
        if *told == cidr {
            return;
        }
        told.clone_from(&cidr);
        tokio::spawn(async move {
            if let Err(error) = agent.runtime.set_pod_cidr(&cidr).await {
                tracing::warn!(%error, cidr, "telling the runtime the pod network");
            }
        });
    });
}

/// Mirrors of static pods that are gone, perhaps since before this kubelet started.
async fn remove_foreign_mirrors(agent: &Arc<Agent>, api: &Arc<Api>) {
    for found in api.pods.parsed().into_iter().filter(spec::is_mirror) {
        if agent.find(found.namespace(), found.name()).is_none() {
            mirror::remove_found(agent, &found).await;
        }
    }
}

/// The server on 10250, and the read-only one when it is asked for.
pub async fn serve(agent: Arc<Agent>, client: Option<Client>, shutdown: Shutdown) -> Result<()> {
    use crate::config::AuthorizationMode;
    use crate::server::{self, Access, Authorization, Debugging};
    use anyhow::Context as _;
    let config = &agent.config;
    if !config.enable_server {
        shutdown.requested().await;
        return Ok(());
    }
    let client_cas: Vec<_> = config.client_ca_file.iter().cloned().collect();
    let tls = certificates::serving(&agent, client_cas)?;
    if config.server_tls_bootstrap
        && config.tls_files.is_none()
        && let Some(client) = &client
    {
        tokio::spawn(certificates::rotate_serving(agent.clone(), client.clone()));
    }
    let authorization = match config.authorization {
        AuthorizationMode::AlwaysAllow => Authorization::AlwaysAllow,
        AuthorizationMode::Webhook => {
            Authorization::Webhook { allowed_for: config.authorized_ttl, denied_for: config.unauthorized_ttl }
        }
    };
    let tokens = config.webhook_authentication.then_some(config.authentication_ttl);
    let access = Access::new(client, config.node_name.clone(), config.anonymous, tokens, authorization);
    let backend = Arc::new(crate::backend::Pods(agent.clone()));
    if config.read_only_port != 0 {
        let address = std::net::SocketAddr::new(config.address, config.read_only_port);
        let (backend, shutdown) = (backend.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = server::run_read_only(address, backend, shutdown).await {
                tracing::error!(%address, %error, "the read-only port");
            }
        });
    }
    let address = std::net::SocketAddr::new(config.address, config.port);
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    tracing::info!(%address, "serving");
    let debugging = if config.debugging_handlers { Debugging::On } else { Debugging::Off };
    server::run(listener, tls, Arc::new(access), debugging, backend, shutdown).await;
    Ok(())
}
