//! What every controller gets: the shared informers, a client with its own identity, events, the time.

use std::sync::{Arc, OnceLock};

use api::apps::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use api::batch::Job;
use api::certificates::CertificateSigningRequest;
use api::coordination::Lease;
use api::core::{
    ConfigMap, Endpoints, Namespace, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    Service, ServiceAccount,
};
use api::discovery::EndpointSlice;
use api::storage::StorageClass;
use api::{Kind, Meta};
use client::events::{EventType, Recorder, reference};
use client::{Cached, Client, Informer, InformerConfig};
use daemon::Shutdown;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::discovery::{self, Resources};
use crate::event::{Note, Severity};
use crate::identity::Identities;
use crate::settings::Settings;

/// The index of objects by their controller's uid.
pub(crate) const BY_OWNER: &str = "owner";
/// The index of objects without a controller, by namespace.
pub(crate) const ORPHANS: &str = "orphan";
/// The index of pods by `spec.nodeName`.
pub(crate) const BY_NODE: &str = "node";
/// The index of pods by the claims that their volumes name, as `namespace/claim`.
pub(crate) const BY_CLAIM: &str = "claim";
/// The index of EndpointSlices by `namespace/service`.
pub(crate) const BY_SERVICE: &str = "service";

pub struct Context {
    pub informers: Informers,
    pub clock: Clock,
    pub settings: Settings,
    pub shutdown: Shutdown,
    identities: Identities,
    resources: OnceLock<watch::Receiver<Arc<Resources>>>,
}

/// One watched copy of each kind, whoever asks.
pub struct Informers {
    pub config_maps: Informer<ConfigMap>,
    pub controller_revisions: Informer<ControllerRevision>,
    pub csrs: Informer<CertificateSigningRequest>,
    pub daemon_sets: Informer<DaemonSet>,
    pub deployments: Informer<Deployment>,
    pub endpoint_slices: Informer<EndpointSlice>,
    pub endpoints: Informer<Endpoints>,
    pub jobs: Informer<Job>,
    pub namespaces: Informer<Namespace>,
    /// Of the namespace kube-node-lease.
    pub node_leases: Informer<Lease>,
    pub nodes: Informer<Node>,
    pub pods: Informer<Pod>,
    pub replica_sets: Informer<ReplicaSet>,
    pub replication_controllers: Informer<ReplicationController>,
    pub service_accounts: Informer<ServiceAccount>,
    pub services: Informer<Service>,
    pub stateful_sets: Informer<StatefulSet>,
    pub storage_classes: Informer<StorageClass>,
    pub volume_claims: Informer<PersistentVolumeClaim>,
    pub volumes: Informer<PersistentVolume>,
}

impl Informers {
    fn start(client: &Client) -> Self {
        fn plain<K: Kind>(client: &Client) -> Informer<K> {
            Informer::start(client, InformerConfig::default())
        }
        fn owned<K: Kind>(client: &Client) -> Informer<K> {
            let indexes = vec![(BY_OWNER, by_owner as _), (ORPHANS, orphans as _)];
            Informer::start(client, InformerConfig { indexes, ..InformerConfig::default() })
        }
        Self {
            config_maps: Informer::start(
                client,
                InformerConfig {
                    field_selector: Some(format!("metadata.name={}", crate::root_ca::CONFIG_MAP)),
                    ..InformerConfig::default()
                },
            ),
            controller_revisions: owned(client),
            csrs: plain(client),
            daemon_sets: plain(client),
            deployments: plain(client),
            endpoint_slices: Informer::start(
                client,
                InformerConfig { indexes: vec![(BY_SERVICE, by_service as _)], ..InformerConfig::default() },
            ),
            endpoints: plain(client),
            jobs: owned(client),
            namespaces: plain(client),
            node_leases: Informer::start(
                client,
                InformerConfig { namespace: crate::node_lifecycle::LEASE_NAMESPACE.into(), ..InformerConfig::default() },
            ),
            nodes: plain(client),
            pods: Informer::start(
                client,
                InformerConfig {
                    indexes: vec![
                        (BY_OWNER, by_owner as _),
                        (ORPHANS, orphans as _),
                        (BY_NODE, by_node as _),
                        (BY_CLAIM, crate::volume::index_claims as _),
                    ],
                    ..InformerConfig::default()
                },
            ),
            replica_sets: owned(client),
            replication_controllers: plain(client),
            service_accounts: plain(client),
            services: plain(client),
            stateful_sets: plain(client),
            storage_classes: plain(client),
            volume_claims: plain(client),
            volumes: plain(client),
        }
    }
}

pub(crate) fn by_owner(meta: &Meta, _: &[u8]) -> Vec<String> {
    meta.controller().map(|o| o.uid.clone()).into_iter().collect()
}

fn orphans(meta: &Meta, _: &[u8]) -> Vec<String> {
    if meta.controller().is_none() { vec![meta.namespace.clone()] } else { Vec::new() }
}

fn by_service(meta: &Meta, _: &[u8]) -> Vec<String> {
    let service = meta.labels.get(crate::endpoints::SERVICE_NAME_LABEL);
    service.map(|name| format!("{}/{name}", meta.namespace)).into_iter().collect()
}

fn by_node(_: &Meta, bytes: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct View<'a> {
        #[serde(borrow, default)]
        spec: Option<Spec<'a>>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec<'a> {
        #[serde(borrow, default)]
        node_name: Option<std::borrow::Cow<'a, str>>,
    }
    let spec = serde_json::from_slice::<View<'_>>(bytes).ok().and_then(|v| v.spec);
    let node = spec.and_then(|s| s.node_name).filter(|n| !n.is_empty());
    node.map(|n| n.into_owned()).into_iter().collect()
}

impl Context {
    /// Starts the informers.
    pub fn new(identities: Identities, clock: Clock, settings: Settings, shutdown: Shutdown) -> Arc<Self> {
        let informers = Informers::start(identities.root());
        Arc::new(Self { informers, clock, settings, shutdown, identities, resources: OnceLock::new() })
    }

    /// Which resources the server has; followed from the first time that somebody asks.
    pub(crate) fn resources(&self) -> watch::Receiver<Arc<Resources>> {
        self.resources.get_or_init(|| discovery::follow(self.root().clone())).clone()
    }

    /// A client that acts as the named controller.
    pub fn client(&self, controller: &str) -> Client {
        self.identities.client(controller)
    }

    /// The daemon's own client: for what is read, and never to write on a controller's behalf.
    pub fn root(&self) -> &Client {
        self.identities.root()
    }

    /// Events with `component` as their source.
    pub fn events(&self, controller: &str, component: &str) -> Events {
        Events(Recorder::new(self.client(controller), component, None))
    }
}

/// Records what plans say about themselves.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    pub fn note<K: Kind>(&self, object: &K, note: &Note) {
        self.note_for(reference(object), note);
    }

    pub fn note_for(&self, object: ObjectReference, note: &Note) {
        let kind = match note.severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        };
        self.0.event_for(object, kind, note.reason, note.message.clone());
    }
}

/// The objects that an owner has or might adopt.
pub(crate) fn candidates<K: Kind>(informer: &Informer<K>, namespace: &str, owner_uid: &str) -> Vec<K> {
    let owned: Vec<Cached<K>> = informer.by_index(BY_OWNER, owner_uid);
    let orphans = informer.by_index(ORPHANS, namespace);
    owned.iter().chain(&orphans).filter_map(client::informer::logged).collect()
}
